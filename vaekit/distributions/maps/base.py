"""What a map is, and the plain ones."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import transforms

from vaekit.errors import OwnDrawsOnlyError


class Map(ABC):
    """An invertible map of the last dimension, with log|det| of its Jacobian both ways.

    Attributes:
        is_affine: whether the mean goes through the map like a point.
        is_orthogonal: whether lengths stay as they are, so that N(0, I) goes to itself.
    """

    is_affine = False
    is_orthogonal = False

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y of shape (..., D) and log|det dy/dz|, which broadcasts with (...)."""

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z of shape (..., D) and log|det dz/dy|, which broadcasts with (...).

        Raises:
            OwnDrawsOnlyError: where the way back is not known.
        """
        raise OwnDrawsOnlyError(
            f"{type(self).__name__} has no inverse: the density of its flow is known only at the flow's last draws. "
            "Pass log_prob the very tensor that rsample returned (with gradients) or sample (without), not a copy; "
            "objectives that take the density elsewhere (STL, DReG) need a flow with an inverse."
        )


class Inverse(Map):
    """A map turned round: forward is the way back.

    Args:
        map: the map; it needs an inverse.
    """

    def __init__(self, map: Map) -> None:
        self.map, self.is_affine, self.is_orthogonal = map, map.is_affine, map.is_orthogonal

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of the map."""
        return self.map.inverse(z)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The map."""
        return self.map.forward(y)


class Reverse(Map):
    """Turns the order of the dimensions round, so that an autoregressive map after it sees them the other way."""

    is_affine = is_orthogonal = True

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The dimensions in reversed order; volumes stay as they are."""
        return z.flip(-1), z.new_zeros(())

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same once more."""
        return self.forward(y)


class Affine(Map):
    r"""\( y = \mu + \sigma z \) per dimension.

    Args:
        loc: \( \mu \), shape (*batch, D).
        scale: \( \sigma > 0 \), shape (*batch, D).
    """

    is_affine = True

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Location plus scale times z."""
        return self.loc + self.scale * z, self.scale.log().sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The standardised y."""
        return (y - self.loc) / self.scale, -self.scale.log().sum(-1)


class TorchTransform(Map):
    """A transform of `torch.distributions` over vectors as a map.

    Args:
        transform: with an event of one dimension. Its own `call_and_ladj` is taken where it has one, as those of zuko.
    """

    def __init__(self, transform: transforms.Transform) -> None:
        self.transform = transform

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The transform."""
        return _with_log_det(self.transform, z)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Its inverse."""
        z = self.transform.inv(y)
        return z, -_with_log_det(self.transform, z)[1]


@runtime_checkable
class _WithLogDet(Protocol):
    """A transform that gives its value and log|det| at once, as those of zuko do."""

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


def _with_log_det(transform: transforms.Transform, z: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(transform, _WithLogDet):
        return transform.call_and_ladj(z)
    y = transform(z)
    return y, transform.log_abs_det_jacobian(z, y)
