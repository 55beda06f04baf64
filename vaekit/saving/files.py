"""Files that are replaced as a whole or not at all."""

import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vaekit.errors import ArtifactError, ConfigError

_LONGEST = 240  # bytes of a name that can still grow by eight letters: file systems take 255
ARRAY_SUFFIXES = (".npy", ".csv", ".parquet", ".feather", ".json", ".jsonl")


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a temporary file beside `path` and move it there: a reader sees the old content or the new, never a part.

    Raises:
        ArtifactError: if it cannot be written (a full disk, no permission); the old content stays as it was.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = _temporary(path)
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


def check_place(path: str | Path) -> None:
    """Find out before long work whether `write_atomically` could write a file there.

    Raises:
        ConfigError: if the folder does not exist, or the path is a folder itself.
        ArtifactError: if the file cannot be written (no permission, a name too long).
    """
    path = Path(path)
    try:
        if not stat.S_ISDIR(path.parent.stat().st_mode):
            raise ConfigError(f"{path.parent} is a file, no folder to write {path.name} into")
    except FileNotFoundError:
        raise ConfigError(f"the folder {path.parent} does not exist; create it first") from None
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise ConfigError(f"{path} is a folder; name a file")
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name too long; a link to itself is replaced
        if error.errno != errno.ELOOP:
            raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        handle, temporary = _temporary(path)
        os.close(handle)
        os.unlink(temporary)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error


def _temporary(path: Path) -> tuple[int, str]:
    """An open file beside a path, and its name: that of the path, where a longer one is possible."""
    prefix = f".{path.name}."
    return tempfile.mkstemp(dir=path.parent, prefix=prefix if len(os.fsencode(prefix)) <= _LONGEST else ".vaekit.")


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
