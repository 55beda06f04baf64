"""vaekit tune."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaekit.cli.app import STDIN, Json, Reads, Seed, command, from_stdin
from vaekit.cli.fit import pairs_of
from vaekit.cli.output import print_json, print_table
from vaekit.paths import as_text

if TYPE_CHECKING:
    from vaekit.tuning import Search

_SHOWN = 10


@command("vaekit tune people.csv -o runs/search latent_dim=2..16 learning_rate=1e-4..1e-2 'hidden=64,64|256,256'")
def tune(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="NAME (training part), a path, or - for CSV on stdin.", show_default=False),
    ],
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=RANGE...",
            help="2..32 is a number between two, a|b one of several values; all else is a setting that stays.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", help="Folder to write: the best run, a table, a picture."),
    ],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many fits there are in all.")] = 20,
    preset: Annotated[str | None, typer.Option(help="Named model; `vaekit list` shows them.")] = None,
    valid: Annotated[str | None, typer.Option(help="Validation data; default: a fixed tenth of DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in FOLDER.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the search in FOLDER.")] = False,
    seed: Seed = 0,
    *,
    reads: Reads,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each trial.")] = False,
    json_: Json = False,
) -> None:
    """Search settings: fit one choice after another, judge each by log p of held-out rows, and keep the best run."""
    from vaekit.tuning import tune

    given: dict[str, Any] = pairs_of(pairs) | ({} if preset is None else {"preset": preset})
    with ExitStack() as files:
        found = tune(
            from_stdin(files) if data == STDIN else data,
            output,
            given,
            trials=trials,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
            announce=(lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
            valid=valid,
            called=data,
            **reads,
        )
    best = found.best
    assert best is not None
    if json_:
        columns = found.columns()
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        print_json({"folder": as_text(output), "quantity": found.quantity, "best": best.number, "trials": rows})
        return
    _print_best(found)
    told = as_text(output)
    print(f"best: trial {best.number}, {told}/best (vaekit evaluate {told}/best); all trials: {told}/trials.csv, .png")


def _print_best(found: "Search") -> None:
    """The ten best trials."""
    from vaekit.evaluation.results import with_article
    from vaekit.tuning.trials import in_short

    done = sorted((t for t in found.trials if t.log_p is not None), key=lambda t: -(t.log_p or 0.0))
    cells = [
        (str(t.number), f"{t.log_p:.3f}", f"{t.sampling_stderr or 0:.3f}", *(in_short(v) for v in t.settings.values()))
        for t in done[:_SHOWN]
    ]
    print_table(cells, ("trial", "held-out log p", "error over rows", *found.searched))
    states = [trial.state for trial in found.trials]
    others = ", ".join(f"{states.count(state)} {state}" for state in ("stopped", "failed") if state in states)
    print(f"{len(done)} trials done{f', {others}' if others else ''}; log p is {with_article(found.quantity or '')}.")
