"""A search over settings."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import vaekit as vk
from vaekit import cli, runs
from vaekit.errors import ConfigError, TrainingError
from vaekit.tuning import Among, Between, ranges, tune

pytest.importorskip("optuna")
FAST = {"max_epochs": "6", "hidden": "8", "compile": "off"}


@pytest.fixture
def table(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 1))
    x = z @ rng.normal(size=(1, 4)) + 0.3 * rng.normal(size=(300, 4))
    pd.DataFrame(x, columns=list("abcd")).to_csv(tmp_path / "table.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def held_out_log_p(run):
    """The mean log p of the rows of the training part that chose the epoch."""
    rows = run.rows(part="train")
    return run.score(rows.take(run.split(rows).held_out), num_samples=100).values[:, 0].mean()


def test_ranges_are_those_of_their_settings():
    searched, fixed = ranges(
        {"latent_dim": "2..32", "beta": "0..2", "hidden": "8|16,16", "seed": 3, "trim": "0.01..0.1"}
    )
    assert searched == {
        "latent_dim": Between(2, 32, whole=True, by_magnitude=True),
        "beta": Between(0, 2),
        "hidden": Among(("8", "16,16")),
        "trim": Between(0.01, 0.1, by_magnitude=True),
    }
    assert fixed == {"seed": 3}
    for given, said in (
        ({"latent_dims": "2..3"}, "there is no key 'latent_dims'"),
        ({"latent_dim": "2.5..3"}, "latent_dim is a whole number"),
        ({"latent_dim": "0..3"}, "latent_dim=0"),
        ({"hidden": "2..3"}, "name its values"),
        ({"latent_dim": "5..2"}, "a lower and a higher number"),
        ({"prior": "a|a"}, "expected values that differ"),
        ({"precision": "float32|float8"}, "float8"),
        ({"latent_dim": 3}, "no setting has a range"),
        ({"learning_rate": "low..high"}, "expected two numbers"),
    ):
        with pytest.raises(ConfigError, match=said):
            ranges(given)


def test_a_search_keeps_the_best_run_and_its_numbers_are_those_of_held_out_rows(table):
    found = tune("table.csv", "search", {**FAST, "latent_dim": "1..3", "learning_rate": "1e-5..1e-2"}, trials=7)
    assert len(found.trials) == 7
    best = found.best
    run = runs.open("search/best")
    assert run.settings.latent_dim == best.settings["latent_dim"]
    rows = run.rows()
    held_out = rows.take(run.split(rows).held_out)
    assert len(held_out) == 30
    again = run.score(held_out, num_samples=100)
    assert again.values[:, 0].mean() == pytest.approx(best.log_p, abs=1e-4)
    assert again.values[:, 0].std(ddof=1) / np.sqrt(30) == pytest.approx(best.sampling_stderr, rel=1e-4)
    assert best.log_p == max(trial.log_p for trial in found.trials if trial.state == "done")
    frame = pd.read_csv("search/trials.csv")
    assert frame["log_p"].max() == pytest.approx(best.log_p)
    assert frame["learning_rate"].between(1e-5, 1e-2).all()
    assert (table / "search" / "trials.png").read_bytes()[:4] == b"\x89PNG"
    assert not (table / "search" / "running").exists()


def test_a_search_repeats_and_goes_on_as_if_it_had_not_been_stopped(table):
    given = {**FAST, "latent_dim": "1..3", "learning_rate": "1e-4..1e-2"}
    whole = tune("table.csv", "whole", given, trials=5, seed=1)
    tune("table.csv", "part", given, trials=2, seed=1)
    with pytest.raises(ConfigError, match="--resume goes on with it"):
        tune("table.csv", "part", given, trials=5, seed=1)
    with pytest.raises(ConfigError, match="holds another search: seed was 1"):
        tune("table.csv", "part", given, trials=5, seed=2, resume=True)
    part = tune("table.csv", "part", given, trials=5, seed=1, resume=True)
    assert [trial.settings for trial in part.trials] == [trial.settings for trial in whole.trials]
    assert [trial.log_p for trial in part.trials] == [trial.log_p for trial in whole.trials]
    assert tune("table.csv", "part", given, trials=5, seed=1, resume=True).best.number == whole.best.number
    other = tune("table.csv", "part", given, trials=1, seed=2, overwrite=True)
    assert len(other.trials) == 1
    assert other.trials[0].settings != whole.trials[0].settings


@pytest.mark.slow
def test_a_trial_that_is_killed_goes_on(table):
    given = ["latent_dim=1..3", "learning_rate=1e-4..1e-2", "hidden=8", "compile=off", "max_epochs=100", "patience=99"]
    given += ["checkpoint_every=1"]
    command = [sys.executable, "-m", "vaekit", "tune", "table.csv", *given, "--trials", "2", "--quiet"]
    process = subprocess.Popen([*command, "-o", "killed"], stderr=subprocess.PIPE, text=True)
    log = table / "killed" / "running" / "metrics.jsonl"
    for _ in range(600):
        if log.exists() and len(log.read_text().splitlines()) > 10:
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert cli.run([*command[3:], "-o", "killed", "--resume"]) == 0
    assert cli.run([*command[3:], "-o", "whole"]) == 0
    killed, whole = (pd.read_csv(table / name / "trials.csv") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(killed.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_poor_trials_are_stopped_early(table):
    given = {**FAST, "max_epochs": "10", "patience": "10", "latent_dim": "1", "learning_rate": "1e-6..1e-1"}
    found = tune("table.csv", "search", given, trials=12)
    stopped = [trial for trial in found.trials if trial.state == "stopped"]
    assert stopped
    assert all(2 <= trial.epochs < 10 for trial in stopped)
    assert all(trial.epochs == 10 for trial in found.trials if trial.state == "done")
    runs.fit("table.csv", "again", {**given, **stopped[0].settings}, progress=False)  # to its end, it is no better
    middle = np.median([trial.log_p for trial in found.trials if trial.state == "done"])
    assert held_out_log_p(runs.open("again")) < middle


def test_trials_fail_for_themselves_and_all_of_them_together(table):
    mixed = {**FAST, "latent_dim": "1", "likelihood": "normal|bernoulli"}
    found = tune("table.csv", "mixed", mixed, trials=6)
    failed = [trial for trial in found.trials if trial.settings["likelihood"] == "bernoulli"]
    assert failed
    assert all(trial.state == "failed" and trial.reason for trial in failed)
    assert found.best.settings["likelihood"] == "normal"
    with pytest.raises(TrainingError, match="no trial came to an end"):
        tune("table.csv", "none", {**FAST, "latent_dim": "1..2", "likelihood": "bernoulli"}, trials=2)


def test_the_test_part_of_a_named_set_is_not_looked_at(table):
    found = tune("digits", "search", {**FAST, "max_epochs": "1", "latent_dim": "2..4"}, trials=1)
    assert held_out_log_p(runs.open("search/best")) == pytest.approx(found.best.log_p, abs=1e-3)


def test_the_command_prints_the_best_trials(table, capsys):
    command = ["tune", "table.csv", "-o", "search", "latent_dim=1|2", "max_epochs=2", "compile=off", "--trials", "2"]
    assert cli.run(command) == 0
    said = capsys.readouterr()
    assert "held-out log p" in said.out
    assert "search/best" in said.out
    assert "trial 1: latent_dim=" in said.err
    assert cli.run([*command, "--resume", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [trial["number"] for trial in document["trials"]] == [0, 1]
    assert document["quantity"] == "density"
    assert cli.run(["tune", "table.csv", "-o", "other", "latent_dim=1"]) == 2
    assert "no setting has a range" in capsys.readouterr().err
    assert vk.runs.open("search/best").score(vk.runs.open("search/best").rows("table.csv")).values.shape == (300, 3)
