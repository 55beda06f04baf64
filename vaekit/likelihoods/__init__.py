"""Likelihoods p(x|z): heads that turn a decoder's output into a distribution of x. One file per family."""

from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.beta import Beta
from vaekit.likelihoods.categorical import Categorical
from vaekit.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaekit.likelihoods.discretized_logistic import DiscretizedLogistic
from vaekit.likelihoods.discretized_logistic_mixture import DiscretizedLogisticMixture
from vaekit.likelihoods.laplace import Laplace
from vaekit.likelihoods.log_normal import LogNormal
from vaekit.likelihoods.negative_binomial import NegativeBinomial
from vaekit.likelihoods.normal import Normal
from vaekit.likelihoods.pixel_cnn import PixelCNN
from vaekit.likelihoods.poisson import Poisson
from vaekit.likelihoods.sequence_categorical import SequenceCategorical
from vaekit.likelihoods.student_t import StudentT
from vaekit.likelihoods.zero_inflated_negative_binomial import ZeroInflatedNegativeBinomial

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Laplace",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "PixelCNN",
    "Poisson",
    "SequenceCategorical",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]
