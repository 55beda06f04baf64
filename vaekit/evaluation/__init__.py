"""Evaluation: estimates of log p(x) and of its bounds, per point, with errors."""

from vaekit.evaluation.ais import Sandwich, ais, bdmc
from vaekit.evaluation.classifier import classifier_two_sample_test
from vaekit.evaluation.comparison import Comparison, compare
from vaekit.evaluation.dci import dci, dci_scores
from vaekit.evaluation.diagnostics import Diagnostics, diagnostics
from vaekit.evaluation.disentanglement import disentanglement
from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.evaluate import evaluate
from vaekit.evaluation.frechet import frechet_distance
from vaekit.evaluation.hmc import PosteriorSamples, hmc_posterior
from vaekit.evaluation.information import mig, modularity
from vaekit.evaluation.interventions import beta_vae_score, factor_vae_score
from vaekit.evaluation.likelihood import elbo, elbo_and_iwae, iwae, log_marginal
from vaekit.evaluation.mmd import mmd
from vaekit.evaluation.neighbors import precision_recall_density_coverage
from vaekit.evaluation.prediction import sap
from vaekit.evaluation.results import Result, Results
from vaekit.evaluation.transport import sliced_wasserstein
from vaekit.evaluation.trend import bias_trend
from vaekit.evaluation.two_sample import two_sample

__all__ = [
    "Comparison",
    "Diagnostics",
    "Estimate",
    "PosteriorSamples",
    "Result",
    "Results",
    "Sandwich",
    "Score",
    "ais",
    "bdmc",
    "bias_trend",
    "beta_vae_score",
    "classifier_two_sample_test",
    "compare",
    "dci",
    "dci_scores",
    "diagnostics",
    "disentanglement",
    "elbo",
    "elbo_and_iwae",
    "evaluate",
    "factor_vae_score",
    "frechet_distance",
    "hmc_posterior",
    "iwae",
    "log_marginal",
    "mig",
    "mmd",
    "modularity",
    "precision_recall_density_coverage",
    "sap",
    "sliced_wasserstein",
    "two_sample",
]
