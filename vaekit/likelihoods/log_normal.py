"""Log-normal likelihood of positive numbers."""

from torch.distributions import LogNormal as TorchLogNormal

from vaekit.likelihoods.scale import LocationScale


class LogNormal(LocationScale):
    r"""\( p(x|z) = \prod_i \frac{1}{x_i} N(\log x_i; \mu_i(z), \sigma_i^2) \) for x > 0: a `Normal` of log x.

    Use it for positive numbers whose errors are relative (prices, concentrations, durations). The density is one of x,
    not of log x, so that log p can be compared with that of a `Normal`. Zeros have no density: take a likelihood of
    counts, or shift the data. The data are not standardised. The mean \( e^{\mu + \sigma^2/2} \) lies above the median
    \( e^\mu \).

    References:
        Limpert, Stahel & Abbt, "Log-normal distributions across the sciences", 2001,
        https://doi.org/10.1641/0006-3568(2001)051[0341:LNDATS]2.0.CO;2.

    Args:
        event_shape: shape of x.
        scale: sigma of log x, chosen as in `Normal`.
        min_scale: floor of a scale that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.

    Example:
        >>> import torch
        >>> LogNormal(2, scale=1.0)(torch.zeros(1, 1, 2)).log_prob(torch.ones(1, 2))
        tensor([-1.8379])
    """

    family = TorchLogNormal
