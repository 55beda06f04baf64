"""Training: one loop, callbacks, history and checkpoints."""

from vaekit.training.adam import Adam
from vaekit.training.callbacks import Callback, CollapseWarning
from vaekit.training.history import History
from vaekit.training.trainer import Trainer

__all__ = ["Adam", "Callback", "CollapseWarning", "History", "Trainer"]
