"""Rows that were trained on never pass for others: what a run knows of rows, and what every command says of them."""

import json
import shutil

import numpy as np
import pytest
import torch

import vaekit as vk
from vaekit import cli, runs
from vaekit.data import Dataset
from vaekit.errors import DataChangedWarning
from vaekit.evaluation.health.overfitting import overfitting
from vaekit.runs.division import held_out_rule

pytestmark = pytest.mark.usefixtures("coarse", "quick_gap")

FAST = ["max_epochs=2", "hidden=8", "latent_dim=2", "compile=off", "--quiet"]
OVERFIT = ["likelihood=normal", "max_epochs=150", "batch_size=8", "learning_rate=0.003", "beta=0.3", "keep=last"]
K = ["--num-samples", 5]


def vaekit(*arguments):
    return cli.run([str(argument) for argument in arguments])


def write(path, x):
    np.savetxt(path, x, delimiter=",", header=",".join("abcdefgh"[: x.shape[1]]), comments="", fmt="%.17g")


def normal(num_rows, num_columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(num_rows, num_columns))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on a table with rows held out, with validation rows of another file, and one that is validated on itself."""
    folder = tmp_path_factory.mktemp("parts")
    write(folder / "all.csv", normal(50))
    write(folder / "valid.csv", normal(20, seed=1))
    write(folder / "new.csv", normal(30, seed=2))
    for name, options in (
        ("tenth", []),
        ("given", ["--valid", folder / "valid.csv"]),
        ("itself", ["--valid", folder / "all.csv"]),
    ):
        assert vaekit("fit", folder / "all.csv", "-o", folder / name, *options, *FAST) == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Runs on the three parts of a named set."""
    folder = tmp_path_factory.mktemp("digits")
    for part in ("train", "test", "all"):
        assert vaekit("fit", f"digits:{part}", "-o", folder / part, *FAST) == 0
    return folder


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """Sixty rows of noise, and a network that learns them by heart."""
    folder = tmp_path_factory.mktemp("overfitted")
    write(folder / "few.csv", normal(60, 8))
    assert vaekit("fit", folder / "few.csv", "-o", folder / "run", *FAST, "hidden=64", "latent_dim=6", *OVERFIT) == 0
    return folder


def rule(num_rows):
    """The rows that `data.holdout` gives to each side."""
    parts = vk.data.holdout(Dataset(np.arange(num_rows)[:, None]))
    return tuple(np.sort(part.x[:, 0]) for part in parts)


def check(split, train, held_out, part, is_known=True):
    np.testing.assert_array_equal(split.train, train)
    np.testing.assert_array_equal(split.held_out, held_out)
    assert (split.part, split.is_known) == (part, is_known)


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


# --- What a run knows ------------------------------------------------------------------------------------------------


def test_a_run_knows_the_rows_that_it_held_out(folder):
    run = runs.open(folder / "tenth")
    train, valid = rule(50)
    assert len(valid) == 5
    check(run.split(run.rows()), train, valid, "validation rows")
    check(run.split(folder / "all.csv"), train, valid, "validation rows")
    check(run.split(normal(50)), train, valid, "validation rows")
    about = run.data.held_out
    assert (about.fraction, about.seed, about.num_rows) == (0.1, 0, 5)


def test_a_run_knows_nothing_of_other_rows(folder):
    for name in ("tenth", "given"):
        run = runs.open(folder / name)
        other = folder / "new.csv"
        check(run.split(other), [], np.arange(len(run.rows(other))), "rows", is_known=False)
        assert run.parts(other).train is None


def test_rows_in_another_order_are_known_by_their_content(folder):
    train, valid = rule(50)
    turned = normal(50)[::-1].copy()
    check(runs.open(folder / "tenth").split(turned), sorted(49 - train), sorted(49 - valid), "validation rows")
    np.testing.assert_array_equal(runs.open(folder / "given").split(turned).train, np.arange(50))


