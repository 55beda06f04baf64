"""The table of equal budgets on a few small images: what is measured, recorded, left out, and computed from it."""

import fcntl
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vaekit as vk

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder beside the library is no installed package

from reproductions import budget_table, equal_budget
from reproductions.budget_table import Run
from reproductions.equal_budget import Budget

TINY = Budget(epochs=1, hidden=(8,), latent_dim=3, batch_size=20, num_samples=5, num_samples_elbo=3)


def digits():
    x = torch.from_numpy(vk.data.load("digits").x[:60]) / 16
    return x[:40], vk.transforms.Binarize("fixed")(x[40:])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(equal_budget, "FOLDER", tmp_path / "records")
    monkeypatch.setattr(equal_budget, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(equal_budget, "LOCKS", tmp_path / "locks")
    return equal_budget.folder_of(TINY)


def test_presets_that_take_the_mlp():
    names = equal_budget.suitable()
    assert names[0] == "vae"
    assert {"iwae", "beta-vae", "factor-vae"} <= set(names)
    assert not {"conv-vae", "conv-mnist", "mlp-mnist"} & set(names)


@pytest.mark.parametrize("name", equal_budget.suitable())
def test_every_preset_can_take_part(name):
    (train, test) = digits()
    record, log_p = equal_budget.measure(name, 0, train, test, TINY)
    assert record["num_updates"] == 2
    assert log_p.dtype == np.float32
    assert log_p.shape == (20,)
    assert record["log_p"]["mean"] == pytest.approx(log_p.mean(), rel=1e-5)
    assert -64 < record["log_p"]["mean"] < -20
    assert json.loads(json.dumps(record)) == record


def test_full_size_of_the_reference():
    model, objective = equal_budget.build("vae", (1, 28, 28), 0, Budget())
    sizes = [784 * 300 + 300, 300 * 300 + 300, 300 * 80 + 80, 40 * 300 + 300, 300 * 300 + 300, 300 * 784 + 784]
    assert sum(p.numel() for p in model.parameters()) == sum(sizes)
    assert type(objective) is vk.objectives.ELBO


def test_a_fresh_draw_of_bits_leaves_them_as_they_are():
    _, test = digits()
    assert torch.equal(vk.transforms.Binarize("fresh")(test), test)
    assert set(test.unique().tolist()) == {0.0, 1.0}


def test_work_is_recorded_once_and_taken_up_where_it_ended(folder):
    loads = []

    def load():
        loads.append(1)
        return digits()

    assert equal_budget.work(["vae", "iwae"], [0], TINY, load) == []
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == {f"{name}-seed-0.{kind}" for name in ("vae", "iwae") for kind in ("json", "npy")}
    assert equal_budget.work(["vae", "iwae"], [0], TINY, load) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert len(loads) == 1, "nothing is loaded where nothing is to be done"
    (folder / "iwae-seed-0.json").unlink()
    equal_budget.work(["vae", "iwae"], [0], TINY, load)
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert again["iwae-seed-0.npy"] == first["iwae-seed-0.npy"], "a seed repeats bit for bit"
    assert again["vae-seed-0.json"] == first["vae-seed-0.json"]


def test_what_another_process_holds_is_left_to_it(folder, tmp_path):
    (tmp_path / "locks").mkdir()
    with (tmp_path / "locks" / "1-vae-seed-0.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        equal_budget.work(["vae"], [0, 1], TINY, digits)
        assert {path.stem for path in folder.iterdir()} == {"vae-seed-1"}
    equal_budget.work(["vae"], [0, 1], TINY, digits)
    assert {path.stem for path in folder.iterdir()} == {"vae-seed-0", "vae-seed-1"}


def test_one_failure_does_not_stop_the_others(folder, monkeypatch, capsys):
    monkeypatch.setitem(equal_budget.INSTEAD, "iwae", {"num_samples": 0})
    assert equal_budget.work(["iwae", "vae"], [0], TINY, digits) == ["iwae-seed-0"]
    assert {path.stem for path in folder.iterdir()} == {"vae-seed-0"}
    assert "num_samples" in capsys.readouterr().err


def test_other_lengths_have_a_folder_and_a_section_of_their_own(folder):
    two = replace(TINY, epochs=2)
    assert equal_budget.folder_of(Budget()) == equal_budget.FOLDER
    equal_budget.work(["vae"], [0], TINY, digits)
    equal_budget.work(["vae"], [0], two, digits)
    assert equal_budget.report().checks == ()
    page = equal_budget.PAGE.read_text()
    assert page.index("## 1 epochs (2 updates)") < page.index("## 2 epochs (4 updates)")


def known(offsets, stderr_scale=1.0):
    """Runs whose differences from `vae` are known: noise common to all presets, and some of their own."""
    generator = np.random.default_rng(0)
    common, runs = generator.normal(-90, 25, 2000), {}
    for name, offset in offsets.items():
        own = {seed: stderr_scale * generator.normal(0, 1, 2000) for seed in (0, 1, 2)}
        numbers = {"latent_shape": [40], "kl": 25.0, "seconds_per_epoch": 2.0, "num_parameters": 1000, "threads": 1}
        numbers |= {"elbo": {"mean": -95.0}, "log_p": {"ess_median": 30.0}, "num_updates": 14070, "num_train": 60000}
        numbers |= {"num_test": 2000, "budget": asdict(Budget()), "seconds_of_training": 100.0}
        runs[name] = {
            seed: Run({**numbers, "seed": seed}, common + offset + noise - noise.mean()) for seed, noise in own.items()
        }
    return runs


def test_differences_are_paired_by_image():
    runs = known({"vae": 0.0, "iwae": 1.5, "vamp": 0.25})
    gap = budget_table.difference(runs, "iwae")
    assert gap.mean == pytest.approx(1.5, abs=1e-9)
    assert gap.per_seed == pytest.approx({0: 1.5, 1: 1.5, 2: 1.5})
    assert gap.stderr == pytest.approx(np.sqrt(2 / 3 / 2000), rel=0.1), "the noise common to both has cancelled"
    _, unpaired = budget_table.mean_and_error(runs["vae"][0].log_p)
    assert unpaired == pytest.approx(25 / np.sqrt(2000), rel=0.1)
    del runs["iwae"][0], runs["vae"][1]
    assert set(budget_table.difference(runs, "iwae").per_seed) == {2}
    assert budget_table.difference(runs, "absent") is None


@pytest.mark.parametrize(
    ("iwae", "vamp", "passed"), [(1.5, 0.25, [True, True]), (0.7, 0.05, [False, False]), (3.6, -1.0, [False, False])]
)
def test_gates(iwae, vamp, passed):
    result = budget_table.result(known({"vae": 0.0, "iwae": iwae, "vamp": vamp}))
    assert [check.passed for check in result.checks] == [passed[1], passed[0]]
    assert result.seconds == 900.0
    assert budget_table.result(known({"vae": 0.0})).checks == ()


@pytest.mark.parametrize(("iaf", "passed"), [(0.4, True), (-0.1, False), (6.0, False)])
def test_the_flow_is_judged_after_the_longer_run(iaf, passed):
    longer = known({"vae": 1.0, "vae-iaf": 1.0 + iaf})
    for run in longer["vae-iaf"].values():
        run.record["num_updates"] = 60032
    result = budget_table.result(known({"vae": 0.0, "vae-iaf": -0.5}), [longer, known({"vae": 2.0})])
    (check,) = result.checks
    assert check.measured == pytest.approx(iaf)
    assert check.passed is passed
    assert result.details["iaf_minus_vae_after_14070"]["mean"] == -0.5
    assert result.details["iaf_minus_vae_after_60032"]["mean"] == pytest.approx(iaf)


def test_table_is_sorted_and_says_what_was_measured():
    text = budget_table.page([known({"vae": 0.0, "iwae": 1.5, "beta-vae": -8.0})])
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["iwae", "vae", "beta-vae"]
    assert "+1.50 | 0.02 | +1.50, +1.50, +1.50" in rows[0]
    assert "60,000 training images" in text
    assert "14,070 updates" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_command_measures_and_writes(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(equal_budget, "Budget", lambda epochs=1: replace(TINY, epochs=epochs))
    monkeypatch.setattr(equal_budget, "images", lambda data_dir: digits())
    monkeypatch.setattr("reproductions.__main__.RECORDS", tmp_path)
    assert equal_budget.main(["--only", "vae", "beta-vae", "--seeds", "0"]) == 0
    assert equal_budget.main(["--table"]) == 0
    assert "`beta-vae`" in equal_budget.PAGE.read_text()
    with pytest.raises(SystemExit):
        equal_budget.main(["--only", "conv-vae"])


RECORDS = sorted(equal_budget.FOLDER.rglob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_records_are_of_the_protocol(path):
    record, values = json.loads(path.read_text()), np.load(path.with_suffix(".npy"))
    assert path.stem == f"{record['preset']}-seed-{record['seed']}"
    length = path.parent.name.removeprefix("epochs-") if path.parent != equal_budget.FOLDER else Budget().epochs
    assert record["budget"] == asdict(Budget(epochs=int(length))) | {"hidden": [300, 300]}
    assert (record["num_train"], record["num_test"], values.shape) == (60_000, 2_000, (2_000,))
    assert record["log_p"]["mean"] == pytest.approx(float(values.astype(np.float64).mean()), abs=1e-3)


@pytest.mark.skipif(not RECORDS, reason="nothing is recorded yet")
def test_page_is_that_of_the_records(tmp_path, monkeypatch):
    committed = Path(equal_budget.PAGE).read_text()
    monkeypatch.setattr(equal_budget, "PAGE", tmp_path / "page.md")
    equal_budget.report()
    assert equal_budget.PAGE.read_text() == committed, "run: python -m reproductions.equal_budget --table"
