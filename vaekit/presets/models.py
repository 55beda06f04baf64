"""Presets that differ in their networks, and the beta-VAE."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributions import constraints

from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions import element_support
from vaekit.models import VAE
from vaekit.networks import MLP, ConvDecoder, ConvEncoder, LogInput, RescaleInput
from vaekit.objectives import ELBO, Objective
from vaekit.saving import spec
from vaekit.shapes import Shape
from vaekit.transforms import Transform

__all__ = ["beta_vae", "conv_mnist", "conv_vae", "mlp_mnist", "vae"]

Part = str | nn.Module


def _component(axis: str, part: Any, *arguments: Any) -> Any:
    """A part by its name, or the part itself."""
    return spec.resolve(axis, part)(*arguments) if isinstance(part, str) else part


def _rescaled(network: nn.Module, head: ConditionalDistribution) -> nn.Module:
    """Levels reach the encoder as values in [0, 1], counts and positive numbers as logarithms.

    The likelihood still describes x as it is.
    """
    levels = getattr(head, "num_levels", None) or getattr(head, "num_classes", None)
    if levels:
        return RescaleInput(network, 0, levels - 1)
    with torch.no_grad():
        support = element_support(head(torch.zeros(1, *head.param_shape)))
    if support is constraints.nonnegative_integer:
        return LogInput(network)
    return LogInput(network, offset=0.0) if support is constraints.positive else network


def _assemble(
    event_shape: Shape,
    latent_dim: int,
    networks: Callable[[Any, Any], tuple[nn.Module, nn.Module]],
    likelihood: Part,
    posterior: Part,
    prior: Part,
    transform: Transform | None,
) -> VAE:
    head = _component("likelihoods", likelihood, event_shape)
    q = _component("posteriors", posterior, latent_dim)
    encoder, decoder = networks(head.event_shape, q.event_shape)
    return VAE(
        encoder=Conditional(_rescaled(encoder, head), q),
        decoder=Conditional(decoder, head),
        prior=_component("priors", prior, latent_dim),
        transform=transform,
    )


def vae(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (400, 400),
    likelihood: Part = "bernoulli",
    posterior: Part = "diagonal-normal",
    prior: Part = "standard-normal",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[VAE, Objective]:
    """The VAE of Kingma & Welling 2014 with two-sided MLPs: the place to start.

    Use it for tables and small images, and as what every other preset is compared with.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.
        likelihood: name or head of p(x|z).
        posterior: name or head of q(z|x).
        prior: name or module of p(z).
        transform: from data to model space.
        objective: None is the ELBO.

    Returns:
        The model and the objective.
    """

    def networks(shape: Any, latent_shape: Any) -> tuple[nn.Module, nn.Module]:
        widths = tuple(hidden)
        return MLP(shape, widths, initialization="he"), MLP(latent_shape, widths[::-1], initialization="he")

    model = _assemble(event_shape, latent_dim, networks, likelihood, posterior, prior, transform)
    return model, objective or ELBO()


def beta_vae(event_shape: Shape, *, beta: float = 4.0, latent_dim: int = 16, **parts: Any) -> tuple[VAE, Objective]:
    """The beta-VAE of Higgins et al. 2017: a KL weighted by beta > 1, for fewer and more independent latents.

    Use it for codes whose dimensions are looked at one by one; log p(x) pays for it.

    References:
        Higgins et al., "beta-VAE", 2017, https://openreview.net/forum?id=Sy2fzU9gl.

    Args:
        event_shape: shape of one row of data.
        beta: weight of the KL.
        latent_dim: dimensions of z.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": ELBO(beta=beta), **parts})


def conv_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 32,
    channels: Sequence[int] | None = None,
    likelihood: Part = "bernoulli",
    posterior: Part = "diagonal-normal",
    prior: Part = "standard-normal",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[VAE, Objective]:
    """A VAE of stride-2 convolutions with batch norm and leaky ReLU, mirrored: for images of any size.

    Use it for images; where they are small and in grey, `vae` is faster.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
        Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
        2016, https://arxiv.org/abs/1511.06434, whose blocks these are.

    Args:
        event_shape: (C, H, W) or (H, W).
        latent_dim: dimensions of z.
        channels: channels of each block of the encoder; None takes up to four of 32, 64, 128, 256.
        likelihood: name or head of p(x|z).
        posterior: name or head of q(z|x).
        prior: name or module of p(z).
        transform: from data to model space.
        objective: None is the ELBO.

    Returns:
        The model and the objective.
    """

    def networks(shape: Any, latent_shape: Any) -> tuple[nn.Module, nn.Module]:
        mirrored = None if channels is None else tuple(channels)[::-1]
        return ConvEncoder(shape, channels), ConvDecoder(latent_shape, shape, mirrored)

    model = _assemble(event_shape, latent_dim, networks, likelihood, posterior, prior, transform)
    return model, objective or ELBO()


def mlp_mnist(event_shape: Shape = (1, 28, 28), *, latent_dim: int = 2, **parts: Any) -> tuple[VAE, Objective]:
    """The textbook's program: one hidden layer of 500 units and a two-dimensional z, for figures 13.6a and 13.6b.

    Use it for pictures of the latent space; two dimensions are few for a density.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, section 5 (500
        hidden units for MNIST).

    Args:
        event_shape: shape of one image.
        latent_dim: dimensions of z.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"hidden": (500,), **parts})


def conv_mnist(event_shape: Shape = (1, 28, 28), *, latent_dim: int = 2, **parts: Any) -> tuple[VAE, Objective]:
    """The textbook's convolutional program: four stride-2 blocks and a two-dimensional z.

    Use it as `mlp_mnist`, for pictures of the latent space.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
        Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
        2016, https://arxiv.org/abs/1511.06434.

    Args:
        event_shape: shape of one image.
        latent_dim: dimensions of z.
        **parts: as in `conv_vae`.

    Returns:
        The model and the objective.
    """
    return conv_vae(event_shape, latent_dim=latent_dim, **{"channels": (32, 64, 128, 256), **parts})
