"""Mixtures of distributions over one event, for many components and many points at once."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, constraints
from torch.distributions import Normal as TorchNormal

from vaekit.distributions.base import Base, hooks
from vaekit.distributions.product import Product
from vaekit.errors import ShapeError
from vaekit.shapes import broadcast_shapes

_VALUES = 2**22  # numbers per pass, so that memory stays bounded whatever the number of points and components


class Mixture(Base):
    r"""\( p(z) = \sum_k \pi_k p_k(z) \), with `log_prob` by log-sum-exp.

    Unlike torch's `MixtureSameFamily` it draws from one component per point instead of from all of them, takes events
    of any shape, and scores n points under K diagonal Gaussians by two matrix products: n x K numbers in memory instead
    of n x K x D. Draws carry no gradient to the parameters.

    References:
        McLachlan & Peel, "Finite mixture models", 2000, https://doi.org/10.1002/0471721182.

    Args:
        logits: unnormalised log-weights \( \log \pi_k \), shape (K,).
        components: the \( p_k \), of batch shape (K,) and event shape Z.

    Raises:
        ShapeError: if the batch shape of the components is not (K,).

    Example:
        >>> import torch
        >>> from vaekit.distributions import Normal
        >>> components = Product(Normal(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1)), 1)
        >>> mixture = Mixture(torch.zeros(2), components)
        >>> mixture.log_prob(torch.zeros(1))
        tensor(-1.4189)
    """

    parameters = ()
    arg_constraints: dict[str, constraints.Constraint] = {"logits": constraints.real_vector}  # noqa: RUF012
    has_rsample = False

    def __init__(self, logits: Tensor, components: Distribution, batch_shape: Sequence[int] = ()) -> None:
        if logits.ndim != 1 or tuple(components.batch_shape) != tuple(logits.shape):
            raise ShapeError(
                "a mixture expects weights of shape (K,) and components of batch shape (K,); "
                f"got {tuple(logits.shape)} and {tuple(components.batch_shape)}"
            )
        self.logits, self.components = logits.log_softmax(0), components
        super().__init__(torch.Size(batch_shape), components.event_shape, validate_args=False)

    def __repr__(self) -> str:
        return f"Mixture({len(self.logits)} x {self.components})"

    @property
    def num_components(self) -> int:
        """K."""
        return len(self.logits)

    @property
    def has_exact_mean(self) -> bool:  # type: ignore[override]
        """Whether the components know their means exactly."""
        return hooks(self.components).has_exact_mean

    @property
    def support(self) -> constraints.Constraint | None:
        """That of the components."""
        return self.components.support

    @property
    def mean(self) -> Tensor:
        r"""\( \sum_k \pi_k E_k[z] \), shape (*batch, *event)."""
        return self._average(self.components.mean).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        r"""\( \sum_k \pi_k (Var_k[z] + E_k[z]^2) - E[z]^2 \) per element, shape (*batch, *event)."""
        mean = self.components.mean
        centred = mean - self._average(mean)
        within = self._average(self.components.variance + centred**2)
        return within.expand(self.batch_shape + self.event_shape)

    def _average(self, values: Tensor) -> Tensor:
        weights = self.logits.exp().reshape(-1, *[1] * len(self.event_shape))
        return (weights * values).sum(0)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *event)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            # Not torch.multinomial, which is limited to 2^24 components and slow for many draws of few.
            edges = self.logits.exp().cumsum(0)
            u = torch.rand(math.prod(shape), dtype=edges.dtype, device=edges.device) * edges[-1]
            chosen = torch.searchsorted(edges, u).clamp(max=self.num_components - 1)
            z = _drawn_from(self.components, chosen)
        return z.reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, for z of shape (..., *event): shape (...), broadcast with the batch."""
        return self._of_tables(value, lambda table: torch.logsumexp(table, 1))

    def log_components(self, value: Tensor) -> Tensor:
        r"""\( \log \pi_k p_k(z) \) in nats, for z of shape (..., *event): shape (..., K), broadcast with the batch."""
        return self._of_tables(value, lambda table: table)

    def _of_tables(self, value: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """What is made of the tables log pi_k p_k(z_i) of shape (n, K), for z of any leading shape."""
        leading = value.shape[: value.ndim - len(self.event_shape)]
        flat = value.reshape(-1, *self.event_shape)
        # As many points at a time as keep the (n, K) table small; Gaussians are scored without an (n, K, D) one.
        size = max(1, _VALUES // (self.num_components * _numbers_per_pair(self.components)))
        parts = [answer(_log_prob_table(self.components, part) + self.logits) for part in flat.split(size)]
        found = torch.cat(parts).to(torch.promote_types(value.dtype, self.logits.dtype))
        last = found.shape[1:]
        result = found.reshape(leading + last)
        return result.expand(broadcast_shapes(leading, self.batch_shape) + last)


def log_components(distribution: Distribution, value: Tensor) -> Tensor | None:
    """`Hooks.log_components` of any distribution; torch's `MixtureSameFamily` has components, too."""
    if isinstance(distribution, MixtureSameFamily):
        each = distribution.component_distribution
        last = value.ndim - len(distribution.event_shape)
        values: Tensor = each.log_prob(value.unsqueeze(last)) + distribution.mixture_distribution.logits.log_softmax(-1)
        return values
    return hooks(distribution).log_components(value)


def _normals(components: Distribution) -> TorchNormal | None:
    """The elementwise normal distribution behind diagonal Gaussians; None for any other family."""
    if isinstance(components, Product) and isinstance(components.base, TorchNormal):
        return components.base
    return None


def _numbers_per_pair(components: Distribution) -> int:
    return 1 if _normals(components) is not None else max(1, math.prod(components.event_shape))


def _log_prob_table(components: Distribution, z: Tensor) -> Tensor:
    """log p_k(z_i), shape (n, K), for z of shape (n, *event)."""
    normal = _normals(components)
    if normal is None:
        return components.log_prob(z.unsqueeze(1))
    # (z - m)^2 / s^2 multiplied out, so that sums over dimensions are matrix products. The three parts are large and
    # cancel where s is small: in float64, whatever the dtype of z.
    loc, scale, z = normal.loc.flatten(1).double(), normal.scale.flatten(1).double(), z.flatten(1).double()
    precision = scale**-2
    square = (z * z) @ precision.T - 2 * (z @ (precision * loc).T) + (precision * loc * loc).sum(1)
    return -0.5 * square - scale.log().sum(1) - 0.5 * math.log(2 * math.pi) * loc.shape[1]


def _drawn_from(components: Distribution, chosen: Tensor) -> Tensor:
    """One draw from component `chosen[i]` for each i, shape (n, *event)."""
    normal = _normals(components)
    if normal is not None:
        loc, scale = normal.loc[chosen], normal.scale[chosen]
        return loc + scale * torch.randn_like(loc)
    size = max(1, _VALUES // (components.batch_shape[0] * _numbers_per_pair(components)))
    return torch.cat([_own_draws(components, part) for part in chosen.split(size)])


def _own_draws(components: Distribution, chosen: Tensor) -> Tensor:
    """A family that cannot be indexed draws from all components, of which one is kept per point."""
    z = components.sample(torch.Size((chosen.shape[0],)))
    return z[torch.arange(chosen.shape[0], device=z.device), chosen]
