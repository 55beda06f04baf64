"""Posteriors that are normalising flows: a diagonal normal, moved by maps whose parameters come from the encoder."""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Flow, Normal, Product, UnitNormal, maps
from vaekit.distributions.links import BELOW_ONE, above_minus_one, to_scale
from vaekit.distributions.maps.elementwise import spline_network
from vaekit.errors import ConfigError
from vaekit.networks import MaskedMLP
from vaekit.raw import positive_of
from vaekit.shapes import Shape, as_shape, num_dimensions


def base_and_rest(params: Tensor, event_shape: tuple[int, ...]) -> tuple[Product, Tensor]:
    """The diagonal normal of the first 2 D raw parameters (mean, log-variance), and the others, shape (..., rest)."""
    size = prod(event_shape)
    loc, raw, rest = params.split([size, size, params.shape[-1] - 2 * size], -1)
    shape = params.shape[:-1] + event_shape
    base = Normal(loc.reshape(shape), to_scale(raw, "log-variance").reshape(shape), validate_args=False)
    return Product(base, len(event_shape)), rest


class Householder(ConditionalDistribution):
    r"""Householder flow posterior.

    A diagonal normal turned by K reflections: \( N(z; H \mu, H \mathrm{diag}(\sigma^2) H^T) \),
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


class Planar(ConditionalDistribution):
    r"""Planar flow posterior.

    A diagonal normal pushed through K planar maps \( z + u(x) \tanh(w(x) \cdot z + b(x)) \).

    The network gives u, w and b of each map for each x, 2 D + K (2 D + 1) numbers in all; u is moved to where the map
    can be inverted. Each map bends q along one direction, so a few help in two or three dimensions and many are needed
    in more: `Sylvester` and `InverseAutoregressive` go further there. Density at foreign points by a search along w.
    Use it in two or three dimensions whose posterior is bent.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770.

    Args:
        event_shape: shape of z.
        num_flows: K.

    Raises:
        ConfigError: for K < 1.

    Example:
        >>> import torch
        >>> head = Planar(2, num_flows=4)
        >>> head.param_shape, head(torch.zeros(3, 24)).rsample().shape
        ((24,), torch.Size([3, 2]))
    """

    def __init__(self, event_shape: Shape, num_flows: int = 8) -> None:
        size = num_dimensions("Planar", event_shape, num_flows, least=1, instead="DiagonalNormal")
        super().__init__(event_shape, param_shape=(2 * size + num_flows * (2 * size + 1),))
        self.num_flows = num_flows
        self._sizes = [size, size, 1]

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, and u, w, b of each map) of shape (..., P) to q(z|x)."""
        base, rest = base_and_rest(params, self.event_shape)
        steps = []
        for step in rest.chunk(self.num_flows, -1):
            u, w, b = step.split(self._sizes, -1)
            steps.append(maps.Planar(u, w, b.squeeze(-1)))
        return Flow(base, steps)


