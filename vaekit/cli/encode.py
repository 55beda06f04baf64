"""vaekit encode."""

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
    columns_of,
    generator,
    load_data,
    load_run,
    write_array,
)


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
    data_dir: DataDir = None,
) -> None:
    """Write E[z|x] of every row (.npy, .csv, .parquet)."""
    from vaekit.files import ARRAY_SUFFIXES

    check_output(output, ARRAY_SUFFIXES)
    model = load_run(run)
    dataset = load_data(run, data, "train", data_dir, label)
    codes = model.encode(dataset, mean=not draw, generator=generator(seed)).cpu().numpy()
    write_array(output, codes, columns_of(None, codes.shape[1:], prefix="z"))
