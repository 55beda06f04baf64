"""Maps of each dimension by itself, whose shape other dimensions choose: affine maps and splines."""

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions.maps.base import Map
from vaekit.errors import ConfigError

Update = Callable[[Tensor], tuple[Tensor, Tensor]]

_OPEN = 2.0  # the gate's offset: sigmoid of it is 0.88
_WIDEST = 3.0  # of a bounded log-scale


def gated(raw: Tensor) -> tuple[Tensor, Tensor]:
    r"""(shift, log-scale) of \( y = g z + (1 - g) m \) with \( g = \sigma(s + 2) \), from (m, s) of shape (..., 2).

    The gate of an LSTM: y mixes z with m and cannot blow up; the 2 keeps it open at first, so that y is near z.
    """
    m, s = raw.unbind(-1)
    return torch.sigmoid(-s - _OPEN) * m, F.logsigmoid(s + _OPEN)


def bounded(raw: Tensor) -> tuple[Tensor, Tensor]:
    r"""(shift, log-scale) of \( y = e^a z + m \) with \( a = 3 \tanh(s / 3) \), from (m, s) of shape (..., 2)."""
    m, s = raw.unbind(-1)
    return m, _WIDEST * torch.tanh(s / _WIDEST)


class Autoregressive(Map):
    r"""\( y_i = e^{a_i} z_i + t_i \), where \( (t_i, a_i) \) depend on \( z_1 \dots z_{i-1} \): a triangular Jacobian.

    Forward is one pass of the network. The way back takes D of them, one after the other, with gradients through all of
    them. With the network's input on the side of the noise this is an inverse autoregressive flow (IAF); its `Inverse`
    is a masked autoregressive flow (MAF), whose density is fast and whose draws are slow.

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934, equations 10-14.
        Papamakarios et al., "Masked autoregressive flow for density estimation", 2017,
        https://arxiv.org/abs/1705.07057.

    Args:
        network: from z of shape (..., D, 1) to raw parameters (..., D, 2), those of dimension i from z_1 ... z_{i-1}.
        update: raw parameters to (shift, log-scale): `gated` or `bounded`.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], update: Update) -> None:
        self.network, self.update = network, update

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y in one pass."""
        shift, log_scale = self.update(self.network(z.unsqueeze(-1)))
        return torch.exp(log_scale) * z + shift, log_scale.sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z in D passes."""
        position = torch.arange(y.shape[-1], device=y.device)
        z = torch.zeros_like(y)
        for i in range(y.shape[-1]):
            shift, log_scale = self.update(self.network(z.unsqueeze(-1)))
            # Only what is known enters the network: the rest could overflow on the way.
            z = torch.where(position <= i, (y - shift) * torch.exp(-log_scale), 0.0)
        return z, -log_scale.sum(-1)


class Coupling(Map):
    r"""\( y_a = z_a,\ y_b = e^{a(z_a)} z_b + t(z_a) \) for the first half a and the rest b: fast both ways.

    References:
        Dinh et al., "Density estimation using Real NVP", 2017, https://arxiv.org/abs/1605.08803, equations 7-8.

    Args:
        network: from the first D // 2 dimensions of shape (..., D // 2) to raw parameters (..., D - D // 2, 2).
        update: raw parameters to (shift, log-scale): `gated` or `bounded`.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], update: Update = bounded) -> None:
        self.network, self.update = network, update

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y in one pass."""
        first, rest = _halves(z)
        shift, log_scale = self.update(self.network(first))
        return torch.cat([first, torch.exp(log_scale) * rest + shift], -1), log_scale.sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z in one pass."""
        first, rest = _halves(y)
        shift, log_scale = self.update(self.network(first))
        return torch.cat([first, (rest - shift) * torch.exp(-log_scale)], -1), -log_scale.sum(-1)


def _halves(z: Tensor) -> tuple[Tensor, Tensor]:
    half = z.shape[-1] // 2
    return z[..., :half], z[..., half:]


def _zuko() -> ModuleType:
    """zuko, imported without what it does to torch: it switches argument checks off for every distribution.

    Raises:
        ConfigError: if it is not installed.
    """
    # By way of `vars`, for `arg_constraints` is a property, which zuko replaces.
    validate, constraints = Distribution._validate_args, vars(Distribution)["arg_constraints"]
    try:
        import zuko
    except ImportError as error:
        raise ConfigError("spline flows come from zuko, which is not installed: pip install vaekit[flows]") from error
    finally:
        Distribution.set_default_validate_args(validate)
        Distribution.arg_constraints = constraints  # type: ignore[method-assign]
    found: ModuleType = zuko
    return found


def spline_network(size: int, num_flows: int, num_bins: int, hidden: Sequence[int], context: int = 0) -> nn.Module:
    r"""A module from a context (or None) to a transform of `torch.distributions`: K spline couplings of D dimensions.

    Each step moves the dimensions by monotone rational-quadratic splines on [-5, 5], the identity beyond, one half
    depending on the other. It is fast both ways. The last layers start small, near the identity.

    References:
        Durkan et al., "Neural spline flows", 2019, https://arxiv.org/abs/1906.04032.

    Args:
        size: D, at least 2.
        num_flows: K.
        num_bins: pieces of each spline.
        hidden: widths of the hidden layers.
        context: number of entries of the context.

    Raises:
        ConfigError: if zuko is not installed.
    """
    flow = _zuko().flows.NSF(
        size, context, bins=num_bins, transforms=num_flows, hidden_features=tuple(hidden), passes=2
    )
    with torch.no_grad():
        for step in flow.transform.transforms:
            last = [layer for layer in step.modules() if isinstance(layer, nn.Linear)][-1]
            last.weight.mul_(0.1)
            last.bias.zero_()
    result: nn.Module = flow.transform
    return result
