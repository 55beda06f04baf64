"""vaekit plot."""

import sys
from typing import Annotated, Literal

import typer

from vaekit.cli.common import Data, DataDir, Label, Output, Run, Seed, check_output, generator, open_run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit plot runs/digits latent digits:train -o latent.png")(plot)


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
    data: Data = None,
    output: Output = ...,  # type: ignore[assignment]
    seed: Seed = 0,
    label: Label = None,
    data_dir: DataDir = None,
) -> None:
    """Draw a picture of a fitted model (.png, .svg, .pdf)."""
    from vaekit import plots
    from vaekit.errors import ConfigError
    from vaekit.plots.kinds import draw
    from vaekit.saving import spec

    check_output(output, (".png", ".svg", ".pdf"))
    kind = kind.lower()
    if kind not in plots.KINDS:
        raise ConfigError(f"there is no picture {kind!r}. {spec.nearest(kind, plots.KINDS)}")
    fitted = open_run(run)
    part: Literal["train", "test"] = "train" if kind == "latent" else "test"
    rows = None if kind == "losses" else fitted.rows(data, part, data_dir=data_dir, label=label)
    figure = draw(kind, fitted.model, data=rows, records=fitted.records, generator=generator(seed))
    plots.save(figure, output)
    print(f"wrote {output}", file=sys.stderr)