class Radial(ConditionalDistribution):
    r"""Radial flow posterior.

    A diagonal normal pushed through K radial maps \( z + \frac{\beta}{\alpha + |z - z_0|}(z - z_0) \).

    The network gives \( z_0, \alpha, \beta \) of each map for each x, 2 D + K (D + 2) numbers in all, with
    \( \alpha = \log(1 + e^{a + c}) \) and \( \beta = \alpha (\log(1 + e^{b + c}) - 1) \); raw numbers of 0 give
    \( \alpha = 1, \beta = 0 \), the identity. Each map makes a ball around a point denser or thinner; in many
    dimensions balls hold little, so use it in two or three, beside `Planar`. Density at foreign points in closed form.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770,
        equation 14.

    Args:
        event_shape: shape of z.
        num_flows: K.

    Raises:
        ConfigError: for K < 1.

    Example:
        >>> import torch
        >>> head = Radial(2, num_flows=4)
        >>> head.param_shape, head(torch.zeros(3, 20)).rsample().shape
        ((20,), torch.Size([3, 2]))
    """

    def __init__(self, event_shape: Shape, num_flows: int = 8) -> None:
        size = num_dimensions("Radial", event_shape, num_flows, least=1, instead="DiagonalNormal")
        super().__init__(event_shape, param_shape=(2 * size + num_flows * (size + 2),))
        self.num_flows = num_flows
        self._sizes = [size, 1, 1]

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, and z_0, a, b of each map) of shape (..., P) to q(z|x)."""
        base, rest = base_and_rest(params, self.event_shape)
        steps = []
        for step in rest.chunk(self.num_flows, -1):
            center, a, b = step.split(self._sizes, -1)
            steps.append(maps.Radial(center, positive_of(a.squeeze(-1)), above_minus_one(b.squeeze(-1))))
        return Flow(base, steps)


class Sylvester(ConditionalDistribution):
    r"""Sylvester flow posterior.

    A diagonal normal pushed through K Sylvester maps \( z + Q R \tanh(S Q^T z + b) \), planar maps of M directions.

    The network gives Q, R, S and b of each map for each x, 2 D + K M (D + M + 2) numbers in all: Q by M reflections, R
    and S upper triangular with diagonals between -1 and 1, so that every map can be inverted. Raw numbers near 0 leave
    z near where it was. In the paper it is ahead of planar and inverse autoregressive flows on MNIST; with M = 1 it is
    a `Planar` of restrained length. Density at foreign points by M searches per map. Use it in tens of dimensions where
    the gap between bound and log p(x) stays large with normal posteriors.

    References:
        van den Berg et al., "Sylvester normalizing flows for variational inference", 2018,
        https://arxiv.org/abs/1803.05649.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        num_columns: M, columns of Q; at most D of them are used.

    Raises:
        ConfigError: for K < 1, M < 1 or fewer than two dimensions.

    Example:
        >>> import torch
        >>> head = Sylvester(3, num_flows=2, num_columns=2)
        >>> head(torch.zeros(5, *head.param_shape)).rsample().shape
        torch.Size([5, 3])
    """

    def __init__(self, event_shape: Shape, num_flows: int = 4, num_columns: int = 4) -> None:
        if num_columns < 1:
            raise ConfigError(f"Sylvester expects num_columns of at least 1; got {num_columns}")
        size = num_dimensions("Sylvester", event_shape, num_flows, instead="DiagonalNormal")
        columns = min(num_columns, size)
        self._sizes = [columns * size, columns * (columns + 1) // 2, columns * (columns + 1) // 2, columns]
        super().__init__(event_shape, param_shape=(2 * size + num_flows * sum(self._sizes),))
        self.num_flows, self.num_columns = num_flows, num_columns
        self._rows, self._columns = torch.triu_indices(columns, columns).tolist()

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, and Q, R, S, b of each map) of shape (..., P) to q(z|x)."""
        base, rest = base_and_rest(params, self.event_shape)
        return Flow(base, [self._map(step) for step in rest.chunk(self.num_flows, -1)])

    def _map(self, step: Tensor) -> maps.Sylvester:
        vectors, right, left, offset = step.split(self._sizes, -1)
        size = self._sizes[-1]
        vectors = vectors.unflatten(-1, (size, -1))
        # Around the unit vectors: a normal of length 0 has no mirror.
        vectors = vectors + torch.eye(*vectors.shape[-2:], dtype=step.dtype, device=step.device)
        return maps.Sylvester(vectors, self._triangle(right), self._triangle(left), offset)

    def _triangle(self, entries: Tensor) -> Tensor:
        """Upper triangular, with a diagonal between -1 and 1."""
        size = self._sizes[-1]
        upper = entries.new_zeros(*entries.shape[:-1], size, size)
        upper[..., self._rows, self._columns] = entries
        diagonal = BELOW_ONE * torch.tanh(upper.diagonal(dim1=-2, dim2=-1))
        return upper.triu(1) + torch.diag_embed(diagonal)


