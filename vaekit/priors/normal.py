"""The standard normal prior."""

import torch
from torch import Tensor

from vaekit.distributions import Product, UnitNormal
from vaekit.printing import Printed
from vaekit.shapes import Shape, as_shape


class StandardNormal(Printed):
    r"""The standard normal prior.

    \( p(z) = N(z; 0, I) \), the prior of equation 13.24.

    Use it first: it has no parameters, and every Gaussian posterior has a closed-form KL to it.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, section 3.

    Args:
        event_shape: shape of z.

    Example:
        >>> StandardNormal(16)().event_shape
        torch.Size([16])
    """

    _zero: Tensor
    _one: Tensor

    def __init__(self, event_shape: Shape) -> None:
        super().__init__()
        self.event_shape = as_shape(event_shape)
        # Buffers, so that the prior follows the model's dtype and device; they are no state worth saving.
        self.register_buffer("_zero", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("_one", torch.ones(self.event_shape), persistent=False)

    def forward(self) -> Product:
        """p(z), batch shape ()."""
        return Product(UnitNormal(self._zero, self._one, validate_args=False), len(self.event_shape))
