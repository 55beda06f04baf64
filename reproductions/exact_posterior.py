r"""exact-posterior: with \( q = p(z|x) \) every importance weight is p(x), so that all bounds coincide.

\( \log w = \log p(x|z) + \log p(z) - \log q(z|x) = \log p(x) \) for every z: the ELBO with a sampled KL, the IWAE
bound for any K, and the closed form are one number. Annealed importance sampling, which never asks for q, has to find
the same number from the prior. The model is no part of vaekit: any object with `posterior`,
`prior` and `likelihood` can be evaluated, here scikit-learn's factor analysis \( x|z \sim N(Wz + \mu, \Psi) \), whose
posterior is \( N(G W^T \Psi^{-1} (x - \mu), G) \) with \( G = (I + W^T \Psi^{-1} W)^{-1} \).

Protocol: digits / 16 without their three constant columns (D = 61), q = 10, `svd_method="lapack"`. Published: 45.9721
nats (`FactorAnalysis.score`). Gates: standard deviation of log w over the draws at most 1e-4 in float64; bounds within
1e-4; annealed importance sampling within 0.05 of the closed form, on every ninth row, 16 chains of 1,000 steps.

Source: Barber, "Bayesian reasoning and machine learning", 2012, chapter 21; scikit-learn's `FactorAnalysis`.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import FactorAnalysis
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

import vaekit as vk
from reproductions.result import Check, Result


class FactorModel:
    """A fitted factor analysis as a latent-variable model with its exact posterior."""

    def __init__(self, fitted: FactorAnalysis, dtype: torch.dtype = torch.float64) -> None:
        w, psi, self.mean = (
            torch.tensor(array, dtype=torch.float64).to(dtype)
            for array in (fitted.components_, fitted.noise_variance_, fitted.mean_)
        )
        self.w, self.scale, eye = w, psi.sqrt(), torch.eye(len(w), dtype=dtype)
        self.covariance = torch.linalg.inv(eye + (w / psi) @ w.T)
        self.gain = self.covariance @ (w / psi)
        self.origin, self.unit = torch.zeros(len(w), dtype=dtype), torch.ones(len(w), dtype=dtype)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) itself."""
        return MultivariateNormal((x - self.mean) @ self.gain.T, self.covariance)

    def prior(self) -> Independent:
        """N(0, I)."""
        return Independent(Normal(self.origin, self.unit), 1)

    def likelihood(self, z: Tensor) -> Independent:
        """N(Wz + mu, Psi)."""
        return Independent(Normal(z @ self.w + self.mean, self.scale), 1)


def run(data_dir: str | Path | None = None) -> Result:
    """Fit the factor analysis and compare the bounds with its closed form."""
    x = vk.data.load("digits").x.reshape(-1, 64) / 16.0
    x = x[:, x.std(0) > 0]
    fitted = FactorAnalysis(10, svd_method="lapack").fit(x)
    model, data, generator = FactorModel(fitted), torch.from_numpy(x), torch.Generator().manual_seed(0)
    bound = vk.evaluation.elbo(model, x, num_samples=16, kl="sampled", generator=generator)
    weighted = vk.evaluation.iwae(model, x, num_samples=50, generator=generator)
    error = np.abs(weighted.value.numpy() - fitted.score_samples(x)).max()
    some = slice(None, None, 9)
    annealed = vk.evaluation.ais(model, x[some], num_steps=1_000, num_leapfrog=5, generator=generator)
    with vk.engine.seeded(0):
        spread = vk.bounds.log_weights(model, data, 64).std(0).max()
        single = vk.bounds.log_weights(FactorModel(fitted, torch.float32), data.float(), 64).std(0).max()
    annealed_error = annealed.mean - float(fitted.score(x[some]))
    exact = 45.9721
    checks = (
        Check("ELBO (sampled KL), nats", exact, bound.mean, exact - 1e-4, exact + 1e-4),
        Check("IWAE bound, K = 50, nats", exact, weighted.mean, exact - 1e-4, exact + 1e-4),
        Check(f"AIS - closed form, mean of {len(annealed)} rows", 0.0, annealed_error, -0.05, 0.05),
        Check("largest std of log w, float64", 0.0, float(spread), 0.0, 1e-4),
        Check("largest |IWAE - closed form| of a row", 0.0, float(error), 0.0, 1e-4),
    )
    details = {
        "columns": x.shape[1],
        "largest_std_of_log_w_float32": float(single),
        "ais_mean_stderr": annealed.mean_stderr,
        "ais_acceptance": float(annealed.terms["acceptance"].mean()),
    }
    return Result(checks, details)
