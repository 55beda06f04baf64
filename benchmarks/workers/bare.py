"""A bare eager PyTorch loop: what a good user would write, and no more.

Data indexed by a permutation, fused Adam, cross-entropy on logits (or squared error) plus the closed-form KL, denormals
flushed. No history, no checks, no checkpoint.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.workers.networks import load_weights, pair
from benchmarks.workers.turns import Turns, serve


def loss_of(encoder: nn.Module, decoder: nn.Module, batch: Tensor, squared: bool = False) -> Tensor:
    """Minus the ELBO of a batch, in nats per row."""
    loc, log_variance = encoder(batch).chunk(2, dim=1)
    z = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)
    out = decoder(z)
    if squared:
        error = 0.5 * (out - batch).square().sum()
    else:
        error = F.binary_cross_entropy_with_logits(out, batch, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_variance - loc.square() - log_variance.exp())
    return (error + kl) / len(batch)


class Loop:
    """The networks, their optimiser and the data."""

    def __init__(
        self,
        x: Tensor,
        net: dict[str, Any],
        batch: int,
        weights: str | None,
        squared: bool,
        device: str = "cpu",
        compile: bool = False,
    ) -> None:
        self.x, self.batch, self.squared = x.to(device), batch, squared
        self.encoder, self.decoder = (module.to(device) for module in pair(net))
        load_weights((self.encoder, self.decoder), weights)
        self.loss_of = torch.compile(loss_of) if compile else loss_of
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def epoch(self) -> tuple[int, float]:
        """One pass; returns the number of steps and the mean of their ELBOs."""
        order = torch.randperm(len(self.x), device=self.x.device)
        total = torch.zeros((), device=self.x.device)
        starts = range(0, len(order), self.batch)
        for i in starts:
            loss = self.loss_of(self.encoder, self.decoder, self.x[order[i : i + self.batch]], self.squared)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return len(starts), -float(total) / len(starts)


def _rows(path: str, net: dict[str, Any], scale: float = 1.0) -> Tensor:
    x = torch.from_numpy(np.load(path)).float() / scale
    return x if net["kind"] == "conv" else x.flatten(1)


def train(
    turns: Turns,
    data: str,
    net: dict[str, Any],
    batch: int,
    weights: str | None = None,
    squared: bool = False,
    device: str = "cpu",
    compile: bool = False,
) -> None:
    """One epoch per turn."""
    loop = Loop(_rows(data, net), net, batch, weights, squared, device, compile)
    for _ in turns:
        steps, elbo = loop.epoch()
        turns.report(steps=steps, rows=len(loop.x), elbo=elbo)


@torch.no_grad()
def log_marginal(encoder: nn.Module, decoder: nn.Module, x: Tensor, num_samples: int, draws: int = 64) -> Tensor:
    """log p(x) by importance sampling as one would write it by hand, shape (N,); `draws` x N decoded at once."""
    loc, log_variance = encoder(x).chunk(2, dim=1)
    scale, total = torch.exp(0.5 * log_variance), loc.new_full((len(x),), -math.inf)
    for start in range(0, num_samples, draws):
        noise = torch.randn(min(draws, num_samples - start), *loc.shape, device=loc.device)
        z = loc + scale * noise
        target = x.expand(len(z), *x.shape)
        log_likelihood = -F.binary_cross_entropy_with_logits(decoder(z), target, reduction="none").sum(-1)
        # log p(z) - log q(z|x): the constants of the two normals cancel.
        log_ratio = 0.5 * (noise.square() - z.square() + log_variance).sum(-1)
        total = torch.logaddexp(total, torch.logsumexp(log_likelihood + log_ratio, 0))
    return total - math.log(num_samples)


def evaluate(
    turns: Turns, data: str, net: dict[str, Any], weights: str | None, num_samples: int, device: str = "cpu"
) -> None:
    """log p of all rows per turn, 64 rows at a time."""
    x, (encoder, decoder) = _rows(data, net).to(device), (module.to(device) for module in pair(net))
    load_weights((encoder, decoder), weights)
    for _ in turns:
        values = [log_marginal(encoder, decoder, rows, num_samples) for rows in x.split(64)]
        turns.report(samples=len(x) * num_samples, log_p=float(torch.cat(values).double().mean()))


def reach(turns: Turns, train: str, test: str, net: dict[str, Any], batch: int, target: float, max_epochs: int) -> None:
    """Train on grey targets until the ELBO of the test set, after an epoch, is at least `target` nats."""
    x, held_out = _rows(train, net, 255.0), _rows(test, net, 255.0)
    loop = Loop(x, net, batch, None, False)
    for _ in turns:
        elbo, epochs = -math.inf, 0
        while elbo < target and epochs < max_epochs:
            loop.epoch()
            with torch.no_grad():
                losses = [loss_of(loop.encoder, loop.decoder, rows) for rows in held_out.split(1000)]
            elbo, epochs = -float(torch.stack(losses).mean()), epochs + 1
        turns.report(epochs=epochs, elbo=elbo)


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # before torch starts its threads
    serve(train=train, evaluate=evaluate, reach=reach)
