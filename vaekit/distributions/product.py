"""A product of independent elements that can leave out unobserved ones."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base, Hooks, from_noise, noise_shape
from vaekit.errors import ShapeError

Missing = Literal["error", "observed-only"]


class Product(Base):
    r"""The product \( p(x) = \prod_i p_i(x_i) \) over the elements of an event.

    It differs from `torch.distributions.Independent` in one point: with `missing="observed-only"` an element of x that
    is NaN is left out of the product, before the sum and with finite gradients. Otherwise the test costs nothing.

    Args:
        base: elementwise distribution whose batch shape is (*batch, *event).
        event_ndims: number of its last dimensions that make one event.
        missing: what NaN in x means: an error that the caller's edge reports, or an element that was not observed.
        quantity: what log_prob is ("density", "mass" or "no density"); None reads it off the support.

    Raises:
        ShapeError: if `base` has an event of its own, or fewer than `event_ndims` dimensions.

    Example:
        >>> import torch
        >>> normal = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
        >>> Product(normal, 1).log_prob(torch.zeros(3))
        tensor(-2.7568)
        >>> Product(normal, 1, missing="observed-only").log_prob(torch.tensor([0.0, torch.nan, torch.nan]))
        tensor(-0.9189)
    """

    parameters = ("base",)

    def __init__(
        self,
        base: Distribution,
        event_ndims: int,
        *,
        missing: Missing = "error",
        quantity: str | None = None,
    ) -> None:
        if base.event_shape:
            raise ShapeError(f"Product takes an elementwise distribution; {base} has event shape {base.event_shape}")
        shape = base.batch_shape
        if len(shape) < event_ndims:
            raise ShapeError(f"an event of {event_ndims} dimensions does not fit a batch of shape {tuple(shape)}")
        self.base, self.event_ndims, self.missing, self._quantity = base, event_ndims, missing, quantity
        split = len(shape) - event_ndims
        super().__init__(shape[:split], shape[split:], validate_args=False)

    def __repr__(self) -> str:
        batch, event = tuple(self.batch_shape), tuple(self.event_shape)
        return f"Product({type(self.base).__name__}, batch_shape={batch}, event_shape={event})"

    @property
    def quantity(self) -> str:
        """What log_prob is: "density", "mass" or "no density"."""
        discrete = cast(constraints.Constraint, self.base.support).is_discrete
        return self._quantity or ("mass" if discrete else "density")

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients to the parameters."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """The set of events of positive probability."""
        return constraints.independent(self.base.support, self.event_ndims)

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch, *event)."""
        return self.base.mean

    @property
    def mode(self) -> Tensor:
        """The most probable event, shape (*batch, *event)."""
        return self.base.mode

    @property
    def variance(self) -> Tensor:
        """Var[x] per element, shape (*batch, *event)."""
        return self.base.variance

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *event)."""
        return self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, *event)."""
        return self.base.rsample(torch.Size(sample_shape))

    @property
    def noise_shape(self) -> torch.Size | None:
        """That of an event, where the elements are normal."""
        return None if noise_shape(self.base) is None else self.event_shape

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given normal noise, shape (*sample, *batch, *event)."""
        return from_noise(self.base, noise)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch,)."""
        return self._sum(self.base.entropy())

    def log_prob_per_element(self, value: Tensor) -> Tensor:
        """log p_i(x_i) in nats, shape (*batch, *event); 0 where x_i was not observed."""
        if self.missing == "error":
            return self.base.log_prob(value)
        observed = ~torch.isnan(value)
        # Filled before the density sees it: a NaN behind torch.where would still poison the gradients.
        log_prob = self.base.log_prob(torch.where(observed, value, self._point_of_support(value)))
        return torch.where(observed, log_prob, torch.zeros_like(log_prob))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, summed over the (observed) elements, shape (*batch,)."""
        is_whole = self.missing == "error" and self.event_ndims > 0
        if is_whole and isinstance(self.base, Hooks) and not torch.is_grad_enabled():
            at_once = self.base.sum_log_prob_no_grad(value, self.event_ndims)
            if at_once is not None:
                return at_once
        return self._sum(self.log_prob_per_element(value))

    def _sum(self, values: Tensor) -> Tensor:
        return values.sum(tuple(range(-self.event_ndims, 0))) if self.event_ndims else values

    def _point_of_support(self, like: Tensor) -> Tensor:
        support = cast(constraints.Constraint, self.base.support)
        candidates = (like.new_tensor(point) for point in (0.5, 1.0, 0.0))
        return next(point for point in candidates if bool(support.check(point).all()))
