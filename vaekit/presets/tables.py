"""The preset of tables: linear at heart, and started from a factor analysis of the rows where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.likelihoods import Columns, Ordinal
from vaekit.models import VAE
from vaekit.networks import MLP, ColumnsInput, FactorEncoder, LinearPlus
from vaekit.networks.columns import MOST_ONE_HOT
from vaekit.objectives import HideCells, Objective
from vaekit.posteriors import FullNormal
from vaekit.presets.parts import Part, columns_seen, component, rescaled
from vaekit.presets.registry import preset, publish
from vaekit.shapes import Shape
from vaekit.transforms import Transform


@dataclass(frozen=True)
class Surrogate:
    """A number that stands for a column, or for one of its levels, in a factor analysis.

    Attributes:
        column: place of the column in a row.
        weights: what of which input of the encoder it is the sum of.
        mask: the input that says whether the column was observed; None where it always is.
    """

    column: int
    weights: dict[int, float]
    mask: int | None


def surrogates(head: Columns) -> list[Surrogate]:
    """The numbers that stand for the columns of a head: numbers, log(1 + counts), codes of grades, each level apart.

    Columns of more levels than the encoder sees one by one have none.
    """
    front = ColumnsInput(nn.Identity(), **columns_seen(head))
    found = []
    for part, columns in zip(head.heads, head.places, strict=True):
        for column in columns:
            inputs, mask = front.places(column)
            if front.levels[column] > MOST_ONE_HOT:
                continue
            if isinstance(part, Ordinal):
                found.append(Surrogate(column, {place: float(code) for code, place in enumerate(inputs)}, mask))
            else:
                found += [Surrogate(column, {place: 1.0}, mask) for place in inputs]
    return found


def _encoder(head: ConditionalDistribution, q: ConditionalDistribution, hidden: tuple[int, ...]) -> nn.Module:
    """The encoder's network: the posterior of factors where q can be one, else hidden layers alone."""
    if isinstance(head, Columns):
        return columns_encoder(head, q, hidden)
    size = int(torch.Size(head.event_shape).numel())
    if not isinstance(q, FullNormal):
        return rescaled(MLP(head.event_shape, hidden, "silu", initialization="he"), head)
    return rescaled(FactorEncoder(head.event_shape, q.event_shape[0], size, hidden), head)


def columns_encoder(
    head: Columns, q: ConditionalDistribution, hidden: tuple[int, ...], context_dim: int = 0
) -> ColumnsInput:
    """The network of q(z|x) for columns; with a context of `context_dim` entries that of q(z|x, y)."""
    columns = columns_seen(head)
    width = ColumnsInput.width(columns["levels"], columns["holes"])
    if not isinstance(q, FullNormal):
        return ColumnsInput(MLP(width, hidden, "silu", initialization="he"), **columns)
    found = surrogates(head)
    network = FactorEncoder(width, q.event_shape[0], len(found), hidden, context_dim=context_dim)
    reading = torch.zeros(len(found), width)
    for row, surrogate in enumerate(found):
        for place, weight in surrogate.weights.items():
            reading[row, place] = weight
    masks = [surrogate.mask for surrogate in found]
    network.assign(reading, masks, network.loc, network.loadings, 1 / network.precision)
    return ColumnsInput(network, **columns)


@preset(starts_linear=True)
def table(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (128, 128),
    likelihood: Part = "bernoulli",
    posterior: Part = "full-normal",
    prior: Part = "standard-normal",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[VAE, Objective]:
    """The model of tables: a linear decoder with layers that bend it, and an encoder right for any pattern of holes.

    Use it for tables with a schema, for which it is the default: there `vaekit fit` starts it from a factor analysis of
    the rows, chooses `latent_dim` by held-out log p, and trains as long as rows and columns ask. Elsewhere it starts
    from small random weights, and `vae` is the plainer choice.

    References:
        Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        https://arxiv.org/abs/1812.02633.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        hidden: widths of the hidden layers of encoder and decoder.
        likelihood: name or head of p(x|z).
        posterior: name or head of q(z|x); the encoder is a `FactorEncoder` for a `FullNormal`, an `MLP` for others.
        prior: name or module of p(z).
        transform: from data to model space.
        objective: None is `HideCells` around an `IWAE` of 5 draws.

    Returns:
        The model and the objective.
    """
    head = component("likelihoods", likelihood, event_shape)
    q = component("posteriors", posterior, latent_dim)
    widths = tuple(hidden)
    model = VAE(
        encoder=Conditional(_encoder(head, q, widths), q),
        decoder=Conditional(LinearPlus(q.event_shape, head.param_shape, widths), head),
        prior=component("priors", prior, latent_dim),
        transform=transform,
    )
    return model, objective or HideCells()


publish(globals())
