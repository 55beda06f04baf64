"""What vaekit may ask of a distribution beside torch's own interface, with the answer of one that says nothing."""

from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal


class Base(Distribution):
    """A distribution with vaekit's optional hooks at their defaults."""

    @property
    def noise_shape(self) -> Size | None:
        """Shape E of the standard normal noise behind one draw; None where draws are not a function of such noise."""
        return None

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given standard normal noise of shape (*sample, *batch, *E): shape (*sample, *batch, *event).

        Raises:
            NotImplementedError: where `noise_shape` is None.
        """
        raise NotImplementedError(f"draws of {type(self).__name__} are not a function of normal noise")


def noise_shape(distribution: Distribution) -> Size | None:
    """`Base.noise_shape` of any distribution; torch's normal ones have the shape of their events."""
    if isinstance(distribution, Base):
        return distribution.noise_shape
    if isinstance(distribution, Independent):
        inner = noise_shape(distribution.base_dist)
        return None if inner is None else distribution.event_shape
    return distribution.event_shape if isinstance(distribution, Normal | MultivariateNormal) else None


def from_noise(distribution: Distribution, noise: Tensor) -> Tensor:
    """`Base.from_noise` of any distribution whose `noise_shape` is known."""
    if isinstance(distribution, Base):
        return distribution.from_noise(noise)
    if isinstance(distribution, Independent):
        return from_noise(distribution.base_dist, noise)
    loc = distribution.loc  # type: ignore[attr-defined]
    noise = noise.to(loc)
    if isinstance(distribution, MultivariateNormal):
        return loc + (distribution.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    return loc + distribution.scale * noise  # type: ignore[attr-defined]
