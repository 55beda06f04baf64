"""The peers' own Python, `benchmarks/.venv`, made on first use: no peer ever enters the development environment.

torch goes first and alone, at the version that `constraints.txt` pins for vaekit; then the pinned packages of
`peers.txt`, without their dependencies. Where the list cannot be installed as a whole, each line is tried by itself:
a peer that is missing then costs its own rows only.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".venv"
PEERS = HERE / "peers.txt"


def python() -> Path:
    """The interpreter of the peers, whether it exists or not."""
    return FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pinned(path: Path = PEERS) -> list[str]:
    """The requirements of a pinned list, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def torch_requirement() -> str:
    """The version of torch that vaekit is tested with: peers run on the same."""
    constraints = (HERE.parent / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(r"^torch==\S+", constraints, re.MULTILINE)
    if found is None:
        raise RuntimeError("constraints.txt pins no torch")
    return found.group()


def _install(*arguments: str) -> bool:
    command = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def ensure() -> bool:
    """Create and fill the venv unless it is already there for this list; returns whether everything is in it."""
    torch = torch_requirement()
    state = hashlib.sha256("\n".join([torch, *pinned()]).encode()).hexdigest()
    stamp = FOLDER / "installed.txt"
    if python().exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == state:
        return True
    print("installing the peers into benchmarks/.venv (once) ...", file=sys.stderr, flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=False).returncode or not _install(torch):
        return False
    if not _install("--no-deps", "-r", str(PEERS)):
        missing = [line for line in pinned() if not _install("--no-deps", line)]
        if missing:
            print(f"could not be installed: {', '.join(missing)}", file=sys.stderr)
            return False
    stamp.write_text(state, encoding="utf-8")
    return True
