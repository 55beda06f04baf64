"""Names that are imported on use have types, and names that are not there are errors, to mypy and basedpyright."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLIENT = Path(__file__).parent / "typing" / "client.py"
WRONG = [i for i, line in enumerate(CLIENT.read_text().splitlines(), 1) if line.endswith("# wrong")]


def lines_of(command):
    """The command's answer, run from the root of the repository."""
    found = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 1, found.stderr
    return found.stdout


def test_mypy_finds_the_wrong_lines_and_no_others():
    pytest.importorskip("mypy")
    out = lines_of(["mypy", "--strict", str(CLIENT)])
    assert [int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line] == WRONG


@pytest.mark.slow  # the same lines, by a second checker
def test_basedpyright_finds_the_wrong_lines_and_no_others():
    pytest.importorskip("basedpyright")
    out = lines_of(["basedpyright", "--outputjson", "--level", "error", str(CLIENT)])
    errors = [row for row in json.loads(out)["generalDiagnostics"] if row["severity"] == "error"]
    assert [row["range"]["start"]["line"] + 1 for row in errors] == WRONG
