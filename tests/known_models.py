"""Latent-variable models whose posterior and log p(x) are known: foreign objects, no modules, float64."""

import torch
from torch.distributions import MultivariateNormal, Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product


class LinearGaussian:
    """z ~ N(0, I), x ~ N(Wz + b, s^2 I), with the exact posterior as q(z|x)."""

    def __init__(self, dims=5, latent=2, noise=0.5, validate=False):
        generator = torch.Generator().manual_seed(1)
        self.w = torch.randn(dims, latent, generator=generator, dtype=torch.float64)
        self.b = torch.randn(dims, generator=generator, dtype=torch.float64)
        self.noise, self.validate = noise, validate
        precision = torch.eye(latent, dtype=torch.float64) + self.w.T @ self.w / noise**2
        self.covariance = torch.linalg.inv(precision)

    def posterior(self, x):
        return MultivariateNormal((x - self.b) @ self.w @ self.covariance / self.noise**2, self.covariance)

    def prior(self):
        one = torch.ones(self.w.shape[1], dtype=torch.float64)
        return Product(Normal(0 * one, one, validate_args=self.validate), 1)

    def likelihood(self, z):
        noise = torch.tensor(self.noise, dtype=torch.float64)
        return Product(Normal(z @ self.w.T + self.b, noise, validate_args=self.validate), 1)

    def log_prob(self, x):
        eye = torch.eye(len(self.b), dtype=torch.float64)
        return MultivariateNormal(self.b, self.w @ self.w.T + self.noise**2 * eye).log_prob(x)

    def sample(self, n, seed=0):
        with engine.seeded(seed):
            return self.likelihood(self.prior().sample((n,))).sample()


class Curve:
    """One latent: z ~ N(0, 1), x ~ N(mean(z), s^2 I). q(z|x) is only there to bear holes in x."""

    def __init__(self, mean, noise=1.0, missing="error"):
        self.mean, self.noise, self.missing = mean, noise, missing

    def posterior(self, x):
        return Product(Normal(torch.zeros(len(x), 1, dtype=torch.float64), 1.0), 1)

    def prior(self):
        one = torch.ones(1, dtype=torch.float64)
        return Product(Normal(0 * one, one, validate_args=False), 1)

    def likelihood(self, z):
        mean = self.mean(z)
        return Product(Normal(mean, self.noise, validate_args=False), 1, missing=self.missing)

    def log_prob(self, x):
        """By the trapezoidal rule on a fine grid."""
        grid = torch.linspace(-8, 8, 2_001, dtype=torch.float64)[:, None, None]
        values = self.prior().log_prob(grid) + self.likelihood(grid).log_prob(x)
        return torch.logsumexp(values, 0) + torch.log(grid[1, 0, 0] - grid[0, 0, 0])


def small_vae(likelihood="bernoulli", transform=None, dims=6):
    """Six dimensions, two latents, eight hidden units, always the same weights."""
    with engine.seeded(3):
        return vk.presets.vae((dims,), latent_dim=2, hidden=(8,), likelihood=likelihood, transform=transform)[0]
