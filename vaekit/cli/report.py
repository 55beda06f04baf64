"""vaekit report."""

import sys

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
    open_run,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit report runs/digits -o report.html")(report)


def report(
    run: Run,
    data: Data = None,
    output: Output = ...,  # type: ignore[assignment]
    num_samples: NumSamples = 100,
    seed: Seed = 0,
    label: Label = None,
    data_dir: DataDir = None,
) -> None:
    """Write one self-contained HTML page: configuration, curves, numbers and pictures."""
    check_output(output, (".html",))
    fitted = open_run(run)
    dataset = fitted.rows(data, "test", data_dir=data_dir, label=label)
    from vaekit import report as reports

    about = fitted.describe()
    page = reports.build(
        fitted.model,
        title=f"{run.resolve().name}: {dataset.name}",
        config={key: about[key] for key in ("settings", "data", "engine") if key in about},
        records=fitted.records,
        x=dataset,
        labels=dataset.labels,
        generator=generator(seed),
        num_samples=num_samples,
        columns=dataset.columns,
        value_range=dataset.value_range,
    )
    reports.write(output, page)
    print(f"wrote {output}", file=sys.stderr)
