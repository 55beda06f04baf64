"""What every reader needs: failures of the file system in plain words, and a limit on what a small file may become."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from io import RawIOBase
from pathlib import Path

from vaekit.errors import DataError

MAX_RATIO = 1000  # deflate cannot exceed 1032; real data stay far below
MAX_BYTES = 2**30


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system and zlib raise while `path` is read into a `DataError`.

    Args:
        path: The file or folder that the block reads.

    Raises:
        DataError: The file is missing, not readable, truncated, damaged, or does not fit into memory.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"No such file or folder: {path}. Check the path; it is relative to {os.getcwd()}.") from error
    except PermissionError as error:
        raise DataError(f"Not allowed to read {path}. Give yourself the right to read it (chmod u+r).") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged: {error}. Copy or download it again.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the file and the disk.") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory. Split it, or store it in a smaller dtype.") from error


def refuse_bomb(num_bytes: int, path: Path) -> None:
    """Refuse a file that would grow beyond 1 GiB and beyond a thousand times its size on disk.

    Args:
        num_bytes: Bytes after decompression, as declared or as counted so far.
        path: The compressed file.

    Raises:
        DataError: Both limits are exceeded.
    """
    size = max(path.stat().st_size, 1)
    if num_bytes > MAX_BYTES and num_bytes > MAX_RATIO * size:
        raise DataError(
            f"{path} looks like a decompression bomb: {size:,} bytes on disk would become at least {num_bytes:,}. "
            "If the data are real, store them uncompressed."
        )


class BoundedGzip(RawIOBase):
    """A decompressed stream of a gzip file that counts what it hands out and stops at a decompression bomb.

    Args:
        path: The gzip file; it stays open until `close`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = GzipFile(path, "rb")
        self._count = 0

    def readable(self) -> bool:
        """Say that the stream can be read."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # the buffer protocol has no name before 3.12
        """Fill `buffer` with the next decompressed bytes.

        Returns:
            The number of bytes written; 0 at the end.

        Raises:
            DataError: The file grew beyond the limits of `refuse_bomb`.
        """
        num_read = self._file.readinto(buffer)
        self._count += num_read
        refuse_bomb(self._count, self._path)
        return num_read

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
