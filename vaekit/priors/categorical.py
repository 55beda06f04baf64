"""Prior of categories."""

from torch import nn

from vaekit.distributions import OneHotCategorical
from vaekit.distributions.discrete import check_num_classes
from vaekit.priors.logits import Logits, Probs
from vaekit.shapes import Shape, as_shape


class Categorical(nn.Module):
    r"""\( p(z) = \prod_i \pi_{i, z_i} \) for independent codes in C classes each, as one-hot vectors.

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
