"""The variational autoencoder, and which priors its posterior can meet."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions import known_support
from vaekit.errors import ShapeError, SupportError
from vaekit.models.base import GenerativeModel, OfParts
from vaekit.traits import PartTraits, told
from vaekit.transforms import Transform

_MATCHES = {
    "{0, 1}": "Bernoulli",
    "[0, 1]": "RelaxedBernoulli",
    "the one-hot vectors": "Categorical",
    "the simplex": "RelaxedCategorical",
    "the unit sphere": "VonMisesFisher (posterior) and UniformSphere (prior)",
    "the real numbers": "DiagonalNormal (posterior) and StandardNormal (prior)",
}


def _partner(support: str, axis: str) -> str:
    """What of an axis lives on a support."""
    names = _MATCHES.get(support) or ("WrappedNormal of that curvature" if "ball" in support else None)
    if names is None:
        return f"a {axis.removesuffix('s')} on {support}"
    first, _, second = names.partition(" (posterior) and ")
    name = second.removesuffix(" (prior)") if second and axis == "priors" else first
    return f"{axis}.{name}"


def check_supports(head: ConditionalDistribution, prior: nn.Module) -> None:
    """Raise unless the latents of a posterior head and of a prior lie in one set, as far as both say which.

    Args:
        head: the head of q(z|x).
        prior: the prior.

    Raises:
        SupportError: naming both sets and the parts that fit.
    """
    q, p = _support_of_head(head), known_support(_of_prior(prior))
    if q is None or p is None or q == p:
        return
    relaxed = ""
    if {q, p} in ({"{0, 1}", "[0, 1]"}, {"the one-hot vectors", "the simplex"}):
        relaxed = " A relaxed posterior bounds only the log p(x) of a model whose prior is relaxed, too."
    raise SupportError(
        f"the posterior {type(head).__name__} gives z in {q}, the prior {type(prior).__name__} in {p}; both describe z "
        f"and must agree.{relaxed} Use {_partner(q, 'priors')} or {_partner(p, 'posteriors')}."
    )


def _of_prior(prior: nn.Module) -> Distribution:
    with torch.no_grad():
        result: Distribution = prior()
        return result


def _support_of_head(head: ConditionalDistribution) -> str | None:
    """The support at parameters of zero; None where a head of someone else's cannot take those."""
    dtype, device = engine.model_dtype(head), engine.model_device(head)
    try:
        with torch.no_grad(), engine.seeded(0):
            return known_support(head(torch.zeros(1, *head.param_shape, dtype=dtype, device=device)))
    except (RuntimeError, ValueError, NotImplementedError):  # what is wrong there, if anything, shows at the first use
        return None


def latent_shape_of(prior: nn.Module) -> tuple[int, ...]:
    """Shape Z of the prior's events: of its attribute, for a prior that works only once it is bound, or of its call."""
    shape = told(PartTraits, prior).event_shape
    if shape is None:
        with torch.no_grad():
            shape = prior().event_shape
    return tuple(shape)


class VAE(OfParts, GenerativeModel):
    r"""The variational autoencoder: an encoder q(z|x), a decoder p(x|z) and a prior p(z).

    A latent-variable model \( p(x, z) = p(x|z) p(z) \) with an inference network \( q(z|x) \).

    Equation 13.2 of chapter 13 of "Neural Networks and Deep Learning". `posterior`, `prior` and `likelihood` take and
    give model-space values; `sample`, `encode`, `reconstruct` and `interpolate` take and give data in the units handed
    in, through `transform`.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
        Rezende et al., "Stochastic backpropagation", 2014, https://arxiv.org/abs/1401.4082.

    Args:
        encoder: q(z|x), a `Conditional` with a posterior head.
        decoder: p(x|z), a `Conditional` with a likelihood head.
        prior: p(z), a module whose call returns a distribution.
        transform: the way from data to model space; None means that the model sees the data as they are.

    Raises:
        ShapeError: if the parts do not fit each other.
        SupportError: if q(z|x) and p(z) live on different sets.

    Example:
        >>> import torch, vaekit as vk
        >>> model = VAE(
        ...     encoder=Conditional(vk.networks.MLP((1, 8, 8), (32,)), vk.posteriors.DiagonalNormal(4)),
        ...     decoder=Conditional(vk.networks.MLP(4, (32,)), vk.likelihoods.Bernoulli((1, 8, 8))),
        ...     prior=vk.priors.StandardNormal(4),
        ... )
        >>> model.sample(3, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 1, 8, 8])
    """

    posterior_is_fixed = True

    def __init__(
        self, encoder: Conditional, decoder: Conditional, prior: nn.Module, transform: Transform | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior, self.transform = encoder, decoder, prior, transform
        latent_shape = latent_shape_of(prior)
        if encoder.head.event_shape != latent_shape:
            raise ShapeError(
                f"the posterior {type(encoder.head).__name__} has events of shape {encoder.head.event_shape}, "
                f"the prior {type(prior).__name__} of shape {latent_shape}; both describe z and must agree."
            )
        encoder.build(decoder.head.event_shape)
        decoder.build(latent_shape)
        self.bind()
        check_supports(encoder.head, prior)

    def bind(self) -> None:
        """Tell the prior and both heads which model they are part of, where they ask for it by a method `bind(model)`.

        A `VampPrior` works through the model's encoder, a `Ladder` through the model's prior. The constructor binds;
        call it again after a part was exchanged.
        """
        for part in (self.prior, self.encoder.head, self.decoder.head):
            bind = told(PartTraits, part).bind
            if bind is not None:
                bind(self)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) for x of shape (B, *X) in model space: batch shape (B,), event shape Z."""
        result: Distribution = self.encoder(x)
        return result

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) for z of shape (..., *Z): batch shape (...), event shape X, in model space."""
        result: Distribution = self.decoder(z)
        return result

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of q(z|x): what an E step moves (13.15)."""
        return self.encoder.parameters()
