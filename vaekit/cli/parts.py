"""Answers to a table in parts, as commands write them: a file for each part, in a folder."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaekit.cli.app import Source
from vaekit.cli.together import speaks
from vaekit.errors import ConfigError
from vaekit.paths import as_text

if TYPE_CHECKING:
    from vaekit.runs import Run
    from vaekit.runs.asking import Question
    from vaekit.runs.by_part import Answered

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="What answers a table in parts: this process, or the actors of a Ray cluster."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="With --engine ray: actors; default: one for each core.")
]


def answer_by_part(
    output: Path, data: Source, run: "Run", question: "Question", engine: str = "local", workers: int | None = None
) -> "Answered | None":
    """Answer part by part where `output` is a folder, a path without a suffix; None where it is not one.

    Raises:
        ConfigError: if it is one, and DATA no table in parts; if Ray is asked for and it is not one.
    """
    from vaekit.data.readers.frames import FRAMES
    from vaekit.data.readers.parts import parts_of
    from vaekit.runs import by_part

    if output.suffix or output == Path("-"):
        if engine == "ray":
            raise ConfigError(f"--engine ray writes a folder of answers, part by part; {as_text(output)} is a file")
        return None
    parts = None if data.name is None else parts_of(data.name, FRAMES)
    if parts is None:
        raise ConfigError(
            f"{as_text(output)} has no suffix, and is a folder for the answers to a table in parts (DATA is a folder "
            "of tables, or a pattern such as 'parts/*.parquet'). Name a file, such as answers.csv."
        )
    if engine == "ray":
        from vaekit.distributed import answer_on_ray

        assert run.folder is not None
        found = answer_on_ray(run.folder, parts, output, question, options=data.options, workers=workers)
    else:
        read = partial(run.rows, **data.options)
        found = by_part.answer_by_part(run, parts, output, question, read, data.options.get("reading"))
    if speaks():
        _say(found)
    return found


def _say(found: "Answered") -> None:
    known = f", {found.num_known} of which stood there" if found.num_known else ""
    print(
        f"wrote {len(found.parts)} parts{known}, {found.num_rows:,} rows, to {as_text(found.folder)}", file=sys.stderr
    )
    for line in found.notes:
        print(line, file=sys.stderr)
    if found.num_missing:
        print(f"{found.num_missing:,} rows have no number", file=sys.stderr)
