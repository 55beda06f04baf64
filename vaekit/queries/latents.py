"""Draws of z for rows with holes, weighed so that they stand for p(z | observed cells)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import Draw
from vaekit.distributions.base import hooks
from vaekit.errors import DataError
from vaekit.evaluation.likelihood.far import is_searchable, redrawn
from vaekit.evaluation.likelihood.narrow import is_narrow
from vaekit.models.base import OfWrapped
from vaekit.models.checks import refuse_context
from vaekit.models.draws import BLOCK_ROWS, GROUP, KeyedDraws, RowNoise, Sampling, content_keys, row_seed
from vaekit.models.rows import as_tensor, slices, taken
from vaekit.models.view import View
from vaekit.progress import track
from vaekit.queries.weighted import effective_size, normalized
from vaekit.traits import Data, ModelTraits, told

FEWEST = 10
"""Effective draws, below which an answer rests on a handful of z and is not to be believed."""
_DOUBTFUL = 200
_SEARCH = 7  # place in the hash that makes seeds of the base seed and a key


@dataclass(frozen=True)
class Latents:
    """K draws of z for each of B rows with the weights that make them draws from p(z | observed cells).

    Attributes:
        rows: which rows, shape (B,), int64.
        z: draws, shape (K, B, *Z).
        weights: shape (K, B), float64; they sum to 1, and are all 0 where no draw gives the row any mass.
        keys: what the noise of the rows depends on, shape (B,), int64.
        is_narrow: rows whose q is so narrow that its draws agree with each other, and the ess says nothing, shape (B,).
        y: the rows in model space, NaN where not observed, shape (B, *X).
    """

    rows: Tensor
    z: Tensor
    weights: Tensor
    keys: Tensor
    is_narrow: Tensor
    y: Tensor

    @property
    def ess(self) -> Tensor:
        """Effective number of the draws, shape (B,); 0 where it is not known."""
        return self.believed(effective_size(self.weights))

    def believed(self, ess: Tensor) -> Tensor:
        """An ess of shape (B, ...), 0 for rows whose q is too narrow to tell."""
        return torch.where(self.is_narrow.reshape(-1, *[1] * (ess.ndim - 1)), 0.0, ess.cpu())

    def part(self, index: slice) -> "Latents":
        """Some of the rows."""
        own = (values[index] for values in (self.keys, self.is_narrow, self.y))
        return Latents(self.rows[index], self.z[:, index], self.weights[:, index], *own)


class FromPrior(OfWrapped, nn.Module):
    """A model that takes p(z) for the posterior of each row: for rows of which nothing was observed.

    Args:
        model: any object with the three methods.
    """

    posterior_is_fixed = True

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def describing(self) -> Any:
        """The model."""
        return self.model

    @property
    def transform(self) -> Any:
        """That of the model."""
        return told(ModelTraits, self.model).transform

    @property
    def num_likelihood_params(self) -> Any:
        """As many as the model says."""
        return told(ModelTraits, self.model).num_likelihood_params

    def posterior(self, x: Tensor) -> Distribution:
        """p(z) for each row, batch shape (B,)."""
        prior = self.prior()
        return prior if prior.batch_shape else prior.expand(torch.Size((len(x),)))

    def prior(self) -> Distribution:
        """That of the model."""
        result: Distribution = self.model.prior()
        return result

    def likelihood(self, z: Tensor) -> Distribution:
        """That of the model."""
        result: Distribution = self.model.likelihood(z)
        return result


def view_of(model: Any, x: Data, what: str) -> View:
    """A model and rows that may have holes.

    Raises:
        DataError: if there are holes, and the likelihood of the model counts each element.
        ConfigError: if the rows have contexts.
        ShapeError, SupportError: if the rows do not fit the model.
    """
    alone = View.of(model)
    if not takes_holes(alone) and not isinstance(x, View):
        rows = as_tensor(x)
        if rows.is_floating_point() and bool(rows.isnan().any()):
            count = int(rows.isnan().sum())
            raise DataError(
                f"{what} got rows with {count:,} empty cells (NaN), and p(x|z) of this model counts each element. Fit "
                "a model that leaves out what was not observed: a likelihood with missing='observed-only' and an "
                "encoder that bears holes, as `vaekit fit` makes of a table with empty cells or with --schema."
            )
    view = View.of(model, x)
    refuse_context(view.context, what)
    return view


def takes_holes(view: View) -> bool:
    """Whether the likelihood leaves out elements that are NaN."""
    return hooks(view.at_prior).missing == "observed-only"


def keys_of(x: Tensor, apart: bool = False) -> Tensor:
    """What the noise of each row depends on: its content alone, shape (N,), int64.

    Args:
        x: rows, shape (N, *X).
        apart: give equal rows keys of their own, by their order among themselves: draws for them then differ.
    """
    keys = content_keys(x)
    if not apart:
        return keys
    seen: dict[int, int] = {}
    numbers = []
    for key in keys.tolist():
        numbers.append(seen.get(key, 0))
        seen[key] = numbers[-1] + 1
    # An odd factor leads different numbers to different keys; the first of equal rows keeps its key.
    return keys + torch.tensor(numbers, dtype=torch.int64) * 0x5851F42D4C957F2D


def latents(
    view: View,
    num_samples: int,
    seed: int,
    keys: Tensor,
    *,
    search: bool = True,
    weigh: bool = True,
    progress: bool = False,
) -> Iterator[Latents]:
    """Weighted draws of z for all rows, at most 64 rows at a time.

    Rows of which nothing was observed get draws from p(z), all others from q(z | observed cells).

    Args:
        view: rows, NaN where not observed.
        num_samples: K.
        seed: of the noise.
        keys: what the noise of each row depends on beside the seed, shape (N,).
        search: let draws that do not rest on q stand for those of rows whose weights rest on few draws.
        weigh: whether draws stand for p(z | observed cells); else they are those of q, which cost no pass of the
            decoder, and weigh alike.
        progress: show a bar on stderr where that is a terminal.
    """
    is_empty = torch.cat([x.isnan().flatten(1).all(1) for x in as_tensor(view.rows).split(2**16)])
    for model, chosen in ((view.model, ~is_empty), (FromPrior(view.model), is_empty)):
        numbers = chosen.nonzero().flatten().cpu()
        if not len(numbers):
            continue
        part = view.take(numbers)
        noise = torch.Generator().manual_seed(seed)
        how = Sampling(num_samples, noise, key=keys[numbers], progress=progress)
        part = part if model is view.model else View.of(model, part)
        can_search = search and weigh and model is view.model and is_searchable(model)
        for rows, z, log_weights, narrow in _drawn(part, how) if weigh else _unweighed(part, how, keys[numbers]):
            y = part.batch(torch.arange(rows.start, rows.stop), by_row=True).x
            found = Latents(numbers[rows], z, normalized(log_weights), keys[numbers[rows]], narrow, y)
            yield _searched(part, rows, found, seed) if can_search else found


def _searched(view: View, rows: slice, found: Latents, seed: int) -> Latents:
    """The draws, but those that do not rest on the encoder where its own have too little weight.

    An encoder that has seen no holes while it was trained points anywhere where cells are masked.
    """
    num_samples = len(found.z)
    failed = (found.ess < doubtful(num_samples)).nonzero().flatten()
    if not len(failed):
        return found
    keys = found.keys[failed]
    with engine.evaluating(view.model):
        batch = view.batch(torch.arange(rows.start, rows.stop)[failed.cpu()], by_row=True)
        seeds = [row_seed(seed, key, _SEARCH) for key in keys.tolist()]
        other = redrawn(view, batch, num_samples, seeds, keep_z=True)
    weights = normalized(other.log_weights)
    better = effective_size(weights).cpu() > found.ess[failed]
    z, old, narrow = found.z.clone(), found.weights.clone(), found.is_narrow.clone()
    narrow[failed[better]] = False
    z[:, failed[better]] = other.z[:, better].to(z.dtype)
    old[:, failed[better]] = weights[:, better]
    return Latents(found.rows, z, old, found.keys, narrow, found.y)


def doubtful(num_samples: int) -> float:
    """Effective draws of K, below which another way is tried: a q that is off shows more of them than it has."""
    return min(_DOUBTFUL, num_samples / 10)


def enough(num_samples: int) -> float:
    """Effective draws of K, from which on an answer is to be believed."""
    return min(FEWEST, num_samples / 2)


def _drawn(view: View, how: Sampling) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """All K draws of some rows together: their places, z, log w, and where q is too narrow."""
    found, parts = view.blocks(how, keep_z=True), list[Draw]()
    narrow = torch.empty(0)
    while True:
        with engine.evaluating(view.model):  # not around the yield: what is done with the draws is the caller's
            block = next(found, None)
        if block is None:
            return
        narrow = narrow if parts else is_narrow(block.posterior, block.draws)
        parts.append(block.draws)
        if sum(len(part.log_prior) for part in parts) == how.num_samples:
            z, log_weights = (torch.cat(values) for values in zip(*((p.z, p.log_weights) for p in parts), strict=True))
            yield block.rows, z, log_weights, narrow
            parts.clear()


def _unweighed(view: View, how: Sampling, keys: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """The same from q(z|x) alone: log w is 0."""
    noise = RowNoise(keys, engine.draw_seed(how.generator), len(view))
    places = slices(len(view), BLOCK_ROWS if view.posterior_is_fixed else 1)
    for rows in track(places, "drawing") if how.progress else places:
        with engine.evaluating(view.model):
            batch = view.batch(rows, noise, by_row=True)
            draw = KeyedDraws(noise.posterior(view.model, batch), view.model, batch, noise.seed)
            z = torch.cat([draw.sample(k.start, k.stop - k.start) for k in slices(how.num_samples, GROUP)])
        yield rows, z, z.new_zeros(z.shape[:2]), torch.zeros(len(batch), dtype=torch.bool)


def rows_of(view: View, index: Tensor) -> Tensor:
    """Some rows as they were handed in, shape (B, *X)."""
    result: Tensor = taken(view.rows, index)
    return result
