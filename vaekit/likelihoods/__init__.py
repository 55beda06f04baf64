"""Likelihoods p(x|z): heads that turn a decoder's output into a distribution of x. One file per kind of value."""

from vaekit.likelihoods.bits import Bernoulli
from vaekit.likelihoods.columns import Columns
from vaekit.likelihoods.counts import NegativeBinomial, Poisson, RoundedLogNormal, ZeroInflatedNegativeBinomial
from vaekit.likelihoods.groups import Group
from vaekit.likelihoods.intervals import Beta, ContinuousBernoulli
from vaekit.likelihoods.levels import Categorical, DiscretizedLogistic, DiscretizedLogisticMixture, Ordinal
from vaekit.likelihoods.pixels import PixelCNN
from vaekit.likelihoods.reals import Laplace, LogNormal, Normal, NormalMixture, StudentT
from vaekit.likelihoods.selection import SelfMasked
from vaekit.likelihoods.spikes import Spiked
from vaekit.likelihoods.tokens import SequenceCategorical

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Group",
    "Laplace",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "NormalMixture",
    "Ordinal",
    "PixelCNN",
    "Poisson",
    "RoundedLogNormal",
    "SelfMasked",
    "SequenceCategorical",
    "Spiked",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]
