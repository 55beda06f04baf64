"""Some of several concatenated inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.shapes import as_shape
from vaekit.traits import NetworkTraits, told


class Parts(nn.Module):
    """Feeds some parts of a concatenated input to a network, such as the layer next to x of a hierarchical latent.

    A decoder that takes the whole flat z has skip connections from every layer. With `Parts(network, sizes)` it sees
    z_1 alone, so that p(x|z) = p(x|z_1).

    Args:
        network: takes the chosen parts, concatenated.
        sizes: sizes of all parts.
        chosen: places of the parts that reach the network, 0 for the first.

    Raises:
        ConfigError: if a place is not one of them.

    Example:
        >>> from vaekit.networks import MLP
        >>> decoder = Parts(MLP(8, (16,)), sizes=(8, 4, 2))
        >>> decoder.in_shape, decoder.out_shape
        ((14,), (16,))
    """

    def __init__(self, network: nn.Module, sizes: Sequence[int], chosen: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.network, self.sizes, self.chosen = network, as_shape(sizes, "sizes"), tuple(chosen)
        if not self.chosen or not set(self.chosen) <= set(range(len(self.sizes))):
            raise ConfigError(f"chosen parts are places from 0 to {len(self.sizes) - 1}; got {self.chosen}")
        self.in_shape = (sum(self.sizes),)
        self.out_shape = told(NetworkTraits, network).out_shape

    def forward(self, z: Tensor) -> Tensor:
        """The network's output for the chosen parts of z, shape (B, sum of sizes)."""
        parts = z.split(self.sizes, -1)
        return self.network(torch.cat([parts[i] for i in self.chosen], -1))
