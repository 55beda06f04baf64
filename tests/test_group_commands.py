"""Commands that two processes run as one: the numbers of one process, and one voice."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist

from vaekit import cli, runs

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of a mixed table in parts."""
    folder = tmp_path_factory.mktemp("together")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"a": rng.normal(size=300), "kind": rng.choice(["x", "y"], 300), "b": rng.normal(size=300) + 3}
    )
    table.loc[::7, "a"] = np.nan
    (folder / "parts").mkdir()
    for i, rows in enumerate(np.array_split(np.arange(300), 3)):
        table.iloc[rows].to_parquet(folder / "parts" / f"part-{i}.parquet", index=False)
    given = {"max_epochs": 2, "latent_dim": 1, "hidden": (4,), "compile": "off"}
    runs.fit(str(folder / "parts"), folder / "run", given, progress=False)
    return folder


def _vaekit(folder, *arguments, launcher=()):
    command = [sys.executable, "-m", *launcher, "vaekit", *arguments]
    if launcher:
        command = [sys.executable, "-m", *launcher, "-m", "vaekit", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_score_as_one(fitted):
    words = ["score", "run", "parts", "--num-samples", "50"]
    assert (
        cli.run([words[0], str(fitted / "run"), str(fitted / "parts"), *words[3:], "-o", str(fitted / "one.csv")]) == 0
    )
    done = _vaekit(fitted, *words, "-o", "two.csv", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote two.csv") == 1
    one, two = pd.read_csv(fitted / "one.csv"), pd.read_csv(fitted / "two.csv")
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-6)


def test_torchrun_evaluates_as_one_process_does(fitted, capsys):
    words = ["--num-samples", "20", "--json"]
    assert cli.run(["evaluate", str(fitted / "run"), str(fitted / "parts"), *words]) == 0
    one = json.loads(capsys.readouterr().out)["results"]
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = _vaekit(fitted, "evaluate", "run", "parts", *words, launcher=launcher)
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)["results"]
    assert [row["name"] for row in one] == [row["name"] for row in two]
    for own, other in zip(one, two, strict=True):
        assert own["value"] == pytest.approx(other["value"], abs=1e-6, nan_ok=True), own["name"]
        assert own["stderr"] == pytest.approx(other["stderr"], abs=1e-6, nan_ok=True), own["name"]


@pytest.mark.slow
def test_two_processes_answer_part_by_part_as_one(fitted):
    for folder, more in (("one", ()), ("two", ("--workers", "2"))):
        done = _vaekit(fitted, "evaluate", "run", "parts", "-o", folder, "--num-samples", "20", *more)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(f"wrote 3 parts, 300 rows, to {folder}") == 1
    for name in ("part-00000", "part-00001", "part-00002"):
        one, two = (pd.read_parquet(fitted / folder / f"{name}.parquet") for folder in ("one", "two"))
        pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-6)
    one, two = (json.loads((fitted / f / "_results.json").read_text())["results"] for f in ("one", "two"))
    assert [row["value"] for row in one] == pytest.approx([row["value"] for row in two], abs=1e-6)
    again = _vaekit(fitted, "evaluate", "run", "parts", "-o", "two", "--num-samples", "20", "--workers", "2")
    assert "3 of which stood there" in again.stderr


def test_stdin_and_a_folder_of_other_answers_are_refused_once(fitted):
    done = _vaekit(fitted, "score", "run", "-", "-o", "x.csv", "--workers", "2")
    assert done.returncode == 2
    assert "stdin has one reader" in done.stderr
    (fitted / "other").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(fitted / "other" / "part-00000.parquet")
    done = _vaekit(fitted, "score", "run", "parts", "-o", "other", "--workers", "2")
    assert done.returncode == 2
    assert done.stderr.count("was not written by vaekit") == 1
