"""Priors of bits and of one-hot codes, independent or one after the other."""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.distributions import AutoregressiveOneHot, OneHotCategorical, Product
from vaekit.distributions import Bernoulli as BernoulliDistribution
from vaekit.distributions.discrete import check_num_classes
from vaekit.errors import ConfigError
from vaekit.networks import MaskedMLP
from vaekit.printing import Printed
from vaekit.shapes import Shape, as_shape

Probs = Literal["learned", "uniform"]


class Logits(Printed):
    """Logits that start at 0, the uniform distribution, and are learned from there or stay.

    Args:
        shape: shape of the logits.
        probs: "learned" or "uniform".

    Raises:
        ConfigError: for another word.
    """

    raw: Tensor

    def __init__(self, shape: tuple[int, ...], probs: Probs) -> None:
        super().__init__()
        if probs not in ("learned", "uniform"):
            raise ConfigError(f'probs is "learned" or "uniform"; got {probs!r}')
        if probs == "learned":
            self.raw = nn.Parameter(torch.zeros(shape))
        else:  # a buffer, so that it follows the model's dtype and device; it is no state worth saving
            self.register_buffer("raw", torch.zeros(shape), persistent=False)

    def forward(self) -> Tensor:
        """The logits."""
        return self.raw


class Bernoulli(Printed):
    r"""Prior of bits.

    \( p(z) = \prod_j \pi_j^{z_j} (1 - \pi_j)^{1 - z_j} \) for z in {0, 1}, with learned or even probabilities.

    Use it with `posteriors.Bernoulli`, with learned probabilities unless even ones are meant.

    References:
        Mnih & Gregor, "Neural variational inference and learning in belief networks", 2014,
        https://arxiv.org/abs/1402.0030.

    Args:
        event_shape: shape of z.
        probs: "learned", one probability per bit, or "uniform", 1/2.

    Raises:
        ConfigError: for another word.

    Example:
        >>> Bernoulli(16)().event_shape
        torch.Size([16])
    """

    def __init__(self, event_shape: Shape, probs: Probs = "learned") -> None:
        super().__init__()
        self.event_shape, self.probs = as_shape(event_shape), probs
        self.logits = Logits(self.event_shape, probs)

    def forward(self) -> Product:
        """p(z), batch shape ()."""
        return Product(BernoulliDistribution(self.logits(), validate_args=False), len(self.event_shape))


class Categorical(Printed):
    r"""Prior of categories.

    \( p(z) = \prod_i \pi_{i, z_i} \) for independent codes in C classes each, as one-hot vectors.

    Codes that depend on each other are the matter of `AutoregressiveCategorical`. Use it with `posteriors.Categorical`,
    for codes that may be independent.

    References:
        Jang et al., "Categorical reparameterization with Gumbel-softmax", 2017, https://arxiv.org/abs/1611.01144.

    Args:
        code_shape: shape of the codes, an int or a tuple; the event of z has one more dimension, the classes.
        num_classes: C.
        probs: "learned", C probabilities per code, or "uniform", 1/C.

    Raises:
        ConfigError: if C < 2, or for another word.

    Example:
        >>> Categorical(3, num_classes=4)().event_shape
        torch.Size([3, 4])
    """

    def __init__(self, code_shape: Shape, num_classes: int = 10, probs: Probs = "learned") -> None:
        super().__init__()
        check_num_classes("Categorical", num_classes)
        self.code_shape, self.num_classes, self.probs = as_shape(code_shape, "code_shape"), num_classes, probs
        self.event_shape = (*self.code_shape, num_classes)
        self.logits = Logits(self.event_shape, probs)

    def forward(self) -> OneHotCategorical:
        """p(z), batch shape ()."""
        return OneHotCategorical(self.logits(), len(self.code_shape))


class AutoregressiveCategorical(Printed):
    r"""Autoregressive prior of discrete codes.

    \( p(z) = \prod_i p(z_i | z_1, \dots, z_{i-1}) \) for codes in C classes each, as one-hot vectors.

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
