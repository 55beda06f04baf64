"""A model from elsewhere, trained by a loop and a loss of its own: three methods, and its numbers can be checked."""

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal

import vaekit as vk


class Theirs(nn.Module):
    """What a tutorial writes: it knows nothing of vaekit."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_var = nn.Linear(64, 100), nn.Linear(100, 4), nn.Linear(100, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 64), nn.Sigmoid())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, each (B, 4)."""
        h = torch.relu(self.hidden(x))
        return self.mean(h), self.log_var(h)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy and KL, summed over pixels and latents, averaged over rows."""
        mean, log_var = self.encode(x)
        z = mean + torch.randn(mean.shape, generator=generator) * (log_var / 2).exp()
        cross_entropy = nn.functional.binary_cross_entropy(self.decoder(z), x, reduction="sum")
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()
        return (cross_entropy + kl) / len(x)


class Wrapped:
    """The same model as q(z|x), p(z) and p(x|z)."""

    def __init__(self, theirs: Theirs) -> None:
        self.theirs = theirs

    def posterior(self, x: Tensor) -> Independent:
        """q(z|x), batch shape (B,)."""
        mean, log_var = self.theirs.encode(x)
        return Independent(Normal(mean, (log_var / 2).exp()), 1)

    def prior(self) -> Independent:
        """p(z), batch shape ()."""
        return Independent(Normal(torch.zeros(4), torch.ones(4)), 1)

    def likelihood(self, z: Tensor) -> Independent:
        """p(x|z) for z of shape (..., 4), batch shape (...)."""
        return Independent(Bernoulli(self.theirs.decoder(z)), 1)


def main(num_steps: int = 2000) -> tuple[Tensor, vk.evaluation.Estimate, vk.evaluation.Estimate]:
    """Return 200 passes of their test loss, and by vaekit the ELBO (minus that loss) and log p(x)."""
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.as_tensor(vk.data.load(f"digits:{part}").x).flatten(1) > 7 for part in ("train", "test"))
    train, test = train.float(), test.float()
    with vk.engine.seeded(0):
        theirs = Theirs()
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        theirs.loss(train[torch.randint(len(train), (100,), generator=generator)], generator).backward()
        optimizer.step()
    with torch.no_grad():
        losses = torch.stack([theirs.loss(test, generator) for _ in range(200)])
    bound = vk.evaluation.elbo(Wrapped(theirs), test, num_samples=200, generator=generator)
    estimate = vk.evaluation.log_marginal(Wrapped(theirs), test, num_samples=1000, generator=generator)
    print(f"their test loss {losses.mean():.2f}, minus the ELBO by vaekit {-bound.mean:.2f}; log p(x):\n{estimate}")
    return losses, bound, estimate


if __name__ == "__main__":
    main()
