"""Normal distributions: fast, standard, of a logarithm, and with a covariance of a diagonal plus a few columns."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, constraints
from torch.distributions import LogNormal as TorchLogNormal
from torch.distributions import Normal as TorchNormal

from vaekit.distributions.base import Base, Hooks
from vaekit.distributions.product import Product
from vaekit.distributions.special import HALF_LOG_TWO_PI


def _log_prob(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log N(x; loc, scale^2) in nats, without the square of the scale, which leaves float32 at 1e-19 and at 1e19."""
    return -0.5 * ((value - loc) / scale).square() - scale.log() - HALF_LOG_TWO_PI


class Normal(Hooks, TorchNormal):
    """torch's `Normal`, made faster: in a small training step the views of a broadcast are a noticeable part.

    `log_prob` squares (x - loc) / scale, where torch squares the scale, which rounds to 0 or infinity.

    Args:
        loc: mean, any shape.
        scale: standard deviation, broadcastable with `loc`.
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        if validate_args is None or validate_args or loc.ndim != scale.ndim or loc.shape != scale.shape:
            super().__init__(loc, scale, validate_args=validate_args)
            return
        self.loc, self.scale = loc, scale
        Distribution.__init__(self, loc.shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Normal":
        """The same distribution, repeated over `batch_shape`."""
        return type(self)(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch); NaN where the scale is, which torch refuses."""
        shape = self._extended_shape(torch.Size(sample_shape))
        loc, scale = self.loc.detach().expand(shape), self.scale.detach().expand(shape)
        try:
            return torch.normal(loc, scale)
        except RuntimeError:
            is_scale = scale >= 0
            if bool(is_scale.all()):
                raise
            return torch.where(is_scale, torch.normal(loc, torch.where(is_scale, scale, 0.0)), math.nan)

    @property
    def noise_shape(self) -> torch.Size | None:
        """That of an event: a number."""
        return self.event_shape

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given standard normal noise, shape (*sample, *batch)."""
        return self.loc + self.scale * noise.to(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats."""
        return _log_prob(value, self.loc, self.scale)


class NormalMixture(MixtureSameFamily):
    """torch's mixture of one family, of normal distributions: its support is the real numbers.

    Args:
        mixture_distribution: the weights, a `Categorical` of batch shape (*batch).
        component_distribution: the components, `Normal` of batch shape (*batch, K).
    """

    @property
    def support(self) -> constraints.Constraint:
        """The real numbers."""
        return constraints.real


class UnitNormal(Normal):
    """N(0, 1) of any shape: a `Normal` whose type says that its parameters are 0 and 1, which shortens the KL (13.24).

    Args:
        loc: zeros.
        scale: ones.
    """


class LogNormal(TorchLogNormal):
    r"""torch's `LogNormal` whose draws stay inside the positive numbers where \( e^{\mu + \sigma\epsilon} \) is none.

    Args:
        loc: \( \mu \), the mean of log x.
        scale: \( \sigma > 0 \), the standard deviation of log x.

    Example:
        >>> import torch
        >>> LogNormal(torch.tensor(200.0), torch.tensor(1.0)).sample().isfinite()
        tensor(True)
    """

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "LogNormal":
        """The same distribution, repeated over `batch_shape`."""
        shape = torch.Size(batch_shape)
        return LogNormal(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch)."""
        log_x: Tensor = self.base_dist.rsample(torch.Size(sample_shape))
        info = torch.finfo(log_x.dtype)
        return log_x.exp().clamp(info.tiny, info.max)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats."""
        log_x = value.log()
        return _log_prob(log_x, self.loc, self.scale) - log_x


