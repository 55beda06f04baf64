"""Laplace likelihood of real numbers with heavier tails."""

from torch.distributions import Laplace as TorchLaplace

from vaekit.likelihoods.scale import LocationScale


class Laplace(LocationScale):
    r"""\( p(x|z) = \prod_i \frac{1}{2 b_i} e^{-|x_i - \mu_i(z)|/b_i} \): an absolute instead of a squared error.

    Use it where a few values lie far out; the `Normal` is smoother where they do not.

    Args:
        event_shape: shape of x.
        scale: b, chosen as in `Normal`.
        min_scale: floor of a scale that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.
    """

    family = TorchLaplace
