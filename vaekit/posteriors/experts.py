"""A posterior that is a product: the prior times a factor for each part of a row that is there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Normal, Product
from vaekit.shapes import Shape, as_shape, check_count


class ProductOfExperts(ConditionalDistribution):
    r"""Gaussian posterior that multiplies a standard normal prior with a factor for each part of x that was observed.

    \( q(z|x) \propto N(z; 0, I) \prod_l N(z; m_l, \Lambda_l^{-1}) \) over the parts l that were observed, with diagonal
    precisions \( \Lambda_l = \mathrm{softplus}(v_l) \). Precisions add up, and so do precisions times means:
    \[ q(z|x) = N\Big(z; \Lambda^{-1} \sum_l \Lambda_l m_l,\ \Lambda^{-1}\Big), \qquad
       \Lambda = I + \sum_l \Lambda_l. \]
    A part whose parameters are NaN has no factor, and without any q is the prior. The order of the parts does not
    matter. Where p(x|z) is linear and Gaussian with precisions that are diagonal in z, the exact posterior is of this
    form.

    Use it where rows have parts that say independent things of z and of which any may be missing, with
    `networks.MemberEncoder` for parts of one kind, and beside `priors.StandardNormal` alone. Parts that repeat each
    other are counted twice; `DiagonalNormal` behind a network that sees all parts at once is not bound to a sum.

    References:
        Hinton, "Training products of experts by minimizing contrastive divergence", 2002,
        https://doi.org/10.1162/089976602760128018.
        Wu & Goodman, "Multimodal generative models for scalable weakly-supervised learning", 2018,
        https://arxiv.org/abs/1802.05335.

    Args:
        event_shape: shape of z.
        num_experts: L, number of parts.

    Raises:
        ConfigError: if L < 1.

    Example:
        >>> import torch
        >>> q = ProductOfExperts(1, num_experts=2)(torch.tensor([[[3.0], [0.5413]], [[torch.nan], [torch.nan]]]))
        >>> q.mean, q.variance  # softplus(0.5413) is 1
        (tensor([1.5000]), tensor([0.5000]))
    """

    def __init__(self, event_shape: Shape, num_experts: int) -> None:
        check_count(num_experts, "num_experts")
        super().__init__(event_shape, param_shape=(num_experts, 2, *as_shape(event_shape)))
        self.num_experts = num_experts

    def forward(self, params: Tensor) -> Product:
        """(m, v) of each part, shape (..., L, 2, *event), NaN for parts that are missing, to q(z|x)."""
        ndims = len(self.event_shape)
        absent = params.isnan()
        # Filled before softplus: NaN behind torch.where would still poison the gradients.
        loc, raw = torch.where(absent, 0.0, params).unbind(-ndims - 1)
        precision = torch.where(absent.any(-ndims - 1), 0.0, F.softplus(raw))
        total = 1 + precision.sum(-ndims - 1)
        mean = (precision * loc).sum(-ndims - 1) / total
        return Product(Normal(mean, total.rsqrt(), validate_args=False), ndims)
