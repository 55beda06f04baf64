"""Evaluation: estimates of log p(x) and of its bounds, per point, with errors."""

from vaekit.evaluation.chains.ais import Sandwich, ais, bdmc
from vaekit.evaluation.chains.hmc import PosteriorSamples, hmc_posterior
from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.evaluate import evaluate
from vaekit.evaluation.factors.agreement import cluster_agreement
from vaekit.evaluation.factors.disentanglement import disentanglement
from vaekit.evaluation.factors.information import mig, modularity
from vaekit.evaluation.factors.interventions import beta_vae_score, factor_vae_score
from vaekit.evaluation.factors.prediction import dci, dci_scores, sap
from vaekit.evaluation.health.diagnostics import Diagnostics, diagnostics
from vaekit.evaluation.likelihood.comparison import Comparison, compare
from vaekit.evaluation.likelihood.marginal import elbo, elbo_and_iwae, iwae, log_marginal
from vaekit.evaluation.likelihood.trend import bias_trend
from vaekit.evaluation.results import Result, Results
from vaekit.evaluation.samples.classifier import classifier_two_sample_test
from vaekit.evaluation.samples.distances import frechet_distance, mmd, sliced_wasserstein
from vaekit.evaluation.samples.neighbors import precision_recall_density_coverage
from vaekit.evaluation.samples.two_sample import two_sample

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
    "cluster_agreement",
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
