"""vaekit reconstruct."""

from typing import Annotated

import typer

from vaekit.cli.common import (
    Data,
    DataDir,
    Label,
    Output,
    Run,
    Seed,
    check_output,
    generator,
    load_data,
    load_run,
    write_rows,
)


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
    from vaekit.files import ARRAY_SUFFIXES

    check_output(output, (".png", *ARRAY_SUFFIXES))
    model = load_run(run)
    dataset = load_data(run, data, "test", data_dir, label)
    write_rows(output, model.reconstruct(dataset, mean=not draw, generator=generator(seed)), run)
