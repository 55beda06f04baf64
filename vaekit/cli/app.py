"""The program: how a function becomes a command, the options that commands share, and what an error looks like."""

import atexit
import inspect
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol, TypeVar, runtime_checkable

import typer

from vaekit.cli.memory import keep_freed_memory
from vaekit.cli.output import check_output, escape_what_streams_lack, go_on_unheard, open_closed_streams
from vaekit.cli.reading import READS, as_read
from vaekit.errors import ConfigError, GroupError, ReadingWarning, VaekitError
from vaekit.outcome import is_settled, settled
from vaekit.paths import as_text

if TYPE_CHECKING:
    import torch

    from vaekit.data import Dataset
    from vaekit.data.sources import Part
    from vaekit.runs import Run as FittedRun

open_closed_streams()

app = typer.Typer(
    name="vaekit",
    help="Fit variational autoencoders: densities, samples, scores and pictures from one fit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown" if sys.stdout.isatty() else None,
    epilog="Example: vaekit fit digits -o runs/digits, then vaekit report runs/digits -o report.html. "
    "Every command takes --debug to show tracebacks.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# --- What commands share ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The rows that a command is asked about: the argument DATA with the options that say how they are read.

    Attributes:
        name: NAME, NAME:train, NAME:test or a path; None is what the run was fitted to.
        options: keywords of `Run.rows`.
        is_stdin: whether the rows came from stdin, which has one reader.
    """

    name: str | None
    options: Mapping[str, Any]
    is_stdin: bool = False

    def of(self, run: "FittedRun", part: "Part" = "test") -> "Dataset":
        """The rows, read and checked as the training data of `run` were; `part` is that of a set without one."""
        return run.rows(self.name, part, **self.options)


Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a fitted model.", show_default=False)]
Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="File to write; its suffix picks the format; - is CSV on stdout."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Source of all noise.")]
TransformSeed = Annotated[
    int,
    typer.Option(
        "--transform-seed", min=0, help="Which bits, or dequantisation noise, each row gets, whatever --seed."
    ),
]
TransformDraws = Annotated[
    int,
    typer.Option(
        "--transform-draws", min=1, help="Draws of bits or dequantisation noise per row, T; errors then hold it."
    ),
]
NumSamples = Annotated[int, typer.Option("--num-samples", min=1, help="Draws of z per row, K.")]
NumDraws = Annotated[
    int | None,
    typer.Option(
        "--num-samples",
        min=1,
        help="Draws of z per row, K; default: 100 up to 100,000 rows, and 10 beyond.",
        show_default=False,
    ),
]
STDIN = "-"  # as data
_DATA = typer.Argument(
    metavar="[DATA]",
    help="NAME, NAME:train, NAME:test, a path, or - for CSV on stdin; default: what RUN was fitted to.",
    show_default=False,
)
Data = Annotated[Source, _DATA]
Reads = Annotated[Mapping[str, Any], READS]  # the options alone, as keywords of `Run.rows`


def open_run(folder: Path) -> "FittedRun":
    """The run in a folder."""
    from vaekit import runs

    return runs.open(folder)


def generator(seed: int) -> "torch.Generator":
    """A generator for the library's `generator=` arguments."""
    import torch

    return torch.Generator().manual_seed(seed)


_called_with: ContextVar[list[str]] = ContextVar("_called_with")


def arguments() -> list[str]:
    """The words after `vaekit` that the running command was called with."""
    return _called_with.get()


# --- Commands --------------------------------------------------------------------------------------------------------

_Command = TypeVar("_Command", bound=Callable[..., None])


def command(
    example: str, *, name: str | None = None, writes: Sequence[str] = (), by_part: bool = False
) -> Callable[[_Command], _Command]:
    """Make a function a command: its signature is the arguments and options, its docstring the help.

    Args:
        example: how the command is called, the last line of its help.
        name: its name; None takes that of the function.
        writes: suffixes that the option `output` may have, checked before the work starts.
        by_part: whether `output` may be a folder, for answers to a table in parts.
    """

    def register(function: _Command) -> _Command:
        app.command(name, epilog=f"Example: {example}")(_spelled_out(function, writes, by_part))
        return function

    return register


def _spelled_out(function: Callable[..., None], writes: Sequence[str], by_part: bool) -> Callable[..., None]:
    """The function as typer reads it: how data are read is asked for behind all other options but --json."""
    parameters: list[inspect.Parameter] = []
    reads: dict[str, bool] = {}  # parameters about data, and whether they name the data too
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation in (Data, Reads):
            reads[parameter.name] = parameter.annotation is Data
            if parameter.annotation is Reads:
                continue
            parameter = _optional(parameter.name, Annotated[str | None, _DATA])
        parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    behind = [_optional(*option) for option in READS.items()] if reads else []
    place = len(parameters) - any(parameter.annotation is Json for parameter in parameters[-1:])
    parameters[place:place] = behind

    @wraps(function)
    def called(**given: Any) -> None:
        if writes and given.get("output") is not None:
            check_output(given["output"], tuple(writes), by_part)
        options = as_read({name: given.pop(name) for name in READS}) if reads else {}
        with ExitStack() as files:
            for name, has_data in reads.items():
                if has_data:
                    source = from_stdin(files) if given[name] == STDIN else given[name]
                    given[name] = Source(source, options, given[name] == STDIN)
                else:
                    given[name] = options
            function(**given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def from_stdin(files: ExitStack) -> str:
    """A file with the CSV that stdin holds, which goes with `files`: data are read more than once."""
    folder = files.enter_context(TemporaryDirectory())
    path = Path(folder) / "stdin.csv"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    files.enter_context(_named(str(path), "stdin"))
    return str(path)


@contextmanager
def _named(path: str, name: str) -> Iterator[None]:
    """Let errors and warnings call a file by another name."""
    show = warnings.showwarning

    def show_named(message: Any, *place: Any, **options: Any) -> None:
        show(str(message).replace(path, name), *place, **options)

    warnings.showwarning = show_named
    try:
        yield
    except VaekitError as error:
        error.args = (str(error).replace(path, name), *error.args[1:])
        raise
    finally:
        warnings.showwarning = show


def _optional(name: str, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _version(show: bool) -> None:
    if show:
        from vaekit import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the command."""


# --- Running them ----------------------------------------------------------------------------------------------------


_INTERRUPTED = 130  # what typer returns, without a word


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0, 1 for failure, 2 for misuse, 130 and 143 for signals."""
    debug = "--debug" in arguments
    _called_with.set(arguments)
    arguments = _with_flags([argument for argument in arguments if argument != "--debug"])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", ReadingWarning)  # how each file was read is said, whoever hears it
            code = int(app(arguments, standalone_mode=False, prog_name="vaekit") or 0)
            return _fail("interrupted", code) if code == _INTERRUPTED else code
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # as click has it
            return _unread()
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def _unread() -> int:
    """The reader of stdout went away, having read what it wanted: nothing is left to flush."""
    sys.stdout = None
    return 0


def _with_flags(arguments: list[str]) -> list[str]:
    """`vaekit score ... --columns` without names of columns, which asks for their shares, as the option --shares."""
    if arguments[:1] != ["score"]:
        return arguments
    behind = [*arguments[1:], "-"]
    is_flag = [
        word == "--columns" and (after.startswith("-") or Path(after).exists())
        for word, after in zip(arguments, behind, strict=True)
    ]
    return ["--shares" if flag else word for word, flag in zip(arguments, is_flag, strict=True)]


def main() -> None:
    """The program `vaekit` as a function, which ends by `SystemExit`."""
    keep_freed_memory()
    escape_what_streams_lack()
    sys.exit(0 if is_settled() else run(sys.argv[1:]))


def program() -> None:
    """Entry point of the program `vaekit`, which has its process to itself."""
    go_on_unheard()
    try:
        main()
    except SystemExit as error:
        _end(error.code if isinstance(error.code, int) else 1)


def _end(code: int) -> NoReturn:
    """End the process after all that Python does at an exit, but before the destructors of libraries.

    Some abort the process where a thread of theirs still runs, such as one that reads a file ahead.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader went away
            if stream is not None:
                stream.flush()
    os._exit(code)


def _show_warning(message: object, category: object, *place: object, **options: object) -> None:
    if not _speaks():
        return
    print(f"vaekit: warning: {' '.join(as_text(str(message)).split())}", file=sys.stderr)


def _speaks() -> bool:
    """Whether this is the process of a group that speaks, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@runtime_checkable
class _Unparsed(Protocol):
    """What the parser of the command line raises."""

    exit_code: int

    def format_message(self) -> str:
        """What is wrong, in words."""
        ...


def _explain(error: Exception) -> int:
    if isinstance(error, VaekitError):
        is_final = not isinstance(error, GroupError)
        if not _speaks() and isinstance(error, ConfigError | GroupError):  # process 0 says the same, or why
            return settled(2 if is_final else 1, is_final)
        return settled(_fail(str(error), 2 if isinstance(error, ConfigError) else 1), is_final)
    if isinstance(error, _Unparsed):
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "vaekit"
        return _fail(f"{error.format_message()} See {command} --help.", error.exit_code)
    if type(error).__name__ == "Abort":
        return _fail("interrupted", _INTERRUPTED)
    if isinstance(error, OSError):
        is_of_file = error.filename is not None and error.strerror
        return _fail(f"cannot use {error.filename}: {error.strerror}" if is_of_file else str(error), 1)
    return _fail(f"unexpected {type(error).__name__}: {error}. Run again with --debug to see where.", 1)


def _fail(message: str, code: int) -> int:
    text = " ".join(as_text(message).split())
    print(f"vaekit: {text}", file=sys.stderr)
    return code