class LowRankNormal(Base):
    r"""\( N(z; \mu, \mathrm{diag}\,\sigma^2 + U U^T) \) with U of shape (D, R), for events of any shape.

    Draws are \( \mu + \sigma \epsilon + U \eta \). With \( a = (z - \mu)/\sigma \), \( B = U/\sigma \) and
    \( C = I + B^T B \), which is only (R, R),
    \[ \log p = -\tfrac12 \left( |a - B w|^2 + |w|^2 + \log |C| \right) - \sum_j \log \sigma_j - \tfrac{D}{2} \log 2\pi,
       \qquad w = C^{-1} B^T a. \]
    This sum of squares equals Woodbury's \( |a|^2 - a^T B C^{-1} B^T a \), which torch's `LowRankMultivariateNormal`
    computes: there two large numbers cancel in float32 where U is large beside sigma. C is factorised at the first
    density, so that draws cost nothing more.

    References:
        Ong et al., "Gaussian variational approximation with a factor covariance structure", 2018,
        https://arxiv.org/abs/1701.03208.

    Args:
        loc: mean, shape (*batch, *event).
        scale: sigma > 0, of the same shape.
        factor: U, shape (*batch, *event, R).
        event_ndims: number of dimensions of an event.

    Example:
        >>> import torch
        >>> d = LowRankNormal(torch.zeros(3), torch.ones(3), torch.ones(3, 1), 1)
        >>> d.variance
        tensor([2., 2., 2.])
    """

    parameters = ("loc", "scale", "factor", "_tril")
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, factor: Tensor, event_ndims: int) -> None:
        self.loc, self.scale, self.factor, self.event_ndims = loc, scale, factor, event_ndims
        self._tril: Tensor | None = None
        split = loc.ndim - event_ndims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    def __repr__(self) -> str:
        batch, event, rank = tuple(self.batch_shape), tuple(self.event_shape), self.factor.shape[-1]
        return f"LowRankNormal(batch_shape={batch}, event_shape={event}, rank={rank})"

    @property
    def support(self) -> constraints.Constraint:
        """Real events."""
        return constraints.independent(constraints.real, self.event_ndims)

    @property
    def mean(self) -> Tensor:
        """E[z], shape (*batch, *event)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Var[z] per element, shape (*batch, *event)."""
        return self.scale.square() + self.factor.square().sum(-1)

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariance of the D elements of an event, shape (*batch, D, D)."""
        scale, factor = self._flat(self.scale), self._flat_factor()
        return torch.diag_embed(scale.square()) + factor @ factor.mT

    @property
    def log_det(self) -> Tensor:
        """Logarithm of the determinant of the covariance, shape (*batch,)."""
        capacitance = self._capacitance().diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 2 * (self._flat(self.scale).log().sum(-1) + capacitance)

    def kl_to(self, p: Distribution) -> Tensor | None:
        """KL(q, p) in nats, shape (*batch,), for a product of normals of the same event; else None.

        Equation 13.23, where the trace is a sum of squares: no matrix of D x D is formed.
        """
        if not (isinstance(p, Product) and isinstance(p.base, Normal)) or p.event_ndims != self.event_ndims:
            return None
        squares = (self.variance + (self.loc - p.base.loc).square()) / p.base.scale.square()
        return self._flat(0.5 * (squares - 1) + p.base.scale.log()).sum(-1) - 0.5 * self.log_det

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch,)."""
        return 0.5 * self.log_det + math.prod(self.event_shape) * (0.5 + HALF_LOG_TWO_PI)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch, *event)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        rank = (*shape[: len(shape) - self.event_ndims], *[1] * self.event_ndims, self.factor.shape[-1])
        own, common = self.loc.new_empty(shape).normal_(), self.loc.new_empty(rank).normal_()
        return self.loc + self.scale * own + (self.factor * common).sum(-1)

    @property
    def noise_shape(self) -> torch.Size | None:
        """One number for each element of an event, and one for each column of U."""
        return torch.Size((math.prod(self.event_shape) + self.factor.shape[-1],))

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given normal noise, shape (*sample, *batch, *event)."""
        own, common = noise.to(self.loc).split((math.prod(self.event_shape), self.factor.shape[-1]), -1)
        common = common.reshape(*common.shape[:-1], *[1] * self.event_ndims, -1)
        result: Tensor = self.loc + self.scale * own.unflatten(-1, self.event_shape) + (self.factor * common).sum(-1)
        return result

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, shape (*batch,)."""
        a = self._flat((value - self.loc) / self.scale)
        columns = self._flat_factor() / self._flat(self.scale).unsqueeze(-1)
        projected = (columns * a.unsqueeze(-1)).sum(-2).unsqueeze(-1)
        tril = self._capacitance()
        tril = tril.expand(*projected.shape[:-2], *tril.shape[-2:])
        w = torch.cholesky_solve(projected, tril)
        rest = a - (columns @ w).squeeze(-1)
        squares = rest.square().sum(-1) + w.square().sum((-1, -2))
        return -0.5 * (squares + self.log_det) - a.shape[-1] * HALF_LOG_TWO_PI

    def _flat(self, values: Tensor) -> Tensor:
        """Events in one dimension."""
        return values.flatten(-self.event_ndims)

    def _flat_factor(self) -> Tensor:
        return self.factor.flatten(-self.event_ndims - 1, -2)

    def _capacitance(self) -> Tensor:
        """The Cholesky factor of C, shape (*batch, R, R); NaN where C is not finite, so that other rows keep theirs."""
        if self._tril is None:
            columns = self._flat_factor() / self._flat(self.scale).unsqueeze(-1)
            eye = torch.eye(columns.shape[-1], dtype=columns.dtype, device=columns.device)
            tril, failed = torch.linalg.cholesky_ex(eye + columns.mT @ columns)
            self._tril = tril.masked_fill(failed[..., None, None] != 0, math.nan)
        return self._tril
