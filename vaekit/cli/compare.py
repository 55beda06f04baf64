"""vaekit compare."""

from pathlib import Path
from typing import Annotated

import typer

from vaekit.cli.common import (
    DataDir,
    Json,
    Label,
    NumSamples,
    Seed,
    generator,
    open_run,
    print_json,
    print_table,
)

Arguments = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN ... [DATA]",
        help="Folders of fitted models, then NAME, NAME:train, NAME:test or a path; default: what the first was "
        "fitted to.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit compare runs/vae runs/iwae digits:test --num-samples 1000")(compare)


def _split(arguments: list[str]) -> tuple[list[Path], str | None]:
    """Runs, and the data: the last argument where that is no run."""
    from vaekit import runs

    *first, last = arguments
    return ([Path(a) for a in arguments], None) if runs.is_run(last) else ([Path(a) for a in first], last)


def compare(
    arguments: Arguments,
    num_samples: NumSamples = 1000,
    seed: Seed = 0,
    label: Label = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Print which run has the higher log p(x) on the same rows: paired differences with standard errors, in nats."""
    from vaekit.errors import ConfigError

    folders, source = _split(arguments)
    if len(folders) < 2:
        raise ConfigError(f"compare takes at least two runs; got {len(folders)}")
    names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise ConfigError(f"a run is named twice: {', '.join(names)}")
    fitted = [open_run(folder) for folder in folders]
    models = {name: run.model for name, run in zip(names, fitted, strict=True)}
    dataset = fitted[0].rows(source, "test", data_dir=data_dir, label=label)
    from vaekit import evaluation

    found = evaluation.compare(models, dataset, num_samples=num_samples, generator=generator(seed), progress=True)
    if json_:
        print_json({"data": dataset.name, "num_samples": num_samples, **found.summary()})
        return
    rows = [
        (n, f"{e.mean:.4f}", f"{e.mean_stderr:.4f}", f"{e.sampling_stderr:.4f}") for n, e in found.estimates.items()
    ]
    print_table(rows, ("log p(x), nats per row", "mean", "Monte Carlo error", "error over rows"))
    print()
    pairs = [
        (f"{d.first} - {d.second}", f"{d.value:.4f}", f"{d.stderr:.4f}", f"{d.p_value:.3g}", d.better or "neither")
        for d in found.differences
    ]
    print_table(pairs, ("paired difference", "mean", "standard error", "p-value", "better"))
    quantity = next(iter(found.estimates.values())).quantity
    print(f"{len(dataset)} rows of {dataset.name}, K = {num_samples}; log p is a {quantity}.".replace("a no", "no"))
