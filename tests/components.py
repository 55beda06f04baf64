"""The one table of members: each name of an axis package's `__all__` has a row with at least one factory."""

import math

import torch
from torch import nn
from torch.distributions import Bernoulli

from vaekit import likelihoods, models, networks, objectives, posteriors, priors, schedules, transforms
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions import Product
from vaekit.errors import ShapeError, VaekitError
from vaekit.kl import kl_per_dimension
from vaekit.shapes import as_shape


def columns(shape, family):
    """Columns of one family and of bits, by turns."""
    size = flat(shape)
    if size == 1:
        return likelihoods.Columns(1, [family(1)], [(0,)])
    places = [tuple(range(0, size, 2)), tuple(range(1, size, 2))]
    return likelihoods.Columns(size, [family(len(places[0])), likelihoods.Bernoulli(len(places[1]))], places)


def group(shape, family):
    """Members of one family along the first dimension of an event."""
    event = as_shape(shape)
    return likelihoods.Group(event, family(event[1:]), networks.MLP(3 + 2, (6,), "tanh"), embedding_size=2)


LIKELIHOODS = {
    "Bernoulli": [likelihoods.Bernoulli, lambda shape: likelihoods.Bernoulli(shape, missing="observed-only")],
    "Beta": [
        likelihoods.Beta,
        lambda shape: likelihoods.Beta(shape, concentration="learned"),
        lambda shape: likelihoods.Beta(shape, concentration="network"),
    ],
    "Categorical": [lambda shape: likelihoods.Categorical(shape, num_classes=5)],
    "Columns": [
        lambda shape: columns(shape, likelihoods.Normal),
        lambda shape: columns(shape, lambda size: likelihoods.Ordinal(size, num_classes=4)),
    ],
    "ContinuousBernoulli": [likelihoods.ContinuousBernoulli],
    "DiscretizedLogistic": [
        likelihoods.DiscretizedLogistic,
        lambda shape: likelihoods.DiscretizedLogistic(shape, num_levels=4),
    ],
    "DiscretizedLogisticMixture": [
        lambda shape: likelihoods.DiscretizedLogisticMixture(shape, num_components=3),
        lambda shape: likelihoods.DiscretizedLogisticMixture(shape, num_components=2, num_levels=4),
    ],
    "Group": [
        lambda shape: group(shape, lambda event: likelihoods.Bernoulli(event, missing="observed-only")),
        lambda shape: group(shape, likelihoods.Normal),
    ],
    "Laplace": [likelihoods.Laplace, lambda shape: likelihoods.Laplace(shape, scale="network")],
    "LogNormal": [likelihoods.LogNormal, lambda shape: likelihoods.LogNormal(shape, scale="network")],
    "NegativeBinomial": [
        likelihoods.NegativeBinomial,
        lambda shape: likelihoods.NegativeBinomial(shape, dispersion=0.3),
        lambda shape: likelihoods.NegativeBinomial(shape, dispersion="network"),
    ],
    "Normal": [
        likelihoods.Normal,
        lambda shape: likelihoods.Normal(shape, scale=0.3),
        lambda shape: likelihoods.Normal(shape, scale="learned"),
        lambda shape: likelihoods.Normal(shape, scale="network"),
    ],
    "NormalMixture": [likelihoods.NormalMixture, lambda shape: likelihoods.NormalMixture(shape, num_components=2)],
    "Ordinal": [
        lambda shape: likelihoods.Ordinal(shape, num_classes=4),
        lambda shape: likelihoods.Ordinal(flat(shape), num_classes=[2 + d % 3 for d in range(flat(shape))]),
    ],
    "PixelCNN": [
        lambda shape: likelihoods.PixelCNN(shape, channels=4, num_layers=1),
        lambda shape: likelihoods.PixelCNN(shape, num_levels=3, channels=3, num_layers=1, kernel_size=3),
    ],
    "Poisson": [likelihoods.Poisson],
    "RoundedLogNormal": [
        likelihoods.RoundedLogNormal,
        lambda shape: likelihoods.RoundedLogNormal(shape, scale=1.5),
        lambda shape: likelihoods.RoundedLogNormal(shape, scale="per-dimension"),
        lambda shape: likelihoods.RoundedLogNormal(
            shape, power=[(0.0, 0.25, 0.5, 1.0)[d % 4] for d in range(flat(shape))], centre=3.0
        ),
    ],
    "SelfMasked": [
        lambda shape: likelihoods.SelfMasked(2 * flat(shape), likelihoods.Normal(flat(shape), scale="network")),
    ],
    "SequenceCategorical": [
        lambda shape: likelihoods.SequenceCategorical(shape, num_tokens=3, hidden_size=5, embedding_size=3),
        lambda shape: likelihoods.SequenceCategorical(shape, 4, hidden_size=5, embedding_size=3, end_token=1),
    ],
    "Spiked": [
        lambda shape: likelihoods.Spiked(
            flat(shape), likelihoods.Normal(flat(shape)), [[0.0, 1.0][: 1 + d % 2] for d in range(flat(shape))]
        ),
    ],
    "StudentT": [
        likelihoods.StudentT,
        lambda shape: likelihoods.StudentT(shape, df=4.0, scale=0.3),
        lambda shape: likelihoods.StudentT(shape, df="per-dimension", scale="network"),
        lambda shape: likelihoods.StudentT(shape, df="network", scale="network"),
    ],
    "ZeroInflatedNegativeBinomial": [
        likelihoods.ZeroInflatedNegativeBinomial,
        lambda shape: likelihoods.ZeroInflatedNegativeBinomial(shape, dispersion="network"),
    ],
}


