"""Masked multi-layer perceptron: the output at a position depends on the inputs at earlier positions alone."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.networks.shapes import activation, as_shape


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights are 0 for good.

    Args:
        mask: which weights are there, shape (out, in), booleans. A layer without any weight has a bias alone.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)
        if not bool(mask.any()):
            self.weight.requires_grad_(False)  # it has no effect, and an optimiser nothing to do with it

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedMLP(nn.Module):
    r"""P groups of inputs to P groups of outputs, where output group i sees the input groups before i alone.

    Each hidden unit has a degree d in 1..P-1 and sees input groups 1..d; output group i sees hidden units of degree
    below i. One pass gives all conditionals of an autoregressive model; the first group of outputs is a constant.

    References:
        Germain et al., "MADE: masked autoencoder for distribution estimation", 2015, https://arxiv.org/abs/1502.03509.

    Args:
        num_positions: P.
        in_features: inputs per position.
        out_features: outputs per position.
        hidden: widths of the hidden layers, each at least P - 1, so that every degree occurs.
        activation: as in `MLP`.

    Raises:
        ConfigError: if a hidden layer is narrower than P - 1.

    Example:
        >>> import torch
        >>> MaskedMLP(3, in_features=4, out_features=2)(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 3, 2])
    """

    def __init__(
        self,
        num_positions: int,
        in_features: int = 1,
        out_features: int = 1,
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.num_positions, self.in_features, self.out_features = num_positions, in_features, out_features
        self.hidden, self.activation = as_shape(tuple(hidden), "hidden"), activation
        self.in_shape, self.out_shape = (num_positions, in_features), (num_positions, out_features)
        narrow = [width for width in self.hidden if width < num_positions - 1]
        if narrow:
            raise ConfigError(
                f"{num_positions} positions need hidden layers of at least {num_positions - 1} units, one per degree; "
                f"got {narrow[0]}"
            )
        self.layers = self._build()

    def _build(self) -> nn.Sequential:
        positions = torch.arange(1, self.num_positions + 1)
        degrees, layers = positions.repeat_interleave(self.in_features), []
        for width in self.hidden if self.num_positions > 1 else ():  # a single position sees nothing
            next_degrees = 1 + torch.arange(width) % (self.num_positions - 1)
            layers += [MaskedLinear(next_degrees.unsqueeze(1) >= degrees), activation(self.activation)]
            degrees = next_degrees
        outputs = positions.repeat_interleave(self.out_features)
        return nn.Sequential(*layers, MaskedLinear(outputs.unsqueeze(1) > degrees))

    def forward(self, x: Tensor) -> Tensor:
        """(..., P, in_features) to (..., P, out_features)."""
        return self.layers(x.flatten(-2)).unflatten(-1, self.out_shape)
