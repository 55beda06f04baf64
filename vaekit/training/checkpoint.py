"""Checkpoints: everything that the rest of a run depends on, in one file that is replaced as a whole."""

import warnings
from pathlib import Path

from torch.optim.optimizer import StateDict

from vaekit.engine import world
from vaekit.errors import ArtifactError
from vaekit.saving.files import write_atomically
from vaekit.saving.tensors import pack, sha256, unpack

FILE_NAME = "checkpoint.safetensors"
_VERSION = 1


def save_checkpoint(folder: Path, state: StateDict) -> bool:
    """Write the state of a run; where that fails (a full disk), warn and keep the last checkpoint.

    Returns:
        Whether it was written.
    """
    try:
        body = pack(state)
        digest = sha256(body)
        write_atomically(folder / FILE_NAME, f"vaekit-checkpoint {_VERSION} {digest}\n".encode() + body)
    except ArtifactError as error:
        warnings.warn(f"{error}. Training goes on; the last checkpoint stays as it was.", stacklevel=2)
        return False
    return True


def load_checkpoint(folder: Path | None) -> StateDict | None:
    """The state that `save_checkpoint` wrote, or None where there is no checkpoint.

    Args:
        folder: of the run. Of processes that compute together the first one reads, and tells the others, which may
            have None.

    Raises:
        ArtifactError: if the file is truncated, altered, or of another version.
    """
    path = (folder or Path()) / FILE_NAME
    content = world.from_first(lambda: b"" if folder is None else _content(path))
    if not content:
        return None
    header, _, body = content.partition(b"\n")
    words = header.decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != "vaekit-checkpoint":
        raise ArtifactError(f"{path} is no checkpoint of vaekit. Remove it, or fit with --overwrite.")
    if words[1] != str(_VERSION):
        raise ArtifactError(f"{path} has checkpoint version {words[1]}; this vaekit reads {_VERSION}.")
    if words[2] != sha256(body):
        raise ArtifactError(f"{path} is truncated or altered. Remove it to start afresh, or restore a copy.")
    result: StateDict | None = unpack(body, str(path))
    return result


def _content(path: Path) -> bytes:
    """What a file holds; nothing, where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error


def remove_checkpoint(folder: Path) -> None:
    """Delete the checkpoint of a finished run."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint, of whatever version."""
    return (folder / FILE_NAME).exists()