def flat(shape):
    """The number of elements of an event, for members whose events have one dimension."""
    return math.prod(as_shape(shape))


def layers(shape):
    """An event of one dimension as the sizes of two layers where there is room."""
    if not isinstance(shape, int) and len(shape) != 1:
        raise ShapeError(f"layers are parts of an event of one dimension; got {shape}")
    size = flat(shape)
    return (size,) if size == 1 else (size - size // 2, size // 2)


POSTERIORS = {
    "Bernoulli": [posteriors.Bernoulli],
    "BottomUp": [lambda shape: posteriors.BottomUp(layers(shape), hidden=(8,))],
    "Categorical": [lambda shape: posteriors.Categorical(shape, num_classes=3)],
    "ConvLadder": [lambda shape: posteriors.ConvLadder([(size, 1, 1) for size in layers(shape)], channels=3)],
    "DiagonalNormal": [
        posteriors.DiagonalNormal,
        lambda shape: posteriors.DiagonalNormal(shape, scale="exp"),
        lambda shape: posteriors.DiagonalNormal(shape, scale="softplus"),
        lambda shape: posteriors.DiagonalNormal(shape, scale="softplus-variance"),
    ],
    "FullNormal": [posteriors.FullNormal],
    "Householder": [posteriors.Householder],
    "InverseAutoregressive": [
        lambda shape: posteriors.InverseAutoregressive(shape, hidden=(8,), context=3),
        lambda shape: posteriors.InverseAutoregressive(shape, num_flows=3, hidden=(8, 8), context=3),
    ],
    "Ladder": [lambda shape: posteriors.Ladder(layers(shape), hidden=(8,), width=6)],
    "Laplace": [posteriors.Laplace, lambda shape: posteriors.Laplace(shape, scale="softplus")],
    "LowRankNormal": [posteriors.LowRankNormal, lambda shape: posteriors.LowRankNormal(shape, rank=1)],
    "Planar": [posteriors.Planar, lambda shape: posteriors.Planar(shape, num_flows=2)],
    "ProductOfExperts": [lambda shape: posteriors.ProductOfExperts(shape, num_experts=3)],
    "Radial": [posteriors.Radial, lambda shape: posteriors.Radial(shape, num_flows=2)],
    "RelaxedBernoulli": [posteriors.RelaxedBernoulli],
    "RelaxedCategorical": [lambda shape: posteriors.RelaxedCategorical(shape, num_classes=3)],
    "Spline": [lambda shape: posteriors.Spline(shape, num_bins=4, hidden=(8,), context=3)],
    "Sylvester": [posteriors.Sylvester, lambda shape: posteriors.Sylvester(shape, num_flows=2, num_columns=2)],
    "TopDown": [lambda shape: posteriors.TopDown(layers(shape), hidden=(8,), width=6)],
    "VonMisesFisher": [posteriors.VonMisesFisher],
    "WrappedNormal": [posteriors.WrappedNormal, lambda shape: posteriors.WrappedNormal(shape, curvature=0.3)],
}

# Families whose events are vectors: other event shapes are refused.
VECTORS = {
    "BottomUp",
    "ConvLadder",
    "FullNormal",
    "Ladder",
    "TopDown",
    "UniformSphere",
    "VonMisesFisher",
    "WrappedNormal",
}
# Families on a sphere, which needs two dimensions around it.
SPHERES = {"UniformSphere", "VonMisesFisher"}
# Members that mix dimensions of z: they refuse events of a single element.
AT_LEAST_TWO = {
    "AffineCoupling",
    "Householder",
    "InverseAutoregressive",
    "MaskedAutoregressive",
    "Spline",
    "Sylvester",
}


def whole(prior, head=None, x_shape=(3,)):
    """What `check_prior` takes: the prior, or a small model around one that works through its model."""
    if not hasattr(prior, "bind"):
        return prior
    head = head or posteriors.DiagonalNormal(prior.event_shape)
    encoder = Conditional(networks.MLP(x_shape, (8,), "tanh"), head)
    decoder = Conditional(networks.MLP(prior.event_shape, (8,), "tanh"), likelihoods.Bernoulli(x_shape))
    return models.VAE(encoder, decoder, prior)


PRIORS = {
    "AffineCoupling": [lambda shape: priors.AffineCoupling(shape, num_flows=3, hidden=(8,))],
    "AutoregressiveCategorical": [
        lambda shape: priors.AutoregressiveCategorical(shape, num_classes=3),
        lambda shape: priors.AutoregressiveCategorical(shape, num_classes=3, hidden=(7, 9)),
    ],
    "Bernoulli": [priors.Bernoulli, lambda shape: priors.Bernoulli(shape, probs="uniform")],
    "Categorical": [
        lambda shape: priors.Categorical(shape, num_classes=3),
        lambda shape: priors.Categorical(shape, num_classes=3, probs="uniform"),
    ],
    "ConvHierarchical": [
        lambda shape: priors.ConvHierarchical([(size, 1, 1) for size in layers(flat(shape))], channels=3)
    ],
    "Hierarchical": [
        lambda shape: priors.Hierarchical(layers(flat(shape)), hidden=(8,)),
        lambda shape: priors.Hierarchical(
            layers(flat(shape)), hidden=(), top=priors.NormalMixture(layers(flat(shape))[-1], 2)
        ),
    ],
    "MaskedAutoregressive": [lambda shape: priors.MaskedAutoregressive(shape, num_flows=3, hidden=(8,))],
    "NormalMixture": [
        lambda shape: priors.NormalMixture(shape, num_components=3),
        lambda shape: priors.NormalMixture(flat(shape), num_components=2, covariance="full"),
    ],
    "RelaxedBernoulli": [priors.RelaxedBernoulli, lambda shape: priors.RelaxedBernoulli(shape, probs="uniform")],
    "RelaxedCategorical": [
        lambda shape: priors.RelaxedCategorical(shape, num_classes=3),
        lambda shape: priors.RelaxedCategorical(shape, num_classes=3, temperature=1.5, probs="uniform"),
    ],
    "Spline": [lambda shape: priors.Spline(shape, num_flows=2, num_bins=4, hidden=(8,))],
    "StandardNormal": [priors.StandardNormal],
    "UniformSphere": [priors.UniformSphere],
    "VampPrior": [
        lambda shape: priors.VampPrior(shape, num_pseudo_inputs=4),
        lambda shape: priors.VampPrior(shape, (3,), num_pseudo_inputs=4, weights="learned"),
    ],
    "WrappedNormal": [priors.WrappedNormal, lambda shape: priors.WrappedNormal(shape, curvature=0.3)],
}

OBJECTIVES = {
    "BetaTC": [objectives.BetaTC, lambda: objectives.BetaTC(2.0, alpha=0.5, gamma=1.5, weighting="weighted")],
    "CIWAE": [objectives.CIWAE],
    "Capacity": [objectives.Capacity, lambda: objectives.Capacity(schedules.Linear(0.0, 5.0, 10), gamma=10.0)],
    "DIPVAE": [objectives.DIPVAE, lambda: objectives.DIPVAE("i")],
    "DReG": [objectives.DReG],
    "Denoising": [objectives.Denoising, lambda: objectives.Denoising("normal", 0.3)],
    "ELBO": [
        objectives.ELBO,
        lambda: objectives.ELBO(num_samples=3, beta=2.0, kl="sampled"),
        lambda: objectives.ELBO(beta=schedules.Linear(0.5, 1.0, 10)),
        lambda: objectives.ELBO(free_bits=1e-4),
    ],
    "FactorVAE": [lambda: objectives.FactorVAE(hidden=(16, 16))],
    "HideCells": [
        objectives.HideCells,
        lambda: objectives.HideCells(objectives.ELBO(), rows=0.5, most=0.2),
        lambda: objectives.HideCells(objectives.ELBO(), least=0.5, most=1.0, leading=1),
    ],
    "IWAE": [objectives.IWAE, lambda: objectives.IWAE(num_samples=1)],
    "InfoVAE": [objectives.InfoVAE, lambda: objectives.InfoVAE(alpha=1.0, weight=50.0, bandwidth=1.0)],
    "MIWAE": [objectives.MIWAE],
    "MultiConditional": [objectives.MultiConditional, lambda: objectives.MultiConditional(0.5, num_samples=2)],
    "PIWAE": [objectives.PIWAE],
    "Renyi": [objectives.Renyi, lambda: objectives.Renyi(alpha=2.0)],
    "STL": [objectives.STL, lambda: objectives.STL(num_samples=3, bound="iwae")],
    "SemiSupervised": [objectives.SemiSupervised, lambda: objectives.SemiSupervised(3.0, num_samples=2)],
    "TVO": [objectives.TVO],
}

TRANSFORMS = {
    "Binarize": [transforms.Binarize],
    "Columns": [lambda: transforms.Columns(3, [transforms.Scale(-1.0, 3.0), transforms.Log()], [(2,), (0,)])],
    "Compose": [lambda: transforms.Compose([transforms.Scale(-1.0, 3.0), transforms.Logit(0.1)])],
    "Dequantize": [lambda: transforms.Dequantize(16)],
    "Log": [transforms.Log],
    "Logit": [transforms.Logit],
    "Scale": [lambda: transforms.Scale(-2.0, 3.0)],
    "Spiked": [lambda: transforms.Spiked(transforms.Scale(-2.0, 3.0), [[0.0], [], [1.0, 2.0]])],
    "Standardize": [lambda: transforms.Standardize(3).fit(torch.randn(50, 3) * torch.tensor([1.0, 4.0, 0.1]))],
}

# Names of the packages that are no members: base classes and results.
NOT_MEMBERS = {"Loss", "Objective", "Transform"}

AXES = {
    likelihoods: LIKELIHOODS,
    posteriors: POSTERIORS,
    priors: PRIORS,
    objectives: OBJECTIVES,
    transforms: TRANSFORMS,
}


def rows(table: dict) -> list:
    """(name, factory) of every row, for `pytest.mark.parametrize`."""
    return [(name, factory) for name, factories in table.items() for factory in factories]


def prior_for(head):
    """A prior whose latents are of the kind of a posterior head."""
    name = type(head).__name__
    if name in ("Bernoulli", "RelaxedBernoulli"):
        return getattr(priors, name)(head.event_shape)
    if name in ("Categorical", "RelaxedCategorical"):
        return getattr(priors, name)(head.code_shape, head.num_classes)
    if name == "WrappedNormal":
        return priors.WrappedNormal(head.event_shape, head.curvature)
    kind = {"VonMisesFisher": priors.UniformSphere}.get(name, priors.StandardNormal)
    return kind(head.event_shape)


class BernoulliPosterior(ConditionalDistribution):
    """Binary latents: no reparameterisation, a foreign head that the tests plug in."""

    def __init__(self, event_shape):
        super().__init__(event_shape, num_params=1)

    def forward(self, params):
        (logits,) = self.unbind(params)
        return Product(Bernoulli(logits=logits, validate_args=False), len(self.event_shape))


class BernoulliPrior(nn.Module):
    """Binary latents with learned probabilities."""

    def __init__(self, event_shape):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(event_shape))

    def forward(self):
        return Product(Bernoulli(logits=self.logits, validate_args=False), self.logits.ndim)


