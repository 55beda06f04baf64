"""Commands about the cells of tables."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaekit.cli.app import Data, NumSamples, Output, Run, Seed, command, open_run
from vaekit.cli.output import write_table
from vaekit.cli.parts import write_by_part
from vaekit.errors import ConfigError
from vaekit.saving.files import ARRAY_SUFFIXES

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.runs import Table


@command("vaekit impute runs/people new.csv -o filled.csv", writes=ARRAY_SUFFIXES, by_part=True)
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
    """Write the table with its empty cells filled from the others.

    (.csv, .parquet, .npy; of a table in parts a folder, part by part)
    """
    if statistic not in ("mean", "median"):
        raise ConfigError(f"--statistic is mean or median; got {statistic}")
    fitted = open_run(run)
    how: dict[str, Any] = {"num_samples": num_samples, "num_draws": draws, "statistic": statistic, "seed": seed}

    def ask(rows: "Dataset") -> "Table":
        return fitted.impute(rows, **how)

    if not write_by_part(output, data, fitted, ask, "impute", **how):
        write_table(output, ask(data.of(fitted)), fitted)
