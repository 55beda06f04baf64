"""A network of one's own in a VAE: plugged in unchanged, saved without its code, handed in again at load."""

import tempfile

import torch
from torch import nn

import vaekit as vk


def network() -> nn.Module:
    """Any module will do; its output shape is found by one dry run."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Dropout(0.1))


def main(max_epochs: int = 20) -> float:
    """Fit, save, load; return the mean log p(x) of the test set."""
    train, test = vk.data.load("digits:train"), vk.data.load("digits:test")
    model = vk.VAE(
        encoder=vk.Conditional(network(), vk.posteriors.FullNormal(4)),
        decoder=vk.Conditional(vk.networks.ConvDecoder(4, (1, 8, 8)), vk.likelihoods.Categorical((1, 8, 8), 17)),
        prior=vk.priors.StandardNormal(4),
    )
    vk.Trainer(max_epochs=max_epochs, learning_rate=3e-3).fit(model, vk.objectives.ELBO(), train)
    with tempfile.TemporaryDirectory() as folder:
        vk.save(model, folder)
        model = vk.load(folder, modules={"model.encoder.network": network()})
    estimate = vk.evaluation.log_marginal(model, test, num_samples=200, generator=torch.Generator().manual_seed(0))
    print(estimate)
    return estimate.mean


if __name__ == "__main__":
    main()
