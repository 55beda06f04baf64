"""The program as a process: closed streams, pipes, signals, narrow terminals, and how it ends."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import vaekit as vk

PROGRAM = [sys.executable, "-m", "vaekit"]
pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="signals and terminals as POSIX has them")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a small table, its file, and the folder of both."""
    folder = tmp_path_factory.mktemp("process")
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(folder / "train.csv", rows, delimiter=",", header="a,b,c", comments="")
    settings = {"max_epochs": 1, "hidden": "8", "compile": "off"}
    vk.runs.fit(str(folder / "train.csv"), folder / "run", settings, progress=False)
    return folder


def shell(folder, command):
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120)


def words(*arguments):
    return " ".join(map(str, [*PROGRAM, *arguments]))


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_closed_stream_costs_no_result(run, closed):
    name = f"closed{len(closed)}.csv"
    assert shell(run, f"{words('score', 'run', 'train.csv', '-o', name)} {closed}").returncode == 0
    lines = (run / name).read_text().splitlines()
    assert lines[0] == '"row","log_p","stderr","ess"'
    assert len(lines) == 41


def test_a_reader_of_notices_who_leaves_costs_no_result(run):
    fit = words("fit", "train.csv", "-o", "unheard", "max_epochs=2", "hidden=8", "compile=off")
    heard = shell(run, f"{{ {fit} 2>&1; echo $? >unheard.rc; }} | head -1; sleep 0.1; cat unheard.rc")
    assert heard.stdout.splitlines()[0].startswith("columns of train.csv")
    assert (run / "unheard" / "model.safetensors").exists(), heard
    assert heard.stdout.splitlines()[1:] == ["0"]


def test_rows_come_from_stdin_and_scores_go_to_stdout(run):
    piped = shell(run, f"head -4 train.csv | {words('score', 'run', '-', '-o', '-')}")
    assert piped.returncode == 0, piped.stderr
    shell(run, f"head -4 train.csv > three.csv; {words('score', 'run', 'three.csv', '-o', 'three_scores.csv')}")
    assert piped.stdout == (run / "three_scores.csv").read_text()
    assert len(piped.stdout.splitlines()) == 4


def test_an_interrupt_is_said(run):
    command = [*PROGRAM, "fit", "train.csv", "-o", "interrupted", "max_epochs=1000000", "patience=1000000", "hidden=8"]
    process = subprocess.Popen(command, cwd=run, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (run / "interrupted" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("vaekit: interrupted\n")


def test_refused_files_end_with_the_message_and_nothing_behind_it(run):
    (run / "tabs.csv").write_text("a,b\nx,y\n" * 3)
    ends = {
        shell(run, words("fit", "tabs.csv", "-o", "refused", "--quiet", "likelihood=normal")).returncode
        for _ in range(5)
    }
    assert ends == {1}


def on_terminal(folder, columns, *arguments):
    """What the program writes to a terminal of so many columns."""
    reader, writer = os.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen([*PROGRAM, *map(str, arguments)], cwd=folder, stdout=writer, stderr=-3, env=environment)
    os.close(writer)
    found = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        found += part
    os.close(reader)
    assert process.wait(timeout=60) == 0
    return found.decode()


def test_help_keeps_its_brackets(run):
    assert "Write E[z|x] of every row" in on_terminal(run, 100, "encode", "--help")


def test_a_narrow_terminal_cuts_no_label(run):
    out = on_terminal(run, 60, "evaluate", "run", "train.csv", "--num-samples", "5")
    assert "log-likelihood, E[log p(x|z)]" in out
    assert "…" not in out


def test_the_settings_of_a_run_are_a_config(run):
    again = shell(run, words("fit", "train.csv", "-o", "again", "--config", "run/settings.json", "--quiet"))
    assert again.returncode == 0, again.stderr
    mine, theirs = (json.loads((run / name / "settings.json").read_text()) for name in ("again", "run"))
    assert mine["settings"] == theirs["settings"]
    other = shell(run, words("fit", "train.csv", "-o", "other", "--config", "run/config.json", "--quiet"))
    assert (other.returncode, other.stderr.count("its settings are in the settings.json beside it")) == (2, 1)


def test_epochs_are_logged_for_who_embeds_a_training(caplog):
    with vk.engine.seeded(0):
        model, objective = vk.presets.vae(3, latent_dim=2, hidden=(8,), likelihood="normal")
    with caplog.at_level(logging.INFO, logger="vaekit"):
        vk.Trainer(max_epochs=2, progress=False, compile="off").fit(model, objective, torch.randn(20, 3))
    assert [record.message.split(":")[0] for record in caplog.records] == ["epoch 1/2", "epoch 2/2"]
    assert {record.name for record in caplog.records} == {"vaekit.training"}