class InverseAutoregressive(ConditionalDistribution):
    r"""Inverse autoregressive flow posterior.

    A diagonal normal pushed through K gated steps \( z' = g \odot z + (1 - g) \odot m \) with
    \( (m, s)_i \) from \( z_1 \dots z_{i-1} \) and \( h(x) \), \( g = \sigma(s + 2) \) (IAF).

    Each step's m and s come from a masked network of its own, and the order of the dimensions turns round between
    steps. The encoder gives mean and log-variance of the base and a context h(x). Draws with their density cost one
    pass of each network; the density of a foreign point, which `STL` and `DReG` ask for, costs D passes. The steps
    start near the identity, so that training starts as with `DiagonalNormal`. Use it in many dimensions, and give it
    more updates than a diagonal posterior needs.

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934, algorithm 1.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        hidden: widths of the hidden layers of each masked network.
        context: number of entries of h(x).

    Raises:
        ConfigError: for K < 1, an empty context, no hidden layer or one narrower than D, or fewer than two dimensions.

    Example:
        >>> import torch
        >>> head = InverseAutoregressive(3, hidden=(8,), context=4)
        >>> head.param_shape, head(torch.zeros(5, 10)).rsample().shape
        ((10,), torch.Size([5, 3]))
    """

    def __init__(
        self, event_shape: Shape, num_flows: int = 2, hidden: Sequence[int] = (128,), context: int = 32
    ) -> None:
        size = num_dimensions("InverseAutoregressive", event_shape, num_flows, instead="DiagonalNormal")
        if context < 1:
            raise ConfigError(f"InverseAutoregressive expects a context of at least 1 entry; got {context}")
        super().__init__(event_shape, param_shape=(2 * size + context,))
        self.num_flows, self.hidden, self.context = num_flows, as_shape(tuple(hidden), "hidden"), context
        self.steps = nn.ModuleList(
            MaskedMLP(size, 1, 2, self.hidden, "elu", context).start_small() for _ in range(num_flows)
        )

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, h) of shape (..., 2 D + context) to q(z|x)."""
        base, context = base_and_rest(params, self.event_shape)
        chain: list[maps.Map] = []
        for step in self.steps:
            chain += [maps.Reverse()] if chain else []
            chain.append(maps.Autoregressive(partial(step, context=context), maps.gated))
        return Flow(base, chain)


class Spline(ConditionalDistribution):
    r"""Neural spline flow posterior.

    \( z = \mu(x) + \sigma(x) f(\epsilon; h(x)) \): neural splines bend the noise, then location and scale.

    f is a chain of K couplings by monotone rational-quadratic splines on [-5, 5], which act on noise of unit scale,
    wherever q lies. The most flexible posterior here, several modes included, and fast both ways; each draw costs K
    small networks. The splines come from zuko: `pip install vaekit[flows]`. Use it in a few dimensions where p(z|x) has
    several modes or hard edges.

    References:
        Durkan et al., "Neural spline flows", 2019, https://arxiv.org/abs/1906.04032.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        num_bins: pieces of each spline.
        hidden: widths of the hidden layers of each step's network.
        context: number of entries of h(x).

    Raises:
        ConfigError: for K < 1, an empty context or fewer than two dimensions, and where zuko is not installed.
    """

    def __init__(
        self,
        event_shape: Shape,
        num_flows: int = 2,
        num_bins: int = 8,
        hidden: Sequence[int] = (64, 64),
        context: int = 32,
    ) -> None:
        size = num_dimensions("Spline", event_shape, num_flows, instead="DiagonalNormal")
        if context < 1 or num_bins < 2:
            raise ConfigError(f"Spline expects context >= 1 and num_bins >= 2; got {context} and {num_bins}")
        super().__init__(event_shape, param_shape=(2 * size + context,))
        self.num_flows, self.num_bins, self.context = num_flows, num_bins, context
        self.hidden = as_shape(tuple(hidden), "hidden")
        self.splines = spline_network(size, num_flows, num_bins, self.hidden, context)

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, h) of shape (..., 2 D + context) to q(z|x)."""
        normal, context = base_and_rest(params, self.event_shape)
        loc, scale = normal.base.loc, normal.base.scale  # type: ignore[attr-defined]
        ndims = len(self.event_shape)
        base = Product(UnitNormal(torch.zeros_like(loc), torch.ones_like(scale), validate_args=False), ndims)
        last = maps.Affine(loc.flatten(-ndims), scale.flatten(-ndims))
        return Flow(base, [maps.TorchTransform(self.splines(context)), last])
