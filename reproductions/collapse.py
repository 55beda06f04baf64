r"""collapse: a linear VAE with fixed noise keeps exactly the directions whose variance exceeds the noise.

With \( \sigma^2 \) fixed, the maximum of the likelihood has \( W = U (\Lambda - \sigma^2)_+^{1/2} \): directions with
an eigenvalue below \( \sigma^2 \) are pruned and their posterior is the prior. That collapse is right and no failure
of the optimisation.

Protocol: the model of `ppca` with \( \sigma^2 = 0.35 \) and q = 20 on scikit-learn's digits / 16, full batches (the
noise of small ones spreads the weakest direction over several latents); four eigenvalues of
the covariance exceed 0.35 (0.70, 0.64, 0.55, 0.40; the next is 0.27). A dimension is active where the variance of
E[z|x] over the data exceeds 0.01 (Burda et al. 2016), and also where its mean KL exceeds 0.01 nats. Exact value: 4 by
both criteria. The ELBO must reach its own optimum, \( -\tfrac12 [D \log 2\pi + \sum_{i \le 4} (\log \lambda_i + 1) +
\sum_{i > 4} (\log \sigma^2 + \lambda_i / \sigma^2)] \).

Sources: Lucas et al., "Don't blame the ELBO!", 2019, https://arxiv.org/abs/1911.02469; Burda et al., "Importance
weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519, section 5.
"""

import math
from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

import vaekit as vk
from reproductions.ppca import linear_vae
from reproductions.result import Check, Result

_VARIANCE, _EPOCHS = 0.35, 2_000


def optimum(x: torch.Tensor, variance: float) -> float:
    """The best mean ELBO of a linear VAE with that noise on x of shape (N, D), in nats."""
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    kept = eigenvalues.clamp(min=variance)  # the variance that the model gives to each direction
    return float(-0.5 * (math.log(2 * math.pi) + kept.log() + eigenvalues / kept).sum())


def run(data_dir: str | Path | None = None) -> Result:
    """Train with 20 latent dimensions and count those that carry information."""
    x = torch.from_numpy(vk.data.load("digits").x).flatten(1).double() / 16
    model = linear_vae(20, math.sqrt(_VARIANCE))
    schedule = partial(CosineAnnealingLR, T_max=_EPOCHS)
    trainer = vk.Trainer(max_epochs=_EPOCHS, batch_size=len(x), learning_rate=1e-2, scheduler=schedule, progress=False)
    trainer.fit(model, vk.objectives.ELBO(), x)
    spread = model.encode(x).var(0)
    with torch.no_grad():
        kl = vk.kl.kl_per_dimension(model.posterior(x), model.prior()).mean(0)
    bound = vk.evaluation.elbo(model, x, num_samples=64, kl="sampled", generator=torch.Generator().manual_seed(1))
    best = optimum(x, _VARIANCE)
    checks = (
        Check("active dimensions by var E[z|x] > 0.01", 4, int((spread > 0.01).sum()), 4, 4),
        Check("active dimensions by KL > 0.01 nats", 4, int((kl > 0.01).sum()), 4, 4),
        Check("train ELBO, nats", best, bound.mean, best - 0.3, best + 3 * bound.mean_stderr),
    )
    details = {
        "variance_of_means": [round(value, 5) for value in spread.sort(descending=True).values[:6].tolist()],
        "kl_per_dimension": [round(value, 5) for value in kl.sort(descending=True).values[:6].tolist()],
    }
    return Result(checks, details)
