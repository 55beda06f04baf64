"""Answers to a table in parts, part by part: in the memory of one part, each written whole, and none asked twice."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vaekit.data import Dataset
from vaekit.data.readers.frames import frame
from vaekit.data.reading import Reading
from vaekit.engine import world
from vaekit.errors import ArtifactError, ConfigError, VaekitError
from vaekit.paths import as_text
from vaekit.progress import track
from vaekit.runs.asking import Question
from vaekit.runs.detection import MANY_ROWS, draws_for
from vaekit.runs.run import Run

_QUESTION, _PART, _ROWS, _START = (b"vaekit_" + name for name in (b"question", b"part", b"rows", b"start"))
Reader = Callable[[Path], Dataset]


@dataclass(frozen=True)
class Part:
    """One file of a table in parts.

    Attributes:
        number: its place among the parts, from 0.
        path: the file.
    """

    number: int
    path: Path

    def answer_in(self, folder: Path) -> Path:
        """The file of its answer: `part-00000.parquet` of the first part, and so on."""
        return folder / f"part-{self.number:05d}.parquet"


@dataclass(frozen=True)
class PartAnswered:
    """What became of a part.

    Attributes:
        num_rows: its rows.
        is_known: whether its answer stood there before.
        num_missing: rows without a number, such as a log p that is NaN, where it was answered now.
        notes: what is to be said of the numbers.
    """

    num_rows: int
    is_known: bool = False
    num_missing: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """What became of a table in parts.

    Attributes:
        folder: where the answers lie: `part-00000.parquet` for the first part, and so on.
        parts: the parts, in their order.
        num_known: how many of them had been answered before.
        num_rows: rows of all parts.
        num_missing: rows without a number among those that were answered now, such as a log p that is NaN.
        notes: what is to be said of the numbers.
    """

    folder: Path
    parts: tuple[Path, ...]
    num_known: int
    num_rows: int
    num_missing: int
    notes: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, parts: Sequence[str | Path], found: Sequence[PartAnswered]) -> "Answered":
        """The sum over all parts."""
        notes = dict.fromkeys(note for part in found for note in part.notes)
        sums = (sum(p.is_known for p in found), sum(p.num_rows for p in found), sum(p.num_missing for p in found))
        return cls(folder, tuple(map(Path, parts)), *sums, tuple(notes))

    @property
    def answers(self) -> list[Path]:
        """The files of the answers, in the order of the parts."""
        return [Part(number, path).answer_in(self.folder) for number, path in enumerate(self.parts)]


def answer_by_part(
    run: Run,
    parts: Sequence[str | Path],
    folder: str | Path,
    question: Question,
    read: Reader | None = None,
    reading: Reading | None = None,
) -> Answered:
    """Ask a run of one part of a table after another, and write a parquet file for each.

    A part whose answer stands in the folder already, of this run, this question and this content of the part, is not
    asked again: what was stopped goes on where it was. Rows are numbered through all parts where they have no key.
    Noise is a function of a row and the seed in all answers of a run, and the number of draws follows from the rows of
    all parts, so that a row is answered as in one table.

    Args:
        run: the run.
        parts: files, in their order.
        folder: where to write; made where it does not exist.
        question: what is asked.
        read: reads a part; None is `run.rows`.
        reading: how parts are read, for those that are counted.

    In a group of processes all of them call this; each answers its share of the rows of a part, and process 0 writes.

    Raises:
        ConfigError: if the folder holds answers to another question, or of another run.
        DataError: if a part cannot be read, by name; the answers before it stand.
        ArtifactError: if the folder cannot be made, or a file cannot be written.
    """
    place, found, start = Path(world.from_first(lambda: bytes(made(folder))).decode()), [], 0
    question = of_all_parts(question, parts, reading)
    numbered = list(enumerate(map(Path, parts)))
    for number, path in numbered if world.rank() else track(numbered, "parts"):
        found.append(answer_part(run, Part(number, path), start, place, question, read or run.rows))
        start += found[-1].num_rows
    return Answered.of(place, parts, found)


def of_all_parts(question: Question, parts: Sequence[str | Path], reading: Reading | None = None) -> Question:
    """The question with the number of draws that the rows of all parts get together, where it names none.

    Parts are counted until the number follows; what cannot be read counts for nothing here.
    """
    if question.name != "score" or question.options.get("num_samples") is not None:
        return question
    num = 0
    for path in parts:
        num += num_rows_of(Path(path), reading) or 0
        if num > MANY_ROWS:
            break
    return replace(question, options={**question.options, "num_samples": draws_for(num)})


def num_rows_of(path: Path, reading: Reading | None = None) -> int | None:
    """Rows of a part; None for one that cannot be read, which the question then says."""
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            return int(parquet.read_metadata(path).num_rows)
        return int(frame(path, *([] if reading is None else [reading])).num_rows)
    except (VaekitError, OSError, ValueError):
        return None


def made(folder: str | Path) -> Path:
    """The folder for answers, which now exists.

    Raises:
        ArtifactError: if it cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot make the folder {as_text(folder)}: {error.strerror or error}") from error
    return folder


def answer_part(run: Run, part: Part, start: int, folder: Path, question: Question, read: Reader) -> PartAnswered:
    """Ask a run of one part of a table, and write the answer; see `answer_by_part`.

    Args:
        run: the run.
        part: the part.
        start: how many rows the parts before it have, from where rows without keys are numbered.
        folder: where to write.
        question: what is asked.
        read: reads the part.
    """
    place, asked, first = part.answer_in(folder), question.digest(run).encode(), str(start).encode()
    about = {_QUESTION: asked}

    def look() -> bytes:
        known = _stored(place)
        if known.get(_QUESTION, asked) != asked:
            raise ConfigError(
                f"{as_text(place)} answers another question, or is of another run. Name another folder, or remove "
                "this one."
            )
        about[_PART] = _digest_of_file(part.path)
        stands = known.get(_PART) == about[_PART] and known.get(_START, first) == first
        return known[_ROWS] if stands else b""

    num_rows = world.from_first(look)  # of a group, the process that writes
    if num_rows:
        return PartAnswered(int(num_rows), is_known=True)
    rows = read(part.path)
    table = question.ask(run, _numbered(rows, start))
    about[_ROWS] = str(len(rows)).encode()
    if world.rank() == 0:
        table.write(place, about if rows.keys is not None else about | {_START: first})
    num_missing = int(table.without_number.sum()) if "log_p" in table.columns else 0
    return PartAnswered(len(rows), num_missing=num_missing, notes=table.notes)


def _numbered(rows: Dataset, start: int) -> Dataset:
    """The rows, numbered from `start` on where they have no keys of their own."""
    if rows.keys is not None or not start:
        return rows
    found = copy.copy(rows)
    object.__setattr__(found, "keys", np.arange(start, start + len(rows)))
    return found


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
