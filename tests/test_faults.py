"""Real faults: a disk that fills, a worker of Ray that hangs or is killed at a random moment, a truncated part.

`VAEKIT_RAY_KILLS=20 RAY_worker_niceness=0 pytest -s tests/test_faults.py -k random > kills.txt` kills twenty times,
where three are the default; a line of JSON says when each was, and what became of the run. Ray's workers are nice by
default, and wait on a machine that has other work.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist
from ray_processes import started, until, worker, workers

from vaekit import runs
from vaekit.paths import as_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"),
]
NUM_KILLS = int(os.environ.get("VAEKIT_RAY_KILLS", "3"))
SETTINGS = ("max_epochs=60", "hidden=16", "latent_dim=2", "compile=off", "row_noise=true", "checkpoint_every=1")
SETTINGS += ("batch_size=64", "patience=60")
ALONE, GROUP, RAY = (), ("--workers", "2"), ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A table in five parts."""
    folder = tmp_path_factory.mktemp("data") / "parts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        x = rng.normal(size=(80, 1)) + 0.3 * rng.normal(size=(80, 4))
        table = pd.DataFrame(x, columns=list("abcd")).assign(kind=rng.choice(["x", "y"], 80))
        table.to_parquet(folder / f"part-{i}.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def undisturbed(parts, tmp_path_factory):
    """The run that nobody disturbs."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    process = started(parts.parent, "fit", parts, "-o", run, *SETTINGS)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB in memory."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system takes root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode(errors='replace').strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def _full(place, left=0):
    """A disk that has no more than so many bytes left in the body."""
    filler = place / ".filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    os.truncate(filler, max(0, filler.stat().st_size - left))
    yield
    filler.unlink()


def _curve(run):
    return [record["valid_elbo"] for record in runs.open(run).records]


def _epochs(run):
    metrics = run / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def _ends_as(run, undisturbed):
    assert _curve(run) == pytest.approx(_curve(undisturbed), abs=1e-3)
    assert len(_curve(run)) == 60


def _errors(said):
    return [line for line in said.splitlines() if line.startswith("vaekit: ") and "warning" not in line]


@pytest.mark.parametrize("engine", [ALONE, GROUP, RAY], ids=["alone", "group", "ray"])
def test_a_disk_that_fills_is_named_once_and_the_resumed_run_is_the_undisturbed_one(
    small_disk, parts, undisturbed, engine
):
    if engine == RAY:
        pytest.importorskip("ray")
    run = small_disk / "run"
    process = started(parts.parent, "fit", parts, "-o", run, *SETTINGS, *engine)
    until(lambda: _epochs(run) >= 5, process)
    with _full(small_disk):
        _, said = process.communicate(timeout=900)
    assert process.returncode == 1, said
    assert len(_errors(said)) == 1, said
    assert "No space left on device" in _errors(said)[0]
    assert as_text(small_disk) in _errors(said)[0]
    again = started(parts.parent, "fit", parts, "-o", run, *SETTINGS, *engine, "--resume")
    _, said = again.communicate(timeout=900)
    assert again.returncode == 0, said
    _ends_as(run, undisturbed)


@pytest.mark.parametrize("engine", [ALONE, RAY], ids=["one process", "ray"])
def test_answers_on_a_disk_that_is_full_go_on_when_it_has_room(small_disk, parts, undisturbed, tmp_path, engine):
    if engine == RAY:
        pytest.importorskip("ray")
    ask = ("score", undisturbed, parts, "--num-samples", "10")
    whole = started(tmp_path, *ask, "-o", tmp_path / "whole")
    _, said = whole.communicate(timeout=900)
    assert whole.returncode == 0, said
    size = (tmp_path / "whole" / "part-00000.parquet").stat().st_size
    with _full(small_disk, left=3 * (size // 4096 + 2) * 4096):
        process = started(tmp_path, *ask, "-o", small_disk / "out", *engine)
        _, said = process.communicate(timeout=900)
        stands = len(list((small_disk / "out").glob("part-*.parquet")))
    assert process.returncode == 1, said
    assert len(_errors(said)) == 1, said
    assert "No space left on device" in _errors(said)[0]
    assert 0 < stands < 5
    again = started(tmp_path, *ask, "-o", small_disk / "out", *engine)
    _, said = again.communicate(timeout=900)
    assert again.returncode == 0, said
    assert f"wrote 5 parts, {stands} of which stood there" in said
    for i in range(5):
        own, other = (pd.read_parquet(f / f"part-{i:05d}.parquet") for f in (tmp_path / "whole", small_disk / "out"))
        pd.testing.assert_frame_equal(own, other, atol=1e-6)


def test_a_worker_of_ray_that_hangs_is_named_and_replaced(parts, undisturbed, tmp_path):
    pytest.importorskip("ray")
    run = tmp_path / "run"
    process = started(parts.parent, "fit", parts, "-o", run, *SETTINGS, *RAY, VAEKIT_GROUP_TIMEOUT="20")
    until(lambda: _epochs(run) >= 5, process)
    stopped, began = workers(b"RayTrainWorker")[-1], time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    try:
        _, said = process.communicate(timeout=900)
    finally:
        for pid in {stopped} & set(workers(b"RayTrainWorker")):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode == 0, said
    assert "ended, or hangs" in said
    assert time.monotonic() - began < 400
    _ends_as(run, undisturbed)


def test_a_truncated_part_is_named_under_ray_and_the_mended_one_is_trained_on(parts, undisturbed, tmp_path):
    pytest.importorskip("ray")
    own = tmp_path / "parts"
    own.mkdir()
    for path in parts.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    bad, run = own / "part-2.parquet", tmp_path / "run"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-100])
    process = started(tmp_path, "fit", own, "-o", run, *SETTINGS, *RAY)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 1, said
    assert len(_errors(said)) == 1, said
    assert "part-2.parquet" in _errors(said)[0]
    bad.write_bytes(whole)
    process = started(tmp_path, "fit", own, "-o", run, *SETTINGS, *RAY, "--resume")
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    _ends_as(run, undisturbed)


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_a_worker_of_ray_is_killed_at_a_random_moment(parts, undisturbed, tmp_path, seed):
    """The moment is drawn from the whole life of the workers: their start, reading, training, and the end."""
    pytest.importorskip("ray")
    chance, run = random.Random(seed), tmp_path / "run"
    process = started(parts.parent, "fit", parts, "-o", run, *SETTINGS, *RAY)
    worker(process, b"RayTrainWorker")
    moment = chance.uniform(0, 1.2)  # 0 to .2 before the first epoch, then by the share of the epochs
    if moment < 0.2:
        time.sleep(20 * moment)
    else:
        until(lambda: _epochs(run) >= 60 * (moment - 0.2) or process.poll() is not None, process)
    found = workers(b"RayTrainWorker")
    if found:
        os.kill(chance.choice(found), signal.SIGKILL)
    _, said = process.communicate(timeout=900)
    line = {"seed": seed, "moment": round(moment, 3), "killed": bool(found), "epochs": _epochs(run)}
    print(json.dumps(line | {"code": process.returncode}), flush=True)
    assert process.returncode == 0, said
    _ends_as(run, undisturbed)
