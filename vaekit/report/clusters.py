"""What a page says of clusters: how large they are, and a few of their members."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure

from vaekit import evaluation, queries
from vaekit.plots import drawers
from vaekit.queries import Clusters
from vaekit.report.figures import Gallery, Picture, picture

_DRAWS = 20  # of z per row
_MOST = 30  # clusters on a page


@dataclass(frozen=True)
class Row:
    """A cluster.

    Attributes:
        number: from 0.
        size: rows whose most probable component it is.
        sureness: the mean of its p(c|x) over them, as text.
        label: the most frequent label among them with its share, or "".
    """

    number: int
    size: int
    sureness: str
    label: str


@dataclass(frozen=True)
class OfClusters:
    """The section.

    Attributes:
        rows: clusters that have rows.
        num_rows: how many rows were looked at.
        agreement: how well they agree with labels, a sentence; "" without labels.
        members: a picture, of images alone.
    """

    rows: list[Row]
    num_rows: int
    agreement: str
    members: list[Picture]


def of_clusters(gallery: Gallery, seed: int) -> OfClusters | None:
    """The section about the rows of a gallery; None where the prior has no components, or too many to be read.

    Args:
        gallery: the model, its rows and their labels.
        seed: of the draws of z.
    """
    view = gallery.view
    if view.context is not None or not 1 < queries.num_components(view.model) <= _MOST:
        return None
    found = queries.clusters(view.model, view, _DRAWS, generator=torch.Generator().manual_seed(seed))
    labels = None if gallery.labels is None else np.asarray(gallery.labels)
    used = found.sizes.nonzero().flatten().tolist()
    rows = [_row(found, c, labels) for c in used]
    agreement = ""
    if labels is not None:
        score = evaluation.cluster_agreement(labels, found.cluster)
        nmi, ari = score.details["nmi"], score.details["ari"]
        agreement = (
            f"With one label for each cluster the clusters are right in {score.value:.1%} of the rows (standard error "
            f"{score.stderr:.1%}); normalised mutual information {nmi:.3f}, adjusted Rand index {ari:.3f}."
        )
    return OfClusters(rows, len(view), agreement, _members(gallery, found, used))


def _row(found: Clusters, c: int, labels: np.ndarray | None) -> Row:
    members = (found.cluster == c).numpy()
    sureness = float(found.probabilities[members, c].mean())
    label = ""
    if labels is not None:
        value, count = Counter(labels[members].tolist()).most_common(1)[0]
        label = f"{value} ({count / members.sum():.0%})"
    return Row(c, int(members.sum()), f"{sureness:.3f}", label)


def _members(gallery: Gallery, found: Clusters, used: list[int]) -> list[Picture]:
    """The first rows of each cluster, where rows are pictures."""
    if not gallery.look.shows_groups:
        return []
    groups = [gallery.x[(found.cluster == c).to(gallery.x.device)] for c in used]

    def draw(page: float | None) -> Figure:
        look = drawers.drawer(gallery.view.event_shape, **gallery.options, width=page)
        return look.groups(gallery.view, groups, [str(c) for c in used])

    alt = f"A row of images for each of {len(used)} clusters: rows of the data that are in it."
    return [picture(draw, alt, f"The first rows of the data in each cluster.{gallery.look.about_pixels(gallery.view)}")]
