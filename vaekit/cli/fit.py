"""vaekit fit."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vaekit.cli.app import STDIN, Json, Reads, arguments, command, from_stdin
from vaekit.cli.output import STDOUT, print_json
from vaekit.errors import ConfigError
from vaekit.paths import as_text


def pairs_of(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE words as a dictionary."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"expected KEY=VALUE, got {pair!r}; for example latent_dim=8")
        values[key.replace("-", "_")] = value
    return values


def _file(path: Path | None) -> dict[str, Any]:
    """Settings from a JSON or TOML file; the `settings.json` of a run is one."""
    if path is None:
        return {}
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; expected keys and values")
    if "format_version" in values:
        raise ConfigError(f"{path} describes the weights of a run; its settings are in the settings.json beside it")
    own = values.get("settings")
    return own if isinstance(own, dict) and set(values) == {"settings", "data"} else values


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _sides(size: str) -> int | tuple[int, int]:
    """A side, or a height and a width, of images."""
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise ConfigError(f"--size takes a side, as 64, or height x width, as 48x64; got {size!r}")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _launch(workers: int, data: str) -> None:
    """Let several processes run the command that this one was asked for."""
    from vaekit.distributed import launch

    if data == STDIN:
        raise ConfigError("stdin has one reader; with --workers, name a file of data")
    code = launch(arguments(), workers)
    if code:
        raise typer.Exit(code)


@command("vaekit fit mnist -o runs/mnist latent_dim=40 max_epochs=50")
def fit(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="NAME (training part), a path, or - for CSV on stdin.", show_default=False),
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings; `vaekit list` shows all keys.", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="Folder to write.")] = ...,  # type: ignore[assignment]
    preset: Annotated[str | None, typer.Option(help="Named model; `vaekit list` shows them.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON or TOML file of settings; KEY=VALUE wins.")] = None,
    valid: Annotated[str | None, typer.Option(help="Validation data; default: a fixed tenth of DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in RUN.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Source of all noise; default 0.")] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="SIDE|HEIGHTxWIDTH", help="Size in pixels that the images of a folder get: 64, or 48x64."),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the columns of a table are, as `vaekit schema` writes it."),
    ] = None,
    model_holes: Annotated[
        bool,
        typer.Option(
            "--model-holes", help="Model which cells of a table are empty, too: patterns of holes are then odd or not."
        ),
    ] = False,
    self_masking: Annotated[
        bool,
        typer.Option(
            "--self-masking", help="Model that a cell of a table may be empty because of what it holds: p(mask | x)."
        ),
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Go on from a fitted model: its settings and weights, new rows."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that train as one; default: 1.")
    ] = None,
    on: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Where these are: on this machine, or on a Ray cluster."),
    ] = "local",
    *,
    reads: Reads,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json_: Json = False,
) -> None:
    """Fit a model to data and save it as a folder."""
    words = {"preset": preset, "seed": seed}
    given = _file(config) | pairs_of(pairs or []) | {key: v for key, v in words.items() if v is not None}
    from vaekit import engine, runs

    on_ray = on == "ray"
    if (workers or 1) > 1 and not on_ray and not engine.is_launched():
        _launch(workers or 1, data)
        return
    if output == STDOUT:
        raise ConfigError("fit writes a folder, and - is stdout; name the folder: -o RUN")
    if valid == STDIN:
        raise ConfigError("stdin is for DATA; name a file of validation data")
    sides = None if size is None else _sides(size)
    columns = None
    if schema is not None:
        from vaekit.data.schema import Schema

        columns = Schema.load(schema)
    if on_ray and STDIN in (data, valid):
        raise ConfigError("stdin has one reader; with --engine ray, name a file of data")
    options: dict[str, Any] = {"valid": valid, "overwrite": overwrite, "resume": resume, "size": sides, **reads}
    options |= {"schema": columns, "progress": not quiet}
    options |= {"model_holes": "self" if self_masking else model_holes, "start": from_, "called": data}
    with ExitStack() as files:
        source = from_stdin(files) if data == STDIN else data
        if on_ray:
            from vaekit.distributed import fit_on_ray

            fit_on_ray(source, output, given, workers=workers or 1, **options)
            was_finished = False
        else:
            announce = (lambda line: _say(line.replace(source, "stdin"))) if data == STDIN else _say
            was_finished = runs.fit(source, output, given, **options, announce=announce) is None
    if engine.world.rank():
        return
    told = as_text(output)
    if was_finished:
        print(f"{told} is finished already; nothing to do", file=sys.stderr)
    result = runs.outcome(output)
    if json_:
        print_json(result)
    else:
        from vaekit.evaluation.results import with_article

        kept = result["kept"]
        which = f"best epoch {result['best_epoch']}" if kept == result["best"] else "weights of the last one"
        bounds = ", ".join(f"{key} {value:.2f}" for key, value in kept.items() if key.startswith("valid_"))
        quantity = result["quantity"]  # runs of older versions did not note it
        about = "nats" if quantity is None else f"nats; log p is {with_article(quantity)}"
        several = f" (the first of {len(result['best_epochs'])} models)" if "best_epochs" in result else ""
        print(f"{told}{several}: {result['epochs']} epochs, {which}: {bounds} ({about})")
