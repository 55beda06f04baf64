"""pythae at the same work: its own trainer's epoch, and its own `get_nll`. Runs in the peers' venv."""

import contextlib
import math
import tempfile
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor

from benchmarks.workers.turns import Turns, serve


def make_model(net: dict[str, Any]) -> VAE:
    """pythae's default MLP for MNIST (784-512-z, which fixes 512), or its convolutional networks for MNIST."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=net.get("latent", 16), reconstruction_loss="bce")
    if net["kind"] == "conv":
        return VAE(config, encoder=Encoder_Conv_VAE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config))
    if list(net["hidden"]) != [512]:
        raise ValueError("pythae's default network has one hidden layer of 512")
    return VAE(config)


def load_weights(model: VAE, path: str | None) -> None:
    """The weights that all contestants start from; pythae holds the last layer of the encoder in two halves."""
    if path is None:
        return
    with np.load(path) as arrays:
        values = [torch.from_numpy(arrays[name]) for name in sorted(arrays.files)]
    weight, bias = (torch.chunk(value, 2) for value in values[2:4])
    halves = [weight[0], bias[0], weight[1], bias[1]]
    with torch.no_grad():
        parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
        for parameter, value in zip(parameters, [*values[:2], *halves, *values[4:]], strict=True):
            parameter.copy_(value)


def _dataset(x: Tensor) -> BaseDataset:
    return BaseDataset(x, torch.ones(len(x)))


def _trainer(model: VAE, x: Tensor, batch: int, folder: str, test: Tensor | None = None, **more: Any) -> BaseTrainer:
    config = BaseTrainerConfig(
        output_dir=folder,
        learning_rate=1e-3,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=100,
        **more,
    )
    return BaseTrainer(model, _dataset(x), None if test is None else _dataset(test), config)


def train(turns: Turns, data: str, net: dict[str, Any], batch: int, weights: str | None = None) -> None:
    """One epoch of its trainer (`train_step` takes a whole epoch) per turn."""
    x, model = torch.from_numpy(np.load(data)).float(), make_model(net)
    load_weights(model, weights)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(model, x, batch, folder)
        trainer.prepare_training()
        for epoch, _ in enumerate(turns):
            loss = trainer.train_step(epoch + 1)
            turns.report(steps=len(trainer.train_loader), rows=len(x), elbo=-loss)


def evaluate(turns: Turns, data: str, net: dict[str, Any], weights: str | None, num_samples: int) -> None:
    """`get_nll` per turn, without gradients, which it would keep otherwise.

    It draws in batches of 100 whatever was asked for, so the samples that it decodes are counted. What it returns is
    +log p in spite of its name.
    """
    x, model = torch.from_numpy(np.load(data)).float(), make_model(net)
    load_weights(model, weights)
    model.eval()
    decoded: list[int] = []
    model.decoder.register_forward_pre_hook(lambda module, arguments: decoded.append(len(arguments[0])))
    for _ in turns:
        decoded.clear()
        with torch.no_grad():
            log_p = model.get_nll(x, n_samples=num_samples, batch_size=100)
        turns.report(samples=sum(decoded), log_p=float(log_p))


class Reached(Exception):
    """Ends pythae's trainer, which has no other way."""


class Until(TrainingCallback):
    """Watches its loss on the test set, which is minus the ELBO."""

    def __init__(self, target: float) -> None:
        self.target, self.epochs, self.elbo = target, 0, -math.inf

    def on_log(self, training_config: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Compare after each epoch."""
        self.epochs, self.elbo = self.epochs + 1, -logs["eval_epoch_loss"]
        if self.elbo >= self.target:
            raise Reached


def reach(turns: Turns, train: str, test: str, net: dict[str, Any], batch: int, target: float, max_epochs: int) -> None:
    """Train on grey targets until the ELBO of the test set, after an epoch, is at least `target` nats."""
    x, held_out = (torch.from_numpy(np.load(path)).float() / 255.0 for path in (train, test))
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(make_model(net), x, batch, folder, held_out, num_epochs=max_epochs)
        for _ in turns:
            until = Until(target)
            trainer.callbacks = [until]
            with contextlib.suppress(Reached):
                trainer.train()
            turns.report(epochs=until.epochs, elbo=until.elbo)


if __name__ == "__main__":
    serve(train=train, evaluate=evaluate, reach=reach)
