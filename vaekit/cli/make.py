"""Commands that write what a fitted model makes: scores, samples, reconstructions, codes, pictures and a report."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vaekit.cli.app import (
    Data,
    NumDraws,
    NumSamples,
    Output,
    Run,
    Seed,
    TransformDraws,
    TransformSeed,
    command,
    generator,
    open_run,
)
from vaekit.cli.output import check_picture, report_missing, report_trained, write_table
from vaekit.cli.parts import Engine, Workers, answer_by_part
from vaekit.cli.together import Processes, others_run, reading, speaks
from vaekit.errors import ConfigError
from vaekit.paths import as_text
from vaekit.saving.files import ARRAY_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

    from vaekit.data import Dataset
    from vaekit.report.classes import Classes
    from vaekit.runs import Run as FittedRun

_MOST_LEARNED = 20_000


@command("vaekit score runs/digits digits:test -o scores.csv", writes=ARRAY_SUFFIXES, by_part=True)
def score(
    run: Run,
    data: Data,
    output: Output,
    num_samples: NumDraws = None,
    seed: Seed = 0,
    transform_draws: TransformDraws = 1,
    transform_seed: TransformSeed = 0,
    shares: Annotated[
        bool,
        typer.Option(
            "--shares",
            help="Add columns share_NAME: -log p(cell | the other cells). --columns without names is the same.",
        ),
    ] = False,
    engine: Engine = "local",
    workers: Processes = None,
) -> None:
    """Write log p(x) of every row with its standard error and effective sample size, in nats.

    (.npy, .csv, .parquet, .feather, .json, .jsonl; of a table in parts a folder, part by part)
    """
    from vaekit.runs.asking import Question

    if others_run(workers, engine, data):
        return
    fitted = open_run(run)
    how: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "transform_draws": transform_draws}
    question = Question("score", {"shares": shares, "transform_seed": transform_seed, **how}, progress=speaks())
    if answer_by_part(output, data, fitted, question, engine, workers):
        return
    with reading():
        rows = data.of(fitted)
    scores = question.ask(fitted, rows)
    if not speaks():
        return
    write_table(output, scores, fitted)
    report_trained(fitted, rows)
    report_missing(scores)


@command("vaekit classify runs/classes digits:test -o classes.csv", writes=ARRAY_SUFFIXES)
def classify(
    run: Run,
    data: Data,
    output: Output,
    num_samples: NumSamples = 100,
    by: Annotated[
        Literal["bayes", "posterior"] | None,
        typer.Option("--by", help="bayes: densities p(x|y); posterior: q(y|x) of the model, default where it has one."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write the class of every row and p(class | row) with standard errors, by Bayes' rule, and log p(x) in nats.

    (.csv, .parquet, .feather, .json, .jsonl, .npy)
    """
    fitted = open_run(run)
    rows = fitted.rows(data.name, lenient=True, **data.options)
    found = fitted.classify(rows, num_samples=num_samples, seed=seed, by=by, progress=True)
    write_table(output, found, fitted)
    report_trained(fitted, rows)


@command("vaekit sample runs/digits -n 64 -o samples.png", writes=(".png", *ARRAY_SUFFIXES))
def sample(
    run: Run,
    num: Annotated[int, typer.Option("-n", "--num", min=1, help="Number of samples.")] = 64,
    *,
    output: Output,
    seed: Seed = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Means of p(x|z) instead of draws.")] = False,
    given: Annotated[
        list[str] | None,
        typer.Option("--given", metavar="COLUMN=VALUE", help="A cell that all rows of a table have; repeatable."),
    ] = None,
    hmc: Annotated[
        bool, typer.Option("--hmc", help="With --given: draw z by Hamiltonian Monte Carlo, for rare conditions.")
    ] = False,
) -> None:
    """Draw from p(x), or from p(x | some cells), in the units of the data.

    (.png grid, .npy, .csv, .parquet, .feather, .json, .jsonl)
    """
    fitted = open_run(run)
    check_picture(output, fitted)
    how: dict[str, Any] = {"mean": mean, "seed": seed}
    if given:
        from vaekit.runs.given import pairs_of

        how |= {"given": pairs_of([as_text(word) for word in given]), "method": "hmc" if hmc else "importance"}
    write_table(output, fitted.sample(num, **how), fitted)


@command("vaekit reconstruct runs/digits digits:test -o reconstructions.npy", writes=(".png", *ARRAY_SUFFIXES))
def reconstruct(
    run: Run,
    data: Data,
    output: Output,
    draw: Annotated[bool, typer.Option("--draw", help="Draws of z and x instead of means.")] = False,
    seed: Seed = 0,
    transform_seed: TransformSeed = 0,
) -> None:
    """Write the reconstruction of every row, in the units of the data.

    (.png grid, .npy, .csv, .parquet, .feather, .json, .jsonl)
    """
    fitted = open_run(run)
    check_picture(output, fitted)
    noise = {"seed": seed, "transform_seed": transform_seed}
    write_table(output, fitted.reconstruct(data.of(fitted), mean=not draw, **noise).without_keys(), fitted)


