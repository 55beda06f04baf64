"""vaekit reconstruct."""

from typing import Annotated

import typer

from vaekit.cli.common import Data, DataDir, Label, Output, Run, Seed, check_output, open_run, write_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit reconstruct runs/digits digits:test -o reconstructions.npy")(reconstruct)


def reconstruct(
    run: Run,
    data: Data = None,
    output: Output = ...,  # type: ignore[assignment]
    draw: Annotated[bool, typer.Option("--draw", help="Draws of z and x instead of means.")] = False,
    seed: Seed = 0,
    label: Label = None,
    data_dir: DataDir = None,
) -> None:
    """Write the reconstruction of every row, in the units of the data (.png grid, .npy, .csv, .parquet)."""
    from vaekit.saving.files import ARRAY_SUFFIXES

    check_output(output, (".png", *ARRAY_SUFFIXES))
    fitted = open_run(run)
    rows = fitted.rows(data, "test", data_dir=data_dir, label=label)
    write_table(output, fitted.reconstruct(rows, mean=not draw, seed=seed).without_keys(), fitted)
