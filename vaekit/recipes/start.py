"""Where the model of a table starts: factor analysis, written into the weights of decoder and encoder."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit import likelihoods
from vaekit.conditional import ConditionalDistribution
from vaekit.data import Dataset
from vaekit.likelihoods import Columns
from vaekit.models import VAE, ConditionalVAE
from vaekit.networks import ColumnsInput, FactorEncoder, LinearPlus
from vaekit.presets.parts import columns_seen
from vaekit.presets.tables import surrogates
from vaekit.raw import raw_of
from vaekit.recipes.factors import Factors, best_factors, fit_factors
from vaekit.transforms import Transform

_MOST_ROWS, _LEAST_ROWS, _MOST_CELLS = 1000, 500, 100_000  # of those that the factors are fitted to
_HELD_OUT = 5  # one row in so many judges the number of factors
_LEAST_VARIANCE = 0.01  # of standardised grades and counts
_LEAST_OF_LEVELS = 0.5  # of standardised levels without an order, which tell of z less than a number does
_DRAWS = 2  # of z for each row, to which heads of other families are fitted
_STEPS = 60  # of L-BFGS
_EM_STEPS, _TOLERANCE = 60, 1e-3  # of the factors on all rows; training goes on from there


@dataclass(frozen=True, eq=False)
class Start:
    """What a factor analysis found in the rows of a table.

    Attributes:
        factors: of the numbers that stand for the columns, in their own units.
        y: the rows that were looked at, in model space, shape (N, D), float64.
        s: the numbers that stand for their columns, shape (N, S).
        seed: source of the draws of z.
    """

    factors: Factors
    y: Tensor
    s: np.ndarray
    seed: int


def numbers_of(head: Columns, y: Tensor) -> np.ndarray:
    """The numbers that stand for the columns of rows y in model space, shape (N, S), NaN for holes."""
    front = ColumnsInput(nn.Identity(), **columns_seen(head))
    with torch.no_grad():
        inputs = front.inputs(y).numpy()
    found = surrogates(head)
    s = np.empty((len(y), len(found)))
    for row, surrogate in enumerate(found):
        s[:, row] = sum(weight * inputs[:, place] for place, weight in surrogate.weights.items())
        if surrogate.mask is not None:
            s[inputs[:, surrogate.mask] == 0, row] = np.nan
    return s


def find_start(
    data: Dataset, head: ConditionalDistribution, transform: Transform | None, latent_dim: int | None, seed: int
) -> Start | None:
    """A factor analysis of the rows, of as many factors as asked for, or as held-out rows are best explained by.

    It sees 1,000 rows at most, a choice that the seed makes. None where there is nothing that factors could explain.
    """
    if not isinstance(head, Columns):
        return None
    rng = np.random.default_rng([seed, 1])
    size = data.event_shape[0]
    num_rows = min(len(data), _MOST_ROWS, max(_LEAST_ROWS, _MOST_CELLS // size))
    rows = _chosen(rng, data, num_rows)
    num_rows = len(rows)
    x = torch.as_tensor(data[rows]).double()
    with torch.no_grad():
        y = x if transform is None else transform(x).double()
    s = numbers_of(head, y)
    if s.shape[1] == 0:
        return None
    loc, scale = _moments(s)
    standard = (s - loc) / scale
    least = _least_variance(head, scale)
    order = rng.permutation(num_rows)
    held_out = max(1, num_rows // _HELD_OUT)
    best = None
    if latent_dim is None:
        best = best_factors(standard[order[held_out:]], standard[order[:held_out]], size - 1, least=least)
    size = min(latent_dim or 1, s.shape[1]) if best is None else best.latent_dim
    options: dict[str, Any] = {"least": least, "num_steps": _EM_STEPS, "tolerance": _TOLERANCE, "start": best}
    factors = fit_factors(standard, size, **options).in_units(loc, scale)
    return Start(_widened(factors, latent_dim or 0), y, s, seed)


def _chosen(rng: np.random.Generator, data: Dataset, num_rows: int) -> np.ndarray:
    """Numbers of some rows in their order; of weighted ones those of large weight before others."""
    if data.weights is None:
        return np.sort(rng.permutation(len(data))[:num_rows])
    weights = np.asarray(data.weights, dtype=np.float64)
    count = min(num_rows, int((weights > 0).sum()))
    return np.sort(rng.choice(len(data), count, replace=False, p=weights / weights.sum()))


def _moments(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, 0 and 1 where nothing was observed or nothing varies."""
    observed = ~np.isnan(s)
    count = np.maximum(observed.sum(0), 1)
    loc = np.where(observed, s, 0.0).sum(0) / count
    scale = np.sqrt(np.where(observed, (s - loc) ** 2, 0.0).sum(0) / count)
    return loc, np.where(scale > 1e-9, scale, 1.0)


def _part_of(head: Columns) -> dict[int, nn.Module]:
    """The head of each column; of numbers that are hidden by what they are that of the numbers, and of bits."""
    found: dict[int, nn.Module] = {}
    for part, columns in zip(head.parts, head.places, strict=True):
        if isinstance(part, likelihoods.SelfMasked):
            size = len(columns) // 2
            found |= dict.fromkeys(columns[:size], part.density)
            found |= dict.fromkeys(columns[size:], likelihoods.Bernoulli(size))
        else:
            found |= dict.fromkeys(columns, part)
    return found


