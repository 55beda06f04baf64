"""Questions about a table in parts, on a Ray cluster of this machine."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from ray_processes import worker

from vaekit import cli, distributed, runs

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own are not ours to mend


@pytest.fixture(scope="module")
def cluster():
    """One for all tests: what is started once need not be started five times."""
    from vaekit.distributed.ray_cluster import cluster

    with cluster() as found:
        yield found


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=90), "kind": rng.choice(["x", "y"], 90), "b": rng.normal(size=90) + 3})
    table.loc[::7, "a"] = np.nan
    (tmp_path / "parts").mkdir()
    for i, rows in enumerate(np.array_split(np.arange(90), 5)):
        table.iloc[rows].to_parquet(tmp_path / "parts" / f"part-{i}.parquet", index=False)
    monkeypatch.chdir(tmp_path)
    runs.fit("parts", "run", {"max_epochs": 2, "latent_dim": 1, "hidden": (4,), "compile": "off"}, progress=False)
    return tmp_path


def answers(folder):
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


@pytest.mark.parametrize("question", ["score", "encode", "impute", "evaluate"])
def test_ray_answers_as_one_process_does(cluster, fitted, question, capsys):
    assert cli.run([question, "run", "parts", "-o", "one"]) == 0
    assert cli.run([question, "run", "parts/*.parquet", "-o", "out", "--engine", "ray", "--workers", "2"]) == 0
    pd.testing.assert_frame_equal(answers(fitted / "out"), answers(fitted / "one"), rtol=1e-5, atol=1e-6)
    assert "wrote 5 parts, 90 rows" in capsys.readouterr().err
    if question == "evaluate":
        one, out = (json.loads((fitted / name / "_results.json").read_text())["results"] for name in ("one", "out"))
        assert [row["name"] for row in one] == [row["name"] for row in out]
        assert [row["value"] for row in one] == pytest.approx([row["value"] for row in out], rel=1e-5)


def test_a_truncated_part_is_named_and_the_others_are_answered_and_kept(cluster, fitted, capsys):
    bad = fitted / "parts" / "part-3.parquet"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-40])
    command = ["score", "run", "parts", "-o", "out", "--engine", "ray", "--workers", "2"]
    assert cli.run(command) == 1
    said = capsys.readouterr().err
    assert "part-3.parquet" in said
    assert "3 of 5 parts are answered" in said  # without a key, rows behind it have no numbers
    bad.write_bytes(whole)
    assert cli.run(command) == 0
    assert "wrote 5 parts, 3 of which stood there, 90 rows" in capsys.readouterr().err
    assert answers(fitted / "out")["row"].tolist() == list(range(90))


def test_what_is_no_folder_of_answers_is_refused_before_ray_starts(fitted, capsys):
    assert cli.run(["score", "run", "parts", "-o", "scores.csv", "--engine", "ray"]) == 2
    assert "--engine ray writes a folder of answers" in capsys.readouterr().err
    assert cli.run(["evaluate", "run", "parts", "--engine", "ray"]) == 2
    assert "name a folder with -o" in capsys.readouterr().err


def test_an_actor_that_is_killed_is_replaced_and_the_command_goes_on(fitted):
    environment = {**os.environ, "VAEKIT_TEST": "1"}
    command = [
        sys.executable,
        "-m",
        "vaekit",
        "score",
        "run",
        "parts",
        "-o",
        "out",
        "--engine",
        "ray",
        "--workers",
        "1",
    ]
    command += ["--workers", "1", "--num-samples", "400000"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        pid = worker(process, b"MapWorker", b"submit")
        os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert answers(fitted / "out")["row"].tolist() == list(range(90))


FIT = ["fit", "parts", "row_noise=true", "max_epochs=5", "latent_dim=1", "hidden=4", "compile=off", "batch_size=32"]


def curve(run):
    return [record["valid_elbo"] for record in runs.open(run).records]


def test_ray_trains_as_one_process_does(cluster, fitted, capsys):
    assert cli.run([*FIT, "-o", "one"]) == 0
    assert cli.run([*FIT, "-o", "two", "--engine", "ray", "--workers", "2"]) == 0
    assert curve("two") == pytest.approx(curve("one"), abs=1e-3)
    assert len(curve("two")) == 5
    assert "epoch 5/5" in capsys.readouterr().err
    assert not list(fitted.glob(".ray-*"))
    assert cli.run([*FIT, "-o", "two", "--engine", "ray", "--workers", "2"]) == 2
    assert "two exists; use --resume to go on" in capsys.readouterr().err
    assert cli.run([*FIT, "-o", "six", "--engine", "ray", "--workers", "600"]) == 2
    assert "cores" in capsys.readouterr().err


def test_checkpoints_are_handed_to_ray_and_fetched_from_it(cluster, fitted):
    """Two epochs, a checkpoint each: training is that of one process, whether or not all wait for Ray in between."""
    given = {"max_epochs": 3, "latent_dim": 1, "hidden": (4,), "compile": "off", "row_noise": True}
    given["checkpoint_every"] = 1
    distributed.fit_on_ray("parts", "two", given, workers=2, keep_every=0)
    runs.fit("parts", "one", given, progress=False)
    assert curve("two") == pytest.approx(curve("one"), abs=1e-3)


def test_training_goes_on_where_a_worker_was_killed(fitted):
    longer = [word.replace("=5", "=80") for word in FIT] + ["checkpoint_every=1", "patience=80"]
    command = [sys.executable, "-m", "vaekit", *longer, "-o", "killed", "--engine", "ray", "--workers", "2"]
    process = subprocess.Popen(command, env={**os.environ, "VAEKIT_TEST": "1"}, stderr=subprocess.PIPE, text=True)
    metrics = fitted / "killed" / "metrics.jsonl"
    try:
        for _ in range(1200):
            if metrics.exists() and len(metrics.read_text().splitlines()) > 20:
                break
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        os.kill(worker(process, b"RayTrainWorker"), signal.SIGKILL)
        _, said = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert cli.run([*longer, "-o", "whole", "--quiet"]) == 0
    assert curve("killed") == pytest.approx(curve("whole"), abs=1e-3)
    assert len(curve("killed")) == 80
