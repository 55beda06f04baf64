"""Answers to a table in parts, as commands write them: a file for each part, in a folder."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.cli.app import Source
from vaekit.errors import ConfigError
from vaekit.paths import as_text

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.runs import Run, Table


def write_by_part(
    output: Path, data: Source, run: "Run", ask: Callable[["Dataset"], "Table"], what: str, **question: Any
) -> bool:
    """Answer part by part where `output` is a folder, a path without a suffix; says whether it is one.

    Raises:
        ConfigError: if it is one, and DATA no table in parts.
    """
    from vaekit.data.readers.frames import FRAMES
    from vaekit.data.readers.parts import parts_of
    from vaekit.runs.by_part import answer_by_part

    if output.suffix or output == Path("-"):
        return False
    parts = None if data.name is None else parts_of(data.name, FRAMES)
    if parts is None:
        raise ConfigError(
            f"{as_text(output)} has no suffix, and is a folder for the answers to a table in parts (DATA is a folder "
            "of tables, or a pattern such as 'parts/*.parquet'). Name a file, such as answers.csv."
        )
    asked = {"what": what, "options": {name: repr(value) for name, value in data.options.items()}, **question}
    found = answer_by_part(run, parts, output, ask, asked, lambda part: run.rows(part, **data.options))
    known = f", {found.num_known} of which stood there" if found.num_known else ""
    print(f"wrote {found.num_parts} parts{known}, {found.num_rows:,} rows, to {as_text(output)}", file=sys.stderr)
    for line in found.notes:
        print(line, file=sys.stderr)
    if found.num_missing:
        print(f"{found.num_missing:,} rows have no number", file=sys.stderr)
    return True
