"""The pictures of a report, each with what a reader who cannot see it should know."""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from vaekit import plots
from vaekit.errors import DataError
from vaekit.evaluation.results import Results
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import access, drawers, style
from vaekit.report.numbers import kl_per_dimension
from vaekit.traits import Data

_NARROW = 3.3  # inches: what a telephone shows, with the margins of the page around it
_PIXELS = 100  # of CSS per inch of a figure
_LIGHT_LINES = ("#7db4e6", "#ff9d57", "#7cc98f", "#cf8ad4", "#d9b04a", "#4fc3cf", "#f06c9b", "#9fb0c0", "#c39b77")
_DARK = {
    "#ffffff": "#1d2126",  # the page's cards
    style.INK: "#e7eaee",
    "#57606a": "#a3abb5",
    "#b4b9c1": "#5a626c",
    "#e6e8eb": "#343a42",
    "#c9ced6": "#4a525c",
    **dict(zip(style.LINES, _LIGHT_LINES, strict=True)),
}
"""A colour of the figures on white paper to the one of the same meaning on the dark page."""


@dataclass(frozen=True)
class Picture:
    """A picture as a page holds it, in two layouts that follow the page's colours.

    Attributes:
        uri: `data:` address of the wide layout.
        narrow: `data:` address of the layout for narrow pages.
        alt: text for who cannot see it.
        caption: text below it.
        width: of the wide layout in pixels of CSS.
        narrow_width: of the other.
    """

    uri: str
    narrow: str
    alt: str
    caption: str
    width: int
    narrow_width: int


def picture(draw: Callable[[float | None], Figure], alt: str, caption: str) -> Picture:
    """What a function draws for a width in inches, None for a wide page, as SVG within the page."""
    (uri, width), (narrow, narrow_width) = (_address(draw(page)) for page in (None, _NARROW))
    return Picture(uri, narrow, alt, caption, width, narrow_width)


def _address(figure: Figure) -> tuple[str, int]:
    """The `data:` address of a figure, and its width in pixels of CSS."""
    svg = plots.to_bytes(figure, "svg").decode()
    points = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    assert points is not None
    uri = "data:image/svg+xml;base64," + base64.b64encode(themed(svg).encode()).decode()
    return uri, round(float(points[1]) / 72 * _PIXELS)


def themed(svg: str) -> str:
    """A figure as SVG whose colours follow the reader's scheme, light or dark."""
    names = {light: f"--c{i}" for i, light in enumerate(_DARK)}
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{_DARK[colour]}" for colour, name in names.items())
    rule = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    svg = re.sub("|".join(names), lambda colour: f"var({names[colour[0]]})", svg)
    return re.sub(r"(<svg[^>]*>)", lambda start: start[1] + rule, svg, count=1)


