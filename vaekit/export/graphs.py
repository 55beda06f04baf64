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
from vaekit.models.answers import in_float64
from vaekit.models.rows import given
from vaekit.models.view import View
from vaekit.queries.cells import Cells, Part, parts_of
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
        self.back = in_float64(view.transform)
        parts = parts_of(view.at_prior)
        self.columns = [part.columns.tolist() for part in parts]
        order = [i for columns in self.columns for i in columns]
        self.order = sorted(range(len(order)), key=order.__getitem__)
        bent = Cells(view, 0).is_bent
        self.is_bent = [[bool(bent[i]) for i in columns] for columns in self.columns]
        for part, of_part in zip(parts, self.is_bent, strict=True):
            if any(of_part) and not part.is_normal:
                raise ExportError(f"the mean of {type(part.base).__name__} in the units of the data has no formula")
        points, masses = np.polynomial.hermite_e.hermegauss(_NODES)
        self.nodes, self.shares = points.tolist(), (masses / masses.sum()).tolist()

    def forward(self, *inputs: Tensor) -> Tensor:
        """See the class."""
        x, noise, context, drawn = self._taken(inputs)
        model = given(self.model, context)
        y = self._in_model_space(x, noise)[0]
        log_w, z = weights(model, y, drawn[-1].shape[0], drawn)
        w = or_equal(normalized(log_w))
        parts = parts_of(model.likelihood(z), y)
        found = [self._of_part(part, columns, w) for part, columns in zip(parts, self.columns, strict=True)]
        fills = self._in_data_units(found)
        if any(map(any, self.is_bent)):
            bent = torch.tensor([flag for flags in self.is_bent for flag in flags])[self.order]
            fills = torch.where(bent, self._bent_means(parts, w), fills)
        return torch.cat([fills, effective_size(w).unsqueeze(-1)], -1)

    def _in_data_units(self, of_parts: list[Tensor]) -> Tensor:
        """Elements part by part, shape (..., d) each, as rows in the units of the data, shape (..., D), float64."""
        whole = torch.cat(of_parts, -1)[..., self.order]
        event = tuple(self.view.event_shape)
        return self.back(whole.reshape(-1, *event)).double().reshape(whole.shape)

    def _of_part(self, part: Part, columns: list[int], w: Tensor) -> Tensor:
        """The fills of the elements of a part in model space, shape (B, d), float64."""
        weight = w.unsqueeze(-1)
        if not part.has_levels:
            return (weight * part.mean).sum(0)
        mass = (weight.unsqueeze(-1) * part.level_masses()).sum(0)
        codes = mass.argmax(-1).double()
        chosen = [
            self._nearest(mass[:, j], i) if i in self.level_values else codes[:, j] for j, i in enumerate(columns)
        ]
        return torch.stack(chosen, -1)

    def _bent_means(self, parts: Sequence[Part], w: Tensor) -> Tensor:
        """Means in the units of the data, by quadrature over the noise behind each draw, shape (B, D)."""
        at_nodes = self._in_data_units([self._at_nodes(part) for part in parts])
        shares = torch.tensor(self.shares, dtype=torch.float64).reshape(-1, 1, 1, 1)
        return (shares * w.unsqueeze(-1) * at_nodes).sum((0, 1))

    def _at_nodes(self, part: Part) -> Tensor:
        """The part at each value of the noise behind it, shape (nodes, K, B, d); zeros where it is not normal."""
        shape = (len(self.nodes), *part.base.batch_shape)
        nodes = torch.tensor(self.nodes, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
        return part.flat(from_noise(part.base, nodes) if part.is_normal else torch.zeros_like(nodes)).double()

    def _nearest(self, mass: Tensor, i: int) -> Tensor:
        """The code of the level nearest to the mean of what levels stand for, from masses (B, C)."""
        values = torch.tensor(self.level_values[i], dtype=torch.float64)
        own = mass[:, : len(self.level_values[i])]
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
