"""A fixed scaling in front of a network."""

from torch import Tensor, nn

from vaekit.errors import ConfigError


class RescaleInput(nn.Module):
    """Feeds (x - low) / (high - low) to a network: integers of an image reach an encoder as values in [0, 1].

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
        for name in ("in_shape", "out_shape"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x: Tensor) -> Tensor:
        """The network's output for the scaled input."""
        return self.network((x - self.low) / (self.high - self.low))
