"""The network of a coupling."""

from torch import Tensor, nn

from vaekit.networks.dense import Dense


class HalfNetwork(nn.Module):
    """From the first half of z to two raw parameters for each dimension of the rest.

    The last layer starts small, so that the flow starts near the identity.

    Args:
        size: D.
        hidden: widths of the hidden layers.
    """

    def __init__(self, size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.dense = Dense(size // 2, hidden, 2 * (size - size // 2))
        nn.init.normal_(self.dense.linear.weight, std=0.01)
        nn.init.zeros_(self.dense.linear.bias)

    def forward(self, z: Tensor) -> Tensor:
        """(..., D // 2) to (..., D - D // 2, 2)."""
        return self.dense(z).unflatten(-1, (-1, 2))
