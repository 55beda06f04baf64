"""Where a conditional model of a table starts: means that depend on the context, and factors of what these leave."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.data import Dataset
from vaekit.likelihoods import Columns
from vaekit.models import ConditionalVAE
from vaekit.networks import Concat, ContextInput, FactorEncoder, LinearPlus
from vaekit.presets.tables import surrogates
from vaekit.recipes.factors import Factors, best_factors, fit_factors
from vaekit.recipes.start import (
    Start,
    _chosen,
    _drawn,
    _least_variance,
    _moments,
    _start_linear,
    _widened,
    numbers_of,
)
from vaekit.transforms import Transform

_MOST_ROWS = 2000  # that the factors are fitted to
_HELD_OUT = 5  # one row in so many judges the number of factors
_RIDGE = 1.0  # rows: a class of one row lies half-way between its row and the mean of all
_EM_STEPS, _TOLERANCE = 60, 1e-3


@dataclass(frozen=True, eq=False)
class GivenStart:
    r"""Numbers \( s = \mu + M c + W z + \epsilon \) of rows whose contexts are the vectors c.

    Attributes:
        left: the factor analysis of s - M c; its rows and numbers are those that were looked at.
        shift: M, shape (S, E), float64.
        vectors: c of each row, shape (N, E), float64.
    """

    left: Start
    shift: np.ndarray
    vectors: Tensor

    @property
    def factors(self) -> Factors:
        """Those of what the contexts leave."""
        return self.left.factors


def find_start_given(
    data: Dataset,
    head: ConditionalDistribution,
    transform: Transform | None,
    latent_dim: int | None,
    seed: int,
    context: ContextInput,
) -> GivenStart | None:
    """Means by context and a factor analysis of what they leave, of as many factors as held-out rows ask for.

    It sees 2,000 rows at most, a choice that the seed makes. None where there is nothing that factors could explain.
    """
    if not isinstance(head, Columns) or data.contexts is None:
        return None
    rng = np.random.default_rng([seed, 1])
    rows = _chosen(rng, data, min(len(data), _MOST_ROWS))
    x = torch.as_tensor(data[rows]).double()
    with torch.no_grad():
        y = x if transform is None else transform(x).double()
        vectors = context(torch.from_numpy(np.asarray(data.contexts)[rows]).to(context.like)).double()
    s = numbers_of(head, y)
    if s.shape[1] == 0:
        return None
    loc, scale = _moments(s)
    shift = _shifts((s - loc) / scale, vectors.numpy())
    standard = (s - loc) / scale - vectors.numpy() @ shift.T
    least = _least_variance(head, scale)
    order = rng.permutation(len(rows))
    held_out = max(1, len(rows) // _HELD_OUT)
    best = None
    if latent_dim is None:
        best = best_factors(standard[order[held_out:]], standard[order[:held_out]], s.shape[1] - 1, least=least)
    size = min(latent_dim or 1, s.shape[1]) if best is None else best.latent_dim
    options: dict[str, Any] = {"least": least, "num_steps": _EM_STEPS, "tolerance": _TOLERANCE, "start": best}
    factors = _widened(fit_factors(standard, size, **options), latent_dim or 0).in_units(loc, scale)
    shift = scale[:, None] * shift
    return GivenStart(Start(factors, y, s - vectors.numpy() @ shift.T, seed), shift, vectors)


def _shifts(s: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """M of the regression of each number, shape (N, S), NaN for holes, on the vectors (N, E): shape (S, E)."""
    inputs = np.column_stack([vectors, np.ones(len(vectors))])
    mask = ~np.isnan(s)
    products = np.einsum("ns,ni,nj->sij", mask.astype(float), inputs, inputs)
    penalty = np.diag([_RIDGE] * vectors.shape[1] + [1e-6])
    right = np.einsum("ns,ni->si", np.where(mask, s, 0.0), inputs)
    result: np.ndarray = np.linalg.solve(products + penalty, right[:, :, None])[:, :-1, 0]
    return result


def start_from_given(model: ConditionalVAE, start: GivenStart) -> None:
    """Write means and factors into a model that the preset `conditional_vae` made, as far as its parts take them."""
    network = model.decoder.network
    inner = network.network if isinstance(network, Concat) else None
    size = start.factors.latent_dim + start.vectors.shape[1]
    if not isinstance(inner, LinearPlus) or inner.in_shape != (size,):
        return
    z = _drawn(start.left)
    seen = torch.cat([z, start.vectors.expand(len(z), -1, -1)], -1)
    factors = start.factors
    wide = Factors(factors.loc, np.concatenate([factors.loadings, start.shift], 1), factors.variance)
    head = model.decoder.head
    assert isinstance(head, Columns)
    _start_linear(inner.linear, head, replace(start.left, factors=wide), seen)
    encoder = dict(model.encoder.network.named_children()).get("network")
    if isinstance(encoder, FactorEncoder):
        _into(encoder, head, start)


def _into(encoder: FactorEncoder, head: Columns, start: GivenStart) -> None:
    """Let the encoder take over the factors; one without a context takes the mean over contexts."""
    factors, mean = start.factors, start.vectors.numpy().mean(0)
    loc = factors.loc if encoder.context_dim else factors.loc + start.shift @ mean
    mu, loadings, variance = (torch.from_numpy(values) for values in (loc, factors.loadings, factors.variance))
    masks = [surrogate.mask for surrogate in surrogates(head)]
    shift = torch.from_numpy(start.shift) if encoder.context_dim else None
    encoder.assign(encoder.reading, masks, mu, loadings, variance, shift)
