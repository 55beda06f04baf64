"""Multi-layer perceptron."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from vaekit.networks.shapes import Shape, activation, as_shape


class MLP(nn.Module):
    r"""Fully connected hidden layers \( h_{l+1} = a(W_l h_l + b_l) \) on the flattened input; no output layer.

    Use it for tables and small images. With `hidden=()` it only flattens, so that a `Conditional` around it is linear.

    Args:
        in_shape: event shape of the input, an int or a tuple.
        hidden: widths of the hidden layers.
        activation: "relu", "leaky-relu", "tanh", "elu", "gelu", "silu" or "softplus".
        dropout: probability of dropping a hidden unit while training.

    Example:
        >>> MLP((1, 28, 28), (512, 256)).out_shape
        (256,)
    """

    def __init__(
        self, in_shape: Shape, hidden: Sequence[int] = (400, 400), activation: str = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.in_shape = as_shape(in_shape, "in_shape")
        self.hidden = as_shape(tuple(hidden), "hidden")
        self.activation, self.dropout = activation, float(dropout)
        self.layers = self._build()

    def _build(self) -> nn.Sequential:
        width = prod(self.in_shape)
        layers: list[nn.Module] = [nn.Flatten()]
        for next_width in self.hidden:
            layers += [nn.Linear(width, next_width), activation(self.activation)]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width = next_width
        self.out_shape = (width,)
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *in_shape) to (B, width of the last layer)."""
        return self.layers(x)
