"""Autoregressive prior of discrete codes."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from vaekit.distributions import AutoregressiveOneHot
from vaekit.distributions.discrete import check_num_classes
from vaekit.networks import MaskedMLP
from vaekit.shapes import Shape, as_shape


class AutoregressiveCategorical(nn.Module):
    r"""\( p(z) = \prod_i p(z_i | z_1, \dots, z_{i-1}) \) for codes in C classes each, as one-hot vectors.

    The codes, flattened, go through one masked network, which gives all conditionals in one pass; drawing takes as many
    passes as there are codes. Use it where codes depend on each other, as those of neighbouring parts of an image do:
    `Categorical` then loses the mutual information between them. KL has no closed form and is sampled.

    References:
        Germain et al., "MADE: masked autoencoder for distribution estimation", 2015, https://arxiv.org/abs/1502.03509.
        van den Oord et al., "Neural discrete representation learning", 2017, https://arxiv.org/abs/1711.00937.

    Args:
        code_shape: shape of the codes, an int or a tuple; the event of z has one more dimension, the classes.
        num_classes: C.
        hidden: widths of the hidden layers of the network, each at least the number of codes less 1.

    Raises:
        ConfigError: if C < 2, or a hidden layer is too narrow.

    Example:
        >>> AutoregressiveCategorical((2, 3), num_classes=4)().event_shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, code_shape: Shape, num_classes: int = 10, hidden: Sequence[int] = (128,)) -> None:
        super().__init__()
        check_num_classes("AutoregressiveCategorical", num_classes)
        self.code_shape, self.num_classes = as_shape(code_shape, "code_shape"), num_classes
        self.hidden = as_shape(tuple(hidden), "hidden")
        self.event_shape = (*self.code_shape, num_classes)
        self.network = MaskedMLP(prod(self.code_shape), num_classes, num_classes, self.hidden)

    def forward(self) -> AutoregressiveOneHot:
        """p(z), batch shape ()."""
        like: Tensor = next(self.network.parameters())
        return AutoregressiveOneHot(self.network, self.event_shape, like)
