"""Independent events of one shape as one event."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base
from vaekit.shapes import broadcast_shapes


class Stacked(Base):
    r"""\( p(v) = \prod_m p_m(v_m) \) with \( v = (v_1, \dots, v_M) \) stacked in front of the event dimensions.

    Args:
        parts: M distributions of one event shape Z, of one support, whose batch shapes broadcast.

    Example:
        >>> import torch
        >>> from vaekit.distributions import Normal, Product
        >>> normal = Product(Normal(torch.zeros(3), torch.ones(3)), 1)
        >>> Stacked([normal, normal]).event_shape
        torch.Size([2, 3])
    """

    def __init__(self, parts: Sequence[Distribution]) -> None:
        batch = broadcast_shapes(*(part.batch_shape for part in parts))
        self.parts = tuple(part if part.batch_shape == batch else part.expand(batch) for part in parts)
        event = self.parts[0].event_shape
        self._place = -len(event) - 1
        super().__init__(batch, torch.Size((len(self.parts), *event)), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws of all parts carry gradients."""
        return all(part.has_rsample for part in self.parts)

    @property
    def support(self) -> constraints.Constraint:
        """Events whose parts lie in the support of the first part."""
        return constraints.independent(self.parts[0].support, 1)

    @property
    def mean(self) -> Tensor:
        """E[v], shape (*batch, M, *Z)."""
        return self._stack([part.mean for part in self.parts])

    @property
    def variance(self) -> Tensor:
        """Var[v] per element, shape (*batch, M, *Z)."""
        return self._stack([part.variance for part in self.parts])

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Stacked":
        """The same distribution, repeated over `batch_shape`."""
        return Stacked([part.expand(torch.Size(batch_shape)) for part in self.parts])

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, M, *Z)."""
        return self._stack([part.sample(torch.Size(sample_shape)) for part in self.parts])

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, M, *Z)."""
        return self._stack([part.rsample(torch.Size(sample_shape)) for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(v) in nats, shape (*batch,)."""
        pairs = zip(self.parts, value.unbind(self._place), strict=True)
        return torch.stack([part.log_prob(one) for part, one in pairs]).sum(0)

    def _stack(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values, self._place)
