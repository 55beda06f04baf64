"""Gaussian posterior whose covariance is a diagonal plus a matrix of low rank."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import LowRankNormal as LowRankNormalDistribution
from vaekit.distributions.links import to_scale
from vaekit.errors import ConfigError
from vaekit.shapes import Shape, as_shape


class LowRankNormal(ConditionalDistribution):
    r"""\( q(z|x) = N(z; \mu(x), \mathrm{diag}\, \sigma^2(x) + U(x) U(x)^T) \) with U of shape (D, R).

    (R + 2) D parameters: between `DiagonalNormal` (R = 0) and `FullNormal`, for correlated latents in many dimensions.
    KL to a standard normal prior is exact; U = 0, near which the raw parameters start, is the diagonal family. Use it
    in tens or hundreds of dimensions where a few directions are correlated given x.

    References:
        Rezende et al., "Stochastic backpropagation", 2014, https://arxiv.org/abs/1401.4082, section 4.3 (rank one).
        Ong et al., "Gaussian variational approximation with a factor covariance structure", 2018,
        https://arxiv.org/abs/1701.03208.

    Args:
        event_shape: shape of z.
        rank: R, the number of columns of U; more than D of them say nothing new.

    Raises:
        ConfigError: for R < 1.

    Example:
        >>> import torch
        >>> LowRankNormal(3, rank=1)(torch.zeros(5, 3, 3)).batch_shape
        torch.Size([5])
    """

    def __init__(self, event_shape: Shape, rank: int = 2) -> None:
        if rank < 1:
            raise ConfigError(f"LowRankNormal expects a rank of at least 1; got {rank}. DiagonalNormal has rank 0.")
        super().__init__(event_shape, param_shape=(rank + 2, *as_shape(event_shape)))
        self.rank = rank

    def forward(self, params: Tensor) -> LowRankNormalDistribution:
        """(mean, log-variance of the diagonal, columns of U) of shape (..., R + 2, *event) to q(z|x)."""
        event_ndims = len(self.event_shape)
        rows = params.movedim(-event_ndims - 1, -1)
        scale = to_scale(rows[..., 1], "log-variance")
        return LowRankNormalDistribution(rows[..., 0], scale, rows[..., 2:], event_ndims)
