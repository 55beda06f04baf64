"""The whole evaluation in one call, and what the commands make of it."""

import csv
import json
import math
import sys

import pytest
import torch

import vaekit as vk
from vaekit import cli, engine
from vaekit.evaluation import Line, evaluate, lines, reasons
from vaekit.plots import trend


def vaekit(*arguments):
    return cli.run([str(a) for a in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the digits, one of them fitted for longer."""
    folder = tmp_path_factory.mktemp("runs")
    for name, epochs in (("short", 1), ("long", 30)):
        arguments = ["fit", "digits", "-o", folder / name, "--quiet", "hidden=32", "latent_dim=3"]
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
    """Fewer temperatures: enough for a model of two latents."""
    monkeypatch.setitem(sys.modules["vaekit.evaluation.evaluate"]._ANNEALING, "num_steps", 60)


def seeded():
    return torch.Generator().manual_seed(0)


def test_parts_agree_with_the_functions_that_make_them(small):
    model, x = small
    found = evaluate(model, x, num_samples=20, generator=seeded())
    bounds = vk.evaluation.summarize(model, x, num_samples=20, generator=seeded())
    assert all(found[key] == value for key, value in bounds.items())
    assert set(found) == {*bounds, "diagnostics"}
    assert found["diagnostics"]["num_points"] == 120
    json.dumps(found)
    some = evaluate(model, x, num_samples=5, max_rows=50, generator=seeded())
    assert some["num_points"] == 50


def test_full_adds_every_check_and_their_numbers_agree(small, short_annealing):
    model, x = small
    found = evaluate(model, x, num_samples=20, full=True, generator=seeded())
    assert {"trend", "ais", "hmc", "two_sample"} < set(found)
    json.dumps(found)
    difference = found["ais"]["difference"]
    assert abs(difference["mean"]) < 0.05 + 4 * difference["sampling_stderr"]
    gap = found["ais"]["simulated_gap"]
    assert -3 * gap["sampling_stderr"] - 0.01 < gap["mean"] < 0.1
    assert 1.0 <= found["hmc"]["r_hat_max"] < 1.1
    means = [found["trend"][k]["mean"] for k in ("1", "10", "100", "1000")]
    assert means == sorted(means)
    table = lines(found)
    labels = [line.label for line in table]
    assert len(labels) == len(set(labels))
    assert all(math.isfinite(line.value) for line in table)
    assert any(label.startswith("AIS") for label in labels)
    assert any("p = " in label for label in labels)
    assert table[0] == Line(
        "ELBO", found["elbo"]["mean"], found["elbo"]["mean_stderr"], found["elbo"]["sampling_stderr"]
    )
    assert not reasons(found)


def test_what_cannot_be_done_says_why(small, short_annealing):
    model, x = small
    found = evaluate(model, x[:6], num_samples=3, full=True, generator=seeded())
    assert "expected at least" in found["two_sample"]
    assert any(reason.startswith("two_sample: ") for reason in reasons(found))
    assert not any("sliced" in line.label for line in lines(found))
    single = evaluate(model, x[:1], num_samples=3, generator=seeded())
    assert "at least 2" in single["diagnostics"]


def test_evaluate_prints_a_verdict_and_writes_files(runs, tmp_path, capsys):
    table, document = tmp_path / "numbers.csv", tmp_path / "numbers.json"
    assert vaekit("evaluate", runs / "long", "--num-samples", 5, "-o", table) == 0
    out = capsys.readouterr().out
    assert "active units of 3" in out
    assert "amortisation gap" in out
    assert "healthy: " in out
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "value", "mean_stderr", "sampling_stderr"]
    assert rows[1][0] == "ELBO"
    assert f"{float(rows[1][1]):.4f}" in out
    assert vaekit("evaluate", runs / "long", "--num-samples", 5, "-o", document, "--json") == 0
    captured = capsys.readouterr().out
    assert json.loads(captured) == json.loads(document.read_text())
    assert json.loads(captured)["diagnostics"]["findings"][0]["name"] == "healthy"
    assert vaekit("evaluate", runs / "long", "-o", tmp_path / "numbers.xml") == 2
    assert "numbers.xml" not in {path.name for path in tmp_path.iterdir()}


def test_quick_looks_at_2000_rows(runs, capsys, tmp_path):
    import numpy as np

    path = tmp_path / "many.npy"
    np.save(path, np.tile(vk.data.load("digits:train").x, (2, 1, 1, 1)))
    assert vaekit("evaluate", runs / "short", path, "--quick", "--num-samples", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_points"] == 2000


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
