"""vaekit encode."""

from typing import Annotated

import typer

from vaekit.cli.common import Data, DataDir, Key, Label, Output, Run, Seed, check_output, open_run, write_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit encode runs/digits digits:train -o codes.csv")(encode)


def encode(
    run: Run,
    data: Data = None,
    output: Output = ...,  # type: ignore[assignment]
    draw: Annotated[bool, typer.Option("--draw", help="A draw from q(z|x) instead of its mean.")] = False,
    seed: Seed = 0,
    label: Label = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Write E[z|x] of every row (.npy, .csv, .parquet)."""
    from vaekit.saving.files import ARRAY_SUFFIXES

    check_output(output, ARRAY_SUFFIXES)
    fitted = open_run(run)
    rows = fitted.rows(data, "train", data_dir=data_dir, label=label, key=key)
    write_table(output, fitted.encode(rows, mean=not draw, seed=seed), fitted)
