"""vaekit's public interface at the same work as the other contestants."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import vaekit as vk
from benchmarks.workers.networks import IMAGE, conv_features, conv_logits, load_weights
from benchmarks.workers.turns import Turns, serve


def make_model(net: dict[str, Any], event_shape: tuple[int, ...], likelihood: nn.Module | None = None) -> vk.VAE:
    """The model that a job describes: `MLP`s or a user's own convolutions; Bernoulli unless told otherwise."""
    head = likelihood or vk.likelihoods.Bernoulli(event_shape)
    with vk.engine.seeded(0):
        if net["kind"] == "conv":
            latent, width = net.get("latent", 16), net.get("width", 128)
            # The decoder returns logits as the head wants them, (B, 1, *event): nothing is added behind it.
            decoder: nn.Module = nn.Sequential(conv_logits(latent, width), nn.Unflatten(1, (1, 1)))
            encoder: nn.Module = conv_features(width)
            vk.contrib.adopt(encoder)
            vk.contrib.adopt(decoder)
        else:
            latent, hidden, dropout = net["latent"], tuple(net["hidden"]), net.get("dropout", 0.0)
            encoder = vk.networks.MLP(event_shape, hidden, dropout=dropout)
            decoder = vk.networks.MLP(latent, hidden[::-1], dropout=dropout)
        posterior = vk.Conditional(encoder, vk.posteriors.DiagonalNormal(latent), in_shape=event_shape)
        return vk.VAE(posterior, vk.Conditional(decoder, head, in_shape=latent), vk.priors.StandardNormal(latent))


class Pause(vk.training.Callback):
    """Lets training wait between epochs until it is asked for more, and reports each epoch."""

    def __init__(self, turns: Turns, num_rows: int, every: int = 1) -> None:
        self.turns, self.num_rows, self.every = turns, num_rows, every

    def on_fit_start(self, loop: Any) -> None:
        """Wait for the first request."""
        if not self.turns.wait():
            raise SystemExit(0)

    def on_epoch_end(self, loop: Any, record: dict[str, float]) -> None:
        """Report, and wait for the next request."""
        if loop.epoch % self.every:
            return
        steps, rows = loop.num_batches * self.every, self.num_rows * self.every
        self.turns.report(steps=steps, rows=rows, elbo=record["train_elbo"])
        loop.stop = not self.turns.wait()


def train(
    turns: Turns,
    data: str,
    net: dict[str, Any],
    batch: int,
    weights: str | None = None,
    compile: str = "off",
    precision: str = "float32",
    likelihood: str = "bernoulli",
    weight_decay: float = 0.0,
    every: int = 1,
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """`every` epochs per turn of one long fit. Normal likelihoods standardise the columns first."""
    x = torch.from_numpy(np.load(data)).to(getattr(torch, dtype))
    shape, transform = tuple(x.shape[1:]), None
    head: nn.Module | None = None
    if likelihood != "bernoulli":
        head = vk.likelihoods.Normal(shape, scale="per-dimension" if likelihood == "normal" else 1.0)
        transform = vk.transforms.Standardize(shape)
        transform.fit(x)
    model = make_model(net, shape, head)
    load_weights((model,), weights)
    model.transform = transform
    optimizer = partial(vk.training.Adam, weight_decay=weight_decay)
    trainer = vk.Trainer(
        max_epochs=10**6,
        batch_size=batch,
        optimizer=optimizer if weight_decay else None,
        compile=compile,
        precision=precision,
        device=device,
        progress=False,
        callbacks=[Pause(turns, len(x), every)],
    )
    trainer.fit(model, vk.objectives.ELBO(), x)


def evaluate(
    turns: Turns,
    data: str,
    net: dict[str, Any],
    weights: str | None,
    num_samples: int,
    compile: str = "off",
    precision: str = "float32",
    device: str = "cpu",
) -> None:
    """log p of all rows per turn."""
    x = torch.from_numpy(np.load(data))
    model = make_model(net, tuple(x.shape[1:]))
    load_weights((model,), weights)
    model.to(device)
    for _ in turns:
        result = vk.evaluation.log_marginal(
            model, x, num_samples=num_samples, compile=compile, precision=precision, generator=_generator()
        )
        turns.report(samples=len(x) * num_samples, log_p=result.mean)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Until(vk.training.Callback):
    """Ends training once the validation bound has reached its target."""

    def __init__(self, target: float) -> None:
        self.target = target

    def on_epoch_end(self, loop: Any, record: dict[str, float]) -> None:
        """Compare after each epoch."""
        loop.stop = record["valid_elbo"] >= self.target


def reach(
    turns: Turns,
    train: str,
    test: str,
    net: dict[str, Any],
    batch: int,
    target: float,
    max_epochs: int,
    compile: str = "off",
    precision: str = "float32",
) -> None:
    """Train on grey targets until the ELBO of the test set, after an epoch, is at least `target` nats."""
    x, held_out = (torch.from_numpy(np.load(path)).float() / 255.0 for path in (train, test))
    model = make_model(net, IMAGE, vk.likelihoods.Bernoulli(IMAGE, grey=True))
    for _ in turns:
        trainer = vk.Trainer(
            max_epochs=max_epochs,
            batch_size=batch,
            compile=compile,
            precision=precision,
            progress=False,
            callbacks=[Until(target)],
        )
        history = trainer.fit(model, vk.objectives.ELBO(), x, held_out)
        turns.report(epochs=len(history["seconds"]), elbo=history["valid_elbo"][-1])


if __name__ == "__main__":
    serve(train=train, evaluate=evaluate, reach=reach)
