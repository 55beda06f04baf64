"""A masked network whose outputs are autoregressive in its inputs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.networks.shapes import activation, as_shape

_SMALL = 0.1  # of the usual size of the last layer's weights


class _Masked(nn.Linear):
    """A linear layer some of whose weights are held at zero.

    Args:
        mask: True where a weight is free, shape (out, in).
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    r"""From z of shape (..., D) to (..., D, P): the P outputs of dimension i see \( z_1 \dots z_{i-1} \) and a context.

    Each hidden unit has a degree d in 0 ... D - 1 and sees inputs up to \( z_d \) and units up to its own degree;
    outputs of dimension i see units of a degree below i. Units of degree 0 see the context alone (without a context
    there are none). The last layer starts small, so that a flow made of the outputs starts near the identity.

    References:
        Germain et al., "MADE: masked autoencoder for distribution estimation", 2015, https://arxiv.org/abs/1502.03509.

    Args:
        size: D, at least 2.
        hidden: widths of the hidden layers, at least one.
        num_outputs: P, outputs per dimension.
        context: number of entries of the context; 0 for none.
        activation: see `MLP`.
    """

    def __init__(
        self, size: int, hidden: Sequence[int], num_outputs: int = 2, context: int = 0, activation: str = "elu"
    ) -> None:
        super().__init__()
        self.size, self.num_outputs = size, num_outputs
        self.hidden = as_shape(tuple(hidden), "hidden")
        self.activation = activation
        self.layers = self._build(least=0 if context else 1)
        self.of_context = nn.Linear(context, self.hidden[0], bias=False) if context else None

    def _build(self, least: int) -> nn.Sequential:
        incoming = torch.arange(1, self.size + 1)
        layers: list[nn.Module] = []
        for width in self.hidden:
            degrees = torch.arange(width) % (self.size - least) + least
            layers += [_Masked(degrees[:, None] >= incoming), activation(self.activation)]
            incoming = degrees
        outputs = torch.arange(1, self.size + 1).repeat_interleave(self.num_outputs)
        last = _Masked(outputs[:, None] > incoming)
        with torch.no_grad():
            last.weight.mul_(_SMALL)
            last.bias.zero_()
        return nn.Sequential(*layers, last)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The outputs for z of shape (..., D) and a context of shape (..., context) that broadcasts with it."""
        h = self.layers[0](z)
        if self.of_context is not None:
            h = h + self.of_context(context)
        return self.layers[1:](h).unflatten(-1, (self.size, self.num_outputs))
