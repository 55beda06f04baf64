"""A distribution pushed through a chain of invertible maps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base, from_noise, noise_shape
from vaekit.distributions.maps import Map
from vaekit.shapes import broadcast_shapes


class _Own(NamedTuple):
    """The last draws: what they were made of, and the state in which they were returned."""

    z: Tensor
    noise: Tensor
    log_det: Tensor
    grad_mode: bool
    requires_grad: bool
    version: int


class Flow(Base):
    r"""\( z = f_K(\dots f_1(\epsilon)) \) with \( \epsilon \) from a base: \( \log q(z) = \log q_0(\epsilon) - \sum_k
    \log|\det J_k| \).

    The last draws are remembered by the identity of their tensor: their density needs no inverse, and that of `rsample`
    has the gradients along the path. Any other point, a detached copy of a draw too, goes back through the inverses,
    with the gradients of a density at that point; a map without an inverse raises there. The draws of `sample` count as
    own draws where gradients are switched off.

    `mean` is the image of the base's mean. It is E[z] where all maps are affine, and `has_exact_mean` says whether
    they are; elsewhere it is a point in the middle of q that serves as the code of x.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770.

    Args:
        base: distribution of the noise, over real events of at least one dimension.
        maps: from the base outwards; they act on events flattened to (D,). Their tensors broadcast with the batch of
            the base.

    Example:
        >>> import torch
        >>> from vaekit.distributions import Normal, Product, maps
        >>> base = Product(Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> flow = Flow(base, [maps.Affine(torch.ones(2), 2 * torch.ones(2)), maps.Reverse()])
        >>> flow.log_prob(torch.ones(2))
        tensor(-3.2242)
    """

    def __init__(self, base: Distribution, maps: Sequence[Map]) -> None:
        self.base, self.maps = base, tuple(maps)
        self._own: _Own | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def __repr__(self) -> str:
        names = ", ".join(type(map_).__name__ for map_ in self.maps)
        return f"Flow([{names}], batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Flow":
        """The same distribution, repeated over `batch_shape`."""
        return Flow(self.base.expand(torch.Size(batch_shape)), self.maps)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients to the parameters."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """Real events."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def has_exact_mean(self) -> bool:  # type: ignore[override]
        """Whether `mean` is E[z]."""
        return all(map_.is_affine for map_ in self.maps)

    def unturned(self) -> Distribution | None:
        """The base, where all maps leave lengths as they are, so that N(0, I) would stay N(0, I)."""
        return self.base if all(map_.is_orthogonal for map_ in self.maps) else None

    @property
    def mean(self) -> Tensor:
        """The image of the base's mean, shape (*batch, *event)."""
        return self._push(self.base.mean)[0]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self._draw(self.base.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, *event)."""
        return self._draw(self.base.rsample(torch.Size(sample_shape)))

    @property
    def noise_shape(self) -> torch.Size | None:
        """That of the base."""
        return noise_shape(self.base)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given normal noise, shape (*sample, *batch, *event)."""
        return self._draw(from_noise(self.base, noise))

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(z) in nats, shape (*batch,).

        Raises:
            OwnDrawsOnlyError: at a point that is not among the last draws, where a map has no inverse.
        """
        own = self._own
        if own is not None and self._is_own(value, own):
            return self.base.log_prob(own.noise) - own.log_det
        # Under each x a point comes from another place, and a map may need to see as many points as there are x.
        batch = broadcast_shapes(value.shape[: value.ndim - len(self.event_shape)], self.batch_shape)
        noise, log_det = self._pull(value.expand(batch + self.event_shape))
        return self.base.log_prob(noise) + log_det

    def _draw(self, noise: Tensor) -> Tensor:
        z, log_det = self._push(noise)
        self._own = _Own(z, noise, log_det, torch.is_grad_enabled(), z.requires_grad, _version(z))
        return z

    def _is_own(self, value: Tensor, own: _Own) -> bool:
        """The very tensor, unchanged; where gradients are taken, only if it was drawn with them."""
        if value is not own.z or _version(value) != own.version:
            return False
        return not torch.is_grad_enabled() or (own.grad_mode and value.requires_grad == own.requires_grad)

    def _push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The image of the noise, and the sum of log|det| on the way."""
        z = noise.flatten(-len(self.event_shape))
        total = z.new_zeros(())
        for map_ in self.maps:
            z, log_det = map_.forward(z)
            total = total + log_det
        return z.reshape(z.shape[:-1] + self.event_shape), total

    def _pull(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The noise of a point, and the sum of log|det| on the way back."""
        z = value.flatten(-len(self.event_shape))
        total = z.new_zeros(())
        for map_ in reversed(self.maps):
            z, log_det = map_.inverse(z)
            total = total + log_det
        return z.reshape(z.shape[:-1] + self.event_shape), total


def _version(z: Tensor) -> int:
    """The number of changes of z in place, where torch counts them."""
    return 0 if torch.compiler.is_compiling() or z.is_inference() else z._version
