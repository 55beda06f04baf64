"""What stands in front of a network: a fixed scaling, and some of several concatenated inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.shapes import as_shape
from vaekit.traits import NetworkTraits, told


class RescaleInput(nn.Module):
    """Feeds (x - low) / (high - low) to a network: integers of an image reach an encoder as values in [0, 1].

    Use it where the likelihood is one of integers with a highest value.
    It belongs to the encoder, unlike a transform of the data: the likelihood still describes x as it is, so no Jacobian
    is due.

    Args:
        network: the network behind the scaling.
        low: what becomes 0.
        high: what becomes 1.

    Raises:
        ConfigError: unless low < high.
    """

    def __init__(self, network: nn.Module, low: float = 0.0, high: float = 255.0) -> None:
        super().__init__()
        if not low < high:
            raise ConfigError(f"RescaleInput expects low < high; got {low} and {high}")
        self.network, self.low, self.high = network, float(low), float(high)
        known = told(NetworkTraits, network)
        self.in_shape, self.out_shape, self.returns_features = known.in_shape, known.out_shape, known.returns_features
        self.context_dim = known.context_dim

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """The network's output for the scaled input; a context is passed on."""
        result: Tensor = self.network((x - self.low) / (self.high - self.low), *context)
        return result


class LogInput(nn.Module):
    """Feeds log(offset + x) to a network: counts and positive numbers reach an encoder on a scale where ratios count.

    Use it where the likelihood is one of counts or positive numbers: fed as they are, counts in the thousands make the
    posterior's scale overflow at the first steps. Like `RescaleInput` it belongs to the encoder: the likelihood still
    describes x as it is, so no Jacobian is due.

    Args:
        network: the network behind the logarithm.
        offset: 1 for counts, 0 for positive numbers.

    Raises:
        ConfigError: if the offset is negative.
    """

    def __init__(self, network: nn.Module, offset: float = 1.0) -> None:
        super().__init__()
        if not offset >= 0:
            raise ConfigError(f"LogInput expects an offset of at least 0; got {offset}")
        self.network, self.offset = network, float(offset)
        known = told(NetworkTraits, network)
        self.in_shape, self.out_shape, self.returns_features = known.in_shape, known.out_shape, known.returns_features
        self.context_dim = known.context_dim

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """The network's output for the logarithms; a context is passed on."""
        # The zeros of a dry run have no logarithm where the offset is 0.
        result: Tensor = self.network((self.offset + x).clamp(min=torch.finfo(x.dtype).tiny).log(), *context)
        return result


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
        known = told(NetworkTraits, network)
        self.out_shape, self.returns_features = known.out_shape, known.returns_features
        self.context_dim = known.context_dim

    def forward(self, z: Tensor, *context: Tensor) -> Tensor:
        """The network's output for the chosen parts of z, shape (B, sum of sizes); a context is passed on."""
        parts = z.split(self.sizes, -1)
        result: Tensor = self.network(torch.cat([parts[i] for i in self.chosen], -1), *context)
        return result