def test_a_file_that_was_used_whole_was_trained_on(folder):
    check(runs.open(folder / "given").split(folder / "all.csv"), np.arange(50), [], "held-out rows")
    check(runs.open(folder / "given").split(folder / "valid.csv"), [], np.arange(20), "validation rows")
    check(runs.open(folder / "itself").split(folder / "all.csv"), np.arange(50), [], "held-out rows")


def test_rows_that_a_file_has_gained_were_not_trained_on(tmp_path):
    write(tmp_path / "mnist.csv", normal(50))
    assert vaekit("fit", tmp_path / "mnist.csv", "-o", tmp_path / "run", *FAST) == 0
    run = runs.open(tmp_path / "run")
    assert len(run.rows()) == 50, "the file, not the set of its name"
    write(tmp_path / "mnist.csv", np.concatenate([normal(50), normal(4, seed=3)]))
    train, valid = rule(50)
    with pytest.warns(DataChangedWarning, match="4 rows appended"):
        check(run.split(run.rows()), train, [*valid, 50, 51, 52, 53], "held-out rows")
    write(tmp_path / "mnist.csv", np.concatenate([normal(4, seed=3), normal(50)]))
    with pytest.warns(DataChangedWarning):
        check(run.split(run.rows()), 4 + train, sorted([0, 1, 2, 3, *(4 + valid)]), "held-out rows")


