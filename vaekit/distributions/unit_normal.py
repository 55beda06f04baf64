"""The standard normal distribution, by its own name."""

from vaekit.distributions.normal import Normal


class UnitNormal(Normal):
    """N(0, 1) of any shape: a `Normal` whose type says that its parameters are 0 and 1, which shortens the KL (13.24).

    Args:
        loc: zeros.
        scale: ones.
    """
