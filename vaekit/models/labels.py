"""A model of rows whose label may be unknown, under each of its labels at once: what sums over labels go through."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditional import Conditional

if TYPE_CHECKING:
    from vaekit.models.conditional import ConditionalVAE


class UnderEachLabel:
    """A conditional model under all of its labels: the three methods, with batches (B, L) for rows (B, 1, *X).

    A part that does not take the label runs once for a row, and not L times.

    Args:
        model: a `ConditionalVAE` of a single label.
        vectors: its labels as the networks take them, shape (L, E).
        rivals: see `against`; None is no label of any row.
    """

    def __init__(self, model: "ConditionalVAE", vectors: Tensor, rivals: Tensor | None = None) -> None:
        self.model, self.vectors, self.rivals = model, vectors, rivals

    def against(self, rivals: Tensor) -> "UnderEachLabel":
        """The same model, of whose posterior under some labels every gradient changes its sign.

        A loss that pushes the bounds of these labels down then moves p(x|z, y) alone in that direction: the posterior
        goes on making each bound as tight as it can.

        Args:
            rivals: which labels of each row, shape (B, L), bool.
        """
        return UnderEachLabel(self.model, self.vectors, rivals)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x, y) for x of shape (..., 1, *X): batch shape (..., L), or (..., 1) where it does not depend on y."""
        encoder = self.model.encoder
        rows = self._for_each(x, len(self.model.event_shape)) if encoder.context_dim else x
        if self.rivals is None:
            result: Distribution = encoder(rows, self.vectors)
            return result
        params = self._for_each(encoder.params(rows, self.vectors), len(encoder.head.param_shape))
        turned = self.rivals.reshape(*self.rivals.shape, *(1,) * len(encoder.head.param_shape))
        opposed: Distribution = encoder.head(torch.where(turned, 2 * params.detach() - params, params))
        return opposed

    def _for_each(self, values: Tensor, event_ndims: int) -> Tensor:
        """Values of shape (..., 1, *event), or (..., L, *event), as (..., L, *event)."""
        place = values.ndim - event_ndims - 1
        return values.expand(*values.shape[:place], len(self.vectors), *values.shape[place + 1 :])

    def prior(self) -> Distribution:
        """p(z|y): batch shape (L,), or () where it does not depend on y."""
        prior = self.model.latent_prior
        result: Distribution = prior(self.vectors) if isinstance(prior, Conditional) else prior()
        return result

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z, y) for z of shape (..., L or 1, *Z): batch shape (..., L), or (..., 1) as for `posterior`."""
        decoder = self.model.decoder
        latents = self._for_each(z, len(self.model.latent_shape)) if decoder.context_dim else z
        result: Distribution = decoder(latents, self.vectors)
        return result


@dataclass(frozen=True)
class Alternatives:
    r"""What a model says of B rows under each of L labels, and what it knows of their labels.

    An objective asks a model for it by the hook `alternatives(x)`, and so sums over labels that it never sees.
    \( \log p(x, y) \ge E_q[\log p(x|z, y)] - KL(q(z|x, y), p(z|y)) + \log p(y) \) of each label y are
    `bounds.elbo_terms(model, x)` and `log_prior`; shapes are fixed, so that torch.compile takes the sum.

    Attributes:
        model: the three methods, with batches (B, L), or (B, 1) of a posterior that does not see the label.
        x: what it describes, shape (B, 1, *X).
        log_prior: log p(y), shape (L,), nats.
        log_posterior: log q(y|x), shape (B, L), nats.
        known: 1 for the label of a row that has one, shape (B, L); all 0 for the others.
        shared: what is added to log p of a row whatever its label, nats, shape (B,); None is 0.
    """

    model: UnderEachLabel
    x: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    known: Tensor
    shared: Tensor | None = None

    @property
    def is_known(self) -> Tensor:
        """1 for rows that have a label, else 0: shape (B,)."""
        return self.known.sum(-1)


def one_hot(codes: Tensor, num_labels: int) -> Tensor:
    """Codes of shape (...), NaN for unknown ones, as (..., L): all 0 where a label is unknown."""
    places = torch.arange(num_labels, dtype=codes.dtype, device=codes.device)
    return (codes.unsqueeze(-1) == places).to(codes)
