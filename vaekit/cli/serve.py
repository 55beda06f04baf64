"""The command that answers questions over HTTP."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaekit.cli.app import command


@command("vaekit serve runs/people runs/digits --port 8000")
def serve(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of fitted models.", show_default=False)],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Holds what requests have to bring; or set VAEKIT_TOKEN."),
    ] = None,
    max_rows: Annotated[int, typer.Option("--max-rows", min=1, help="Rows of one request.")] = 10_000,
    max_mib: Annotated[int, typer.Option("--max-mib", min=1, help="MiB of the body of one request.")] = 16,
    waiting: Annotated[
        int, typer.Option("--waiting", min=1, help="Requests that wait for a model; further ones get 429.")
    ] = 128,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds until an answer, or 504.")] = 60.0,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Of a model; default: its share of the cores.", show_default=False),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="Least level that is logged.")
    ] = "info",
) -> None:
    """Answer questions to fitted models over HTTP: score, sample, encode, reconstruct, impute, classify.

    (TERM ends the service when all that it took is answered; HUP reads the weights anew.)
    """
    from vaekit.serve import Limits, require_packages

    require_packages()
    from vaekit.serve.lifetime import serve as serve_runs
    from vaekit.serve.lifetime import token_of

    token = token_of(token_file)
    limits = Limits(
        body=max_mib * 2**20,
        rows=max_rows,
        waiting=waiting,
        waiting_bytes=max(4 * max_mib * 2**20, 64 * 2**20),
        seconds=timeout,
        grace=timeout,
    )
    serve_runs(run, host=host, port=port, token=token, limits=limits, threads=threads, log_level=log_level)
