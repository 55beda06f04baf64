"""schemathesis asks the whole API what its document allows, and what it does not."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from serving import fit_all, fit_people, service

pytestmark = pytest.mark.filterwarnings("ignore::vaekit.errors.ReadingWarning")


def schemathesis(found, folder, num_examples, seed=0):
    """The exit code and the words of a run over all paths."""
    program = Path(sys.executable).with_name("schemathesis")
    (folder / "schemathesis.toml").write_text("")
    command = [str(program), "--no-color", "run", f"{found.url}/openapi.json", "--phases", "examples,coverage,fuzzing"]
    command += [
        "--max-examples",
        str(num_examples),
        "--seed",
        str(seed),
        "--checks",
        "all",
        "--suppress-health-check=all",
    ]
    command += ["--header", "Authorization: Bearer token", "--generation-database=none"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200, env={**os.environ})
    return ended.returncode, ended.stdout[-6000:] + ended.stderr[-2000:]


def test_schemathesis_finds_nothing(tmp_path):
    folder = fit_people(tmp_path)
    with service(folder / "people", env={"VAEKIT_TOKEN": "token"}) as found:
        code, words = schemathesis(found, folder, 5)
        assert code == 0, words


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_many_examples(tmp_path):
    folder = fit_all(tmp_path)
    runs = [folder / name for name in ("people", "numbers", "classes")]
    with service(*runs, env={"VAEKIT_TOKEN": "token"}) as found:
        for seed in range(3):
            code, words = schemathesis(found, folder, 60, seed)
            assert code == 0, words
        with httpx.Client(base_url=found.url) as client:
            assert client.get("/ready").status_code == 200
