"""vaekit sample."""

from typing import Annotated

import typer

from vaekit.cli.common import Output, Run, Seed, check_output, open_run, write_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit sample runs/digits -n 64 -o samples.png")(sample)


def sample(
    run: Run,
    num: Annotated[int, typer.Option("-n", "--num", min=1, help="Number of samples.")] = 64,
    output: Output = ...,  # type: ignore[assignment]
    seed: Seed = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Means of p(x|z) instead of draws.")] = False,
) -> None:
    """Draw from p(x), in the units of the data (.png grid, .npy, .csv, .parquet)."""
    from vaekit.saving.files import ARRAY_SUFFIXES

    check_output(output, (".png", *ARRAY_SUFFIXES))
    fitted = open_run(run)
    write_table(output, fitted.sample(num, mean=mean, seed=seed), fitted)
