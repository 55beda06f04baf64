"""Presets whose decoders are autoregressive."""

from collections.abc import Sequence
from typing import Any

from vaekit.likelihoods import PixelCNN
from vaekit.models import VAE
from vaekit.objectives import Objective
from vaekit.presets.models import Part, conv_vae
from vaekit.shapes import Shape

__all__ = ["pixel_vae"]


def pixel_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 32,
    num_levels: int = 2,
    channels: int = 32,
    num_layers: int = 2,
    blocks: Sequence[int] | None = None,
    likelihood: Part = "pixel-cnn",
    **parts: Any,
) -> tuple[VAE, Objective]:
    """The PixelVAE of Gulrajani et al. 2017: z says what is in the image, a shallow PixelCNN draws its pixels.

    Use it where log p(x) of images matters most, and draws may be slow; a PixelCNN of many layers would do without z.

    References:
        Gulrajani et al., "PixelVAE: a latent variable model for natural images", 2017,
        https://arxiv.org/abs/1611.05013.

    Args:
        event_shape: (C, H, W) or (H, W).
        latent_dim: dimensions of z.
        num_levels: L, the number of values of a pixel; 2 for bits.
        channels: feature maps of the PixelCNN per channel of the image.
        num_layers: its residual layers.
        blocks: channels of each block of the encoder, as `channels` of `conv_vae`.
        likelihood: name or head of p(x|z); a head takes the place of what the three numbers say.
        **parts: as in `conv_vae`.

    Returns:
        The model and the objective.
    """
    head: Part = likelihood
    if likelihood == "pixel-cnn":
        head = PixelCNN(event_shape, num_levels, channels, num_layers)
    return conv_vae(event_shape, latent_dim=latent_dim, channels=blocks, likelihood=head, **parts)
