"""vaekit evaluate."""

import math
from typing import Any

import typer

from vaekit.cli.common import (
    Data,
    DataDir,
    Json,
    Label,
    NumSamples,
    Run,
    Seed,
    generator,
    load_data,
    load_run,
    print_json,
    print_table,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit evaluate runs/digits digits:test --num-samples 500")(evaluate)


def _row(name: str, numbers: dict[str, float]) -> tuple[str, ...]:
    def cell(key: str) -> str:
        value = numbers.get(key, math.nan)
        return "" if math.isnan(value) else f"{value:.4f}"

    return name, cell("mean"), cell("mean_stderr"), cell("sampling_stderr")


def evaluate(
    run: Run,
    data: Data = None,
    num_samples: NumSamples = 100,
    seed: Seed = 0,
    label: Label = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Print the ELBO, its two terms and the IWAE bound with their standard errors, in nats per row."""
    model = load_run(run)
    dataset = load_data(run, data, "test", data_dir, label)
    from vaekit import evaluation

    numbers: dict[str, Any] = evaluation.summarize(
        model, dataset, num_samples=num_samples, generator=generator(seed), progress=True
    )
    numbers = {"run": str(run), "data": dataset.name, **numbers}
    if json_:
        print_json(numbers)
        return
    rows = [_row("ELBO", numbers["elbo"]), _row("  log-likelihood", numbers["log_likelihood"])]
    rows += [_row("  KL", numbers["kl"]), _row(f"IWAE, K = {num_samples}", numbers["iwae"])]
    print_table(rows, ("nats per row", "mean", "Monte Carlo error", "error over rows"))
    print(f"{numbers['num_points']} rows of {dataset.name}; log p is a {numbers['quantity']}.".replace("a no", "no"))
    if "bits_per_dimension" in numbers:
        print(f"{numbers['bits_per_dimension']:.4f} bits per dimension (from the IWAE bound).")