class Gallery:
    """Draws the pictures of one model on one set of data.

    Args:
        view: the model, and the rows to look at.
        labels: their labels, or None.
        options: `columns` and `value_range`, as the functions of `vaekit.plots` take them.
        seed: of the samples.
    """

    def __init__(self, view: View, labels: Data, options: dict[str, Any], seed: int) -> None:
        self.view, self.model, self.x, self.labels, self.seed = view, view.model, as_tensor(view.rows), labels, seed
        self.seen: Any = self.x if view.context is None else view  # rows with contexts keep theirs
        self.look = drawers.drawer(view.event_shape, **options)
        self.options = {**options, "value_range": self.look.limits(view, self.x)}

    def losses(self, records: list[dict[str, float]]) -> list[Picture]:
        """Curves of training; none where nothing was recorded."""
        caption = f"{len(records):,} epochs. The higher the bound, the better; at the dotted line it was best."
        alt = "Line charts of the bound on log p(x), of its terms, per epoch."
        try:
            return [picture(lambda width: plots.losses(records, width=width), alt, caption)]
        except DataError:
            return []

    @staticmethod
    def divergence(results: Results) -> tuple[list[Picture], str]:
        """The bars of KL per dimension, as an evaluation found it, and a sentence."""
        values = kl_per_dimension(results)
        if not values:
            return [], (
                "KL per latent dimension is not shown: it is defined for posteriors and priors that factorise over the "
                "dimensions and have a closed form, and those of this model do not."
            )
        alt = f"Bars of the KL of {len(values)} latent dimensions, from {max(values):.2f} to {min(values):.2f} nats."
        above, units = sum(value > plots.ACTIVE for value in values), len(values)
        sentence = f"The KL of {above} of {units} latent dimensions is above {plots.ACTIVE} nats on average."
        if above < units:
            sentence += " The others are the prior whatever x is, and the decoder has learned to ignore them."
        active = {row.name: row.value for row in results}.get("diagnostics.active_units")
        if active is not None and active != above:
            sentence += (
                f" A unit counts as active by another rule, by which {active:.0f} are: where its mean varies over x "
                "with a variance above 0.01. A dimension whose q(z|x) is narrower than the prior, or elsewhere, in "
                "the same way for every x has a KL and is not active: it tells nothing about x."
            )
        bars = picture(
            lambda width: plots.divergence(values, width=width), alt, "Mean over the data, the largest first."
        )
        return [bars], sentence

    def reconstructions(self) -> list[Picture]:
        """Originals and reconstructions."""

        def draw(width: float | None) -> Figure:
            return plots.reconstructions(self.model, self.seen, **self.options, width=width)

        caption = "E[x'|z] at z = E[z|x]: what survives the way through the latent space."
        return [picture(draw, self.look.about_reconstructions, caption + self.look.about_pixels(self.view))]

    def samples(self) -> list[Picture]:
        """Draws, and means."""

        def draw(mean: bool, width: float | None) -> Figure:
            generator = torch.Generator().manual_seed(self.seed)
            return plots.samples(self.model, 64, mean, generator, x=self.seen, **self.options, width=width)

        made = []
        captions = (
            "Draws of x: z from the prior, then x from p(x|z).",
            "E[x|z] for draws of z: without the noise of p(x|z), and so smoother than data.",
        )
        for mean, caption in zip((False, True), captions, strict=True):
            alt = f"{self.look.about_samples}: {'means' if mean else 'draws'} of the model."
            made.append(picture(partial(draw, mean), alt, caption + self.look.about_pixels(self.view)))
        return made

    def latent(self) -> list[Picture]:
        """The codes."""
        coloured = "" if self.labels is None else ", coloured by label"
        alt = f"Scatter plot of the codes of {len(self.x):,} points{coloured}."
        given = "was not given any label" if self.view.context is None else "is given the label of each row"
        caption = f"One point per row of the data{coloured}. The model {given}."
        return [picture(lambda width: plots.latent(self.model, self.seen, self.labels, width=width), alt, caption)]

    def walk(self) -> list[Picture]:
        """The manifold in two dimensions, a traversal in others; none where z does not fill R^D."""
        if access.confined(self.view) is not None:
            return []
        if access.num_latents(self.view) == 2:
            caption = "z runs over the plane in steps of equal prior probability: z1 to the right, z2 upwards."
            alt = "The decoder's means over a grid of the latent plane."
            return [
                picture(
                    lambda width: plots.manifold(self.model, x=self.seen, **self.options, width=width), alt, caption
                )
            ]
        caption = (
            "One latent at a time from −3 to 3, the one whose code varies most first; the others stay at their mean."
        )
        alt = "The decoder's means while one latent changes."
        return [
            picture(lambda width: plots.traversal(self.model, self.seen, **self.options, width=width), alt, caption)
        ]

    def interpolation(self) -> list[Picture]:
        """Lines between pairs of rows, of different labels where labels are known."""
        start, end = self._pairs(self.look.num_pairs)

        def draw(width: float | None) -> Figure:
            ends = (self._some(start), self._some(end))
            return plots.interpolation(self.model, *ends, **self.options, width=width)

        caption = "The straight line in z between the codes of two rows, decoded."
        return [picture(draw, "The decoder's means between two codes.", caption)]

    def _some(self, rows: list[int]) -> Any:
        return self.x[rows] if self.view.context is None else self.view.take(torch.tensor(rows))

    def _pairs(self, num_pairs: int) -> tuple[list[int], list[int]]:
        half = len(self.x) // 2
        if half == 0:
            return [0], [0]
        start = list(range(min(num_pairs, half)))
        if self.labels is None:
            return start, [i + half for i in start]
        labels = np.asarray(self.labels)
        others = [np.flatnonzero(labels[half:] != labels[i]) for i in start]
        return start, [half + int(o[i % len(o)]) if len(o) else half + i for i, o in zip(start, others, strict=True)]

    def all(self, records: list[dict[str, float]]) -> dict[str, list[Picture]]:
        """Every section's pictures but those of the KL."""
        sections: dict[str, Callable[[], list[Picture]]] = {
            "reconstructions": self.reconstructions,
            "samples": self.samples,
            "latent": self.latent,
            "walk": self.walk,
            "interpolation": self.interpolation,
        }
        return {"losses": self.losses(records), **{name: draw() for name, draw in sections.items()}}
