"""Likelihoods p(x|z): heads that turn a decoder's output into a distribution of x. One file per family."""

from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.categorical import Categorical
from vaekit.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaekit.likelihoods.discretized_logistic import DiscretizedLogistic
from vaekit.likelihoods.laplace import Laplace
from vaekit.likelihoods.normal import Normal

__all__ = ["Bernoulli", "Categorical", "ContinuousBernoulli", "DiscretizedLogistic", "Laplace", "Normal"]