# What an objective asks of the posterior (and of the prior beside it), in the words of `abilities`.
NEEDS = {
    "BetaTC": {"factorised", "path", "anywhere"},
    "DIPVAE": {"mean"},
    "DReG": {"path", "anywhere"},
    "FactorVAE": {"factorised", "path"},
    "InfoVAE": {"path"},
    "STL": {"path", "anywhere"},
}

# Word to what the error says where it is lacking.
LACKS = {
    "factorised": "defined for a factorised posterior",
    "path": "posterior that can be reparameterised",
    "mean": "needs a posterior with a mean",
    "KL per dimension": "KL per dimension .* is defined for a factorised posterior",
    "anywhere": "own draws",
    "moving prior": "nothing moves a learned prior",
}


def needs(objective) -> set[str]:
    """What this objective asks for, with what its arguments add."""
    more = set()
    if getattr(objective, "free_bits", None):
        more |= {"KL per dimension"}
    if getattr(objective, "kind", None) == "ii":
        more |= {"factorised", "path"}
    if getattr(objective, "alpha", None) == 1 and type(objective).__name__ == "InfoVAE":
        more |= {"moving prior"}
    return NEEDS.get(type(objective).__name__, set()) | more


def abilities(q, p) -> set[str]:
    """What a posterior of some rows offers beside a prior: read off the distributions, so that new ones need no row."""

    def works(function, *errors) -> bool:
        try:
            function()
        except errors:
            return False
        return True

    z = q.sample()
    found = {
        "factorised": isinstance(q, Product),
        "path": q.has_rsample,
        "mean": works(lambda: q.mean, NotImplementedError),
        "KL per dimension": works(lambda: kl_per_dimension(q, p), VaekitError),
        "anywhere": works(lambda: q.log_prob(z.clone()), VaekitError),
        "moving prior": p.has_rsample or not p.log_prob(p.sample()).requires_grad,
    }
    return {name for name, present in found.items() if present}