def _least_variance(head: Columns, scale: np.ndarray) -> np.ndarray:
    """Floors of the variances of the standardised numbers: those that the heads can express."""
    part_of = _part_of(head)
    found: list[float] = []
    for row, surrogate in enumerate(surrogates(head)):
        part = part_of[surrogate.column]
        if isinstance(part, likelihoods.Normal):
            found.append((1.02 * part.scale_parameter.floor / scale[row]) ** 2)
        elif isinstance(part, likelihoods.Categorical | likelihoods.Bernoulli):
            found.append(_LEAST_OF_LEVELS)
        else:
            found.append(_LEAST_VARIANCE)
    return np.array(found)


def _widened(factors: Factors, latent_dim: int) -> Factors:
    """The same with further factors that explain nothing."""
    more = max(0, latent_dim - factors.latent_dim)
    return Factors(factors.loc, np.pad(factors.loadings, ((0, 0), (0, more))), factors.variance)


def start_from(model: VAE | ConditionalVAE, start: Start) -> None:
    """Write the factors into a model that the preset `table` made; where its parts are others, into those that fit.

    The decoder's normal columns get loadings, means and scales as they are. Heads of other families are fitted, linear
    in z, to draws of z given the rows. The encoder's first guess becomes the posterior of the factors.
    """
    head, network = model.decoder.head, model.decoder.network
    assert isinstance(head, Columns)
    if isinstance(network, LinearPlus) and network.in_shape == (start.factors.latent_dim,):
        _start_linear(network.linear, head, start, _drawn(start))
    encoder = dict(model.encoder.network.named_children()).get("network")
    if isinstance(encoder, FactorEncoder):
        masks = [surrogate.mask for surrogate in surrogates(head)]
        found = (start.factors.loc, start.factors.loadings, start.factors.variance)
        loc, loadings, variance = (torch.from_numpy(values) for values in found)
        encoder.assign(encoder.reading, masks, loc, loadings, variance)


def _start_linear(linear: nn.Linear, head: Columns, start: Start, z: Tensor) -> None:
    """Let the linear part of a decoder give each column what its factors say of draws of z, (draws, N, L)."""
    at = 0
    for part, columns in zip(head.parts, head.places, strict=True):
        weight, bias = _linear(part, columns, start, z, head)
        rows = slice(at, at + len(bias))
        with torch.no_grad():
            linear.weight[rows] = weight.to(linear.weight)
            linear.bias[rows] = bias.to(linear.bias)
        at += len(bias)


def _drawn(start: Start) -> Tensor:
    """Draws of z given each row under the factors, shape (draws, N, L), float64."""
    mean, covariance = start.factors.posterior(start.s)
    noise = np.random.default_rng([start.seed, 2]).standard_normal((_DRAWS, *mean.shape))
    return torch.from_numpy(mean + np.einsum("nij,knj->kni", np.linalg.cholesky(covariance), noise))


def _linear(
    part: ConditionalDistribution, columns: tuple[int, ...], start: Start, z: Tensor, head: Columns
) -> tuple[Tensor, Tensor]:
    """Weights, shape (P, L), and biases of the raw parameters of one head, flat, in z; the head's own are set."""
    if isinstance(part, likelihoods.Normal) and part.scale == "network":
        row_of = {surrogate.column: row for row, surrogate in enumerate(surrogates(head))}
        rows = [row_of[column] for column in columns]
        loadings = torch.from_numpy(start.factors.loadings[rows])
        loc, variance = (torch.from_numpy(v[rows]) for v in (start.factors.loc, start.factors.variance))
        raw_scale = raw_of(variance.sqrt() - part.scale_parameter.floor)
        return torch.cat([loadings, torch.zeros_like(loadings)]), torch.cat([loc, raw_scale])
    begin = None
    if isinstance(part, likelihoods.SelfMasked):  # from what it would be if cells were hidden at random
        begin = _linear(part.density, columns[: len(columns) // 2], start, z, head)
    return _most_likely(part, start.y[:, list(columns)], z, begin)


def _most_likely(
    part: ConditionalDistribution, x: Tensor, z: Tensor, begin_at: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Raw parameters W z + b, and the head's own parameters, of the largest likelihood, W under a N(0, 1) prior.

    The search begins at zeros, or at a given W and b.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    fitted = copy.deepcopy(part).double()
    size, latent_dim = math.prod(part.param_shape), z.shape[-1]
    first = (torch.zeros(size, latent_dim), torch.zeros(size)) if begin_at is None else begin_at
    weight, bias = (values.to(torch.float64, copy=True).requires_grad_() for values in first)
    parameters = [weight, bias, *fitted.parameters()]
    sizes = [parameter.numel() for parameter in parameters]

    def put(flat: np.ndarray) -> None:
        with torch.no_grad():
            for parameter, values in zip(parameters, torch.from_numpy(flat).split(sizes), strict=True):
                parameter.copy_(values.reshape(parameter.shape))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        put(flat)
        raw = (z @ weight.T + bias).unflatten(-1, part.param_shape)
        value = -fitted(raw).log_prob(x).mean() + weight.square().sum() / (2 * len(x))
        if not bool(value.isfinite()):
            return math.inf, np.zeros(len(flat))
        gradients = torch.autograd.grad(value, parameters)
        return float(value.detach()), torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy()

    begin = torch.cat([parameter.detach().reshape(-1) for parameter in parameters]).numpy()
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    put(found.x if math.isfinite(found.fun) and np.isfinite(found.x).all() else begin)
    part.load_state_dict({name: value.to(part.state_dict()[name]) for name, value in fitted.state_dict().items()})
    return weight.detach(), bias.detach()
