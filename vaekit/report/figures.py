"""The pictures of a report, each with what a reader who cannot see it should know."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from vaekit import plots
from vaekit.errors import DataError
from vaekit.evaluation.results import Results
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import access, drawers
from vaekit.report.numbers import kl_per_dimension
from vaekit.traits import Data


@dataclass(frozen=True)
class Picture:
    """A picture as a page holds it: a `data:` address, its alternative text, and a caption."""

    uri: str
    alt: str
    caption: str
    width: int


def picture(figure: Figure, alt: str, caption: str) -> Picture:
    """A figure as PNG within the page."""
    content = plots.to_bytes(figure, "png")
    width = int.from_bytes(content[16:20], "big")  # of the header chunk
    return Picture("data:image/png;base64," + base64.b64encode(content).decode(), alt, caption, round(width * 2 / 3))


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
        self.look = drawers.drawer(view.event_shape, **options)
        self.options = {**options, "value_range": self.look.limits(view, self.x)}

    def losses(self, records: list[dict[str, float]]) -> list[Picture]:
        """Curves of training; none where nothing was recorded."""
        try:
            drawn = plots.losses(records)
        except DataError:
            return []
        caption = f"{len(records):,} epochs. The higher the bound, the better; at the dotted line it was best."
        return [picture(drawn, "Line charts of the bound on log p(x), of its terms, per epoch.", caption)]

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
        return [picture(plots.divergence(values), alt, "Mean over the data, the largest first.")], sentence

    def reconstructions(self) -> list[Picture]:
        """Originals and reconstructions."""
        figure = plots.reconstructions(self.model, self.x, **self.options)
        caption = "E[x'|z] at z = E[z|x]: what survives the way through the latent space."
        return [picture(figure, self.look.about_reconstructions, caption)]

    def samples(self) -> list[Picture]:
        """Draws, and means."""
        made = []
        captions = (
            "Draws of x: z from the prior, then x from p(x|z).",
            "E[x|z] for draws of z: without the noise of p(x|z), and so smoother than data.",
        )
        for mean, caption in zip((False, True), captions, strict=True):
            generator = torch.Generator().manual_seed(self.seed)
            figure = plots.samples(self.model, 64, mean, generator, x=self.x, **self.options)
            alt = f"{self.look.about_samples}: {'means' if mean else 'draws'} of the model."
            made.append(picture(figure, alt, caption))
        return made

    def latent(self) -> list[Picture]:
        """The codes."""
        coloured = "" if self.labels is None else ", coloured by label"
        figure = plots.latent(self.model, self.x, self.labels)
        caption = f"One point per row of the data{coloured}. The model was not given any label."
        return [picture(figure, f"Scatter plot of the codes of {len(self.x):,} points{coloured}.", caption)]

    def walk(self) -> list[Picture]:
        """The manifold in two dimensions, a traversal in others; none where z does not fill R^D."""
        if access.confined(self.view) is not None:
            return []
        if access.num_latents(self.view) == 2:
            figure = plots.manifold(self.model, **self.options)
            caption = "z runs over the plane in steps of equal prior probability: z1 to the right, z2 upwards."
            return [picture(figure, "The decoder's means over a grid of the latent plane.", caption)]
        figure = plots.traversal(self.model, self.x, **self.options)
        caption = (
            "One latent at a time from −3 to 3, the one whose code varies most first; the others stay at their mean."
        )
        return [picture(figure, "The decoder's means while one latent changes.", caption)]

    def interpolation(self) -> list[Picture]:
        """Lines between pairs of rows, of different labels where labels are known."""
        start, end = self._pairs(self.look.num_pairs)
        figure = plots.interpolation(self.model, self.x[start], self.x[end], **self.options)
        caption = "The straight line in z between the codes of two rows, decoded."
        return [picture(figure, "The decoder's means between two codes.", caption)]

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
