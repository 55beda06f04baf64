"""Means over several draws of a random transform, and what the command line says of which draw it met."""

import json

import numpy as np
import pytest
import torch
from known_models import GreyModel, grey_model
from test_view import RANDOM, model_with, seeded, table

from vaekit import evaluation
from vaekit.cli import run as vaekit_command
from vaekit.errors import ConfigError
from vaekit.transforms import Scale

pytestmark = pytest.mark.usefixtures("coarse")

F64 = torch.float64


@pytest.mark.parametrize("num_draws", [2, 5, 10])
def test_intervals_over_transform_seeds_cover(num_draws):
    """value +- 1.96 stderr holds the mean over all bits 93 to 97 times in 100, and so does that of the mean."""
    model = GreyModel()
    grey = 0.05 + 0.9 * torch.rand(50, 10, generator=seeded(1), dtype=F64)
    truth, repetitions = model.mean_log_prob(grey), 40
    options = {"num_samples": 100, "transform_draws": num_draws}
    found = [
        evaluation.log_marginal(model, grey, generator=seeded(r), transform_seed=1000 * r, **options)
        for r in range(repetitions)
    ]
    z_scores = torch.stack([(estimate.value - truth) / estimate.stderr for estimate in found])
    assert 0.93 < float((z_scores.abs() <= 1.96).double().mean()) < 0.97
    means = np.array([(estimate.mean - float(truth.mean())) / estimate.mean_stderr for estimate in found])
    assert 0.7 < means.std() < 1.3, "the error of the mean over rows does not carry the factor of few draws"
    assert abs(means.mean()) < 0.6
    assert not bool(found[0].unreliable.any())


def test_one_draw_leaves_the_scatter_out_and_says_so():
    model, grey = GreyModel(), torch.rand(50, 10, dtype=F64)
    one = evaluation.log_marginal(model, grey, num_samples=100, generator=seeded())
    several = evaluation.log_marginal(model, grey, num_samples=100, generator=seeded(), transform_draws=20)
    assert "bits of each row are drawn once, under transform seed 0" in one.transform_noise
    assert "errors leave out" in one.transform_noise
    assert "transform seeds 0 to 19; errors hold" in several.transform_noise
    assert float(several.stderr.mean()) > 3 * float(one.stderr.mean())
    assert (one.transform_draws, several.transform_draws) == (1, 20)
    assert several.summary()["transform_draws"] == 20
    assert "drawn once" in repr(one)


def test_the_mean_over_draws_is_that_of_the_single_ones():
    """ELBO, its terms and the IWAE bound, up to the noise of z."""
    model, grey = grey_model(features=40), torch.rand(30, 40)
    options = {"num_samples": 400, "generator": seeded()}
    mean = evaluation.elbo(model, grey, transform_draws=3, transform_seed=4, **options)
    single = [evaluation.elbo(model, grey, transform_seed=4 + t, **options) for t in range(3)]
    torch.testing.assert_close(mean.terms["kl"], torch.stack([e.terms["kl"] for e in single]).mean(0))
    torch.testing.assert_close(mean.value, mean.terms["log_likelihood"] - mean.terms["kl"])
    assert mean.mean == pytest.approx(np.mean([e.mean for e in single]), abs=0.1)
    assert set(mean.reasons) == set()


@pytest.mark.parametrize("name", RANDOM)
def test_a_draw_of_noise_is_enough_for_a_stderr_of_one_sample(name):
    model = model_with(RANDOM[name], "bernoulli" if name == "bits" else "normal")
    estimate = evaluation.elbo(model, table(20), transform_draws=4, generator=seeded())
    assert bool(estimate.stderr.isfinite().all())
    assert estimate.quantity == ("mass" if name == "bits" else "bound on a mass")


def test_rows_doubtful_under_most_draws_are_doubtful():
    model, grey = grey_model(), torch.rand(30, 6)
    few = evaluation.iwae(model, grey, num_samples=5, transform_draws=3, generator=seeded())
    assert bool(few.unreliable.any())
    assert "fewer than 12 draws" in next(iter(few.reasons))


def test_without_a_random_transform_nothing_changes():
    model, x = model_with(Scale(0, 16)), table()
    plain = evaluation.log_marginal(model, x, num_samples=20, generator=seeded())
    asked = evaluation.log_marginal(model, x, num_samples=20, generator=seeded(), transform_draws=5, transform_seed=3)
    assert torch.equal(plain.value, asked.value)
    assert torch.equal(plain.stderr, asked.stderr)
    assert plain.transform_noise is asked.transform_noise is None
    assert evaluation.evaluate(model, x, num_samples=5).transform_noise is None


def test_at_least_one_draw():
    with pytest.raises(ConfigError, match="transform_draws is at least 1; got 0"):
        evaluation.log_marginal(grey_model(), torch.rand(3, 6), num_samples=2, transform_draws=0)


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    keys = ["likelihood=bernoulli", "max_epochs=3", "hidden=32", "seed=1"]
    assert vaekit_command(["fit", "digits", "-o", str(folder), *keys, "--quiet"]) == 0
    return folder


def command(*arguments):
    assert vaekit_command([str(argument) for argument in arguments]) == 0


def test_score_differs_between_seeds_by_its_stated_error(run_folder, tmp_path, capsys):
    for seed in (0, 1):
        command("score", run_folder, "digits:test", "-o", tmp_path / f"{seed}.npy", "--seed", seed)
    assert "bits of each row are drawn once, under transform seed 0" in capsys.readouterr().err
    first, second = (np.load(tmp_path / f"{seed}.npy") for seed in (0, 1))
    z_scores = (first[:, 0] - second[:, 0]) / np.hypot(first[:, 1], second[:, 1])
    assert np.abs(z_scores).max() < 4.5
    command("score", run_folder, "digits:test", "-o", tmp_path / "t.npy", "--transform-draws", 3, "--transform-seed", 5)
    assert "transform seeds 5 to 7" in capsys.readouterr().err
    assert np.load(tmp_path / "t.npy")[:, 1].mean() > first[:, 1].mean()


@pytest.mark.parametrize("what", ["encode", "reconstruct"])
def test_codes_are_those_of_the_row_whatever_the_seed(run_folder, tmp_path, capsys, what):
    for name, options in {"0": (), "1": ("--seed", 1), "other": ("--transform-seed", 1)}.items():
        command(what, run_folder, "digits:test", "-o", tmp_path / f"{name}.npy", *options)
    assert "bits of each row are drawn once, under transform seed 1" in capsys.readouterr().err
    first, second, other = (np.load(tmp_path / f"{name}.npy") for name in ("0", "1", "other"))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_evaluate_and_report_say_which_bits(run_folder, tmp_path, capsys):
    command("evaluate", run_folder, "--quick", "--num-samples", 2)
    assert "bits of each row are drawn once, under transform seed 0; errors leave out" in capsys.readouterr().out
    command("evaluate", run_folder, "--num-samples", 2, "--transform-draws", 2, "--transform-seed", 3, "--json")
    document = json.loads(capsys.readouterr().out)
    labels = {row["name"]: row["label"] for row in document["results"]}
    assert "under transform seeds 3 to 4" in labels["transform_draws"]
    values = {row["name"]: row["value"] for row in document["results"]}
    assert (values["transform_draws"], values["transform_seed"]) == (2, 3)
    command("report", run_folder, "-o", tmp_path / "r.html", "--num-samples", 2)
    assert "under transform seed 0" in (tmp_path / "r.html").read_text()