def test_an_older_run_follows_the_rule_of_all_runs(folder, tmp_path):
    """One without the entry is split by the rule; one whose rule gives other rows than it gave is not."""
    for name, entry in (("older", None), ("stale", held_out_rule(50).model_copy(update={"crc32": 1}).model_dump())):
        shutil.copytree(folder / "tenth", tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["metadata"]["data"]["held_out"] = entry
        if entry is None:
            del config["metadata"]["data"]["held_out"]
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    check(runs.open(tmp_path / "older").split(folder / "all.csv"), *rule(50), "validation rows")
    assert not runs.open(tmp_path / "stale").split(folder / "all.csv").is_known


def test_a_model_that_was_only_saved_knows_no_rows(tmp_path):
    model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
    vk.save(model, tmp_path / "saved")
    check(runs.open(tmp_path / "saved").split(normal(7)), [], np.arange(7), "rows", is_known=False)


def test_the_parts_of_a_named_set(digits):
    """The test part is disjoint from what was trained on, unless the fit took all of the set."""
    run = runs.open(digits / "train")
    train, valid = rule(1437)
    check(run.split(run.rows()), [], np.arange(360), "test rows")
    check(run.split(run.rows("digits:train")), train, valid, "validation rows")
    whole = run.split(run.rows("digits:all"))
    assert (len(whole.train), len(whole.held_out), whole.part) == (1293, 504, "held-out rows")
    x, known = run.rows("digits:all"), run.rows("digits:train")
    assert {row.tobytes() for row in x.take(whole.train).x} == {row.tobytes() for row in known.take(train).x}
    check(runs.open(digits / "test").split(run.rows("digits:train")), [], np.arange(1437), "held-out rows")
    within = runs.open(digits / "all").split(run.rows("digits:test"))
    assert (len(within.train) + len(within.held_out), within.part) == (360, "validation rows")
    assert len(within.train) > 0


def test_rows_that_stand_in_another_file_as_well_are_counted(folder, tmp_path, capsys):
    """Other order, fewer rows, another dtype: the run does not know the file, and says which rows are the same."""
    train, valid = rule(50)
    some = [train[3], valid[0], train[7], train[1]]
    write(tmp_path / "some.csv", normal(50)[some])
    run = runs.open(folder / "tenth")
    assert not run.split(run.rows(tmp_path / "some.csv")).is_known
    for rows in (tmp_path / "some.csv", normal(50)[some].astype(np.float32)):
        assert run.num_alike(run.rows(rows)) == 3
    assert run.num_alike(run.rows(folder / "new.csv")) == 0
    assert vaekit("evaluate", folder / "tenth", tmp_path / "some.csv", *K) == 0
    assert last_line(capsys).startswith("4 rows (3 equal to training rows) of some; log p")
    assert vaekit("score", folder / "tenth", tmp_path / "some.csv", "-o", tmp_path / "s.npy", *K) == 0
    assert "3 of the 4 rows are equal to rows that were trained on" in capsys.readouterr().err
    assert vaekit("fit", tmp_path / "some.csv", "-o", tmp_path / "run", *FAST) == 0
    assert vaekit("compare", folder / "given", tmp_path / "run", tmp_path / "some.csv", "--num-samples", 12) == 0
    assert last_line(capsys).startswith(f"1 validation row ({folder / 'given'} was trained on 1) of some")


# --- Numbers of each part --------------------------------------------------------------------------------------------


def test_numbers_without_a_prefix_are_of_held_out_rows(folder):
    run = runs.open(folder / "tenth")
    found = run.evaluate(num_samples=5, seed=3)
    for prefix, index in zip(("train.", ""), rule(50), strict=True):
        rows = run.rows().take(index)
        generator = torch.Generator().manual_seed(3)
        alone = vk.evaluation.evaluate(run.model, rows, num_samples=5, generator=generator)
        assert found[f"{prefix}num_points"].value == len(index)
        for row in alone if not prefix else (r for r in alone if not r.name.startswith("diagnostics.")):
            if "findings" not in row.name:
                ours = found[prefix + row.name]
                assert (ours.value, ours.stderr, ours.sampling_stderr) == (row.value, row.stderr, row.sampling_stderr)
    assert not any(row.name.startswith("train.diagnostics") for row in found)
    gap = found["iwae"].value - found["train.iwae"].value
    error = np.hypot(found["iwae"].sampling_stderr, found["train.iwae"].sampling_stderr)
    assert found["generalization_gap"].value == pytest.approx(gap)
    assert found["generalization_gap"].sampling_stderr == pytest.approx(error)
    assert found.judged == "5 validation rows beside 45 training rows"


def test_training_rows_stand_beside_the_validation_file(folder):
    found = runs.open(folder / "given").evaluate(num_samples=5)
    assert found.judged == "20 validation rows beside 50 training rows"


def test_where_all_rows_were_trained_on_every_name_says_so(folder, capsys):
    run = runs.open(folder / "given")
    found = run.evaluate(folder / "all.csv", num_samples=5)
    assert all(row.name.startswith("train.") for row in found if row.name != "generalization_gap")
    assert "all rows were trained on" in found["generalization_gap"].reason
    assert {row.name for row in found.findings} <= {row.name for row in found if ".findings." in row.name}
    assert vaekit("evaluate", folder / "given", folder / "all.csv", *K) == 0
    out = capsys.readouterr().out
    assert "all rows were trained on" in out
    assert ", by training rows: " in out
    assert out.splitlines()[-1] == "50 training rows of all; log p is a density."


@pytest.mark.parametrize(
    ("n", "m", "most", "counts"),
    [
        (30, 1200, None, (30, 1000)),
        (30, 40, None, (30, 40)),
        (1100, 1200, None, (1100, 1100)),
        (30, 1200, 20, (20, 20)),
    ],
)
def test_training_rows_are_a_fixed_choice(n, m, most, counts):
    """As many as there are held-out rows, or 1,000 where those are fewer; fewer with `max_rows`."""
    model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
    noise, x, train = torch.Generator().manual_seed(0), normal(n), normal(m, seed=1)
    found = vk.evaluation.evaluate(model, x, train=train, max_rows=most, num_samples=2, generator=noise)
    assert (found["num_points"].value, found["train.num_points"].value) == counts
    if most is not None:
        assert found.judged == "20 of 30 rows beside 20 of 1,200 training rows"


# --- The finding -----------------------------------------------------------------------------------------------------


def test_a_model_that_learnt_its_rows_by_heart_overfits(overfitted, capsys):
    found = runs.open(overfitted / "run").evaluate()
    assert found["generalization_gap"].value < -5
    (finding,) = [row for row in found.findings if row.name == "diagnostics.findings.overfitting"]
    assert f"overfits by {-found['generalization_gap'].value:.1f} nats" in finding.label
    assert "diagnostics.findings.healthy" not in found
    assert vaekit("evaluate", overfitted / "run") == 0
    out = capsys.readouterr().out
    assert "overfitting: The model overfits by " in out
    assert "healthy" not in out


def test_a_model_with_enough_rows_does_not_overfit(tmp_path):
    x = normal(3000, 2) @ np.array([[1.0, 0.5, 0.2], [0.0, 1.0, 0.5]]) + 0.3 * normal(3000, 3, seed=1)
    write(tmp_path / "many.csv", x)
    assert (
        vaekit(
            "fit", tmp_path / "many.csv", "-o", tmp_path / "run", *FAST, "hidden=16", "max_epochs=20", "batch_size=32"
        )
        == 0
    )
    found = runs.open(tmp_path / "run").evaluate(num_samples=20)
    assert abs(found["generalization_gap"].value) < 0.5
    assert "diagnostics.findings.overfitting" not in found


@pytest.mark.parametrize("heavy", [False, True])
def test_the_chance_is_that_of_a_random_choice(heavy):
    """Of choices at random at most t of all have a chance below t, also where a few rows score far below the others.

    150 choices: 0.05 has a standard error of 0.018.
    """
    stream = torch.Generator().manual_seed(0)
    scores = torch.randn(150, 120, generator=stream)
    if heavy:
        scores -= 50 * (torch.rand(150, 120, generator=stream) < 0.02).float()
    chances = torch.tensor([overfitting(row[:20], row[20:]).chance for row in scores])
    for t in (0.01, 0.05, 0.2, 0.5):
        error = 4 * (t * (1 - t) / 150) ** 0.5
        share = float((chances <= t).double().mean())
        assert share <= t + error
        assert heavy or share >= t - error


def test_a_few_rows_far_below_all_others_are_evidence():
    """The standard error of the held-out mean hides them: it is made of the same few rows."""
    train, held_out = torch.randn(300), torch.randn(36)
    held_out[:5] -= 80
    found = overfitting(held_out, train)
    assert -found.gap.value < 3 * found.gap.stderr
    assert found.is_found


@pytest.mark.parametrize(
    ("shift", "scale", "expected"),
    [(0.0, 1.0, False), (0.3, 1.0, False), (0.7, 1.0, True), (0.7, 20.0, False), (-5.0, 1.0, False)],
)
def test_a_gap_is_found_where_it_matters(shift, scale, expected):
    """By half a nat, and by a tenth of the spread; higher held-out rows are no fault."""
    scores = scale * torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    assert overfitting(scores[:20_000] - shift, scores[20_000:]).is_found == expected


def test_rows_without_a_number_make_no_finding():
    found = overfitting(torch.tensor([-torch.inf, 0.0]), torch.zeros(3))
    assert not found.is_found
    assert found.results()[0].reason is not None


# --- What the commands say -------------------------------------------------------------------------------------------


def test_the_last_line_of_evaluate_says_which_rows_were_judged(folder, digits, capsys):
    for arguments, expected in (
        ((folder / "tenth",), "5 validation rows beside 45 training rows of all"),
        ((folder / "tenth", folder / "all.csv"), "5 validation rows beside 45 training rows of all"),
        ((folder / "tenth", folder / "new.csv"), "30 rows of new"),
        ((folder / "given",), "20 validation rows beside 50 training rows of valid"),
        ((digits / "train",), "360 test rows beside 1,000 of 1,293 training rows of digits"),
        ((digits / "test", "digits:train", "--quick"), "1,437 held-out rows beside 324 training rows of digits"),
    ):
        assert vaekit("evaluate", *arguments, *K) == 0
        assert last_line(capsys).startswith(f"{expected}; log p is a ")


def test_score_says_how_many_rows_were_trained_on(folder, tmp_path, capsys):
    file = tmp_path / "s.npy"
    for name, data, expected in (
        ("tenth", None, "45 of the 50 rows were trained on; the others are validation rows"),
        ("given", None, "50 of the 50 rows were trained on"),
        ("given", folder / "valid.csv", None),
        ("tenth", folder / "new.csv", None),
    ):
        assert vaekit("score", folder / name, *([] if data is None else [data]), "-o", file, "--num-samples", 12) == 0
        err = capsys.readouterr().err
        assert ("trained on" in err) == (expected is not None)
        assert expected is None or expected in err.splitlines()
        assert len(np.load(file)) == (50 if data is None else len(vk.data.load(data)))


def test_compare_judges_rows_that_no_run_was_trained_on(folder, tmp_path, capsys):
    twin = shutil.copytree(folder / "tenth", tmp_path / "twin")
    assert vaekit("compare", folder / "tenth", twin, "--num-samples", 12) == 0
    assert last_line(capsys).startswith("5 validation rows of all, K = 12;")
    assert vaekit("compare", folder / "tenth", folder / "given", "--num-samples", 12) == 0
    line = last_line(capsys)
    assert line.startswith("50 rows (")
    assert f"{folder / 'tenth'} was trained on 45" in line
    assert f"{folder / 'given'} was trained on 50" in line
    assert vaekit("compare", folder / "tenth", twin, folder / "new.csv", "--num-samples", 12, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == "30 rows"


def test_pictures_show_held_out_rows(folder, tmp_path, monkeypatch, capsys):
    """All but the codes, and it is said where there are none."""
    from vaekit.plots import by_name

    draw, seen = by_name.draw, []
    monkeypatch.setattr(
        by_name, "draw", lambda kind, *a, data, **k: seen.append(data) or draw(kind, *a, data=data, **k)
    )
    for name, kind, data in (
        ("tenth", "reconstructions", []),
        ("tenth", "latent", []),
        ("given", "trend", [folder / "all.csv"]),
    ):
        assert vaekit("plot", folder / name, kind, *data, "-o", tmp_path / "p.png") == 0
    assert "all rows of this picture were trained on" in capsys.readouterr().err
    assert [len(data) for data in seen] == [5, 50, 50]
    np.testing.assert_array_equal(seen[0].x, normal(50)[rule(50)[1]])


def test_the_report_judges_the_rows_that_evaluate_judges(folder, tmp_path, capsys):
    """The same numbers, and the words for both parts."""
    page = tmp_path / "report.html"
    assert vaekit("report", folder / "tenth", "-o", page, *K) == 0
    text = page.read_text()
    assert "judged on 5 validation rows beside 45 training rows" in text
    capsys.readouterr()
    assert vaekit("evaluate", folder / "tenth", *K, "--json") == 0
    for row in json.loads(capsys.readouterr().out)["results"]:
        if row["name"].removeprefix("train.") in ("elbo", "iwae"):
            assert f"{row['value']:.2f}".replace("-", "−") in text
    whole = runs.open(folder / "given").evaluate(folder / "all.csv", num_samples=5)
    assert vk.report.numbers.judged(whole) == "50 training rows"
    assert [label for label, _ in vk.report.numbers.headline(whole)] == [
        "training rows: IWAE bound",
        "training rows: ELBO",
        "training rows: KL",
    ]
    assert vk.report.numbers.about_weights(whole)


def test_a_report_says_how_many_rows_it_left_out():
    model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
    found = vk.report.evaluate(model, normal(30), num_samples=2, max_rows=10)
    assert vk.report.numbers.judged(found) == "10 of 30 rows"
    assert vk.report.numbers.judged(vk.report.evaluate(model, normal(30), num_samples=2)) == "30 points"
