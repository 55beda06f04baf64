"""pytorch-example: the test loss of PyTorch's own VAE example after seven epochs.

Protocol: MNIST, 60,000 training images with grey pixels in [0, 1] as targets of the cross-entropy; 784-400-(20, 20)
and 20-400-784 with ReLU, log-variance parameterisation, PyTorch's default initialisation; Adam 1e-3, batch 128; the
loss is minus the ELBO with one draw of z and the closed-form KL. The test loss is its mean over the 10,000 test
images. Grey targets make it a cross-entropy and no density, which the evaluation says ("no density").

Published: 106.66 after epoch 7. Gate: [105.4, 107.9].

Source: https://github.com/pytorch/examples/tree/main/vae (main.py).
"""

from pathlib import Path

import torch

import vaekit as vk
from reproductions.result import Check, Result


def run(data_dir: str | Path | None = None) -> Result:
    """Train for seven epochs and measure the test loss."""
    train = vk.data.load("mnist:train", data_dir=data_dir)
    test = vk.data.load("mnist:test", data_dir=data_dir)
    with vk.engine.seeded(0):
        model = vk.VAE(
            encoder=vk.Conditional(vk.networks.MLP((1, 28, 28), (400,)), vk.posteriors.DiagonalNormal(20)),
            decoder=vk.Conditional(vk.networks.MLP(20, (400,)), vk.likelihoods.Bernoulli((1, 28, 28), grey=True)),
            prior=vk.priors.StandardNormal(20),
            transform=vk.transforms.Scale(0, 255),
        )
    trainer = vk.Trainer(max_epochs=7, batch_size=128, learning_rate=1e-3, progress=False)
    history = trainer.fit(model, vk.objectives.ELBO(num_samples=1, kl="analytic"), train)
    generator = torch.Generator().manual_seed(0)
    bound = vk.evaluation.elbo(model, test, num_samples=1, kl="analytic", generator=generator)
    return Result(
        checks=(Check("test loss after epoch 7, nats per image", 106.66, -bound.mean, 105.4, 107.9),),
        details={
            "train_loss_by_epoch": [round(-value, 2) for value in history["train_elbo"]],
            "test_kl": round(float(bound.terms["kl"].mean()), 3),
            "quantity": bound.quantity,
        },
    )
