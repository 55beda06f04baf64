"""The encoder of a table: the exact posterior of a factor analysis, and layers that correct it."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from vaekit.networks.mlp import ZeroDense
from vaekit.raw import entries_of, num_entries
from vaekit.shapes import Shape, as_shape

_MOST = 3.0  # of the logarithm of a scale that the layers change: a factor of 20


class FactorEncoder(nn.Module):
    r"""The posterior of z under a factor analysis, whatever was observed, and its correction by hidden layers.

    Of S numbers \( s = \mu + W z + \epsilon \), \( \epsilon_j \sim N(0, \psi_j) \), of which some are missing (mask m),
    \[ p(z|s) = N(a, C), \qquad C^{-1} = I + W^T \mathrm{diag}(m/\psi) W, \qquad
       a = C W^T \mathrm{diag}(m/\psi) (s - \mu). \]
    The output are the raw parameters of `posteriors.FullNormal` with the mean \( a + L r \) and the Cholesky factor
    \( L\, \mathrm{diag}(e^t) \), where \( C = L L^T \). The layers give r and t, which are 0 at the start. No gradient
    reaches W, mu and psi: they stay as `assign` left them.

    Where the mean of s depends on a context c, \( s - \mu - M c \) takes the place of \( s - \mu \), and the layers see
    c beside the input.

    Use it for tables, behind `ColumnsInput`: a row with holes gets the posterior that is right for what it holds, for
    any of the 2^D patterns, from the first step on. Before `assign` it starts from N(0, I) for every row.

    References:
        Rubin & Thayer, "EM algorithms for ML factor analysis", 1982, https://doi.org/10.1007/BF02293851.
        Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        https://arxiv.org/abs/1812.02633.

    Args:
        in_shape: event shape of the input.
        latent_dim: L, dimensions of z.
        num_values: S, how many numbers of the input the factors explain.
        hidden: widths of the hidden layers.
        activation: see `MLP`.
        context_dim: E, entries of the context; 0 takes none.

    Example:
        >>> import torch
        >>> network = FactorEncoder(3, latent_dim=1, num_values=2, hidden=(8,))
        >>> network.assign(torch.eye(2, 3), [2, 2], torch.zeros(2), torch.ones(2, 1), torch.ones(2))
        >>> v = torch.tensor([[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]])  # the third number says whether they were observed
        >>> network.factors(v)[0]
        tensor([[2.0000],
                [0.0000]])
    """

    reading: Tensor
    place: Tensor
    loc: Tensor
    loadings: Tensor
    precision: Tensor
    shift: Tensor

    def __init__(
        self,
        in_shape: Shape,
        latent_dim: int,
        num_values: int,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.in_shape, self.latent_dim, self.num_values = as_shape(in_shape, "in_shape"), latent_dim, num_values
        self.hidden, self.activation = as_shape(tuple(hidden), "hidden"), activation
        self.out_shape = (latent_dim + num_entries(latent_dim),)
        width = prod(self.in_shape)
        self.context_dim = context_dim
        self.layers = ZeroDense(width + context_dim, self.hidden, 2 * latent_dim, activation)
        self.register_buffer("reading", torch.zeros(num_values, width))
        self.register_buffer("place", torch.full((num_values,), width))
        self.register_buffer("loc", torch.zeros(num_values))
        self.register_buffer("loadings", torch.zeros(num_values, latent_dim))
        self.register_buffer("precision", torch.ones(num_values))
        if context_dim:
            self.register_buffer("shift", torch.zeros(num_values, context_dim))

    @torch.no_grad()
    def assign(
        self,
        reading: Tensor,
        places: Sequence[int | None],
        loc: Tensor,
        loadings: Tensor,
        variance: Tensor,
        shift: Tensor | None = None,
    ) -> None:
        r"""Take over a factor analysis.

        Args:
            reading: R of shape (S, width): the numbers that were explained are s = R v, with v the input, flattened.
            places: for each of the S numbers the place in v that is 1 where it was observed and 0 elsewhere; None for
                one that always is.
            loc: \( \mu \), shape (S,).
            loadings: W, shape (S, L).
            variance: \( \psi \), shape (S,).
            shift: M, shape (S, E), of a network that takes a context; None leaves it as it is.
        """
        width = self.reading.shape[1]
        self.reading.copy_(reading)
        self.place.copy_(torch.tensor([width if place is None else place for place in places]))
        self.loc.copy_(loc)
        self.loadings.copy_(loadings)
        self.precision.copy_(1 / variance)
        if shift is not None:
            self.shift.copy_(shift)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, *in_shape), and contexts (B, E) where it takes any, to the mean and the rows of the Cholesky factor.

        The result has shape (B, L (L + 3) / 2).
        """
        v = x.flatten(1)
        mean, tril = self.factors(v, context)
        seen = v if context is None else torch.cat([v, context.to(v.dtype)], 1)
        shift, log_scale = self.layers(seen).chunk(2, -1)
        mean = mean + (tril @ shift.unsqueeze(-1)).squeeze(-1)
        scale = (_MOST * torch.tanh(log_scale / _MOST)).exp()
        return torch.cat([mean, entries_of(tril * scale.unsqueeze(-2))], -1)

    @torch.no_grad()
    def factors(self, v: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mean a, shape (B, L), and the Cholesky factor L of C, shape (B, L, L), of flat inputs (B, width)."""
        size = self.latent_dim
        weight = torch.cat([v, v.new_ones(v.shape[0], 1)], 1)[:, self.place] * self.precision
        products = (self.loadings.unsqueeze(-1) * self.loadings.unsqueeze(-2)).flatten(1)
        eye = torch.eye(size, dtype=v.dtype, device=v.device)
        precision = (weight @ products).unflatten(-1, (size, size)) + eye
        # From the last dimension to the first: then the inverse of the factor, transposed, is lower triangular.
        upper = torch.linalg.cholesky_ex(precision.flip(-1, -2))[0].flip(-1, -2)
        tril = torch.linalg.solve_triangular(upper, eye.expand_as(upper), upper=True).mT
        residual = v @ self.reading.T - self.loc
        if context is not None:
            residual = residual - context.to(v.dtype) @ self.shift.T
        pull = (weight * residual) @ self.loadings
        return (tril @ (tril.mT @ pull.unsqueeze(-1))).squeeze(-1), tril
