"""Answers to a table in parts, part by part: in the memory of one part, each written whole, and none asked twice."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data import Dataset
from vaekit.errors import ArtifactError, ConfigError
from vaekit.paths import as_text
from vaekit.progress import track
from vaekit.runs.run import Run
from vaekit.runs.table import Table

_QUESTION, _PART, _ROWS = b"vaekit_question", b"vaekit_part", b"vaekit_rows"


@dataclass(frozen=True)
class Answered:
    """What became of a table in parts.

    Attributes:
        folder: where the answers lie: `part-00000.parquet` for the first part, and so on.
        num_parts: how many parts there are.
        num_known: how many of them had been answered before.
        num_rows: rows of all parts.
        num_missing: rows without a number among those that were answered now, such as a log p that is NaN.
        notes: what is to be said of the numbers.
    """

    folder: Path
    num_parts: int
    num_known: int
    num_rows: int
    num_missing: int
    notes: tuple[str, ...]


def answer_by_part(
    run: Run,
    parts: Sequence[str | Path],
    folder: str | Path,
    ask: Callable[[Dataset], Table],
    question: Mapping[str, Any],
    read: Callable[[Path], Dataset] | None = None,
) -> Answered:
    """Ask a run of one part of a table after another, and write a parquet file for each.

    A part whose answer stands in the folder already, of this run, this question and this content of the part, is not
    asked again: what was stopped goes on where it was. Rows are numbered through all parts where they have no key.
    Noise is a function of a row and the seed in all answers of a run, so that a row is answered as in one table.

    Args:
        run: the run.
        parts: files, in their order.
        folder: where to write; made where it does not exist.
        ask: the question, of the rows of a part.
        question: what the question is, such as its name, the seed and the number of draws: plain values.
        read: reads a part; None is `run.rows`.

    Raises:
        ConfigError: if the folder holds answers to another question, or of another run.
        DataError: if a part cannot be read, by name; the answers before it stand.
        ArtifactError: if the folder cannot be made, or a file cannot be written.
    """
    folder, asked = Path(folder), _digest_of_question(run, question)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot make the folder {as_text(folder)}: {error.strerror or error}") from error
    num_rows = num_known = num_missing = 0
    notes: dict[str, None] = {}
    for number, part in track(list(enumerate(map(Path, parts))), "parts"):
        place = folder / f"part-{number:05d}.parquet"
        content = _digest_of_file(part)
        known = _stored(place)
        if known.get(_QUESTION, asked) != asked:
            raise ConfigError(
                f"{as_text(place)} answers another question, or is of another run. Name another folder, or remove "
                "this one."
            )
        if known.get(_PART) == content:
            num_rows, num_known = num_rows + int(known[_ROWS]), num_known + 1
            continue
        rows = (read or run.rows)(part)
        table = ask(_numbered(rows, num_rows))
        about = {_QUESTION: asked, _PART: content, _ROWS: str(len(rows)).encode()}
        table.write(place, about)
        notes |= dict.fromkeys(table.notes)
        num_rows += len(rows)
        num_missing += int(table.without_number.sum()) if "log_p" in table.columns else 0
    return Answered(folder, len(parts), num_known, num_rows, num_missing, tuple(notes))


def _numbered(rows: Dataset, start: int) -> Dataset:
    """The rows, numbered from `start` on where they have no keys of their own."""
    if rows.keys is not None or not start:
        return rows
    found = copy.copy(rows)
    object.__setattr__(found, "keys", np.arange(start, start + len(rows)))
    return found


def _digest_of_question(run: Run, question: Mapping[str, Any]) -> bytes:
    weights = hashlib.sha256(run.weights).hexdigest()
    text = json.dumps({"weights": weights, **question}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest().encode()


def _digest_of_file(path: Path) -> bytes:
    from vaekit.data.readers.safe_reading import reading

    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().encode()


def _stored(path: Path) -> dict[bytes, bytes]:
    """What an answer says of itself; nothing where there is none, or none that can be read."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_metadata(path).metadata or {}
    except FileNotFoundError:
        return {}
    except (OSError, pa.ArrowException):  # was damaged, and is written anew
        return {}
    if _QUESTION not in found:
        raise ConfigError(f"{as_text(path)} was not written by vaekit as the answer to a part. Name another folder.")
    return {bytes(name): bytes(value) for name, value in found.items()}
