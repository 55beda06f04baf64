"""Whole numbers come back whole, at the resolution that they came in; fractions and probabilities stay as they are."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import vaekit as vk
from vaekit import cli
from vaekit.models import View

rng = np.random.default_rng(0)
TIME, CLICKS, WEIGHT = 1_700_000_000 + rng.integers(0, 3600, 400), rng.integers(0, 6, 400), rng.normal(70, 9, 400)
HOLED = np.where(CLICKS == 0, np.nan, CLICKS)


def vaekit(*arguments):
    assert cli.run([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    pd.DataFrame({"time": TIME, "weight": WEIGHT, "clicks": CLICKS}).to_csv(folder / "log.csv", index=False)
    vaekit("fit", folder / "log.csv", "-o", folder / "run", "max_epochs=30", "hidden=32", "--quiet")
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet"])
@pytest.mark.parametrize("command", [("sample", "-n", 400), ("sample", "-n", 400, "--mean"), ("reconstruct",)])
def test_whole_columns_are_written_whole(folder, command, suffix):
    file = folder / f"out{suffix}"
    name, *options = command
    vaekit(name, folder / "run", "-o", file, *options)
    if suffix == ".npy":
        values = np.load(file)
        assert values.dtype == np.float64
        time, weight, clicks = values.T
    else:
        frame = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
        assert list(frame) == ["time", "weight", "clicks"]
        time, weight, clicks = (frame[name].to_numpy() for name in frame)
    assert (time % 1 == 0).all()
    assert (clicks % 1 == 0).all()
    assert not (weight % 1 == 0).any()
    if "--mean" not in command:
        steps = np.diff(np.unique(time))
        assert steps.min() == 1
        assert len(steps) > 150  # float32 gave 49 distinct seconds
    assert abs(time.mean() - TIME.mean()) < 500


def test_a_run_says_which_columns_are_whole(folder):
    run = vk.runs.open(folder / "run")
    assert run.data.whole == (True, False, True)
    table = run.sample(5)
    wide = View.of(run.model).wide().sample(5, generator=torch.Generator().manual_seed(0))
    assert wide.dtype == torch.float64
    numbers = table.to_numpy()
    assert np.array_equal(numbers[:, 1], wide[:, 1].numpy())
    assert np.array_equal(numbers[:, 0], wide[:, 0].round().numpy())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.column_stack([TIME, CLICKS]), True),
        (np.column_stack([TIME, CLICKS]).astype(float), True),
        (np.column_stack([WEIGHT, WEIGHT]), False),
        (np.column_stack([HOLED, WEIGHT, np.full(400, np.nan)]), (True, False, True)),
    ],
)
def test_which_columns_are_whole_holes_aside(rows, expected):
    assert vk.runs.described.whole_elements(vk.data.Dataset(rows)) == expected


def test_runs_of_older_versions_know_by_their_dtype(folder, tmp_path):
    np.save(tmp_path / "x.npy", np.column_stack([TIME, CLICKS]))
    vaekit("fit", tmp_path / "x.npy", "-o", tmp_path / "run", "max_epochs=1", "hidden=4", "--quiet")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["metadata"]["data"].pop("whole") is True
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert (vk.runs.open(tmp_path / "run").sample(9).values % 1 == 0).all()


def test_means_of_a_mass_are_no_values(tmp_path):
    """Probabilities of bits and means of counts are fractions; draws are whole by themselves."""
    np.save(tmp_path / "bits.npy", rng.integers(0, 2, (60, 4)).astype(bool))
    np.save(tmp_path / "counts.npy", rng.poisson(3.0, (60, 4)))
    for name, likelihood in (("bits", "bernoulli"), ("counts", "poisson")):
        words = [f"likelihood={likelihood}", "max_epochs=1", "hidden=4", "--quiet"]
        vaekit("fit", tmp_path / f"{name}.npy", "-o", tmp_path / name, *words)
        run = vk.runs.open(tmp_path / name)
        means = run.reconstruct(run.rows()).values
        assert means.dtype == np.float64
        assert not (means % 1 == 0).any()
        assert (run.sample(20).values % 1 == 0).all()


def test_a_transform_of_someone_elses_goes_back_in_its_own_dtype():
    class Turned:
        """Half a turn, by a matrix of float32 that no float64 passes."""

        matrix = -torch.eye(3)

        def __call__(self, x):
            return x.float() @ self.matrix

        def inverse(self, y):
            return y @ self.matrix

        def log_abs_det_jacobian(self, x, y):
            return torch.zeros(len(x))

    with torch.random.fork_rng():
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
    model.transform = Turned()
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    view = View.of(model, x)
    assert torch.equal(view.wide().reconstruct(), view.reconstruct().double())
