"""Evaluation: estimates of log p(x) and of its bounds, per point, with errors."""

from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.likelihood import elbo, elbo_and_iwae, iwae, log_marginal
from vaekit.evaluation.summary import summarize

__all__ = ["Estimate", "Score", "elbo", "elbo_and_iwae", "iwae", "log_marginal", "summarize"]
