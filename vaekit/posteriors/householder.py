"""Householder flow posterior."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Flow, maps
from vaekit.posteriors.flow_parts import base_and_rest
from vaekit.shapes import Shape, num_dimensions


class Householder(ConditionalDistribution):
    r"""A diagonal normal turned by K reflections: \( N(z; H \mu, H \mathrm{diag}(\sigma^2) H^T) \),
    \( H = H_K \cdots H_1 \), \( H_k = I - 2 v_k v_k^T / |v_k|^2 \).

    The network gives the K vectors v for each x (the paper derives each from the one before by a linear layer). Volumes
    stay as they are, the mean is exact, and K = D reflections reach every rotated diagonal normal, as `FullNormal`
    does, at (K + 2) D parameters. It stays normal: for other shapes take `Sylvester` or `InverseAutoregressive`. Use it
    where codes are correlated given x and too many for `FullNormal`.

    References:
        Tomczak & Welling, "Improving variational auto-encoders using Householder flow", 2016,
        https://arxiv.org/abs/1611.09630.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.

    Raises:
        ConfigError: for K < 1 or fewer than two dimensions.

    Example:
        >>> import torch
        >>> q = Householder(2, num_flows=1)(torch.tensor([1.0, 2.0, 0.0, 0.0, 1.0, 0.0]))
        >>> q.mean
        tensor([-1.,  2.])
    """

    def __init__(self, event_shape: Shape, num_flows: int = 4) -> None:
        size = num_dimensions("Householder", event_shape, num_flows, instead="DiagonalNormal")
        super().__init__(event_shape, param_shape=((num_flows + 2) * size,))
        self.num_flows = num_flows

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, v of each reflection) of shape (..., (K + 2) D) to q(z|x)."""
        base, rest = base_and_rest(params, self.event_shape)
        return Flow(base, [maps.Reflection(v) for v in rest.chunk(self.num_flows, -1)])
