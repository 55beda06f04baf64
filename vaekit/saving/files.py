"""Files that are replaced as a whole or not at all."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vaekit.errors import ArtifactError, ConfigError

ARRAY_SUFFIXES = (".npy", ".csv", ".parquet")


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a temporary file beside `path` and move it there: a reader sees the old content or the new, never a part.

    Raises:
        ArtifactError: if it cannot be written (a full disk, no permission); the old content stays as it was.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error


def _umask() -> int:
    """The permissions that the user takes away from new files."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def check_suffix(path: str | Path, known: Sequence[str]) -> str:
    """The suffix of a file to be written, in lower case.

    Raises:
        ConfigError: if the format is not among the known ones.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise ConfigError(
            f"{path}: the suffix picks the format, and is one of {', '.join(known)}; got {suffix or 'none'}"
        )
    return suffix
