"""What is exported of a model, as modules of tensors alone: encoder, decoder, samples, weights, fills.

Rows come in the units of the data, and go back to them: the model's transform is inside. Noise is an input, that of a
random transform and that of each draw.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from vaekit.bounds import log_likelihood_at, log_prob_of
from vaekit.distributions import centre
from vaekit.distributions.base import Hooks, from_noise, hooks
from vaekit.export.noise import Given
from vaekit.export.programs import ExportError
from vaekit.models.rows import given
from vaekit.models.view import View
from vaekit.queries.cells import Part, parts_of
from vaekit.queries.units import Units
from vaekit.queries.weighted import effective_size, normalized, or_equal
from vaekit.transforms import Transform
from vaekit.transforms.base import steps_of, through


class Graph(nn.Module):
    """A module whose inputs are tensors in a fixed order.

    Args:
        view: the model.
        num_transform: how many random steps the transform has; each takes noise of the shape of its rows.
        has_context: whether the model is asked under a context, shape (B, C).
    """

    def __init__(self, view: View, num_transform: int, has_context: bool) -> None:
        super().__init__()
        self.model, self.view = view.model, view
        self.num_transform, self.has_context = num_transform, has_context

    def _taken(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], Tensor | None, list[Tensor]]:
        """The first input, noise of the transform, context and noise of draws."""
        behind = 1 + self.num_transform
        context = inputs[behind] if self.has_context else None
        return inputs[0], list(inputs[1:behind]), context, list(inputs[behind + self.has_context :])

    def _in_model_space(self, x: Tensor, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
        """y in the model's dtype, and log|det| in float64, where it is part of log p."""
        left = list(noise)

        def step(transform: Transform, x: Tensor) -> tuple[Tensor, Tensor]:
            y = transform(x) if transform.is_fixed else transform.from_noise(x, left.pop(0))
            return y, transform.log_abs_det_jacobian(x, y)

        y, log_det = through(steps_of(self.view.transform), x, step)
        return y.to(self.view.dtype), log_det.double() * float(self.view.has_jacobian)

    def _in_units(self, y: Tensor) -> Tensor:
        return y if self.view.transform is None else self.view.transform.inverse(y)


class Encoder(Graph):
    """Rows (B, *X) to E[z|x], or the centre of q(z|x): (B, *Z)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """See the class."""
        x, noise, context, drawn = self._taken(inputs)
        with Given(drawn):
            y = self._in_model_space(x, noise)[0]
            result = centre(given(self.model, context).posterior(y))
        return _whole(result)


class Decoder(Graph):
    """z (B, *Z) to E[x|z] in the units of the data: (B, *X)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """See the class."""
        z, _, context, drawn = self._taken(inputs)
        with Given(drawn):
            return _whole(self._in_units(centre(given(self.model, context).likelihood(z))))


