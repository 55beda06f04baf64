"""Latent-variable models whose posterior and log p(x) are known: foreign objects, no modules, float64."""

import itertools

import numpy as np
import torch
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

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


_NODES, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))


class GreyModel:
    """Bits with logits w z + b and z ~ N(0, 1): log p(b) by quadrature, and its mean over drawn bits by enumeration."""

    transform = vk.transforms.Binarize()
    posterior_is_fixed = True

    def __init__(self, size=10):
        noise = torch.Generator().manual_seed(0)
        self.slope = 1.5 * torch.randn(size, generator=noise, dtype=torch.float64)
        self.shift = torch.randn(size, generator=noise, dtype=torch.float64)

    def prior(self):
        return Independent(Normal(torch.zeros(1, dtype=torch.float64), 1.0), 1)

    def likelihood(self, z):
        return Independent(Bernoulli(logits=z * self.slope + self.shift), 1)

    def posterior(self, bits):
        mass = torch.softmax(self._joint(bits), 1)
        loc = mass @ _NODES
        scale = (mass @ _NODES.square() - loc.square()).sqrt()
        return Independent(Normal(loc.unsqueeze(1), 1.2 * scale.unsqueeze(1)), 1)

    def _joint(self, bits):
        logits = _NODES.unsqueeze(1) * self.slope + self.shift
        log_p = bits @ logits.T - torch.nn.functional.softplus(logits).sum(1)
        return log_p + (_WEIGHTS / _WEIGHTS.sum()).log()

    def mean_log_prob(self, grey):
        """E[log p(b)] over bits b drawn with probabilities `grey`, exactly."""
        bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(self.slope))), dtype=torch.float64)
        mass = (bits @ grey.log().T + (1 - bits) @ (1 - grey).log().T).exp()
        return self._joint(bits).logsumexp(1) @ mass


def grey_model(features=6, transform=None):
    """An untrained model of grey values as bits."""
    with engine.seeded(5):
        model, _ = vk.presets.vae((features,), latent_dim=2, hidden=(8,), likelihood="bernoulli")
    model.transform = vk.transforms.Binarize() if transform is None else transform
    return model.eval()
