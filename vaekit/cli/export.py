"""The command that takes a fitted model to where there is no torch."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from vaekit.cli.app import Run, command, open_run
from vaekit.paths import as_text


@command("vaekit export runs/digits -o exported")
def export(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export in DIR.")] = False,
) -> None:
    """Write ONNX graphs, torch.export programs and runner.py, which needs numpy and onnxruntime alone.

    (encoder, decoder, score, sample; of tables impute; each held against torch)
    """
    from vaekit.export import export as write

    found = write(open_run(run), output, overwrite=overwrite)
    for name, reason in found.left_out.items():
        print(f"vaekit: left out {name}: {as_text(reason)}", file=sys.stderr)
    made = ", ".join(name for name in found.graphs if name not in found.left_out)
    print(f"wrote {as_text(output)}: {made}, runner.py", file=sys.stderr)
