"""Equal mixtures whose draws say which component they come from."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base, from_noise, noise_shape
from vaekit.distributions.support import centre
from vaekit.errors import ShapeError


class _Numbered(constraints.Constraint):
    """Vectors whose first element is one of 0..M-1.

    Args:
        num_parts: M.
    """

    event_dim = 1

    def __init__(self, num_parts: int) -> None:
        self.num_parts = num_parts

    def check(self, value: Tensor) -> Tensor:
        """Which vectors are in the set, shape (...)."""
        number = value[..., 0]
        return (number % 1 == 0) & (number >= 0) & (number < self.num_parts) & value.isfinite().all(-1)


class NumberedMixture(Base):
    r"""\( p(m, z) = \frac1M p_m(z) \): one of M distributions, each as likely as the others, and a draw from it.

    An event is the vector (m, z, 0, ..., 0): the number of the component, a draw from it, and as many zeros as others
    have more dimensions. Unlike `Mixture` it keeps the number, so that what follows from z may depend on it.

    Of n draws each component gives n / M, give or take one, and each draw by itself comes from each of them with the
    same probability: means over draws are unbiased, and vary less than those of independent draws.

    References:
        Owen, "Monte Carlo theory, methods and examples", 2013, https://artowen.su.domains/mc/, chapter 8
        (stratified and systematic sampling).

    Args:
        parts: the \( p_m \), of one batch shape, over vectors of any length.

    Raises:
        ShapeError: if there are none, their batch shapes differ, or one has events that are no vectors.

    Example:
        >>> from vaekit.distributions import Normal, Product
        >>> parts = [Product(Normal(torch.zeros(1), torch.full((1,), scale)), 1) for scale in (1.0, 2.0)]
        >>> NumberedMixture(parts).log_prob(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        tensor([-1.6121, -2.3052])
    """

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts = tuple(parts)
        found = {(tuple(part.batch_shape), len(part.event_shape)) for part in self.parts}
        if len(found) != 1 or next(iter(found))[1] != 1:
            shapes = [(tuple(part.batch_shape), tuple(part.event_shape)) for part in self.parts]
            raise ShapeError(
                f"expected components of one batch shape over vectors; got batch and event shapes {shapes}"
            )
        self._sizes = [part.event_shape[0] for part in self.parts]
        super().__init__(self.parts[0].batch_shape, Size((1 + max(self._sizes),)), validate_args=False)

    def __repr__(self) -> str:
        return f"NumberedMixture({', '.join(map(str, self.parts))})"

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "NumberedMixture":
        """The same distribution, repeated over `batch_shape`."""
        return NumberedMixture([part.expand(Size(batch_shape)) for part in self.parts])

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws of all components carry gradients; the number needs none, for its mass has no parameters."""
        return all(part.has_rsample for part in self.parts)

    @property
    def has_exact_mean(self) -> bool:  # type: ignore[override]
        """No: a mean of numbers of components is no component."""
        return False

    @property
    def mean(self) -> Tensor:
        """There is none.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"z of one of {len(self.parts)} models has no axes in common with z of another one")

    @property
    def centre(self) -> Tensor:
        """The point that stands for the mixture, shape (*batch, *event): that of the first component."""
        point = centre(self.parts[0])
        return self._chosen([point], torch.zeros(point.shape[:-1], dtype=torch.long, device=point.device))

    @property
    def support(self) -> constraints.Constraint:
        """Vectors that begin with the number of a component."""
        return _Numbered(len(self.parts))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self._drawn(Size(sample_shape), lambda part, shape: part.sample(shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, *event)."""
        return self._drawn(Size(sample_shape), lambda part, shape: part.rsample(shape))

    def _drawn(self, shape: Size, draw: Callable[[Distribution, Size], Tensor]) -> Tensor:
        z = [draw(part, shape) for part in self.parts]
        order = torch.randperm(shape.numel(), device=z[0].device)
        return self._chosen(z, self._numbers(torch.rand(self.batch_shape, device=z[0].device), order, shape))

    @property
    def noise_shape(self) -> Size | None:
        """One number for the component, and as many as the largest of them takes."""
        shapes = [noise_shape(part) for part in self.parts]
        if any(shape is None or len(shape) != 1 for shape in shapes):
            return None
        return Size((1 + max(shape[0] for shape in shapes if shape is not None),))

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given normal noise, shape (*sample, *batch, *event)."""
        sizes = [shape[0] for part in self.parts if (shape := noise_shape(part)) is not None]
        z = [from_noise(part, noise[..., 1 : 1 + size]) for part, size in zip(self.parts, sizes, strict=True)]
        shape = noise.shape[: noise.ndim - 1 - len(self.batch_shape)]
        first = noise[..., 0].flatten(0, len(shape) - 1)[0] if shape else noise[..., 0]
        order = torch.arange(shape.numel(), device=z[0].device)
        return self._chosen(z, self._numbers(torch.special.ndtr(first.to(z[0].device)), order, shape))

    def _numbers(self, u: Tensor, order: Tensor, shape: Size) -> Tensor:
        """Which component each draw takes, shape (*shape, *batch), from u in [0, 1) of shape (*batch)."""
        start = (u * len(self.parts)).long().clamp(max=len(self.parts) - 1)
        return (start + order.reshape((*shape, *[1] * len(self.batch_shape)))) % len(self.parts)

    def _chosen(self, z: Sequence[Tensor], number: Tensor) -> Tensor:
        """(m, z, 0, ...) of the draws of all components, shape (*sample, *batch, L_m) each."""
        width = max(self._sizes)
        padded = torch.stack([torch.nn.functional.pad(part, (0, width - part.shape[-1])) for part in z])
        index = number.unsqueeze(0).unsqueeze(-1).expand(1, *number.shape, width)
        return torch.cat([number.unsqueeze(-1).to(padded.dtype), padded.gather(0, index)[0]], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(m, z) = log p_m(z) - log M, nats, shape (...); -inf where there is no such m."""
        number, inside = numbers_of(value, len(self.parts))
        pairs = zip(self.parts, self._sizes, strict=True)
        table = torch.stack([part.log_prob(value[..., 1 : 1 + size]) for part, size in pairs])
        found = table.gather(0, number.expand(table.shape[1:]).unsqueeze(0))[0] - math.log(len(self.parts))
        return torch.where(inside, found, -torch.inf)


def numbers_of(value: Tensor, num_parts: int) -> tuple[Tensor, Tensor]:
    """The number of the component in each event of shape (..., 1 + L), and whether it is one (NaN counts as 0)."""
    first = value[..., 0].nan_to_num(nan=0.0)
    inside = (first % 1 == 0) & (first >= 0) & (first < num_parts)
    return torch.where(inside, first, torch.zeros_like(first)).long(), inside
