"""Normal likelihood of real numbers."""

from vaekit.distributions import Normal as NormalDistribution
from vaekit.likelihoods.scale import LocationScale


class Normal(LocationScale):
    r"""\( p(x|z) = \prod_i N(x_i; \mu_i(z), \sigma_i^2) \): mean from the network, scale as chosen.

    Equation 13.18 with `scale="network"`; with a fixed scale, equation 13.28: the objective is then half the squared
    error plus \( \sigma^2 \) times the KL, up to the factor \( 1/\sigma^2 \) and a constant.

    Use it for real numbers without far outliers. A scale per dimension suits tables, a fixed one images whose noise is
    known; a scale from the network makes errors differ from row to row.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, appendix C.2.

    Args:
        event_shape: shape of x.
        scale: a number (fixed), "learned" (one value for all), "per-dimension", or "network".
        min_scale: floor of a scale that is not fixed, in units of x as the model sees it.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.

    Example:
        >>> import torch
        >>> Normal(2, scale=1.0)(torch.zeros(1, 1, 2)).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    family = NormalDistribution
