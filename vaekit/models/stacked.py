"""A VAE whose codes are described by another model: M1+M2, one distribution over both layers of latents."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.distributions import Ancestral
from vaekit.errors import ShapeError
from vaekit.models.base import Generative, GenerativeModel, OfWrapped
from vaekit.models.checks import code_of
from vaekit.models.conditional import ConditionalVAE
from vaekit.models.labels import Alternatives
from vaekit.models.rows import Index
from vaekit.models.vae import VAE
from vaekit.networks import ContextInput
from vaekit.traits import Data, ModelTraits, told

_Step = Callable[[Tensor, None], tuple[Distribution, None]]


class _Layers(OfWrapped, Generative):
    """The three methods of two layers: a VAE of x, and what describes its codes.

    Attributes:
        first: p(x|z_1) and q(z_1|x).
        upper: p(z_1|z_2), p(z_2) and q(z_2|z_1): a model of z_1 as if it were data.
    """

    first: VAE
    upper: Any

    @property
    def describing(self) -> VAE:
        """The first layer, whose latents are z_1."""
        return self.first

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of (z_1, z_2)."""
        return (self.first.latent_shape[0] + math.prod(self.upper.latent_shape),)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z_1|x) q(z_2|z_1) for x of shape (B, *X) in model space: batch shape (B,), z flat."""
        q = self.first.posterior(x)
        return self._joined(q, lambda z, _: (self.upper.posterior(self._of_rows(z)), None), "up")

    def prior(self) -> Distribution:
        """p(z_2) p(z_1|z_2), z = (z_1, z_2) flat."""
        return self._joined(self.upper.prior(), lambda z, _: (self.upper.likelihood(self._of_rows(z)), None), "down")

    def _of_rows(self, z: Tensor) -> Tensor:
        """Latents of shape (..., 1, Z) as those of all rows that the model stands under the contexts of."""
        num = told(ModelTraits, self).num_contexts
        return z if num is None or z.shape[-2] == num else z.expand(*z.shape[:-2], num, z.shape[-1])

    def _joined(self, start: Distribution, step: _Step, order: Literal["up", "down"]) -> Ancestral:
        above = self.upper.prior()
        sizes = (self.first.latent_shape[0], above.event_shape[0])
        return Ancestral(start, [step], sizes, order, has_rsample=start.has_rsample and above.has_rsample)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z_1) for z = (z_1, z_2) of shape (..., Z): batch shape (...), event shape X, in model space."""
        return self.first.likelihood(z[..., : self.first.latent_shape[0]])

    def alternatives(self, x: Tensor) -> Alternatives:
        r"""The second layer under each label at a draw of z_1.

        `shared` is \( \log p(x|z_1) - \log q(z_1|x) \).
        """
        q = self.first.posterior(x)
        z = q.rsample() if q.has_rsample else q.sample()
        found: Alternatives = self.upper.alternatives(z)
        return replace(found, shared=bounds.log_likelihood_at(self.first, z, x) - q.log_prob(z))


class StackedVAE(_Layers, GenerativeModel):
    r"""M1+M2: a VAE of x whose codes a conditional model describes.

    \( p(x|z_1)\, p(z_1|z_2, y)\, p(z_2)\, p(y) \) is the model, \( q(z_1|x)\, q(y|z_1)\, q(z_2|z_1, y) \) its
    posterior, and (z_1, z_2) one latent given y. Train `first` by the `ELBO` on all rows, freeze it
    (`model.first.requires_grad_(False)`), and train the whole by `SemiSupervised`: codes are drawn anew at each use,
    and the value is a bound on log p(x). The preset `m1-m2` does both.

    References:
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298,
        section 3.1.

    Args:
        first: a VAE whose z are vectors; its prior serves its own training alone.
        second: a model of such vectors given a label.

    Raises:
        ShapeError: if the second describes events of another shape than the codes of the first.

    Example:
        >>> import torch, vaekit as vk
        >>> model, objective = vk.presets.m1_m2((6,), latent_dim=3, hidden=(8,), levels=(4,))
        >>> model.given(torch.tensor([[1.0], [3.0]])).sample(2).shape
        torch.Size([2, 6])
    """

    posterior_is_fixed = True

    def __init__(self, first: VAE, second: ConditionalVAE) -> None:
        super().__init__()
        if len(first.latent_shape) != 1 or second.event_shape != first.latent_shape or len(second.latent_shape) != 1:
            raise ShapeError(
                f"the second layer describes events of shape {second.event_shape}, the codes of the first have shape "
                f"{first.latent_shape}; both are vectors, and agree"
            )
        self.first, self.second = first, second

    @property
    def upper(self) -> ConditionalVAE:
        """The second layer; without a context that of (y, z_2)."""
        return self.second

    @property
    def context(self) -> ContextInput:
        """What leads contexts to the networks of the second layer."""
        return self.second.context

    @property
    def num_labels(self) -> int:
        """L, the number of levels where the context is a single label; 0 for all other contexts."""
        return self.second.num_labels

    @property
    def some_context(self) -> Tensor | None:
        """A context that the upper model knows; None of a single label."""
        return self.second.some_context

    def check_context(self, context: Tensor) -> None:
        """Raise unless contexts of shape (N, C) are ones that the networks know."""
        self.second.check_context(context)

    @property
    def classifier(self) -> nn.Module | None:
        """q(y|z_1)."""
        return self.second.classifier

    @property
    def log_proportions(self) -> Tensor:
        """log p(y), shape (L,)."""
        return self.second.log_proportions

    def log_label_posterior(self, x: Tensor) -> Tensor:
        """log q(y|z_1) at E[z_1|x] for x of shape (B, *X) in model space: shape (B, L), nats."""
        return self.second.log_label_posterior(code_of(self.first.posterior(x)))

    def given(self, context: Data) -> "StackedGiven":
        """The model under a context: shape (B, C) for rows, or (C,) for one that all rows share."""
        return StackedGiven(self, context)

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of q(z_1|x), q(y|z_1) and q(z_2|z_1, y)."""
        yield from self.first.posterior_parameters()
        yield from self.second.posterior_parameters()


class StackedGiven(_Layers):
    """A `StackedVAE` under contexts; see `conditional.Given`.

    Args:
        model: the model.
        context: shape (B, C), one for each of B rows; or (C,), one for all.
    """

    posterior_is_fixed = True

    def __init__(self, model: StackedVAE, context: Data) -> None:
        self.model, self.first = model, model.first
        self.upper = model.second.given(context)
        self.context = self.upper.context

    @property
    def num_contexts(self) -> int | None:
        """B; None for one context that all rows share."""
        result: int | None = self.upper.num_contexts
        return result

    def __getitem__(self, index: Index) -> "StackedGiven":
        """The model under the contexts of some rows."""
        return StackedGiven(self.model, self.upper[index].context)

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """See the model."""
        return self.model.posterior_parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """See the model."""
        return self.model.generative_parameters()
