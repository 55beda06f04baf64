"""Commands about the cells of tables."""

from typing import Annotated

import typer

from vaekit.cli.app import Data, NumSamples, Output, Run, Seed, command, open_run
from vaekit.cli.output import write_table
from vaekit.errors import ConfigError
from vaekit.saving.files import ARRAY_SUFFIXES


@command("vaekit impute runs/people new.csv -o filled.csv", writes=ARRAY_SUFFIXES)
def impute(
    run: Run,
    data: Data,
    output: Output,
    draws: Annotated[
        int | None,
        typer.Option("--draws", metavar="M", min=1, help="Write M imputations that are draws, under a column draw."),
    ] = None,
    statistic: Annotated[str, typer.Option("--statistic", help="What fills numbers: mean or median.")] = "mean",
    num_samples: NumSamples = 100,
    seed: Seed = 0,
) -> None:
    """Write the table with its empty cells filled from the others (.csv, .parquet, .npy)."""
    if statistic not in ("mean", "median"):
        raise ConfigError(f"--statistic is mean or median; got {statistic}")
    fitted = open_run(run)
    filled = fitted.impute(data.of(fitted), num_samples, draws, "mean" if statistic == "mean" else "median", seed)
    write_table(output, filled, fitted)
