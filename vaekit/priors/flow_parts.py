"""What the flow priors share: standard normal noise, and the demand for dimensions."""

from math import prod

from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.networks import MLP
from vaekit.networks.shapes import Shape, as_shape


def num_dimensions(family: str, event_shape: Shape, num_flows: int) -> int:
    """D, the number of elements of z.

    Raises:
        ConfigError: if there are fewer than two of them, or no step.
    """
    size = prod(as_shape(event_shape))
    if size < 2:
        raise ConfigError(
            f"{family} mixes dimensions of z and expects at least 2 of them; got {size}, a flow without enough "
            "dimensions. Use a larger latent_dim, or StandardNormal."
        )
    if num_flows < 1:
        raise ConfigError(f"{family} expects num_flows of at least 1; got {num_flows}. StandardNormal has none.")
    return size


class HalfNetwork(nn.Module):
    """The network of a coupling: from the first half of z to two raw parameters for each dimension of the rest.

    The last layer starts small, so that the flow starts near the identity.

    Args:
        size: D.
        hidden: widths of the hidden layers.
    """

    def __init__(self, size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.num_first = size // 2
        self.network = MLP(self.num_first, hidden)
        self.last = nn.Linear(self.network.out_shape[0], 2 * (size - self.num_first))
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor) -> Tensor:
        """(..., D // 2) to (..., D - D // 2, 2)."""
        raw = self.last(self.network(z.reshape(-1, self.num_first)))
        return raw.reshape(*z.shape[:-1], -1, 2)
