"""The options that say how data are read: those of every command that reads rows, and what becomes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vaekit.paths import as_text

_Words = list[str] | None
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder with named data sets, looked at before $VAEKIT_DATA.")
]
Key = Annotated[str | None, typer.Option("--key", help="Column of a table that names the rows, and is no data.")]
Label = Annotated[str | None, typer.Option("--label", help="Column of a table that holds labels, not data.")]
_OF_FILES: dict[str, Any] = {
    "columns": Annotated[
        _Words, typer.Option("--columns", metavar="A,B", help="Columns of a table that are data; default: all others.")
    ],
    "drop": Annotated[_Words, typer.Option("--drop", metavar="C", help="Columns of a table that are no data.")],
    "weight": Annotated[
        str | None,
        typer.Option("--weight", metavar="COLUMN", help="Column of a table with what its rows count; no data."),
    ],
    "context": Annotated[
        _Words,
        typer.Option("--context", metavar="A,B", help="Columns of a table that a conditional model is given; no data."),
    ],
    "missing": Annotated[
        _Words, typer.Option("--missing", metavar="MARK", help="Cells of a table that mean 'not observed'; repeatable.")
    ],
    "delimiter": Annotated[
        str | None, typer.Option("--delimiter", metavar="CHAR", help="Between cells of a CSV file.")
    ],
    "decimal": Annotated[
        str | None, typer.Option("--decimal", metavar="CHAR", help="Decimal mark of a CSV file: . or ,")
    ],
    "encoding": Annotated[
        str | None, typer.Option("--encoding", metavar="NAME", help="Of a CSV or JSON file: utf-8, latin-1, ...")
    ],
    "header": Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether the first line of a CSV file names the columns."),
    ],
    "sheet": Annotated[
        str | None, typer.Option("--sheet", metavar="NAME", help="Of a workbook of Excel; default: the first.")
    ],
    "alpha": Annotated[
        str | None,
        typer.Option("--alpha", metavar="HOW", help="Transparent pixels: over white or black; keep or drop the alpha."),
    ],
    "channels_last": Annotated[
        bool | None,
        typer.Option("--channels-last/--channels-first", help="Whether an array of images is (N, H, W, C)."),
    ],
}
READS: dict[str, Any] = {"label": Label, "key": Key, "data_dir": DataDir, **_OF_FILES}


def as_read(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `READS` as keywords of `Run.rows`: those about files become one `Reading`.

    In an ASCII locale words come as bytes that Python could not decode: the names of columns are UTF-8 there too.
    """
    from vaekit.data.reading import Reading, words

    given = {name: _decoded(value) for name, value in given.items()}
    options = {name: given[name] for name in READS if name not in _OF_FILES}
    how = {name: given[name] for name in _OF_FILES if given[name] not in (None, [], ())}
    how |= {name: words(how[name]) for name in ("columns", "drop", "context") if name in how}
    return {**options, "reading": Reading(**how)}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(word) for word in value]
    return as_text(value) if isinstance(value, str) else value
