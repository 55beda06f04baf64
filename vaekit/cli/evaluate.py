"""vaekit evaluate."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from vaekit.cli.common import (
    Data,
    DataDir,
    Json,
    Label,
    NumSamples,
    Run,
    Seed,
    check_output,
    generator,
    open_run,
    print_json,
    print_table,
    write_numbers,
)

_QUICK_ROWS = 2000
_SUFFIXES = (".json", ".csv")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit evaluate runs/digits digits:test --num-samples 500")(evaluate)


def evaluate(
    run: Run,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the numbers too: .json or .csv.")
    ] = None,
    num_samples: NumSamples = 100,
    quick: Annotated[bool, typer.Option("--quick", help=f"Look at no more than {_QUICK_ROWS:,} rows.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Add the trend over K, AIS, HMC and two-sample checks (minutes on images).")
    ] = False,
    seed: Seed = 0,
    label: Label = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Print bounds on log p(x) and the health of the model, with standard errors, in nats per row, and a verdict."""
    if output is not None:
        check_output(output, _SUFFIXES)
    fitted = open_run(run)
    dataset = fitted.rows(data, "test", data_dir=data_dir, label=label)
    from vaekit import evaluation

    numbers: dict[str, Any] = evaluation.evaluate(
        fitted.model,
        dataset,
        num_samples=num_samples,
        full=full,
        max_rows=_QUICK_ROWS if quick else None,
        generator=generator(seed),
        progress=True,
    )
    numbers = {"run": str(run), "data": dataset.name, **numbers}
    table = evaluation.lines(numbers)
    if output is not None:
        write_numbers(output, numbers, ("name", "value", "mean_stderr", "sampling_stderr"), table)
    if json_:
        print_json(numbers)
        return
    rows = [(line.label, _cell(line.value), _cell(line.mean_stderr), _cell(line.sampling_stderr)) for line in table]
    print_table(rows, ("nats per row", "mean", "Monte Carlo error", "error over rows"))
    print(f"{numbers['num_points']} rows of {dataset.name}; log p is a {numbers['quantity']}.".replace("a no", "no"))
    if "bits_per_dimension" in numbers:
        print(f"{numbers['bits_per_dimension']:.4f} bits per dimension (from the IWAE bound).")
    for reason in evaluation.reasons(numbers):
        print(f"not done: {reason}")
    for finding in _findings(numbers):
        print(f"{finding['name']}: {finding['evidence']} {finding['remedy']}")


def _findings(numbers: dict[str, Any]) -> list[dict[str, str]]:
    health = numbers["diagnostics"]
    return health["findings"] if isinstance(health, dict) else []


def _cell(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"
