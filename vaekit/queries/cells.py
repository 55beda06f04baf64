"""p(x|z) cell by cell: means, levels, densities and draws of single elements of a row, weighed over draws of z."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from vaekit import engine
from vaekit.distributions import Columns
from vaekit.distributions.base import from_noise, hooks, noise_shape, of_cells
from vaekit.distributions.support import elements, has_levels
from vaekit.errors import ConfigError
from vaekit.models.draws import row_seed
from vaekit.models.view import View
from vaekit.queries.alone import row_of
from vaekit.queries.latents import Latents
from vaekit.queries.units import Units
from vaekit.queries.weighted import or_equal, quantiles, resampled

Statistic = Literal["mean", "median"]

_VALUES = 2**22  # numbers per pass: bounds memory, whatever the number of rows
_LEAST_DRAWS = 1000  # of a cell, for its quantiles
_NODES = 32  # of Gauss-Hermite quadrature
_DRAWS, _ALONE, _CHOICE = 4, 5, 6  # places in the hash that makes seeds of the base seed and a key


class Part(NamedTuple):
    """Elements of a row that have distributions of one family.

    Attributes:
        base: elementwise, batch shape (*batch, *event of the part).
        columns: the places of its elements in the row in the order of memory, shape (d,).
        whole: the product of the elements.
    """

    base: Distribution
    columns: Tensor
    whole: Distribution

    def flat(self, values: Tensor) -> Tensor:
        """What `base` gives, shape (..., d)."""
        return values.flatten(values.ndim - len(self.whole.event_shape))

    @property
    def has_levels(self) -> bool:
        """Whether the values are the numbers of levels, whose masses are known one by one."""
        return has_levels(self.base) and isinstance(self.base, Bernoulli | Categorical)

    @property
    def is_normal(self) -> bool:
        """Whether each draw is a function of one number of normal noise."""
        return noise_shape(self.base) == Size(())

    @property
    def mean(self) -> Tensor:
        """E[x|z], float64, shape (*batch, d)."""
        return self.flat(self.base.mean).double()

    def level_masses(self) -> Tensor:
        """Of parts with levels: P(level|z), float64, shape (*batch, d, C)."""
        masses: Tensor = self.base.probs.double()  # type: ignore[attr-defined]
        if isinstance(self.base, Bernoulli):
            one = self.flat(masses)
            return torch.stack([1 - one, one], -1)
        return masses.flatten(masses.ndim - 1 - len(self.whole.event_shape), -2)

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y_j|z) for y of shape (B, d): nats, float64, shape (*batch, d); of no meaning where y is NaN."""
        y = y.reshape(*y.shape[:-1], *self.whole.event_shape)
        if hasattr(self.whole, "log_prob_per_element"):
            return self.flat(self.whole.log_prob_per_element(y)).double()
        return self.flat(self.base.log_prob(torch.where(y.isnan(), self.base.mean, y))).double()

    def is_mass(self, y: Tensor) -> Tensor:
        """Where log p(y_j|z) is the log of a mass, shape (B, d), bool, for y of shape (B, d)."""
        if hasattr(self.base, "is_spike"):
            result: Tensor = self.base.is_spike(y).any(-1)
            return result
        what = hooks(self.whole).quantity or ("mass" if self.base.support.is_discrete else "density")  # type: ignore[union-attr]
        return torch.full(y.shape, what == "mass")

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws of parts with levels made of uniform noise, of others of normal noise, shape (R, *batch, d)."""
        if self.has_levels:
            masses = self.level_masses()
            reached = masses.cumsum(-1)
            level = torch.searchsorted(reached / reached[..., -1:], noise.movedim(0, -1).contiguous(), right=True)
            last = masses.shape[-1] - 1 - (masses.flip(-1) > 0).to(torch.uint8).argmax(-1)
            return torch.minimum(level, last.unsqueeze(-1)).movedim(-1, 0).double()
        shape = (len(noise), *self.base.batch_shape)
        return self.flat(from_noise(self.base, noise.reshape(shape))).double()


def parts_of(p: Distribution, y: Tensor | None = None) -> list[Part]:
    """The parts of p(x|z), whose elements are independent given z, and given what each depends on beside it.

    Args:
        p: p(x|z).
        y: rows in model space, shape (B, *X), NaN where not observed; None for no row in particular.

    Raises:
        ConfigError: if they are not.
    """
    p = p if y is None else of_cells(p, y)
    if isinstance(p, Columns):
        found = []
        for part, place in zip(p.parts, p.places, strict=True):
            columns = torch.tensor(place)
            inner = parts_of(part) if isinstance(part, Columns) else [Part(part.base, torch.arange(len(place)), part)]
            found += [each._replace(columns=columns[each.columns]) for each in inner]
        return found
    base = elements(p)
    if base is p or base.event_shape:
        raise ConfigError(
            f"cells are asked for one by one, and p(x|z) of this model, {p}, is no product over them. Use a model "
            "whose likelihood is one (likelihoods.Columns, Normal, Bernoulli, ...)."
        )
    return [Part(base, torch.arange(p.event_shape.numel()), p)]


class Summary(NamedTuple):
    """What weighted draws of z say of the cells of B rows, in the units of the data, shape (B, D) each, float64."""

    value: Tensor
    lower: Tensor
    upper: Tensor


class Cells:
    """The cells of a model's rows.

    Args:
        view: the model.
        seed: of the noise of draws from p(x|z).
        statistic: "mean" or "median" of numbers; of levels it is the most probable one.
        level: mass of an interval, which leaves as much out below as above.
        level_values: by the place of an element what the numbers of its levels stand for: of such a cell the statistic
            is taken as well, and is the level nearest to it.

    Attributes:
        size: D, elements of a row.
        has_levels: which hold levels, shape (D,), bool.

    Raises:
        ConfigError: for another word, a level outside 0 to 1, or a p(x|z) that is no product over cells.
    """

    def __init__(
        self,
        view: View,
        seed: int,
        statistic: Statistic = "mean",
        level: float = 0.95,
        level_values: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        if statistic not in ("mean", "median"):
            raise ConfigError(f'statistic is "mean" or "median"; got {statistic!r}')
        if not 0 < level < 1:
            raise ConfigError(f"level, the mass of an interval, lies between 0 and 1; got {level}")
        self.view, self.model, self.seed, self.statistic = view, view.model, seed, statistic
        self.size, self.level_values = prod(view.event_shape), level_values or {}
        self.shares = (0.5, (1 - level) / 2, (1 + level) / 2)
        self.units = Units(view.transform, view.event_shape)
        self.has_levels = torch.zeros(self.size, dtype=torch.bool)
        self.is_bent = torch.zeros(self.size, dtype=torch.bool)  # where the mean in model space does not say the mean
        for part in parts_of(view.at_prior):
            self.has_levels[part.columns] = part.has_levels
            is_exact = self.units.is_affine[part.columns] & hooks(part.base).has_exact_mean
            self.is_bent[part.columns] = ~is_exact & (not part.has_levels)

    def parts(self, z: Tensor, y: Tensor | None = None) -> list[Part]:
        """p(x|z) for z of shape (..., *Z), given what else rows y, shape (B, *X), say of a cell."""
        return parts_of(self.model.likelihood(z), y)

    def log_prob(self, z: Tensor, y: Tensor, columns: Tensor | None = None) -> Tensor:
        """log p(x_j|z) of cells in model space, nats, float64, shape (K, B, D), 0 where y is NaN.

        Args:
            z: shape (K, B, *Z).
            y: rows, shape (B, *X).
            columns: those that are wanted, shape (c,), of D; None wants all. The others are 0.
        """
        parts = self.parts(z, y)
        y, columns = y.flatten(1), torch.arange(self.size) if columns is None else columns
        result = torch.zeros(*z.shape[:2], self.size, dtype=torch.float64, device=z.device)
        for part in parts:
            if bool(torch.isin(part.columns, columns).any()):
                result[..., part.columns] = part.log_prob(y[:, part.columns])
        return torch.where(y.isnan(), 0.0, result)

    def passes(self, found: Latents, num_each: int) -> list[slice]:
        """Rows of a pass, so that `num_each` numbers for each z of a row stay within bounds."""
        size = max(1, _VALUES // (len(found.z) * max(num_each, self.view.num_values)))
        return [slice(start, min(start + size, len(found.rows))) for start in range(0, len(found.rows), size)]

    # --- Draws -------------------------------------------------------------------------------------------------------

    def draws(self, parts: list[Part], found: Latents, wanted: Tensor, num_each: int = 1, place: int = 0) -> Tensor:
        """Draws from p(x|z) in model space, `num_each` for each z: shape (num_each, K, B, D), 0 where not wanted.

        Several draws of one cell for one z are stratified where its family can be drawn from uniform noise: they are
        good for quantiles of the cell alone.

        Args:
            parts: p(x|z) at the draws of z.
            found: draws of z for B rows.
            wanted: which cells, shape (B, D), bool. Only the columns in which one is wanted are in the answer.
            num_each: R.
            place: which draws these are among all of a question.
        """
        z, keys, columns = found.z, found.keys.tolist(), wanted.any(0).nonzero().flatten()
        result = torch.zeros(num_each, *z.shape[:2], len(columns), dtype=torch.float64, device=z.device)
        for number, part in enumerate(parts):
            inside = torch.isin(part.columns, columns).nonzero().flatten()
            if not len(inside):
                continue
            to = torch.searchsorted(columns, part.columns[inside])
            asked = wanted[:, part.columns]
            if part.is_normal or part.has_levels:
                noise = torch.zeros((num_each, *z.shape[:2], len(part.columns)), dtype=torch.float64)
                for i, d in asked.nonzero().tolist():
                    uniform = self._noise(keys[i], int(part.columns[d]), place, num_each, len(z))
                    noise[:, :, i, d] = uniform if part.has_levels else torch.special.ndtri(uniform)
                result[..., to] = part.from_noise(noise.to(z.device))[..., inside]
                continue
            # Families without a map of their own from noise to draws: row by row, under the seed of the row.
            for i in asked.any(1).nonzero().flatten().tolist():
                alone = row_of(part.base, i)
                alone = self.parts(z[:, i : i + 1], found.y[i : i + 1])[number].base if alone is None else alone
                with engine.seeded(row_seed(self.seed, keys[i], _ALONE, place, number)):
                    drawn = part.flat(alone.sample(Size((num_each,)))).double()
                result[:, :, i : i + 1, to] = drawn[..., inside]
        return result

    def _noise(self, key: int, column: int, place: int, num_each: int, num_samples: int) -> Tensor:
        """Uniform noise of a cell on (0, 1), stratified over the first dimension, shape (R, K)."""
        stream = np.random.Philox(key=[self.seed % 2**64, key % 2**64], counter=[0, column, place, _DRAWS])
        noise = torch.from_numpy(np.random.Generator(stream).random((num_each, num_samples)))
        strata = torch.arange(num_each, dtype=noise.dtype).unsqueeze(1)
        return (strata + noise.clamp(min=torch.finfo(noise.dtype).tiny)) / num_each

    def rows(self, found: Latents, wanted: Tensor, num: int) -> Tensor:
        """Draws from p(wanted cells | observed cells) in the units of the data, shape (num, B, D); 0 elsewhere.

        Each row gets draws of z that have equal weights, and of each one draw of its wanted cells together.
        """
        noise = [_uniform(row_seed(self.seed, key, _CHOICE), (num + 1,)) for key in found.keys.tolist()]
        chosen = resampled(or_equal(found.weights).cpu(), torch.stack(noise, 1)).to(found.z.device)
        event = found.z.shape[2:]
        z = found.z.gather(0, chosen.reshape(*chosen.shape, *[1] * len(event)).expand(*chosen.shape, *event))
        once = Latents(found.rows, z, torch.full(z.shape[:2], 1 / num), found.keys, found.is_narrow, found.y)
        columns = wanted.any(0).nonzero().flatten()
        result = torch.zeros(num, *wanted.shape, dtype=torch.float64)
        for rows in self.passes(once, len(columns)):
            part, asked = once.part(rows), wanted[rows]
            own = asked.any(0).nonzero().flatten()
            result[:, rows][..., own] = self.units.of(
                self.draws(self.parts(part.z, part.y), part, asked, place=1)[0], own
            ).cpu()
        return result

    # --- Summaries ---------------------------------------------------------------------------------------------------

    def summary(self, found: Latents, wanted: Tensor, weights: Tensor | None = None) -> Summary:
        """Point and interval of each wanted cell; of no meaning elsewhere.

        Args:
            found: draws of z for B rows.
            wanted: which cells, shape (B, D), bool.
            weights: of the draws, for each cell, shape (K, B, D); None takes those of the draws for all cells.
        """
        weights = found.weights.unsqueeze(-1) if weights is None else weights
        weights = or_equal(weights).expand(*found.weights.shape, self.size)
        num_each = -(-_LEAST_DRAWS // len(found.z))
        passes = self.passes(found, num_each * int(wanted.any(0).sum()))
        pieces = [self._summary(found.part(rows), wanted[rows], weights[:, rows], num_each) for rows in passes]
        return Summary(*(torch.cat(part) for part in zip(*pieces, strict=True)))

    def _summary(self, found: Latents, wanted: Tensor, weights: Tensor, num_each: int) -> Summary:
        weights, parts = weights.to(found.z.device), self.parts(found.z, found.y)
        at = torch.zeros(len(self.shares), *wanted.shape, dtype=torch.float64, device=weights.device)
        numbers = wanted & ~self.has_levels
        columns = numbers.any(0).nonzero().flatten()
        y = self.draws(parts, found, numbers, num_each)
        if len(columns):
            each = (weights[..., columns] / num_each).expand(num_each, *y.shape[1:]).flatten(0, 1)
            at[..., columns] = quantiles(y.flatten(0, 1), each, self.shares)
        point = at[0].clone()
        for part in parts:
            if not bool(wanted[:, part.columns].any()):
                continue
            if part.has_levels:
                self._fill_levels(part, weights[..., part.columns], point, at)
            elif self.statistic == "mean":
                point[:, part.columns] = (weights[..., part.columns] * part.mean).sum(0)
        everything = torch.arange(self.size)
        value, ends = self.units.of(point, everything), self.units.of(at[1:], everything)
        if self.statistic == "mean" and bool((wanted & self.is_bent).any()):
            of_part = y, columns, weights
            self._fill_bent_means(parts, wanted & self.is_bent, value, *of_part)
        return Summary(value.cpu(), ends.amin(0).cpu(), ends.amax(0).cpu())

    def _fill_levels(self, part: Part, weights: Tensor, point: Tensor, at: Tensor) -> None:
        """The most probable level of each cell, or the one nearest to the mean, and the quantiles of their numbers."""
        mass = (weights.unsqueeze(-1) * part.level_masses()).sum(0)
        point[:, part.columns] = mass.argmax(-1).double()
        for j, column in enumerate(part.columns.tolist()):
            if column in self.level_values and self.statistic == "mean":
                values = torch.as_tensor(self.level_values[column], dtype=torch.float64, device=mass.device)
                own = mass[:, j, : len(values)]
                mean = (own * values).sum(-1, keepdim=True) / own.sum(-1, keepdim=True)
                point[:, column] = (values - mean).abs().argmin(-1).double()
        reached = mass.cumsum(-1)
        for i, share in enumerate(self.shares):
            at[i][:, part.columns] = (reached < share * reached[..., -1:] - 1e-12).sum(-1).double()
        if self.statistic == "median":
            for column in set(self.level_values) & set(part.columns.tolist()):
                point[:, column] = at[0][:, column]

    def _fill_bent_means(
        self, parts: list[Part], wanted: Tensor, value: Tensor, y: Tensor, columns: Tensor, weights: Tensor
    ) -> None:
        """Means in the units of the data of cells that a transform bends.

        By quadrature over the normal noise behind a cell, and where there is none as means over its draws y.
        """
        points, masses = np.polynomial.hermite_e.hermegauss(_NODES)
        masses = masses / masses.sum()
        bent = wanted.any(0)
        for part in parts:
            own = part.columns[bent[part.columns]]
            if not len(own):
                continue
            inside, total = bent[part.columns].nonzero().flatten(), torch.zeros_like(value[:, own])
            if part.is_normal:
                for node, share in zip(points.tolist(), masses.tolist(), strict=True):
                    noise = torch.full(part.base.batch_shape, node, dtype=torch.float64, device=value.device)
                    drawn = part.flat(from_noise(part.base, noise)).double()[..., inside]
                    total += share * (weights[..., own] * self.units.of(drawn, own)).sum(0)
            else:
                for drawn in y[..., torch.searchsorted(columns, own)]:
                    total += (weights[..., own] * self.units.of(drawn, own)).sum(0) / len(y)
            value[:, own] = total


def _uniform(seed: int, shape: Sequence[int]) -> Tensor:
    """Uniform noise on [0, 1), float64."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).random(tuple(shape)))
