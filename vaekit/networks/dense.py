"""A multi-layer perceptron with an output layer, over any leading dimensions: what conditionals between latents use."""

from collections.abc import Sequence

from torch import Tensor, nn

from vaekit.networks.mlp import MLP


class Dense(nn.Module):
    """(..., in_size) to (..., out_size): hidden layers, and one linear layer more.

    Args:
        in_size: width of the input.
        hidden: widths of the hidden layers; none leave one linear map.
        out_size: width of the output.
        activation: see `MLP`.
    """

    def __init__(self, in_size: int, hidden: Sequence[int], out_size: int, activation: str = "relu") -> None:
        super().__init__()
        self.mlp = MLP(in_size, hidden, activation)
        self.linear = nn.Linear(self.mlp.out_shape[0], out_size)

    def forward(self, x: Tensor) -> Tensor:
        """x of shape (..., in_size)."""
        return self.linear(self.mlp(x.reshape(-1, x.shape[-1]))).reshape(*x.shape[:-1], -1)