@command("vaekit encode runs/digits digits:train -o codes.csv", writes=ARRAY_SUFFIXES, by_part=True)
def encode(
    run: Run,
    data: Data,
    output: Output,
    draw: Annotated[bool, typer.Option("--draw", help="A draw from q(z|x) instead of its mean.")] = False,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="cluster and p_0, p_1, ...: p(c|x) of the components of a mixture prior.")
    ] = False,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="With --clusters: importance weights, right for any q(z|x).")
    ] = False,
    num_samples: Annotated[
        int | None, typer.Option("--num-samples", min=1, help="With --clusters: draws of z per row, K; default: 100.")
    ] = None,
    seed: Seed = 0,
    transform_seed: TransformSeed = 0,
    engine: Engine = "local",
    workers: Workers = None,
) -> None:
    """Write E[z|x] of every row, or which cluster it is in.

    (.npy, .csv, .parquet, .feather, .json, .jsonl; of a table in parts a folder, part by part)
    """
    if clusters and draw:
        raise ConfigError("--clusters is a mean over draws of z, --draw is one of them; drop one of the two")
    if not clusters and (weighted or num_samples is not None):
        raise ConfigError("--weighted and --num-samples go with --clusters; a code is E[z|x] or one draw")
    from vaekit.runs.asking import Question

    fitted = open_run(run)
    which: dict[str, Any] = {"draw": draw, "clusters": clusters, "num_samples": num_samples}
    which |= {"method": "importance" if weighted else "posterior", "seed": seed, "transform_seed": transform_seed}
    question = Question("encode", which, progress=True)
    if not answer_by_part(output, data, fitted, question, engine, workers):
        write_table(output, question.ask(fitted, data.of(fitted, "train")), fitted)


@command("vaekit plot runs/digits latent digits:train -o latent.png", writes=(".png", ".svg", ".pdf"))
def plot(
    run: Run,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="losses, samples, reconstructions, latent, manifold, traversal, interpolation, trend, style, "
            "transfer.",
            show_default=False,
        ),
    ],
    data: Data,
    output: Output,
    seed: Seed = 0,
    transform_seed: TransformSeed = 0,
) -> None:
    """Draw a picture of a fitted model (.png, .svg, .pdf)."""
    from vaekit import plots
    from vaekit.plots.by_name import draw
    from vaekit.saving import spec

    kind = kind.lower()
    if kind not in plots.KINDS:
        raise ConfigError(f"there is no picture {kind!r}. {spec.nearest(kind, plots.KINDS)}")
    fitted = open_run(run)
    rows = None if kind == "losses" else _pictured(kind, fitted, data)
    records = fitted.records
    figure = draw(
        kind, fitted.model, data=rows, records=records, generator=generator(seed), transform_seed=transform_seed
    )
    plots.save(figure, output)
    print(f"wrote {as_text(output)}", file=sys.stderr)


def _pictured(kind: str, run: "FittedRun", data: Data) -> "Dataset":
    """The rows of a picture: codes are those of the training part, everything else is shown of held-out rows."""
    if kind == "latent":
        return data.of(run, "train")
    parts = run.parts(data.name, **data.options)
    if parts.held_out is None:
        print("all rows of this picture were trained on", file=sys.stderr)
    return parts.judged


@command("vaekit report runs/digits -o report.html", writes=(".html",))
def report(
    run: Run,
    data: Data,
    output: Output,
    num_samples: NumSamples = 100,
    seed: Seed = 0,
    transform_draws: TransformDraws = 1,
    transform_seed: TransformSeed = 0,
) -> None:
    """Write one self-contained HTML page: configuration, curves, numbers and pictures."""
    from vaekit import report as reports
    from vaekit.models.view import View
    from vaekit.runs.calibration import nearest

    fitted = open_run(run)
    parts, about = fitted.parts(data.name, **data.options), fitted.describe()
    rows = parts.judged
    evaluation = fitted.evaluate(
        parts,
        num_samples=num_samples,
        max_rows=reports.MAX_ROWS,
        seed=seed,
        progress=True,
        transform_draws=transform_draws,
        transform_seed=transform_seed,
    )
    page = reports.build(
        fitted.model,
        title=f"{as_text(run.resolve().name)}: {parts.name}",
        config={key: about[key] for key in ("settings", "data", "engine") if key in about},
        records=fitted.records,
        x=View.of(fitted.model, rows).under(transform_seed),
        labels=rows.labels,
        evaluation=evaluation,
        generator=generator(seed),
        columns=rows.columns,
        value_range=rows.value_range,
        learned=_learned(parts.train),
        keys=rows.row_keys.tolist(),
        schema=rows.schema,
        classes=_classes(fitted, parts.train),
        calibration=nearest(known, num_samples) if (known := fitted.calibrations) else None,
    )
    reports.write(output, page)
    print(f"wrote {as_text(output)}", file=sys.stderr)


def _classes(run: "FittedRun", trained: "Dataset | None") -> "Classes | None":
    """The classes of a run that has some."""
    from vaekit.report.classes import Classes

    schema = run.data.context_schema
    if schema is None or len(schema.modelled) != 1 or not schema.modelled[0].levels:
        return None
    contexts = None if trained is None else trained.contexts
    learned = None if contexts is None else contexts[:_MOST_LEARNED, 0]
    return Classes([str(level) for level in schema.modelled[0].levels], run.temperature, learned)


def _learned(rows: "Dataset | None") -> "np.ndarray | None":
    """Rows that simple tools learn from: a few thousand of those that were trained on."""
    return None if rows is None else rows[:_MOST_LEARNED].astype("float64")
