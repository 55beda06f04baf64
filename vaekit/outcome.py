"""How a process of a group ends: for good, or so that the launcher starts the group anew."""

import os
from pathlib import Path

OUTCOME = "VAEKIT_OUTCOME"
"""The variable that names a file, in which process 0 leaves the exit code of an error that no restart mends."""


def is_settled() -> bool:
    """Whether an earlier start of the group has ended for good, so that this one has nothing to do."""
    return bool(os.environ.get(OUTCOME)) and Path(os.environ[OUTCOME]).exists()


def settled(code: int, is_final: bool) -> int:
    """The exit code by which the launcher does the right thing.

    Args:
        code: that of the program.
        is_final: whether another start would end in the same way, as after a setting that does not exist.
    """
    place = os.environ.get(OUTCOME)
    if not place or not code:
        return code
    if is_final and os.environ.get("RANK", "0") == "0":
        Path(place).write_text(str(code))
    return 0 if is_final or Path(place).exists() else code
