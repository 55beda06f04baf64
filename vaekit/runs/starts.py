"""Which start of a group of processes has begun a run: another start of the same group goes on with it."""

import os
from pathlib import Path

from vaekit import engine
from vaekit.runs.folder import SETTINGS
from vaekit.saving.files import write_atomically

_BEGUN = f".{SETTINGS}.begun"  # goes with what killed writes leave


def mark_begun(folder: Path) -> None:
    """Note which start of a group of processes the run belongs to, so that another start of that group goes on."""
    write_atomically(folder / _BEGUN, _group().encode())


def has_begun_here(folder: Path) -> bool:
    """Whether an earlier start of this group of processes has begun the run that lies in the folder."""
    try:
        return engine.is_restarted() and (folder / _BEGUN).read_bytes() == _group().encode()
    except OSError:
        return False


def _group() -> str:
    """The name of the group of processes, the same for each of its starts."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")
