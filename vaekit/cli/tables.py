"""Commands about the cells of tables."""

from typing import TYPE_CHECKING, Annotated

import typer

from vaekit.cli.app import Data, NumSamples, Output, Run, Seed, command, open_run
from vaekit.cli.output import write_table
from vaekit.cli.parts import Engine, Workers, answer_by_part
from vaekit.errors import ConfigError
from vaekit.saving.files import ARRAY_SUFFIXES

if TYPE_CHECKING:
    pass


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
    engine: Engine = "local",
    workers: Workers = None,
) -> None:
    """Write the table with its empty cells filled from the others.

    (.csv, .parquet, .npy; of a table in parts a folder, part by part)
    """
    if statistic not in ("mean", "median"):
        raise ConfigError(f"--statistic is mean or median; got {statistic}")
    from vaekit.runs.asking import Question

    fitted = open_run(run)
    how = {"num_samples": num_samples, "num_draws": draws, "statistic": statistic, "seed": seed}
    question = Question("impute", how)
    if not answer_by_part(output, data, fitted, question, engine, workers):
        write_table(output, question.ask(fitted, data.of(fitted)), fitted)
