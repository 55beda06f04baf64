"""What commands share: arguments, output, and data for a run."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from vaekit.runs import Run as FittedRun
    from vaekit.runs import Table

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a fitted model.", show_default=False)]
Data = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA]",
        help="NAME, NAME:train, NAME:test or a path; default: what RUN was fitted to.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="File to write; its suffix picks the format.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Source of all noise.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder with named data sets, looked at before $VAEKIT_DATA.")
]
NumSamples = Annotated[int, typer.Option("--num-samples", min=1, help="Draws of z per row, K.")]
Key = Annotated[str | None, typer.Option("--key", help="Column of a table that names the rows, and is no data.")]
Label = Annotated[str | None, typer.Option("--label", help="Column of a table that holds labels, not data.")]


def generator(seed: int) -> "torch.Generator":
    """A generator for the library's `generator=` arguments."""
    import torch

    return torch.Generator().manual_seed(seed)


def open_run(folder: Path) -> "FittedRun":
    """The run in a folder."""
    from vaekit import runs

    return runs.open(folder)


def without_nan(value: Any) -> Any:
    """NaN and infinity as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(without_nan(value), indent=2))


def print_table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """A table: framed on a terminal, plain aligned columns that are never wrapped elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_table(path: Path, table: "Table", run: "FittedRun") -> None:
    """Write a table, in the format of the suffix; for .png a grid of its rows, which are images."""
    if path.suffix.lower() == ".png":
        from vaekit import plots

        plots.save_grid(path, table.values, value_range=run.data.value_range)
    else:
        table.write(path)
    print(f"wrote {path}", file=sys.stderr)


def write_numbers(path: Path, document: dict[str, Any], header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write numbers as a whole: .json holds the document, .csv the rows of the table."""
    import csv
    import io

    from vaekit.saving.files import write_atomically

    if path.suffix.lower() == ".json":
        content = json.dumps(without_nan(document), indent=2) + "\n"
    else:
        buffer = io.StringIO()
        cells = (["" if isinstance(c, float) and math.isnan(c) else c for c in row] for row in rows)
        csv.writer(buffer, lineterminator="\n").writerows([header, *cells])
        content = buffer.getvalue()
    write_atomically(path, content.encode())
    print(f"wrote {path}", file=sys.stderr)


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an unknown suffix or a missing folder before the work starts."""
    from vaekit.errors import ConfigError
    from vaekit.saving.files import check_suffix

    check_suffix(path, suffixes)
    if not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} does not exist; create it first")
