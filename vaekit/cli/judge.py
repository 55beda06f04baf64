"""Commands that judge fitted models: one by its bounds and its health, several on the same rows."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaekit.cli.app import (
    STDIN,
    Data,
    Json,
    NumDraws,
    NumSamples,
    Reads,
    Run,
    Seed,
    Source,
    TransformDraws,
    TransformSeed,
    command,
    from_stdin,
    generator,
    open_run,
)
from vaekit.cli.output import (
    print_json,
    print_table,
    report_missing,
    report_trained,
    say_notes,
    write_numbers,
    write_table,
)
from vaekit.cli.parts import Engine, answer_by_part
from vaekit.cli.together import Processes, others_run, reading, speaks
from vaekit.errors import ConfigError
from vaekit.paths import as_text

if TYPE_CHECKING:
    from vaekit.evaluation.results import Results
    from vaekit.runs import Run as FittedRun
    from vaekit.runs import Table

_QUICK_ROWS = 2000


@command("vaekit evaluate runs/digits digits:test --num-samples 500", writes=(".json", ".csv"), by_part=True)
def evaluate(
    run: Run,
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the numbers too: .json, .csv, or of parts a folder."
        ),
    ] = None,
    num_samples: NumSamples = 100,
    quick: Annotated[bool, typer.Option("--quick", help=f"Look at no more than {_QUICK_ROWS:,} rows.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Add the trend over K, AIS, HMC and two-sample checks (minutes on images).")
    ] = False,
    seed: Seed = 0,
    transform_draws: TransformDraws = 1,
    transform_seed: TransformSeed = 0,
    engine: Engine = "local",
    workers: Processes = None,
    json_: Json = False,
) -> None:
    """Print bounds on log p(x) and the health of the model, with standard errors, in nats per row, and a verdict."""
    if others_run(workers, engine, data):
        return
    fitted = open_run(run)
    if output is not None or engine == "ray":
        how = {"num_samples": num_samples, "seed": seed, "transform_draws": transform_draws}
        how["transform_seed"] = transform_seed
        if _evaluate_by_part(fitted, data, output, how, full or quick, engine, workers, json_):
            return
    with reading():
        parts = fitted.parts(data.name, **data.options)
    results = fitted.evaluate(
        parts,
        num_samples=num_samples,
        full=full,
        max_rows=_QUICK_ROWS if quick else None,
        seed=seed,
        progress=speaks(),
        transform_draws=transform_draws,
        transform_seed=transform_seed,
    )
    rows = results.to_dicts()
    document = {"run": as_text(run), "data": parts.name, "results": rows}
    if speaks():
        if output is not None:
            write_numbers(output, document, list(rows[0]), [list(row.values()) for row in rows])
        _print_results(results, parts.name, document if json_ else None)
    lost, judged = results.leading("without_number"), results.leading("num_points")
    if lost is not None and judged is not None and lost.value == judged.value:
        # `score` searches for z where the encoder fails: it has the last word.
        scores = fitted.score(parts.judged, num_samples=num_samples, seed=seed)
        if speaks():
            report_missing(scores)


def _evaluate_by_part(
    run: "FittedRun",
    data: Source,
    output: Path | None,
    how: dict[str, int],
    is_other: bool,
    engine: str,
    workers: int | None,
    json_: bool,
) -> bool:
    """Write the bounds of each row of a table in parts, and print their means; says whether a folder was asked for."""
    from vaekit.runs.asking import Question
    from vaekit.runs.pooled import diagnosed, pooled

    if output is None:
        raise ConfigError("--engine ray writes the bounds of each row, part by part: name a folder with -o")
    found = answer_by_part(output, data, run, Question("bounds", how, progress=speaks()), engine, workers)
    if found is None:
        return False
    if is_other:
        raise ConfigError("--full and --quick are for rows in memory; leave them out of an evaluation part by part")
    first = run.rows(found.parts[0], **data.options)
    health = diagnosed(run, first, how["seed"])
    if not speaks():
        return True
    results = pooled(run, found.answers, how["num_samples"])
    results = replace(results, rows=(*results.rows, *health))
    rows = results.to_dicts()
    document = {"run": as_text(run.folder or ""), "data": as_text(data.name or ""), "results": rows}
    write_numbers(output / "_results.json", document, list(rows[0]), [list(row.values()) for row in rows])
    _print_results(results, as_text(data.name or ""), document if json_ else None)
    return True


def _print_results(results: "Results", name: str, document: Mapping[str, object] | None) -> None:
    """Everything that was found, as a table and sentences, or as the JSON of a document."""
    from vaekit.evaluation.results import title, with_article, written

    if document is not None:
        print_json(document)
        return
    cells = [(r.label, *(written(r, n) for n in (r.value, r.stderr, r.sampling_stderr))) for r in results.table]
    print_table(cells, ("nats per row", "mean", "Monte Carlo error", "error over rows"))
    if results.transform_noise is not None:
        print(f"{results.transform_noise}.")
    for row in results.reasons:
        print(f"not done: {row.name}: {row.reason}")
    for finding in results.findings:
        print(f"{title(finding)}: {finding.label}")
    print(f"{results.judged} of {name}; log p is {with_article(results.quantity)}.")


@command("vaekit detect runs/people new.csv -o flags.csv --rate 0.01 --top 10", writes=(".csv", ".parquet"))
def detect(
    run: Run,
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write a line for each row: .csv, .parquet; - is stdout."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Share of rows like those of the fit that may be flagged; default .05."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=0, metavar="N", help="Print the N oddest rows.")] = 0,
    num_samples: NumDraws = None,
    seed: Seed = 0,
    transform_seed: TransformSeed = 0,
) -> None:
    """Flag rows unlike those of the fit: key, log_p, p_value, outlier (True or False), and the cells that are odd."""
    if output is None and not top:
        raise ConfigError("say where the flags go (-o FILE, or -o - for stdout), or how many rows to print (--top N)")
    fitted = open_run(run)
    rows = fitted.rows(data.name, lenient=True, **data.options)
    noise = {"seed": seed, "transform_seed": transform_seed}
    flags = fitted.detect(rows, rate=rate, num_samples=num_samples, progress=True, **noise)
    if output is not None:
        write_table(output, flags, fitted)
    else:
        say_notes(flags)
    report_trained(fitted, rows)
    report_missing(flags)
    if top:
        _print_oddest(flags, top)


def _print_oddest(flags: "Table", num: int) -> None:
    """The rows of least p-value, with the reasons of those that are outliers."""
    import numpy as np

    columns = flags.to_dict()
    log_p = np.nan_to_num(columns["log_p"], nan=-np.inf)
    oddest = np.lexsort((log_p, columns["p_value"]))[:num]
    cells = [
        (str(columns[flags.key or "row"][i]), f"{log_p[i]:.4g}", f"{columns['p_value'][i]:.3g}", columns["reason"][i])
        for i in oddest
    ]
    print_table(cells, (flags.key or "row", "log_p", "p_value", "reason"))


Arguments = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN ... [DATA]",
        help="Folders of fitted models, then NAME, NAME:train, NAME:test, a path, or - for CSV on stdin; default: what "
        "the first was fitted to.",
        show_default=False,
    ),
]


@command("vaekit compare runs/vae runs/iwae digits:test --num-samples 1000")
def compare(
    arguments: Arguments,
    num_samples: NumSamples = 1000,
    seed: Seed = 0,
    transform_draws: TransformDraws = 1,
    transform_seed: TransformSeed = 0,
    *,
    reads: Reads,
    json_: Json = False,
) -> None:
    """Print which run has the higher log p(x) on the same rows: paired differences with standard errors, in nats."""
    from vaekit import evaluation, runs
    from vaekit.data.cells import naming_cells

    folders, source = _split(arguments)
    if len(folders) < 2:
        raise ConfigError(f"compare takes at least two runs; got {len(folders)}")
    names = [as_text(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise ConfigError(f"a run is named twice: {', '.join(names)}")
    fitted = [open_run(folder) for folder in folders]
    models = {name: run.model for name, run in zip(names, fitted, strict=True)}
    with ExitStack() as files:
        source = from_stdin(files) if source == STDIN else source
        everything = fitted[0].rows(source, "test", **reads)
    dataset, part = runs.held_out_by_all(fitted, everything)
    with naming_cells(dataset):
        found = evaluation.compare(
            models,
            dataset,
            num_samples=num_samples,
            generator=generator(seed),
            progress=True,
            transform_draws=transform_draws,
            transform_seed=transform_seed,
        )
    if json_:
        about = {"data": dataset.name, "rows": f"{len(dataset)} {part}", "num_samples": num_samples}
        print_json(about | found.summary())
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
    from vaekit.evaluation.results import in_words, with_article

    first = next(iter(found.estimates.values()))
    judged = in_words(len(dataset), part)
    print(f"{judged} of {dataset.name}, K = {num_samples}; log p is {with_article(first.quantity)}.")
    for words in dict.fromkeys(e.transform_noise for e in found.estimates.values() if e.transform_noise is not None):
        print(f"{words}.")


def _split(arguments: list[str]) -> tuple[list[Path], str | None]:
    """Runs, and the data: the last argument where that is no run."""
    from vaekit import runs

    *first, last = arguments
    return ([Path(a) for a in arguments], None) if runs.is_run(last) else ([Path(a) for a in first], last)
