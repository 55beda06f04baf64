"""Commands that write what a fitted model makes: scores, samples, reconstructions, codes, pictures and a report."""

import sys
from typing import Annotated

import typer

from vaekit.cli.app import Data, NumSamples, Output, Run, Seed, command, generator, open_run
from vaekit.cli.output import report_missing, write_table
from vaekit.errors import ConfigError
from vaekit.saving.files import ARRAY_SUFFIXES


@command("vaekit score runs/digits digits:test -o scores.csv", writes=ARRAY_SUFFIXES)
def score(run: Run, data: Data, output: Output, num_samples: NumSamples = 100, seed: Seed = 0) -> None:
    """Write log p(x) of every row with its standard error and effective sample size, in nats (.npy, .csv, .parquet)."""
    fitted = open_run(run)
    scores = fitted.score(data.of(fitted), num_samples=num_samples, seed=seed, progress=True)
    write_table(output, scores, fitted)
    report_missing(scores)


@command("vaekit sample runs/digits -n 64 -o samples.png", writes=(".png", *ARRAY_SUFFIXES))
def sample(
    run: Run,
    num: Annotated[int, typer.Option("-n", "--num", min=1, help="Number of samples.")] = 64,
    *,
    output: Output,
    seed: Seed = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Means of p(x|z) instead of draws.")] = False,
) -> None:
    """Draw from p(x), in the units of the data (.png grid, .npy, .csv, .parquet)."""
    fitted = open_run(run)
    write_table(output, fitted.sample(num, mean=mean, seed=seed), fitted)


@command("vaekit reconstruct runs/digits digits:test -o reconstructions.npy", writes=(".png", *ARRAY_SUFFIXES))
def reconstruct(
    run: Run,
    data: Data,
    output: Output,
    draw: Annotated[bool, typer.Option("--draw", help="Draws of z and x instead of means.")] = False,
    seed: Seed = 0,
) -> None:
    """Write the reconstruction of every row, in the units of the data (.png grid, .npy, .csv, .parquet)."""
    fitted = open_run(run)
    write_table(output, fitted.reconstruct(data.of(fitted), mean=not draw, seed=seed).without_keys(), fitted)


@command("vaekit encode runs/digits digits:train -o codes.csv", writes=ARRAY_SUFFIXES)
def encode(
    run: Run,
    data: Data,
    output: Output,
    draw: Annotated[bool, typer.Option("--draw", help="A draw from q(z|x) instead of its mean.")] = False,
    seed: Seed = 0,
) -> None:
    """Write E[z|x] of every row (.npy, .csv, .parquet)."""
    fitted = open_run(run)
    write_table(output, fitted.encode(data.of(fitted, "train"), mean=not draw, seed=seed), fitted)


@command("vaekit plot runs/digits latent digits:train -o latent.png", writes=(".png", ".svg", ".pdf"))
def plot(
    run: Run,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="losses, samples, reconstructions, latent, manifold, traversal, interpolation, trend.",
            show_default=False,
        ),
    ],
    data: Data,
    output: Output,
    seed: Seed = 0,
) -> None:
    """Draw a picture of a fitted model (.png, .svg, .pdf)."""
    from vaekit import plots
    from vaekit.plots.by_name import draw
    from vaekit.saving import spec

    kind = kind.lower()
    if kind not in plots.KINDS:
        raise ConfigError(f"there is no picture {kind!r}. {spec.nearest(kind, plots.KINDS)}")
    fitted = open_run(run)
    rows = None if kind == "losses" else data.of(fitted, "train" if kind == "latent" else "test")
    figure = draw(kind, fitted.model, data=rows, records=fitted.records, generator=generator(seed))
    plots.save(figure, output)
    print(f"wrote {output}", file=sys.stderr)


@command("vaekit report runs/digits -o report.html", writes=(".html",))
def report(run: Run, data: Data, output: Output, num_samples: NumSamples = 100, seed: Seed = 0) -> None:
    """Write one self-contained HTML page: configuration, curves, numbers and pictures."""
    from vaekit import report as reports

    fitted = open_run(run)
    rows = data.of(fitted)
    about = fitted.describe()
    page = reports.build(
        fitted.model,
        title=f"{run.resolve().name}: {rows.name}",
        config={key: about[key] for key in ("settings", "data", "engine") if key in about},
        records=fitted.records,
        x=rows,
        labels=rows.labels,
        generator=generator(seed),
        num_samples=num_samples,
        columns=rows.columns,
        value_range=rows.value_range,
        described=fitted.training_rows,
    )
    reports.write(output, page)
    print(f"wrote {output}", file=sys.stderr)
