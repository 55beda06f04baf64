"""Models: objects with a posterior, a prior and a likelihood."""

from vaekit.models.vae import VAE

__all__ = ["VAE"]
