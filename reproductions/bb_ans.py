r"""bb-ans: the bits per pixel that a small VAE needs for binarised MNIST, the rate that bits-back coding attains.

Bits-back coding spends minus the ELBO, \( -\frac{1}{784 \ln 2} \mathrm{ELBO} \) bits per pixel.

Protocol: bits drawn afresh from the grey values at every use; 784-100-(40, 40) and 40-100-784 with ReLU,
\( \sigma = \exp \) of a linear layer, PyTorch's default initialisation; Adam 1e-3, batches of 100, 20 epochs on the
60,000 training images, KL sampled. The test figure is the mean over the 10,000 test images, each with bits drawn once,
and over 16 draws of z.

Published: 0.19 (ELBO and attained rate). Gate: [0.186, 0.202]. For scale: gzip-like coders need 0.25 to 0.33.

Source: Townsend et al., "Practical lossless compression with latent variables using bits back coding", 2019,
https://arxiv.org/abs/1901.04866, table 2; https://github.com/bits-back/bits-back.
"""

import math
from pathlib import Path

import torch

import vaekit as vk
from reproductions.result import Check, Result

_BITS_PER_PIXEL = 1 / (784 * math.log(2))  # of one nat per image


def run(data_dir: str | Path | None = None) -> Result:
    """Train for twenty epochs and measure the ELBO of the test images in bits per pixel."""
    train = vk.data.load("mnist:train", data_dir=data_dir)
    test = vk.data.load("mnist:test", data_dir=data_dir)
    with vk.engine.seeded(0):
        posterior = vk.posteriors.DiagonalNormal(40, scale="exp")
        model = vk.VAE(
            encoder=vk.Conditional(vk.networks.MLP((1, 28, 28), (100,)), posterior),
            decoder=vk.Conditional(vk.networks.MLP(40, (100,)), vk.likelihoods.Bernoulli((1, 28, 28))),
            prior=vk.priors.StandardNormal(40),
            transform=vk.transforms.Compose([vk.transforms.Scale(0, 255), vk.transforms.Binarize("fresh")]),
        )
    trainer = vk.Trainer(max_epochs=20, batch_size=100, learning_rate=1e-3, progress=False)
    history = trainer.fit(model, vk.objectives.ELBO(kl="sampled"), train)
    generator = torch.Generator().manual_seed(1)
    bound = vk.evaluation.elbo(model, test, num_samples=16, kl="sampled", generator=generator)
    details = {
        "test_elbo_nats": round(bound.mean, 3),
        "monte_carlo_stderr_nats": round(bound.mean_stderr, 4),
        "sampling_stderr_bits": round(bound.sampling_stderr * _BITS_PER_PIXEL, 5),
        "train_bits_by_epoch": [round(-value * _BITS_PER_PIXEL, 4) for value in history["train_elbo"]],
        "quantity": bound.quantity,
    }
    rate = -bound.mean * _BITS_PER_PIXEL
    return Result((Check("test ELBO, bits per pixel", 0.19, rate, 0.186, 0.202),), details)
