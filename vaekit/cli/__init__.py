"""The command line. One file per command; each body calls one function of the library, which it imports then."""

import sys
import warnings
from typing import Any

import typer

from vaekit.cli import cite, compare, encode, evaluate, fit, info, list_, plot, reconstruct, report, sample, score
from vaekit.errors import ConfigError, VaekitError

app = typer.Typer(
    name="vaekit",
    help="Fit variational autoencoders: densities, samples, scores and pictures from one fit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    epilog="Example: vaekit fit digits -o runs/digits, then vaekit report runs/digits -o report.html. "
    "Every command takes --debug to show tracebacks.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


for _command in (fit, evaluate, compare, score, sample, reconstruct, encode, plot, report, info, cite, list_):
    _command.register(app)


def _fail(message: str, code: int) -> int:
    text = " ".join(str(message).split())
    print(f"vaekit: {text}", file=sys.stderr)
    return code


def _show_warning(message: Any, category: Any, *place: Any, **options: Any) -> None:
    print(f"vaekit: warning: {' '.join(str(message).split())}", file=sys.stderr)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0, 1 for failure, 2 for misuse, 130 and 143 for signals."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return int(app(arguments, standalone_mode=False, prog_name="vaekit") or 0)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]  # the reader went away; nothing is left to flush
        return 0
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    if isinstance(error, VaekitError):
        return _fail(str(error), 2 if isinstance(error, ConfigError) else 1)
    if hasattr(error, "format_message"):  # the command line could not be parsed
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "vaekit"
        return _fail(f"{error.format_message()} See {command} --help.", getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":
        return _fail("interrupted", 130)
    if isinstance(error, OSError):
        return _fail(str(error), 1)
    return _fail(f"unexpected {type(error).__name__}: {error}. Run again with --debug to see where.", 1)


def main() -> None:
    """Entry point of the program `vaekit`."""
    sys.exit(run(sys.argv[1:]))
