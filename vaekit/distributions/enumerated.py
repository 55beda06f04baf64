"""A label and a latent as one event: each label has a probability, and a distribution of z of its own."""

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base
from vaekit.errors import ShapeError


class Enumerated(Base):
    r"""\( p(y, z) = p(y)\, p(z|y) \) for a label y = 0 ... C-1 and a latent z, as one flat event (y, z).

    It is the prior and the posterior of a model whose label is not known: the sum over y is over draws then. Draws
    carry no gradient.

    Args:
        log_probs: log p(y), shape (*batch, C).
        parts: p(z|y), of batch shape (*batch, C), or () where z does not depend on y, and event shape (Z,).

    Raises:
        ShapeError: if the two do not go together.

    Example:
        >>> import torch
        >>> from vaekit.distributions import Normal
        >>> from vaekit.distributions.product import Product
        >>> z = Product(Normal(torch.zeros(2, 1), torch.ones(2, 1)), 1)
        >>> both = Enumerated(torch.tensor([0.25, 0.75]).log(), z)
        >>> both.log_prob(torch.tensor([1.0, 0.0]))
        tensor(-1.2066)
    """

    parameters = ("log_probs", "parts")
    has_rsample = False

    def __init__(self, log_probs: Tensor, parts: Distribution) -> None:
        batch, own = log_probs.shape[:-1], parts.batch_shape
        if len(parts.event_shape) != 1 or own not in (torch.Size(), log_probs.shape):
            raise ShapeError(
                f"labels with probabilities of shape {tuple(log_probs.shape)} take latents of that batch shape, or of "
                f"(), and of flat events; got {tuple(own)} and {tuple(parts.event_shape)}"
            )
        self.log_probs, self.parts = log_probs, parts if own else parts.expand(log_probs.shape)
        super().__init__(batch, torch.Size((1 + parts.event_shape[0],)), validate_args=False)

    @property
    def num_labels(self) -> int:
        """C."""
        return int(self.log_probs.shape[-1])

    @property
    def support(self) -> constraints.Constraint:
        """A code in the first entry, and a z of its own kind behind it."""
        codes = constraints.independent(constraints.integer_interval(0, self.num_labels - 1), 1)
        return constraints.cat((codes, self.parts.support), dim=-1, lengths=(1, self.parts.event_shape[0]))

    @property
    def mean(self) -> Tensor:
        """The most probable label and E[z], shape (*batch, 1 + Z)."""
        label = self.log_probs.argmax(-1, keepdim=True)
        z = (self.log_probs.exp().unsqueeze(-1) * self.parts.mean).sum(-2)
        return torch.cat([label.to(z.dtype), z], -1)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> "Enumerated":  # type: ignore[override]
        """The same distribution, repeated over `batch_shape`."""
        shape = torch.Size((*batch_shape, self.num_labels))
        return Enumerated(self.log_probs.expand(shape), self.parts.expand(shape))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # type: ignore[override]  # noqa: B008
        """Draws of (y, z), shape (*sample_shape, *batch, 1 + Z)."""
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape
            log_probs = self.log_probs.expand(*shape, self.num_labels)
            label = torch.multinomial(log_probs.exp().reshape(-1, self.num_labels), 1).reshape(*shape, 1)
            z = self.parts.sample(torch.Size(sample_shape))
            place = label.unsqueeze(-1).expand(*shape, 1, z.shape[-1])
            return torch.cat([label.to(z.dtype), z.gather(-2, place).squeeze(-2)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(y) + log p(z|y) in nats for (y, z) of shape (..., 1 + Z): shape (...)."""
        label = value[..., :1].long()
        log_probs = self.log_probs + self.parts.log_prob(value[..., 1:].unsqueeze(-2))
        return log_probs.gather(-1, label.expand(*log_probs.shape[:-1], 1)).squeeze(-1)
