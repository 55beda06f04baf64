"""A VAE that is conditioned on a context, such as a label: the same three methods once the context is given."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import Conditional
from vaekit.distributions.enumerated import Enumerated
from vaekit.errors import ConfigError, ShapeError
from vaekit.models.base import Generative, GenerativeModel, OfParts, OfWrapped
from vaekit.models.conversion import to_tensor
from vaekit.models.labels import Alternatives, UnderEachLabel, one_hot
from vaekit.models.rows import Index
from vaekit.models.vae import check_supports, latent_shape_of
from vaekit.networks import ContextInput
from vaekit.traits import Data
from vaekit.transforms import Transform


class ConditionalVAE(OfParts, GenerativeModel):
    r"""A VAE of x given a context y, such as a label.

    \( p(x, z|y) = p(x|z, y)\, p(z|y) \), with an encoder \( q(z|x, y) \).
    `model.given(context)` has the three methods, and samples, codes and reconstructions, under the contexts of some
    rows or one for all. A part that is conditioned has a network that takes a context (`context_dim`): `Concat` around
    any network, or an `MLP`, `ConvEncoder` or `ConvDecoder` whose layers are modulated. A decoder alone that takes the
    context leaves z what the context does not explain: the usual way to take out the effect of a batch.

    Without a context, the model of a single label is that of (y, z) as one latent, with p(y) = `proportions`: log p(x)
    is then that of \( p(x) = \sum_y p(y)\, p(x|y) \), and q(y|x) is what the `classifier` says, or p(y). So it is for
    rows of which some have a label and others have none (NaN, where the `context` has `unknown=True`): the label of a
    row that has one is certain then.

    References:
        Sohn et al., "Learning structured output representation using deep conditional generative models", 2015,
        https://papers.nips.cc/paper/5775 (equation 4).
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298
        (the label as a latent).

    Args:
        encoder: q(z|x, y), a `Conditional` with a posterior head.
        decoder: p(x|z, y), a `Conditional` with a likelihood head.
        latent_prior: p(z), a module whose call returns a distribution; or p(z|y), a `Conditional` of the context's
            vector with a posterior head.
        context: from contexts (B, C) to vectors (B, E).
        transform: the way from data to model space; None means that the model sees the data as they are.
        proportions: p(y) of each level of a single label; None takes equal ones.
        classifier: logits (B, L) of q(y|x) from x in model space; None takes p(y).

    Raises:
        ShapeError: if the parts do not fit each other.
        SupportError: if q(z|x, y) and p(z|y) live on different sets.
        ConfigError: if the proportions are not those of the levels of one label.

    Example:
        >>> import torch, vaekit as vk
        >>> model, _ = vk.presets.conditional_vae((3,), latent_dim=2, hidden=(8,), likelihood="normal", levels=(4,))
        >>> model.given(torch.tensor([[1.0], [3.0]])).sample(2).shape
        torch.Size([2, 3])
    """

    posterior_is_fixed = True

    def __init__(
        self,
        encoder: Conditional,
        decoder: Conditional,
        latent_prior: nn.Module,
        context: ContextInput,
        transform: Transform | None = None,
        proportions: Sequence[float] | None = None,
        classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent_prior = encoder, decoder, latent_prior
        self.context, self.transform, self.classifier = context, transform, classifier
        self.proportions = None if proportions is None else tuple(float(p) for p in proportions)
        encoder.build(decoder.head.event_shape)
        decoder.build(encoder.head.event_shape)
        size = context.out_shape[0]
        if isinstance(latent_prior, Conditional):
            latent_prior.build(size)
        for name, takes in (("encoder", encoder.context_dim), ("decoder", decoder.context_dim)):
            if takes not in (0, size):
                raise ShapeError(f"contexts become vectors of {size} entries; the {name} takes {takes}")
        if not (encoder.context_dim or decoder.context_dim or isinstance(latent_prior, Conditional)):
            raise ConfigError("no part of the model takes a context; build a VAE, or condition one of them")
        if isinstance(latent_prior, Conditional):
            shape = latent_prior.head.event_shape
        else:
            check_supports(encoder.head, latent_prior)
            shape = latent_shape_of(latent_prior)
        if shape != encoder.head.event_shape:
            raise ShapeError(
                f"the posterior has events of shape {encoder.head.event_shape}, p(z|y) of shape {shape}; both describe "
                "z and must agree."
            )
        self._check_proportions()

    def _check_proportions(self) -> None:
        if self.proportions is None:
            return
        good = len(self.proportions) == self.num_labels and min(self.proportions) >= 0
        if not good or not math.isclose(sum(self.proportions), 1, rel_tol=1e-6):
            raise ConfigError(
                f"proportions are p(y) of the {self.num_labels} levels of one label and sum to 1; got "
                f"{self.proportions}"
            )

    @property
    def num_labels(self) -> int:
        """L, the number of levels where the context is a single label; 0 for all other contexts."""
        return self.context.levels[0] if len(self.context.levels) == 1 else 0

    @property
    def some_context(self) -> Tensor | None:
        """A context of shape (1, C) that the networks know; None of a single label, over which the model can sum."""
        if self.num_labels:
            return None
        typical = torch.tensor([self.context.loc or (0.0,) * len(self.context.levels)], dtype=torch.float64)
        return typical.to(self.context.like)

    def check_context(self, context: Tensor) -> None:
        """Raise unless contexts of shape (N, C) are ones that the networks know; see `ContextInput.check`."""
        self.context.check(context)

    def given(self, context: Data) -> "Given":
        """The model under a context: shape (B, C) for rows, or (C,) for one that all rows share.

        Raises:
            ShapeError: if it has another number of entries.
        """
        return Given(self, context)

    # --- The label as a latent ---------------------------------------------------------------------------------------

    @property
    def log_proportions(self) -> Tensor:
        """log p(y), shape (L,).

        Raises:
            ConfigError: unless the context is a single label.
        """
        if not self.num_labels:
            raise ConfigError(
                "this model describes x given a context, which was not handed over: model.given(context) or "
                "View.of(model, rows, context=...); --given NAME=VALUE for samples of a run. Only a single label has "
                "probabilities that can be summed over."
            )
        p = torch.tensor(self.proportions or (1 / self.num_labels,) * self.num_labels, dtype=torch.float64)
        return p.log().to(self.context.like)

    def log_label_posterior(self, x: Tensor) -> Tensor:
        """log q(y|x) for x of shape (B, *X) in model space, or (..., B, *X): shape (..., B, L), nats."""
        log_p, lead = self.log_proportions, x.shape[: x.ndim - len(self.event_shape)]
        if self.classifier is None:
            return log_p.expand(*lead, -1)
        logits: Tensor = self.classifier(x.reshape(-1, *self.event_shape))
        return logits.log_softmax(-1).reshape(*lead, -1)

    def alternatives(self, x: Tensor, context: Tensor | None = None) -> Alternatives:
        """The model under each label, for x of shape (B, *X) in model space.

        Args:
            x: the rows.
            context: their labels, shape (B, 1), NaN for unknown ones; None knows none of them.
        """
        log_p, log_q = self.log_proportions, self.log_label_posterior(x)
        known = torch.zeros_like(log_q) if context is None else one_hot(context[..., 0], self.num_labels).to(log_q)
        return Alternatives(self._under_each(log_q), self._beside_labels(x), log_p, log_q, known.expand_as(log_q))

    def prior(self) -> Enumerated:
        """p(y, z) of a single label, the two as one event (1 + Z,)."""
        log_p = self.log_proportions
        return Enumerated(log_p, self._under_each(log_p).prior())

    def posterior(self, x: Tensor) -> Enumerated:
        """q(y|x) q(z|x, y) for x of shape (B, *X) in model space: batch shape (B,), event shape (1 + Z,)."""
        log_q = self.log_label_posterior(x)
        return Enumerated(log_q, self._under_each(log_q).posterior(self._beside_labels(x)).expand(log_q.shape))

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z, y) for (y, z) of shape (..., 1 + Z): batch shape (...), event shape X, in model space."""
        result: Distribution = self.decoder(z[..., 1:], self._vectors(z[..., :1]))
        return result

    def _beside_labels(self, x: Tensor) -> Tensor:
        """x of shape (..., B, *X) as (..., B, 1, *X)."""
        return x.unsqueeze(x.ndim - len(self.event_shape))

    def _under_each(self, like: Tensor) -> UnderEachLabel:
        """The model under all labels, in the dtype and on the device of a tensor."""
        codes = torch.arange(self.num_labels, dtype=like.dtype, device=like.device).unsqueeze(1)
        return UnderEachLabel(self, self.context(codes))

    def _vectors(self, contexts: Tensor) -> Tensor:
        """Contexts (..., C) to vectors (..., E)."""
        vectors: Tensor = self.context(contexts.reshape(-1, contexts.shape[-1]))
        return vectors.reshape(*contexts.shape[:-1], -1)

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of q(z|x, y), and of q(y|x): what an E step moves (13.15)."""
        yield from self.encoder.parameters()
        if self.classifier is not None:
            yield from self.classifier.parameters()


class Given(OfWrapped, Generative):
    """A conditional model under contexts: an object with the three methods, whose rows can be indexed.

    Its parts are the model's own, and so are its gradients.

    Args:
        model: the model.
        context: shape (B, C), one for each of B rows; or (C,), one for all.

    Attributes:
        context: the contexts, in the dtype and on the device of the model.
    """

    posterior_is_fixed = True

    def __init__(self, model: ConditionalVAE, context: Data) -> None:
        self.model = model
        values = context if isinstance(context, Tensor) else to_tensor(context)
        self.context = values.to(model.context.like)
        size = len(model.context.levels)
        if values.ndim not in (1, 2) or values.shape[-1] != size:
            raise ShapeError(
                f"contexts have shape (B, {size}) for B rows, or ({size},) for all of them; got {tuple(values.shape)}"
            )

    @property
    def vector(self) -> Tensor:
        """The contexts as the networks take them, shape (B, E), or (E,)."""
        result: Tensor = self.model.context(self.context.reshape(-1, self.context.shape[-1]))
        return result.reshape(*self.context.shape[:-1], -1)

    @property
    def is_latent(self) -> bool:
        """Whether some labels are unknown and summed over; then all are latents, the known ones certain: (y, z)."""
        return self.model.context.unknown and bool(self.context.isnan().any())

    def alternatives(self, x: Tensor) -> Alternatives:
        """The model under each label, and which labels are known; see `Alternatives`."""
        return self.model.alternatives(x, self.context)

    def _certain(self, log_p: Tensor) -> Tensor:
        """log p(y) of rows, shape (..., L): 0 for a label that is known, and -inf for the others of its row."""
        known = one_hot(self.context[..., 0], self.model.num_labels).to(log_p)
        return torch.where(known.sum(-1, keepdim=True) > 0, known.log(), log_p)

    @property
    def num_contexts(self) -> int | None:
        """B; None for one context that all rows share."""
        return len(self.context) if self.context.ndim == 2 else None

    def __getitem__(self, index: Index) -> "Given":
        """The model under the contexts of some rows."""
        if self.context.ndim == 1:
            raise ShapeError("one context for all rows has no rows to choose from")
        return Given(self.model, self.context[index])

    @property
    def describing(self) -> ConditionalVAE:
        """The model, whatever the contexts."""
        return self.model

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of one latent."""
        return self.model.latent_shape

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x, y) for x of shape (B, *X) in model space: batch shape (B,), event shape Z.

        Of (y, z), event shape (1 + Z,), where some labels are unknown.
        """
        if self.is_latent:
            q = self.model.posterior(x)
            log_q = self._certain(q.log_probs)
            return Enumerated(log_q, q.parts.expand(log_q.shape))
        result: Distribution = self.model.encoder(x, self.vector)
        return result

    def prior(self) -> Distribution:
        """p(z|y): batch shape (B,) where it depends on the contexts of B rows, else (); events as of `posterior`."""
        if self.is_latent:
            p = self.model.prior()
            log_p = self._certain(p.log_probs)
            return Enumerated(log_p, p.parts.expand(log_p.shape))
        prior = self.model.latent_prior
        result: Distribution = prior(self.vector) if isinstance(prior, Conditional) else prior()
        return result

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z, y) for z of shape (..., B, *Z): batch shape (..., B), event shape X, in model space."""
        if self.is_latent:
            return self.model.likelihood(z)
        result: Distribution = self.model.decoder(z, self.vector)
        return result

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """See the model."""
        return self.model.posterior_parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """See the model."""
        return self.model.generative_parameters()