class Score(Graph):
    """Rows (B, *X) and noise to log w of K draws, log|det| of the transform included: (K, B), float64, nats."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """See the class."""
        x, noise, context, drawn = self._taken(inputs)
        y, log_det = self._in_model_space(x, noise)
        return weights(given(self.model, context), y, drawn[-1].shape[0], drawn)[0] + log_det


class Sample(Graph):
    """Noise of B draws to rows (B, *X) in the units of the data."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """See the class."""
        _, _, context, drawn = self._taken((inputs[0], *inputs))
        with Given(drawn):
            return _whole(self._in_units(drawn_rows(given(self.model, context), drawn[0].shape[0])))


class Fill(Graph):
    """Rows (B, *X), NaN in holes, and noise to fills of all D elements in the units of the data, and the ess: (B, D+1).

    Of numbers the weighted mean, of levels the most probable one, or the one nearest to the mean where levels are
    numbers in an order; see `queries.impute`.

    Args:
        view: the model.
        num_transform: as for `Graph`.
        has_context: likewise.
        level_values: see `queries.impute`.
    """

    def __init__(
        self, view: View, num_transform: int, has_context: bool, level_values: Mapping[int, Sequence[float]]
    ) -> None:
        super().__init__(view, num_transform, has_context)
        self.level_values = dict(level_values)
        self.units = Units(view.transform, view.event_shape)
        points, masses = np.polynomial.hermite_e.hermegauss(_NODES)
        self.nodes = list(zip(points.tolist(), (masses / masses.sum()).tolist(), strict=True))

    def forward(self, *inputs: Tensor) -> Tensor:
        """See the class."""
        x, noise, context, drawn = self._taken(inputs)
        model = given(self.model, context)
        y = self._in_model_space(x, noise)[0]
        log_w, z = weights(model, y, drawn[-1].shape[0], drawn)
        w = or_equal(normalized(log_w))
        found: dict[int, Tensor] = {}
        for part in parts_of(model.likelihood(z), y):
            found |= self._of_part(part, w)
        fills = torch.stack([found[i] for i in range(len(found))], -1)
        return torch.cat([fills, effective_size(w).unsqueeze(-1)], -1)

    def _of_part(self, part: Part, w: Tensor) -> dict[int, Tensor]:
        """The fills of the elements of a part, shape (B,) each, by their place in the row."""
        columns, weight = part.columns, w.unsqueeze(-1)
        if part.has_levels:
            mass = (weight.unsqueeze(-1) * part.level_masses()).sum(0)
            codes = self.units.of(mass.argmax(-1).double(), columns)
            found = dict(zip(columns.tolist(), codes.unbind(-1), strict=True))
            return found | {i: self._nearest(mass[:, j], i) for j, i in enumerate(columns.tolist()) if self._knows(i)}
        is_exact = self.units.is_affine[columns] & hooks(part.base).has_exact_mean
        if bool(is_exact.all()):
            means = self.units.of((weight * part.mean).sum(0), columns)
        elif part.is_normal:
            means = sum((share * self._at(part, node, weight) for node, share in self.nodes), torch.zeros(()))
        else:
            raise ExportError(f"the mean of {type(part.base).__name__} in the units of the data has no formula")
        return dict(zip(columns.tolist(), means.unbind(-1), strict=True))

    def _at(self, part: Part, node: float, weight: Tensor) -> Tensor:
        """The weighted mean of the part at one value of the noise behind each draw."""
        noise = torch.full(part.base.batch_shape, node, dtype=torch.float64)
        return (weight * self.units.of(part.flat(from_noise(part.base, noise)), part.columns)).sum(0)

    def _knows(self, i: int) -> bool:
        return i in self.level_values

    def _nearest(self, mass: Tensor, i: int) -> Tensor:
        """The code of the level nearest to the mean of what levels stand for, from masses (B, C)."""
        values = torch.tensor(self.level_values[i], dtype=torch.float64)
        own = mass[:, : len(values)]
        mean = (own * values).sum(-1, keepdim=True) / own.sum(-1, keepdim=True)
        return (values - mean).abs().argmin(-1).double()


_NODES = 32  # of Gauss-Hermite quadrature, as in `queries.impute`


def weights(model: Any, y: Tensor, num_samples: Any, drawn: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """log w of K draws from q(z|y), shape (K, B), float64, and these draws, shape (K, B, *Z)."""
    with Given(drawn):
        q = model.posterior(y)
        z = draws_of(q, num_samples)
        log_likelihood, log_prior = log_likelihood_at(model, z, y), log_prob_of(model.prior(), z)
        return (log_likelihood + log_prior - q.log_prob(z)).double(), z


def draws_of(q: Distribution, num_samples: Any) -> Tensor:
    """K draws, whose noise has as many numbers whatever they are: shape (K, *batch, *Z)."""
    return hooks(q).sample_without_rejection(Size((num_samples,))) if isinstance(q, Hooks) else q.sample((num_samples,))


def drawn_rows(model: Any, num: Any) -> Tensor:
    """Draws from p(x) in model space, shape (num, *X)."""
    prior: Distribution = model.prior()
    z = prior.sample(Size() if prior.batch_shape else Size((num,)))
    result: Tensor = model.likelihood(z).sample()
    return result


def _whole(values: Tensor) -> Tensor:
    """The values with a memory of their own: an output that is an input would be dropped."""
    return values + torch.zeros((), dtype=values.dtype)
