"""The check that q(z|x) and p(z) describe latents of one kind: a KL between a sphere and R^D is no number."""

import torch
from torch import nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import known_support
from vaekit.errors import SupportError

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
        return prior()


def _support_of_head(head: ConditionalDistribution) -> str | None:
    """The support at parameters of zero; None where a head of someone else's cannot take those."""
    dtype, device = engine.model_dtype(head), engine.model_device(head)
    try:
        with torch.no_grad(), engine.seeded(0):
            return known_support(head(torch.zeros(1, *head.param_shape, dtype=dtype, device=device)))
    except (RuntimeError, ValueError, NotImplementedError):  # what is wrong there, if anything, shows at the first use
        return None
