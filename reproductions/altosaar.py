r"""altosaar: the course of validation log p(x) over 65,000 steps, and the test figures, of a mean-field VAE.

Protocol: MNIST of bits drawn once; 50,000 images to train on, 10,000 to validate, 10,000 to test; 784-256-256-(2 x
128) and 128-256-256-784 with ReLU, \( \sigma = \mathrm{softplus} \), PyTorch's default initialisation, KL sampled;
batches of 128; centred RMSprop 1e-3 on the loss summed over the batch. On its mean that is RMSprop with epsilon
1e-8 / 128: nothing else in the update depends on the scale of the loss. log p(x) by 128 importance samples. The
published numbers are of Larochelle's fixed bits; these are another draw of the bits. The test figures are those of the
weights at the end of the epoch in which step 65,000 falls (step 65,297).

Published: log p(x) of the validation images -107.0, -102.6, -100.0, -98.3, -97.8, -97.4 at 5, 10, 20, 30, 45 and 65
thousand steps; test log p(x) -97.10, test ELBO -103.31. Gates: log p(x) at the end in [-98.6, -95.8], test ELBO in
[-105.2, -101.5].

Source: Altosaar, "Tutorial: what is a variational autoencoder?", https://github.com/jaanli/variational-autoencoder.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vaekit as vk
from reproductions.result import Check, Result
from vaekit.training import Callback

VALID = {5_000: -107.0, 10_000: -102.6, 20_000: -100.0, 30_000: -98.3, 45_000: -97.8, 65_000: -97.4}
_BATCH, _LAST = 128, max(VALID)


def log_p(model: vk.VAE, x: Tensor) -> Any:
    """log p(x) per image by 128 importance samples."""
    return vk.evaluation.log_marginal(model, x, num_samples=128, generator=torch.Generator().manual_seed(1))


class Milestones(Callback):
    """Validation log p(x) after certain steps; ends training with the epoch of the last one."""

    def __init__(self, valid: Tensor) -> None:
        self.valid = valid
        self.log_p: dict[int, float] = {}

    def on_step_end(self, loop: Any) -> None:
        """Estimate, if it is time."""
        if loop.step in VALID:
            self.log_p[loop.step] = log_p(loop.model, self.valid).mean
        loop.stop = loop.step >= _LAST


def run(data_dir: str | Path | None = None) -> Result:
    """Train for 65,000 steps and estimate log p(x) on the way and at the end."""
    grey = [torch.from_numpy(vk.data.load(f"mnist:{part}", data_dir=data_dir).x) / 255 for part in ("train", "test")]
    train, test = (vk.transforms.Binarize("fixed")(x) for x in grey)
    train, valid = train[:50_000], train[50_000:]
    with vk.engine.seeded(0):
        posterior = vk.posteriors.DiagonalNormal(128, scale="softplus")
        model = vk.VAE(
            encoder=vk.Conditional(vk.networks.MLP((1, 28, 28), (256, 256)), posterior),
            decoder=vk.Conditional(vk.networks.MLP(128, (256, 256)), vk.likelihoods.Bernoulli((1, 28, 28))),
            prior=vk.priors.StandardNormal(128),
        )
    milestones = Milestones(valid)
    trainer = vk.Trainer(
        max_epochs=200,
        batch_size=_BATCH,
        learning_rate=1e-3,
        optimizer=partial(torch.optim.RMSprop, centered=True, eps=1e-8 / _BATCH),
        callbacks=[milestones],
        progress=False,
    )
    trainer.fit(model, vk.objectives.ELBO(kl="sampled"), train)
    estimate, generator = log_p(model, test), torch.Generator().manual_seed(2)
    bound = vk.evaluation.elbo(model, test, num_samples=128, kl="sampled", generator=generator)
    checks = (
        Check("validation log p(x) at step 65,000, nats", VALID[_LAST], milestones.log_p[_LAST], -98.6, -95.8),
        Check("test log p(x), nats", -97.10, estimate.mean, -98.6, -95.8),
        Check("test ELBO, nats", -103.31, bound.mean, -105.2, -101.5),
    )
    details = {
        "validation_log_p": {str(step): [VALID[step], round(value, 2)] for step, value in milestones.log_p.items()},
        "monte_carlo_stderr": round(estimate.mean_stderr, 4),
        "sampling_stderr": round(estimate.sampling_stderr, 3),
        "test_kl": round(float(bound.terms["kl"].mean()), 2),
        "quantity": estimate.quantity,
    }
    return Result(checks, details)
