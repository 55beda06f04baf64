"""The whole evaluation in one call, and what the commands make of it."""

import csv
import json
import math
import re
import shutil
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import vaekit as vk
from vaekit import cli, engine
from vaekit.evaluation import Result, evaluate
from vaekit.evaluation.results import Results, of_score, of_values, result, written
from vaekit.plots import trend
from vaekit.report import numbers

pytestmark = pytest.mark.usefixtures("coarse")

_evaluate = sys.modules["vaekit.evaluation.evaluate"]  # the module; the package has the function under its name
SCORE = vk.evaluation.Score(3.0, 0.5)
METRICS, Metric = _evaluate.METRICS, _evaluate.Metric


def vaekit(*arguments):
    return cli.run([str(a) for a in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the digits, one of them fitted for longer."""
    folder = tmp_path_factory.mktemp("runs")
    for name, epochs in (("short", 1), ("long", 30)):
        arguments = [
            "fit",
            "digits",
            "-o",
            folder / name,
            "--quiet",
            "likelihood=bernoulli",
            "hidden=32",
            "latent_dim=3",
        ]
        assert vaekit(*arguments, f"max_epochs={epochs}") == 0
    return folder


@pytest.fixture(scope="module")
def small():
    with engine.seeded(0):
        model, objective = vk.presets.vae((5,), latent_dim=2, hidden=(16,), likelihood="normal")
    x = torch.randn(120, 2, generator=torch.Generator().manual_seed(0)) @ torch.ones(2, 5).triu()
    vk.Trainer(max_epochs=20, batch_size=32, progress=False).fit(model, objective, x)
    return model, x


@pytest.fixture
def short_annealing(monkeypatch):
    """Fewer temperatures and shorter chains: enough for a model of two latents."""
    module = sys.modules["vaekit.evaluation.evaluate"]
    monkeypatch.setitem(module._ANNEALING, "num_steps", 60)
    monkeypatch.setitem(module._ANNEALING, "num_leapfrog", 5)
    monkeypatch.setattr(module, "hmc_posterior", partial(module.hmc_posterior, num_samples=200, num_warmup=100))


def seeded():
    return torch.Generator().manual_seed(0)


def test_rows_agree_with_the_functions_that_make_them(small):
    model, x = small
    found = evaluate(model, x, num_samples=20, generator=seeded())
    lower, tighter = vk.evaluation.elbo_and_iwae(model, x, num_samples=20, generator=seeded())
    for name, estimate in (("elbo", lower), ("iwae", tighter)):
        row = found[name]
        errors = (estimate.mean_stderr, estimate.sampling_stderr)
        assert (row.value, row.stderr, row.sampling_stderr) == (estimate.mean, *errors)
        assert row.unit == "nats"
        assert "density" in row.label
    assert found["elbo"].value == pytest.approx(found["log_likelihood"].value - found["kl"].value)
    assert found.quantity == tighter.quantity == "density"
    assert "bits_per_dimension" not in found
    assert found["diagnostics.num_points"].value == found["num_points"].value == 120
    assert found["num_samples"].value == 20
    some = evaluate(model, x, num_samples=5, max_rows=50, generator=seeded())
    assert some["num_points"].value == 50
    with pytest.raises(KeyError, match="there are elbo, "):
        found["nothing"]


def test_rows_are_plain_and_have_a_value_or_a_reason(small):
    model, x = small
    found = evaluate(model, x, num_samples=5, generator=seeded())
    rows = json.loads(json.dumps(found.to_dicts(), allow_nan=False))
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == ["name", "label", "value", "stderr", "sampling_stderr", "unit", "reason"]
        assert (row["value"] is None) == isinstance(row["reason"], str)
        assert row["label"]
    assert list(found.to_frame("pyarrow").column_names) == list(rows[0])


def test_a_row_has_a_value_or_a_reason():
    assert result("a", "A", math.nan).reason == "it came out as nan"
    assert result("a", "A", math.nan, nan="no floor").reason == "no floor"
    assert result("a", "A", -math.inf, nan="no floor").reason == "it came out as -inf"
    row = Result("a", "A", 1.0, math.nan, math.inf)
    assert (row.value, row.stderr, row.sampling_stderr) == (1.0, None, None)
    for value, reason in ((None, None), (1.0, "why"), (math.inf, None)):
        with pytest.raises(ValueError, match="^a|of a"):
            Result("a", "A", value, reason=reason)


def test_names_are_those_of_one_row_each():
    with pytest.raises(ValueError, match="each row has a name of its own; there are several of a$"):
        Results((result("a", "A", 1.0), result("b", "B", 2.0), result("a", "A again", 3.0)), "density")


def test_no_rows_are_a_frame_without_rows():
    """With the columns that there would be."""
    frame = Results((), "density").to_frame("pyarrow")
    assert (frame.num_rows, frame.column_names[:3]) == (0, ["name", "label", "value"])


def test_a_row_is_a_detail_where_it_says_so_whatever_its_name():
    names = ["num_points", "num_points_left", "diagnostics.inference_gap.rate", "diagnostics.inference_gap.rated"]
    found = Results(tuple(result(name, name, 1.0, detail=i % 2 == 0) for i, name in enumerate(names)), "density")
    assert [row.name for row in found.table] == names[1::2]


class Idle:
    """A foreign model whose q is its prior, and whose scale is fixed by nobody that vaekit knows."""

    def prior(self):
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def posterior(self, x):
        return self.prior().expand((len(x),))

    def likelihood(self, z):
        return Independent(Normal(z @ torch.ones(2, 5), torch.ones(*z.shape[:-1], 5)), 1)


def test_a_number_that_is_not_defined_says_why(small):
    found = evaluate(Idle(), small[1], num_samples=3, generator=seeded())
    reasons = {row.name: row.reason for row in found.reasons}
    assert reasons == {
        "diagnostics.inference_gap.agreement": "the means do not vary over the rows",
        "diagnostics.scale.at_floor": "the likelihood sets no floor",
    }


def test_bits_per_dimension_are_those_of_the_bound():
    with engine.seeded(0):
        model, _ = vk.presets.vae((6,), latent_dim=2, hidden=(8,))
    found = evaluate(model, torch.bernoulli(torch.full((30, 6), 0.4)), num_samples=20, generator=seeded())
    bits = found["bits_per_dimension"]
    assert bits.value == pytest.approx(-found["iwae"].value / 6 / math.log(2))
    assert bits.stderr == pytest.approx(found["iwae"].stderr / 6 / math.log(2))
    assert bits.unit == "bits"


def test_full_adds_every_check_and_their_numbers_agree(small, short_annealing):
    model, x = small
    found = evaluate(model, x, num_samples=20, full=True, generator=seeded())
    difference = found["ais.difference"]
    assert abs(difference.value) < 0.05 + 4 * difference.sampling_stderr
    assert difference.value == pytest.approx(found["ais.annealed"].value - found["ais.importance"].value)
    gap = found["ais.simulated_gap"]
    assert -3 * gap.sampling_stderr - 0.01 < gap.value < 0.1
    assert 1.0 <= found["hmc.r_hat_max"].value < 1.1
    means = [found[f"trend.{k}"].value for k in ("1", "10", "100", "1000")]
    assert means == sorted(means)
    labels = [row.label for row in found.table]
    assert len(labels) == len(set(labels))
    assert any(label.startswith("AIS") for label in labels)
    assert any("p = " in label for label in labels)
    assert found.table[0].name == "elbo"
    assert not found.reasons
    p_value = found["two_sample.mmd.details.p_value"]
    assert 0 < p_value.value <= 1
    assert f"(p = {p_value.value:.3g})" in found["two_sample.mmd"].label
    baseline = found["two_sample.recall.details.baseline"].value
    assert found["two_sample.recall"].label == f"recall (data beside data: {baseline:.3g})"
    assert not any("details" in row.name for row in found.table)


@pytest.mark.usefixtures("quick_gap")
def test_what_cannot_be_done_says_why(small, short_annealing):
    model, x = small
    found = evaluate(model, x[:6], num_samples=3, full=True, generator=seeded())
    assert "expected at least" in found["two_sample"].reason
    assert found["two_sample"].value is None
    assert not any("sliced" in row.label for row in found.table)
    single = evaluate(model, x[:1], num_samples=3, generator=seeded())
    assert "at least 2" in single["diagnostics"].reason


@pytest.mark.usefixtures("quick_gap")
def test_a_metric_costs_a_function_and_a_line(runs, monkeypatch, tmp_path, capsys):
    """It is in the table, in --json, in the file and in the report."""

    def trial(view, how):
        return vk.evaluation.Score(len(view) + 0.125, 0.25)

    monkeypatch.setitem(METRICS, "trial_metric", Metric(trial))
    assert vaekit("evaluate", runs / "short", "--num-samples", 2, "--json", "-o", tmp_path / "n.csv") == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = [r for r in document["results"] if r["name"] == "trial_metric"]
    assert (row["value"], row["sampling_stderr"], row["label"]) == (360.125, 0.25, "trial metric")
    assert "trial_metric,trial metric,360.125" in (tmp_path / "n.csv").read_text()
    assert vaekit("evaluate", runs / "short", "--num-samples", 2) == 0
    assert re.search(r"trial metric +360\.1250 +0\.2500", capsys.readouterr().out)
    assert vaekit("report", runs / "short", "-o", tmp_path / "r.html", "--num-samples", 2) == 0
    assert "trial metric" in (tmp_path / "r.html").read_text()
    assert "360.12" in (tmp_path / "r.html").read_text()


def test_a_row_says_itself_that_it_is_a_detail(small, monkeypatch):
    """Under any name it is in files and JSON, which do not hold the flag, and in no table."""

    def trial(view, how):
        return [
            result("shown", "a", 1.0),
            result("part", "b", 2.0, detail=True),
            of_score("s", "c", SCORE, detail=True),
        ]

    monkeypatch.setitem(METRICS, "trial", Metric(trial))
    found = evaluate(*small, num_samples=2, generator=seeded())
    assert [row.name for row in found.table if row.name.startswith("trial")] == ["trial.shown"]
    rows = [row for row in found.to_dicts() if row["name"].startswith("trial")]
    assert [row["name"] for row in rows] == ["trial.shown", "trial.part", "trial.s"]
    keys = ["name", "label", "value", "stderr", "sampling_stderr", "unit", "reason"]
    assert all(list(row) == keys for row in rows)
    assert not any(name in row.name for row in found.table for name in ("num_points", "num_units", "per_dimension"))


def test_one_rule_writes_the_numbers_of_all_tables():
    """Counts whole, bits with four decimals at least; pages set thousands apart and give errors one decimal more."""
    nats = Result("a", "a", -1234.56789, 0.123456, None)
    assert [written(nats, n) for n in (nats.value, nats.stderr, nats.sampling_stderr)] == ["-1234.5679", "0.1235", ""]
    assert [numbers.cell(nats, n) for n in (nats.value, nats.stderr, None)] == ["−1,234.57", "0.123", "–"]
    for unit, value, text, typeset in [
        ("rows", 2_000_000.0, "2000000", "2,000,000"),
        ("draws", 4.21487, "4.2", "4.2"),
        ("bits", 1.5, "1.5000", "1.5000"),
        ("", 0.25, "0.2500", "0.25"),
    ]:
        row = Result("b", "b", value, unit=unit)
        assert (written(row, row.value), numbers.cell(row, row.value)) == (text, typeset)


def test_evaluate_prints_a_verdict_and_writes_files(runs, tmp_path, capsys):
    table, document = tmp_path / "numbers.csv", tmp_path / "numbers.json"
    assert vaekit("evaluate", runs / "long", "--num-samples", 5, "-o", table) == 0
    out = capsys.readouterr().out
    assert "active units of 3" in out
    assert "amortisation gap" in out
    assert "healthy: " in out
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "label", "value", "stderr", "sampling_stderr", "unit", "reason"]
    assert rows[1][0] == "elbo"
    assert f"{float(rows[1][2]):.4f}" in out
    assert vaekit("evaluate", runs / "long", "--num-samples", 5, "-o", document, "--json") == 0
    captured = json.loads(capsys.readouterr().out)
    assert captured == json.loads(document.read_text())
    assert set(captured) == {"run", "data", "results"}
    assert "diagnostics.findings.healthy" in {row["name"] for row in captured["results"]}
    assert vaekit("evaluate", runs / "long", "-o", tmp_path / "numbers.xml") == 2
    assert "numbers.xml" not in {path.name for path in tmp_path.iterdir()}


def test_quick_looks_at_2000_rows(runs, capsys, tmp_path):
    import numpy as np

    path = tmp_path / "many.npy"
    np.save(path, np.tile(vk.data.load("digits:train").x, (2, 1, 1, 1)))
    assert vaekit("evaluate", runs / "short", path, "--quick", "--num-samples", 1, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["value"] for row in rows if row["name"] == "num_points"] == [2000]


def test_compare_finds_the_run_that_was_fitted_for_longer(runs, capsys):
    assert vaekit("compare", runs / "short", runs / "long", "digits:test", "--num-samples", 20) == 0
    out = capsys.readouterr().out
    assert "paired difference" in out
    assert f"{runs / 'long'} - {runs / 'short'}" in out
    assert vaekit("compare", runs / "short", runs / "long", "--num-samples", 20, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    (pair,) = document["differences"]
    assert pair["better"] == str(runs / "long")
    assert pair["value"] > 0
    models = document["models"]
    difference = models[str(runs / "long")]["mean"] - models[str(runs / "short")]["mean"]
    assert pair["value"] == pytest.approx(difference)


@pytest.mark.parametrize("arguments", [("long",), ("long", "long"), ("long", "nowhere")])
def test_compare_is_misused(runs, arguments, capsys):
    assert vaekit("compare", *[runs / a for a in arguments]) in (1, 2)
    assert capsys.readouterr().err.startswith("vaekit: ")


def test_the_report_shows_the_health_and_the_verdict(runs, tmp_path):
    path = tmp_path / "report.html"
    assert vaekit("report", runs / "long", "-o", path, "--num-samples", 5) == 0
    page = path.read_text()
    assert 'id="health"' in page
    assert "<strong>Healthy.</strong>" in page
    assert "amortisation gap" in page


def test_the_trend_is_a_picture(small, runs, tmp_path):
    model, x = small
    figure = trend(vk.evaluation.bias_trend(model, x, num_samples=(1, 10), generator=seeded()))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10"]
    with pytest.raises(vk.errors.DataError, match="at least two"):
        trend({})
    assert vaekit("plot", runs / "short", "trend", "-o", tmp_path / "trend.png") == 0
    assert (tmp_path / "trend.png").stat().st_size > 5000


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    """A run on a table of three columns, and the folder that its rows lie in."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 2))
    x = np.c_[z[:, 0], z[:, 1], z[:, 0] + 0.5 * z[:, 1]] + 0.3 * rng.normal(size=(300, 3))
    write(folder / "t.csv", x)
    assert vaekit("fit", folder / "t.csv", "max_epochs=3", "-o", folder / "run") == 0
    return folder, x


def write(path, x):
    np.savetxt(path, x, delimiter=",", header="a,b,c", comments="")


def test_rows_without_a_number_leave_the_others_theirs(table_run, capsys):
    folder, x = table_run
    far = x[:60] + 0.01
    far[:4, 0] = 1e30
    write(folder / "far.csv", far)
    write(folder / "near.csv", far[4:])
    assert vaekit("evaluate", folder / "run", folder / "far.csv", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["results"]}
    assert rows["without_number"]["value"] == 4
    assert "over 56 of 60 rows: 4 without a number" in rows["elbo"]["label"]
    assert vaekit("evaluate", folder / "run", folder / "near.csv", "--json") == 0
    near = {row["name"]: row for row in json.loads(capsys.readouterr().out)["results"]}
    assert "without_number" not in near
    for name in ("elbo", "iwae", "kl", "log_likelihood"):
        assert rows[name]["value"] == pytest.approx(near[name]["value"], abs=0.1)


def test_evaluate_fails_where_no_row_has_a_number(table_run, capsys):
    folder, _ = table_run
    write(folder / "lost.csv", np.full((5, 3), 1e30))
    assert vaekit("evaluate", folder / "run", folder / "lost.csv") == 1
    said = capsys.readouterr()
    assert "5 of 5 rows have no number" in said.err
    assert "rows without a number" in said.out


@pytest.mark.parametrize(("value", "reason"), [(-math.inf, "-inf: no draw"), (math.nan, "none of the 2 rows")])
def test_a_mean_of_no_numbers_says_what_the_rows_are(value, reason):
    values = torch.full((2,), value, dtype=torch.float64)
    assert reason in of_values("kl", "KL", values).reason
    some = of_values("kl", "KL", torch.tensor([1.0, value, 3.0]))
    assert some.value == 2
    assert "over 2 of 3 rows: 1 without a number" in some.label
    assert ("and so is the mean over all" in some.label) == (value == -math.inf)


def test_a_stuck_sensor_is_no_collapse(table_run, capsys):
    folder, x = table_run
    still = x.mean(0) + 1e-3 * np.random.default_rng(1).normal(size=(60, 3))
    write(folder / "still.csv", still)
    assert vaekit("evaluate", folder / "run", folder / "still.csv") == 0
    said = capsys.readouterr().out
    assert "rows that hardly differ: The 60 rows hardly differ" in said
    assert "posterior collapse" not in said
    write(folder / "moving.csv", x[:60] + 0.01)
    assert vaekit("evaluate", folder / "run", folder / "moving.csv") == 0
    assert "hardly differ" not in capsys.readouterr().out


def test_no_verdict_without_a_description_of_the_training_rows(table_run, capsys):
    folder, x = table_run
    shutil.copytree(folder / "run", folder / "older")
    config = json.loads((folder / "older" / "config.json").read_text())
    del config["metadata"]["training_rows"]
    (folder / "older" / "config.json").write_text(json.dumps(config))
    write(folder / "shifted.csv", x[:60] + 50)
    assert vaekit("evaluate", folder / "older", folder / "shifted.csv") == 0
    said = capsys.readouterr().out
    assert "training rows that are not described" in said
    assert "gap:" not in said
    assert "healthy" not in said


def test_compare_report_and_pictures_take_the_seed_of_the_transform(tmp_path, capsys):
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).random((60, 5)))
    fit = ["fit", tmp_path / "grey.npy", "likelihood=bernoulli", "transform=binarize", "max_epochs=1", "--quiet", "-o"]
    runs = [tmp_path / "first", tmp_path / "second"]
    assert [vaekit(*fit, runs[0]), vaekit(*fit, runs[1], "seed=1")] == [0, 0]
    capsys.readouterr()
    means = []
    for seed in (0, 0, 3):
        options = ("--num-samples", 20, "--transform-seed", seed, "--transform-draws", 2, "--json")
        assert vaekit("compare", *runs, tmp_path / "grey.npy", *options) == 0
        means.append(json.loads(capsys.readouterr().out)["models"][str(runs[0])]["mean"])
    assert means[0] == means[1] != means[2]
    pages = []
    for seed in (0, 3):
        options = ("--num-samples", 20, "--transform-seed", seed, "--transform-draws", 2)
        assert vaekit("report", runs[0], "-o", tmp_path / f"{seed}.html", *options) == 0
        pages.append((tmp_path / f"{seed}.html").read_text())
    assert pages[0] != pages[1]
    assert vaekit("plot", runs[0], "reconstructions", "-o", tmp_path / "r.png", "--transform-seed", 3) == 0
