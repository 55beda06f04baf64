"""How long the model of a table is trained, and how: what follows from its rows and columns."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from vaekit import engine
from vaekit.conditional import Conditional
from vaekit.models.base import GenerativeModel
from vaekit.networks import Concat, LinearPlus
from vaekit.recipes.after import KeepStart
from vaekit.recipes.settings import Settings
from vaekit.training import Trainer
from vaekit.traits import ModelTraits, told

LEARNING_RATE = 2e-3
_SLOW = 0.3  # of the learning rate: what factor analysis has found already
_WARM_UP = 0.05  # of the updates, in which the learning rate rises
MAX_GRAD_NORM = 20.0
_WORTH_COMPILING = 10_000  # updates
_SMALL = 10_000  # rows up to which batches have 128


@dataclass(frozen=True)
class Budget:
    """Updates and rows of each.

    Attributes:
        batch_size: rows per update.
        max_epochs: passes over the rows.
        num_steps: updates in all.
    """

    batch_size: int
    max_epochs: int
    num_steps: int


def budget(num_rows: int, batch_size: int | None = None, max_epochs: int | None = None) -> Budget:
    """The budget of a table; what is given is kept.

    60 passes over the rows, but at least 600 updates and at most 1,000 for up to 10,000 rows. Beyond, updates grow with
    the root of the rows and batches with the rows, up to 3,200 updates of 1,024 rows at a million.
    """
    size = batch_size or 128 * min(8, 2 ** max(0, round(math.log2(num_rows / _SMALL) / 2)))
    per_epoch = math.ceil(num_rows / size)
    most = 1000 * max(1.0, (num_rows / _SMALL) ** 0.25)
    steps = min(max(60 * num_rows / 128, 600), most)
    epochs = max_epochs or max(1, round(steps / per_epoch))
    return Budget(size, epochs, epochs * per_epoch)


def warm_cosine(num_steps: int) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]:
    """A schedule, moved once per update: the learning rate rises, and falls to 0 along a cosine."""
    warm_up = max(1, round(_WARM_UP * num_steps))

    def factor(step: int) -> float:
        along = min(1.0, max(0.0, (step - warm_up) / max(1, num_steps - warm_up)))
        return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * along))

    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    return make


def slow_start(model: GenerativeModel) -> Callable[..., torch.optim.Optimizer]:
    """Adam in which the linear part of the decoder, and the head's own parameters, move at a third of the rate."""
    decoder = told(ModelTraits, model).decoder
    if not isinstance(decoder, Conditional):
        return engine.Adam
    network = decoder.network.network if isinstance(decoder.network, Concat) else decoder.network
    linear = network.linear if isinstance(network, LinearPlus) else None
    slow = {id(p) for part in (linear, decoder.head) if isinstance(part, nn.Module) for p in part.parameters()}

    def make(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if id(p) not in slow], "lr": lr},
            {"params": [p for p in parameters if id(p) in slow], "lr": _SLOW * lr},
        ]
        return engine.Adam([group for group in groups if group["params"]], lr=lr)

    make.__name__ = "Adam"
    return make


def table_trainer(settings: Settings, num_rows: int, model: GenerativeModel) -> Trainer:
    """A trainer of the model of a table with the settings' values; what they leave open follows from the rows.

    Nothing is said of codes that carry nothing: held-out rows chose `latent_dim`, and columns may be independent.
    The loss is compiled where that is asked for: the updates are few, and compiling takes as long as all of them.
    """
    kept = settings.of_trainer()
    plan = budget(num_rows, settings.batch_size, settings.max_epochs)
    if settings.compile == "auto" and plan.num_steps < _WORTH_COMPILING:
        kept["compile"] = "off"
    return Trainer(
        max_epochs=plan.max_epochs,
        patience=settings.patience,
        batch_size=plan.batch_size,
        learning_rate=settings.learning_rate or LEARNING_RATE,
        optimizer=slow_start(model),
        scheduler=warm_cosine(plan.num_steps),
        scheduler_moves="step",
        max_grad_norm=MAX_GRAD_NORM,
        callbacks=[KeepStart(model)],
        **kept,
    )
