"""Neural spline maps, from zuko."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from vaekit.errors import ConfigError


def _zuko() -> Any:
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
    return zuko


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
    return flow.transform
