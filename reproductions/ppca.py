r"""ppca: a linear VAE is probabilistic PCA, and its ELBO reaches the exact maximum of the likelihood.

With linear encoder and decoder (with biases), one learned noise scale and a diagonal posterior, the best ELBO equals
the maximal log-likelihood of probabilistic PCA (the decoder may rotate until the posterior is diagonal):
\[ -\tfrac12 \Big[ D \log 2\pi + \sum_{i \le q} \log \lambda_i + (D - q) \log s^2 + D \Big], \]
\( \lambda_i \) the eigenvalues of the covariance, \( s^2 \) the mean of the discarded ones.

Protocol: scikit-learn's 1,797 digits / 16 (D = 64), q = 2 and 10, float64, full batches; afterwards the training ELBO
with a sampled KL, 64 draws per row. Published: `PCA(q).fit(X).score(X)`. Gate: at most 0.3 nats below, never above by
more than 3 standard errors.

Sources: Tipping & Bishop, "Probabilistic principal component analysis", 1999, https://doi.org/10.1111/1467-9868.00196;
Lucas et al., "Don't blame the ELBO!", 2019, https://arxiv.org/abs/1911.02469.
"""

from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

import vaekit as vk
from reproductions.result import Check, Result

OPTIMUM = {2: 0.00570, 10: 17.45194}
_EPOCHS = 2_000


def linear_vae(latent_dim: int, scale: float | str) -> vk.VAE:
    """q(z|x) and p(x|z) linear in their conditions, for the 64 pixels of the digits, in float64."""
    with vk.engine.seeded(0):
        return vk.VAE(
            encoder=vk.Conditional(vk.networks.MLP(64, ()), vk.posteriors.DiagonalNormal(latent_dim)),
            decoder=vk.Conditional(vk.networks.MLP(latent_dim, ()), vk.likelihoods.Normal(64, scale=scale)),
            prior=vk.priors.StandardNormal(latent_dim),
        ).double()


def run(data_dir: str | Path | None = None) -> Result:
    """Train the linear VAE for both q and compare the ELBO with the optimum."""
    x = torch.from_numpy(vk.data.load("digits").x).flatten(1).double() / 16
    schedule = partial(CosineAnnealingLR, T_max=_EPOCHS)
    trainer = vk.Trainer(max_epochs=_EPOCHS, batch_size=len(x), learning_rate=1e-2, scheduler=schedule, progress=False)
    checks, details = [], {}
    for q, optimum in OPTIMUM.items():
        model = linear_vae(q, "learned")
        trainer.fit(model, vk.objectives.ELBO(), x)
        generator = torch.Generator().manual_seed(1)
        bound = vk.evaluation.elbo(model, x, num_samples=64, kl="sampled", generator=generator)
        high = optimum + 3 * bound.mean_stderr
        checks.append(Check(f"train ELBO, q = {q}, nats", optimum, bound.mean, optimum - 0.3, high))
        details[f"mean_stderr_q{q}"] = bound.mean_stderr
    return Result(tuple(checks), details)
