"""What commands print and write."""

import io
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.errors import ConfigError, DataError
from vaekit.paths import ERRORS, as_text, register_escapes
from vaekit.saving.files import ARRAY_SUFFIXES, check_place, check_suffix, write_atomically

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.runs import Run as FittedRun
    from vaekit.runs import Table


STDOUT = Path("-")  # as a file to write


def open_closed_streams() -> None:
    """Let what is written to a closed stdout or stderr get lost, instead of ending up in a file that is opened next."""
    streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    for number, (name, stream) in enumerate(streams.items()):
        if stream is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115


class _Unheard(io.FileIO):
    """The descriptor of stderr: what is written after its reader went away gets lost."""

    def write(self, content: Any) -> int:
        try:
            return int(super().write(content))
        except BrokenPipeError:
            handle = os.open(os.devnull, os.O_WRONLY)
            os.dup2(handle, self.fileno())
            os.close(handle)
            return len(content)


def go_on_unheard() -> None:
    """Let a command finish its work although nobody reads its notices any more, as behind `2>&1 | head -1`."""
    stream = sys.stderr
    if isinstance(stream, io.TextIOWrapper) and stream is sys.__stderr__ and stream.fileno() == 2:
        buffer = io.BufferedWriter(_Unheard(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=True, write_through=True)


def escape_what_streams_lack() -> None:
    """Let stdout and stderr write text that their encoding lacks, such as names of files, with escapes."""
    register_escapes()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def write_to_stdout(content: str) -> None:
    """Write the content of a file to stdout: UTF-8, whatever the terminal takes."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # a stream of text, which a program put in its place
        sys.stdout.write(content)
        return
    sys.stdout.flush()
    binary.write(content.encode("utf-8", ERRORS))
    binary.flush()


def without_nan(value: object) -> Any:
    """NaN and infinity as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(without_nan(value), indent=2))


def print_table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """A table: framed on a terminal that is wide enough, plain aligned columns that are never cut elsewhere."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    framed = sum(widths) + 3 * len(widths) + 1
    if sys.stdout.isatty() and framed <= shutil.get_terminal_size().columns:
        from rich.console import Console
        from rich.table import Table

        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_table(path: Path, table: "Table", run: "FittedRun") -> None:
    """Write a table, in the format of the suffix, for .png a grid of its rows, which are images; say its notes."""
    if path.suffix.lower() == ".png":
        from vaekit import plots

        plots.save_grid(path, table.values, value_range=run.data.value_range)
    elif path == STDOUT:
        write_to_stdout(table.to_csv())
    else:
        table.write(path)
    if path != STDOUT:
        print(f"wrote {as_text(path)}", file=sys.stderr)
    say_notes(table)


def say_notes(table: "Table") -> None:
    """Say on stderr what is to be said of a table's numbers."""
    for line in table.notes:
        print(line, file=sys.stderr)


_NAMED = 5  # rows that a message names


def report_missing(table: "Table") -> None:
    """Say on stderr how many rows have no number, which, and why.

    Raises:
        DataError: if no row has a number.
    """
    missing = table.without_number
    if not missing.any():
        return
    said = []
    for text, rows in table.reasons.items():
        names = table.names(rows & missing)
        if names:
            more = ", ..." if len(names) > _NAMED else ""
            said.append(f"{len(names)}, as {text} ({table.key or 'row'} {', '.join(names[:_NAMED])}{more})")
    message = f"{int(missing.sum())} of {len(table)} rows have no number: {'; '.join(said)}"
    if missing.all():
        raise DataError(message)
    print(message, file=sys.stderr)


def report_trained(run: "FittedRun", rows: "Dataset") -> None:
    """Say on stderr how many of the rows were trained on; nothing where none were, as far as the run knows."""
    split = run.split(rows)
    if len(split.train):
        unsure = len(rows) - len(split.train) - len(split.held_out)
        others = f"{len(split.held_out):,}" if unsure else "the others"
        said = [f"{len(split.train):,} of the {len(rows):,} rows were trained on"]
        said += [f"{others} are {split.part}"] if len(split.held_out) else []
        said += [f"{unsure:,} may be changed rows of the fit"] if unsure else []
        print("; ".join(said), file=sys.stderr)
        return
    alike = 0 if split.is_known else run.num_alike(rows)
    if alike:
        print(f"{alike:,} of the {len(rows):,} rows are equal to rows that were trained on", file=sys.stderr)


def write_numbers(
    path: Path, document: dict[str, Any], header: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Write numbers as a whole: .json holds the document, .csv the rows of the table."""
    import csv

    if path.suffix.lower() == ".json":
        content = json.dumps(without_nan(document), indent=2) + "\n"
    else:
        buffer = io.StringIO()
        cells = (["" if isinstance(c, float) and math.isnan(c) else c for c in row] for row in rows)
        csv.writer(buffer, lineterminator="\n").writerows([header, *cells])
        content = buffer.getvalue()
    if path == STDOUT:
        write_to_stdout(content)
        return
    write_atomically(path, content.encode())
    print(f"wrote {as_text(path)}", file=sys.stderr)


def check_output(path: Path, suffixes: tuple[str, ...], by_part: bool = False) -> None:
    """Refuse an unknown suffix, and a place where no file can be written, before the work starts; "-" is stdout.

    Where a command answers part by part, a path without a suffix is the folder for its answers.
    """
    if path == STDOUT and ".csv" in suffixes:
        return
    if by_part and not path.suffix:
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{as_text(path)} is a file, and no folder for the answers to parts")
        check_place(path / "part" if path.is_dir() else path)
        return
    check_suffix(path, suffixes)
    check_place(path)


def check_picture(path: Path, run: "FittedRun") -> None:
    """Refuse a picture of rows that are no images before they are computed."""
    if path.suffix.lower() != ".png":
        return
    from vaekit.data.kinds import IMAGES

    shape = run.data.event_shape
    if shape is not None and not IMAGES.shows(shape):
        others = ", ".join(ARRAY_SUFFIXES)
        raise ConfigError(f"{path}: a .png shows images, and a row of {run.folder} has shape {shape}; write {others}")
