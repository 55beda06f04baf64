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

from vaekit import cli, runs

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
        pid = _actor(process)
        os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert answers(fitted / "out")["row"].tolist() == list(range(90))


def _actor(process):
    """The pid of the process of the actor, once it has begun to answer."""
    for _ in range(600):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read()
                with open(f"/proc/{name}/environ", "rb") as file:
                    is_ours = b"VAEKIT_TEST=1" in file.read()
            except OSError:
                continue
            if is_ours and words.startswith(b"ray::") and b"MapWorker" in words and b"submit" in words:
                return int(name)
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("no actor came")
