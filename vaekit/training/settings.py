"""How a model is trained: settings that are checked once and do not change."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import torch
from torch import nn

from vaekit import engine
from vaekit.errors import ArgumentTypeError, ConfigError
from vaekit.shapes import check_count
from vaekit.training.callbacks import Callback

OptimizerFactory = Callable[..., torch.optim.Optimizer]
Keep = Literal["best", "last"]
Moves = Literal["epoch", "step"]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]

ORDER, NOISE, VALID, INITIAL, START = 1, 2, 3, 4, 5
"""Places in the hash that makes seeds of one: for order of rows, training, validation, new parameters, a start."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The arguments of a `Trainer`, which documents them.

    Raises:
        ConfigError: for a setting that cannot be.
    """

    max_epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    optimizer: OptimizerFactory | None = None
    scheduler: SchedulerFactory | None = None
    scheduler_moves: Moves = "epoch"
    precision: engine.Precision = "auto"
    compile: engine.Compile = "auto"
    device: str | torch.device = "auto"
    seed: int = 0
    patience: int | None = None
    max_grad_norm: float | None = None
    em_steps: tuple[int, int] | None = None
    shuffle: bool = True
    callbacks: Sequence[Callback] = ()
    progress: bool = True
    checkpoint_every: int | None = None
    keep: Keep = "best"
    row_noise: bool = False

    def __post_init__(self) -> None:
        for name, number in {"seed": self.seed, "learning_rate": self.learning_rate}.items():
            if not isinstance(number, Real):
                raise ArgumentTypeError(f"{name} is a number; got {number!r} ({type(number).__name__})")
        if int(self.seed) != self.seed:
            raise ConfigError(f"seed is a whole number; got {self.seed}")
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "callbacks", tuple(self.callbacks))  # the caller's own list may change
        counts = {"max_epochs": self.max_epochs, "batch_size": self.batch_size}
        for name, value in {**counts, "checkpoint_every": self.checkpoint_every}.items():
            if value is not None:
                check_count(value, name)
        for name, factory in {"optimizer": self.optimizer, "scheduler": self.scheduler}.items():
            if factory is not None and not callable(factory):
                how = {"optimizer": "torch.optim.AdamW", "scheduler": "a function of an optimiser"}[name]
                raise ConfigError(f"{name} makes one, such as {how}; got {factory!r}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is positive; got {self.learning_rate}")
        if self.patience is not None:
            check_count(self.patience, "patience", 0)
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience is at least 1, or None; got {self.patience}")
        engine.check_choice("keep", self.keep, get_args(Keep))
        engine.check_choice("scheduler_moves", self.scheduler_moves, get_args(Moves))
        engine.check_precision(self.precision)
        engine.check_compile(self.compile)
        if self.row_noise and self.compile == "on":
            raise ConfigError('row_noise draws the noise of each row, which is not compiled; take compile="off"')

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A new optimiser; Adam in its fused form unless a factory was given."""
        if self.optimizer is None:
            return engine.Adam(parameters, lr=self.learning_rate)
        return self.optimizer(parameters, lr=self.learning_rate)

    def fingerprint(self) -> dict[str, object]:
        """The settings on which the sequence of updates depends, as plain values."""
        optimizer = "Adam"
        if self.optimizer is not None:
            optimizer = getattr(self.optimizer, "__name__", type(self.optimizer).__name__)
        return {
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "precision": self.precision,
            "compile": self.compile,
            "seed": self.seed,
            "max_grad_norm": self.max_grad_norm,
            "shuffle": self.shuffle,
            "row_noise": self.row_noise,
            "optimizer": optimizer,
            "em_steps": None if self.em_steps is None else list(self.em_steps),
        }
