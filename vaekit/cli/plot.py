"""vaekit plot."""

import sys
from typing import Annotated

import typer

from vaekit.cli.common import Data, DataDir, Label, Output, Run, Seed, check_output, generator, load_data, load_run

_DEFAULT_PARTS = {"latent": "train"}


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
    from vaekit import plots, runs, spec
    from vaekit.errors import ConfigError
    from vaekit.plots.kinds import draw

    check_output(output, (".png", ".svg", ".pdf"))
    kind = kind.lower()
    if kind not in plots.KINDS:
        raise ConfigError(f"there is no picture {kind!r}. {spec.nearest(kind, plots.KINDS)}")
    model = load_run(run)
    dataset = None if kind == "losses" else load_data(run, data, _DEFAULT_PARTS.get(kind, "test"), data_dir, label)
    figure = draw(kind, model, data=dataset, records=runs.records(run), generator=generator(seed))
    plots.save(figure, output)
    print(f"wrote {output}", file=sys.stderr)
