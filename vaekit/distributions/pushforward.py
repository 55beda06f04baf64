"""The law of an invertible map's image."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Bijection(Protocol):
    """A map of events and its inverse, each with log|det| of its Jacobian, of any shape that broadcasts."""

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The image of v, and log|det|."""
        ...

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The origin of v, and log|det| of the inverse there."""
        ...


class _Own(NamedTuple):
    """The last draws: what they were made of, and the state in which they were returned."""

    value: Tensor
    origin: Tensor
    log_det: Tensor
    recorded: bool
    version: int

    def serves(self) -> bool:
        """Draws that were made without recording have a density, but no gradient of it."""
        return self.recorded or not torch.is_grad_enabled()


class Pushforward(Distribution):
    r"""\( v = f(u) \) with \( u \sim q_0 \): \( \log q(v) = \log q_0(u) - \log|\det \partial f / \partial u| \).

    The density of the last draws needs no inverse: they are known by the identity of their tensor, with the gradients
    along the path. Any other point, a copy of a draw too, goes back through the inverse.

    `mean` is the image of the mean of \( q_0 \), a point in the middle of q; it is not E[v], as `has_exact_mean` says.

    Args:
        base: \( q_0 \).
        map_: f, on events of real numbers; it may depend on the place in the batch.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (the name torch prescribes)
    has_exact_mean = False

    def __init__(self, base: Distribution, map_: Bijection) -> None:
        self.base, self.map = base, map_
        self._own: _Own | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients to the parameters."""
        return self.base.has_rsample

    @property
    def support(self) -> Any:
        """Events of real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The image of the mean of the base, shape (*batch, *event)."""
        return self.map.forward(self.base.mean)[0]

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Pushforward":
        """The same distribution, repeated over `batch_shape`."""
        return Pushforward(self.base.expand(torch.Size(batch_shape)), self.map)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self._image(self.base.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, *event)."""
        return self._image(self.base.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(v) in nats, shape (*batch,)."""
        own = self._own
        if own is not None and own.value is value and own.version == _version(value) and own.serves():
            return self.base.log_prob(own.origin) - own.log_det
        # Under each x a point has an origin of its own.
        split = value.ndim - len(self.event_shape)
        batch = torch.broadcast_shapes(value.shape[:split], self.batch_shape)
        origin, log_det = self.map.inverse(value.expand(batch + self.event_shape))
        return self.base.log_prob(origin) + log_det

    def _image(self, origin: Tensor) -> Tensor:
        value, log_det = self.map.forward(origin)
        self._own = _Own(value, origin, log_det, torch.is_grad_enabled(), _version(value))
        return value


def _version(value: Tensor) -> int:
    """The number of changes in place, where torch counts them."""
    return 0 if value.is_inference() else value._version
