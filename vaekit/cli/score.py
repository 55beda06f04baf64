"""vaekit score."""

import typer

from vaekit.cli.common import (
    Data,
    DataDir,
    Key,
    Label,
    NumSamples,
    Output,
    Run,
    Seed,
    check_output,
    open_run,
    write_table,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit score runs/digits digits:test -o scores.csv")(score)


def score(
    run: Run,
    data: Data = None,
    output: Output = ...,  # type: ignore[assignment]
    num_samples: NumSamples = 100,
    seed: Seed = 0,
    label: Label = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Write log p(x) of every row with its standard error and effective sample size, in nats (.npy, .csv, .parquet)."""
    from vaekit.saving.files import ARRAY_SUFFIXES

    check_output(output, ARRAY_SUFFIXES)
    fitted = open_run(run)
    rows = fitted.rows(data, "test", data_dir=data_dir, label=label, key=key)
    write_table(output, fitted.score(rows, num_samples=num_samples, seed=seed, progress=True), fitted)
