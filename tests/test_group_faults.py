"""What becomes of a group of processes when one of them is killed, hangs, or cannot write."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"),
]
NUM_KILLS = int(os.environ.get("VAEKIT_KILLS", "3"))
SETTINGS = ("max_epochs=40", "hidden=16", "latent_dim=3", "compile=off", "row_noise=true", "checkpoint_every=1")


def _start(run, *options, **variables):
    """`vaekit fit digits` by two processes."""
    command = [sys.executable, "-m", "vaekit", "fit", "digits", "-o", str(run), *SETTINGS, "--workers", "2", *options]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **variables}, **streams)


def _workers(launcher):
    """The processes that train, by rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    found = {}
    for pid in children:
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = next((word[5:] for word in variables if word.startswith(b"RANK=")), None)
        if rank is not None:
            found[int(rank)] = int(pid)
    return found


def _curve(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return np.array([[record["valid_elbo"], record["train_elbo"]] for record in map(json.loads, lines)])


def _epochs(run):
    try:
        return len((run / "metrics.jsonl").read_text().splitlines())
    except OSError:
        return 0


def _until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def _ends_as(launcher, run, undisturbed):
    """What a group said that ended well, with the loss curve of one that nobody disturbed."""
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, errors
    np.testing.assert_allclose(_curve(run), undisturbed[0], atol=1e-3)
    return errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The loss curve of a run that nobody disturbs, its best epoch, and how many seconds it took."""
    run, began = tmp_path_factory.mktemp("runs") / "undisturbed", time.monotonic()
    launcher = _start(run)
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, errors
    metadata = json.loads((run / "config.json").read_text())["metadata"]
    return _curve(run), metadata["best_epoch"], time.monotonic() - began


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_a_group_outlives_a_worker_that_is_killed_at_a_random_moment(tmp_path, undisturbed, seed):
    _, best_epoch, seconds = undisturbed
    chance, run = random.Random(seed), tmp_path / "run"
    launcher = _start(run)
    _until(lambda: len(_workers(launcher)) == 2)
    first = _workers(launcher)
    time.sleep(chance.uniform(0, seconds))
    rank = chance.randrange(2)
    was_there = launcher.poll() is None and rank in _workers(launcher)
    if was_there:
        os.kill(first[rank], signal.SIGKILL)
    _ends_as(launcher, run, undisturbed)
    assert json.loads((run / "config.json").read_text())["metadata"]["best_epoch"] == best_epoch
    assert sorted(path.name for path in run.iterdir() if path.name != "checkpoint.safetensors") == [
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "settings.json",
    ]


def test_a_worker_killed_in_the_middle_costs_the_epochs_since_the_last_checkpoint(tmp_path, undisturbed):
    run = tmp_path / "run"
    launcher = _start(run)
    _until(lambda: _epochs(run) >= 5)
    killed = _workers(launcher)[1]
    os.kill(killed, signal.SIGKILL)
    _until(lambda: len(_workers(launcher)) == 2 and killed not in _workers(launcher).values())
    assert "waited in vain for the others" in _ends_as(launcher, run, undisturbed)


def test_a_worker_that_hangs_is_named_and_replaced(tmp_path, undisturbed):
    run = tmp_path / "run"
    launcher = _start(run, VAEKIT_GROUP_TIMEOUT="5", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="3")
    _until(lambda: _epochs(run) >= 3)
    os.kill(_workers(launcher)[1], signal.SIGSTOP)
    assert "ended, or hangs" in _ends_as(launcher, run, undisturbed)


def test_a_signal_to_the_launcher_ends_the_group_which_goes_on_later(tmp_path, undisturbed):
    run = tmp_path / "run"
    launcher = _start(run)
    _until(lambda: _epochs(run) >= 3)
    launcher.send_signal(signal.SIGTERM)
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 143, errors
    assert (run / "checkpoint.safetensors").exists()
    _ends_as(_start(run, "--resume"), run, undisturbed)


def test_a_full_disk_is_told_once_and_nothing_is_lost(tmp_path, undisturbed):
    run, limited = tmp_path / "run", tmp_path / "limited.py"
    # The largest file is the checkpoint; that of the weights is larger than the limit, too.
    limited.write_text(
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "sys.argv[0] = 'vaekit'\n"
        "runpy.run_module('vaekit', run_name='__main__')\n"
    )
    command = [sys.executable, str(limited), "fit", "digits", "-o", str(run), *SETTINGS, "max_epochs=3"]
    limited_run = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=300)
    assert limited_run.returncode == 1
    lines = [line for line in limited_run.stderr.splitlines() if "model.safetensors" in line]
    assert len(lines) == 1
    assert lines[0].startswith("vaekit: cannot write ")
    assert _epochs(run) == 3
    again = _start(run, "--resume", "max_epochs=3")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
