"""vaekit evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from vaekit.evaluation import Result

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
    from vaekit.evaluation.results import title

    results = evaluation.evaluate(
        fitted.model,
        dataset,
        num_samples=num_samples,
        full=full,
        max_rows=_QUICK_ROWS if quick else None,
        generator=generator(seed),
        progress=True,
    )
    rows = results.to_dicts()
    document = {"run": str(run), "data": dataset.name, "results": rows}
    if output is not None:
        write_numbers(output, document, list(rows[0]), [list(row.values()) for row in rows])
    if json_:
        print_json(document)
        return
    cells = [(r.label, _cell(r, r.value), _cell(r, r.stderr), _cell(r, r.sampling_stderr)) for r in results.table]
    print_table(cells, ("nats per row", "mean", "Monte Carlo error", "error over rows"))
    num_rows = results["num_points"].value or 0
    print(f"{num_rows:.0f} rows of {dataset.name}; log p is a {results.quantity}.".replace("a no", "no"))
    for row in results.reasons:
        print(f"not done: {row.name}: {row.reason}")
    for finding in results.findings:
        print(f"{title(finding)}: {finding.label}")


def _cell(row: "Result", value: float | None) -> str:
    """A number of a row as text; counts whole."""
    if value is None:
        return ""
    return f"{value:g}" if row.unit in ("rows", "units", "draws") else f"{value:.4f}"
