"""Evaluation: estimates of log p(x) and of its bounds, per point, with errors."""

from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.likelihood import elbo, iwae, log_marginal

__all__ = ["Estimate", "Score", "elbo", "iwae", "log_marginal"]
