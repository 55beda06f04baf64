"""The one table of members: each name of an axis package's `__all__` has a row with at least one factory."""

import torch
from torch import nn
from torch.distributions import Bernoulli

from vaekit import likelihoods, objectives, posteriors, priors, schedules, transforms
from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Product

LIKELIHOODS = {
    "Bernoulli": [likelihoods.Bernoulli, lambda shape: likelihoods.Bernoulli(shape, missing="observed-only")],
    "Beta": [
        likelihoods.Beta,
        lambda shape: likelihoods.Beta(shape, concentration="learned"),
        lambda shape: likelihoods.Beta(shape, concentration="network"),
    ],
    "Categorical": [lambda shape: likelihoods.Categorical(shape, num_classes=5)],
    "ContinuousBernoulli": [likelihoods.ContinuousBernoulli],
    "DiscretizedLogistic": [
        likelihoods.DiscretizedLogistic,
        lambda shape: likelihoods.DiscretizedLogistic(shape, num_levels=4),
    ],
    "DiscretizedLogisticMixture": [
        lambda shape: likelihoods.DiscretizedLogisticMixture(shape, num_components=3),
        lambda shape: likelihoods.DiscretizedLogisticMixture(shape, num_components=2, num_levels=4),
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
    "PixelCNN": [
        lambda shape: likelihoods.PixelCNN(shape, channels=4, num_layers=1),
        lambda shape: likelihoods.PixelCNN(shape, num_levels=3, channels=3, num_layers=1, kernel_size=3),
    ],
    "Poisson": [likelihoods.Poisson],
    "SequenceCategorical": [
        lambda shape: likelihoods.SequenceCategorical(shape, num_tokens=3, hidden_size=5, embedding_size=3),
        lambda shape: likelihoods.SequenceCategorical(shape, 4, hidden_size=5, embedding_size=3, end_token=1),
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

POSTERIORS = {
    "DiagonalNormal": [
        posteriors.DiagonalNormal,
        lambda shape: posteriors.DiagonalNormal(shape, scale="exp"),
        lambda shape: posteriors.DiagonalNormal(shape, scale="softplus"),
        lambda shape: posteriors.DiagonalNormal(shape, scale="softplus-variance"),
    ],
    "FullNormal": [posteriors.FullNormal],
}

PRIORS = {"StandardNormal": [priors.StandardNormal]}

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
    "IWAE": [objectives.IWAE, lambda: objectives.IWAE(num_samples=1)],
    "InfoVAE": [objectives.InfoVAE, lambda: objectives.InfoVAE(alpha=1.0, weight=50.0, bandwidth=1.0)],
    "MIWAE": [objectives.MIWAE],
    "PIWAE": [objectives.PIWAE],
    "Renyi": [objectives.Renyi, lambda: objectives.Renyi(alpha=2.0)],
    "STL": [objectives.STL, lambda: objectives.STL(num_samples=3, bound="iwae")],
    "TVO": [objectives.TVO],
}

TRANSFORMS = {
    "Binarize": [transforms.Binarize],
    "Compose": [lambda: transforms.Compose([transforms.Scale(-1.0, 3.0), transforms.Logit(0.1)])],
    "Dequantize": [lambda: transforms.Dequantize(16)],
    "Logit": [transforms.Logit],
    "Scale": [lambda: transforms.Scale(-2.0, 3.0)],
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
