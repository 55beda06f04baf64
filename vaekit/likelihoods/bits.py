"""Bernoulli likelihood of bits."""

from typing import Any

from torch import Tensor
from torch.distributions import constraints

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Bernoulli as BernoulliDistribution
from vaekit.distributions.product import Missing, Product
from vaekit.shapes import Shape


class _GreyBernoulli(BernoulliDistribution):
    """Cross-entropy on grey targets. It looks like log p but is none: it integrates to more than 1 over [0, 1]."""

    support: Any = constraints.unit_interval


class Bernoulli(ConditionalDistribution):
    r"""Bernoulli likelihood of bits.

    \( \log p(x|z) = \sum_i x_i \log \pi_i + (1 - x_i) \log(1 - \pi_i) \) for x in {0, 1}, logits from the network.

    Equations 13.16-13.17. Use it for bits; for grey values take `ContinuousBernoulli`, `DiscretizedLogistic`, or bits
    drawn by `transforms.Binarize`.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, appendix C.1.

    Args:
        event_shape: shape of x.
        grey: accept any x in [0, 1], as many published recipes do. The result is no density and is marked so.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Example:
        >>> import torch
        >>> Bernoulli(3)(torch.zeros(1, 1, 3)).log_prob(torch.ones(1, 3))
        tensor([-2.0794])
    """

    autocast_params = True

    def __init__(self, event_shape: Shape, grey: bool = False, missing: Missing = "error") -> None:
        super().__init__(event_shape, num_params=1)
        self.grey, self.missing = grey, missing

    def forward(self, params: Tensor) -> Product:
        """Logits of shape (..., 1, *event) to p(x|z)."""
        (logits,) = self.unbind(params)
        kind = _GreyBernoulli if self.grey else BernoulliDistribution
        base = kind(logits=logits, validate_args=False)
        quantity = "no density" if self.grey else None
        return Product(base, len(self.event_shape), missing=self.missing, quantity=quantity)
