"""An objective in a bare PyTorch loop: no trainer, and the KL switched on slowly."""

import torch

import vaekit as vk


def main(num_steps: int = 1500) -> float:
    """Fit a table with correlated columns; return the mean log p(x), in nats."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 2, generator=generator) @ torch.randn(2, 10, generator=generator)
    x = x + 0.2 * torch.randn(1000, 10, generator=generator)
    model, _ = vk.presets.vae((10,), latent_dim=2, hidden=(64,), likelihood="normal")
    objective = vk.objectives.ELBO(beta=vk.schedules.Linear(0, 1, num_steps // 2))
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=3e-3)
    objective.prepare(len(x))
    for _ in range(num_steps):
        loss = objective(model, x[torch.randint(len(x), (128,), generator=generator)])
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        objective.advance()
    estimate = vk.evaluation.log_marginal(model, x, num_samples=100, generator=generator)
    print(estimate)
    return estimate.mean


if __name__ == "__main__":
    main()
