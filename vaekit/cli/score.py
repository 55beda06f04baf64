"""vaekit score."""

import typer

from vaekit.cli.common import (
    Data,
    DataDir,
    Label,
    NumSamples,
    Output,
    Run,
    Seed,
    check_output,
    generator,
    load_data,
    load_run,
    write_array,
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
    data_dir: DataDir = None,
) -> None:
    """Write log p(x) of every row with its standard error and effective sample size, in nats (.npy, .csv, .parquet)."""
    from vaekit.files import ARRAY_SUFFIXES

    check_output(output, ARRAY_SUFFIXES)
    model = load_run(run)
    dataset = load_data(run, data, "test", data_dir, label)
    import torch

    from vaekit import evaluation

    estimate = evaluation.log_marginal(
        model, dataset, num_samples=num_samples, generator=generator(seed), progress=True
    )
    table = torch.stack([estimate.value, estimate.stderr, estimate.ess], dim=1).numpy()
    write_array(output, table, ["log_p", "stderr", "ess"])
