"""What objectives over single dimensions of z ask of a posterior."""

from torch.distributions import Distribution

from vaekit.distributions import Product
from vaekit.errors import ConfigError


def as_factorized(q: Distribution, what: str) -> Product:
    """q itself, a product over the dimensions of z that can be reparameterised.

    Args:
        q: the posterior of a batch.
        what: what is defined for such posteriors only, for the message.

    Raises:
        ConfigError: if q is something else.
    """
    if not isinstance(q, Product):
        raise ConfigError(
            f"{what} is defined for a factorised posterior, such as DiagonalNormal; got {type(q).__name__}, whose "
            "dimensions are correlated given x. Use such a posterior, or another objective."
        )
    if not q.has_rsample:
        raise ConfigError(f"the gradient of {what} needs a posterior that can be reparameterised; {q} cannot")
    return q
