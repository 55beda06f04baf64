"""Training: one loop, callbacks, history and checkpoints; clusters to start from, a prior fitted afterwards."""

from vaekit.engine import Adam
from vaekit.training.callbacks import Callback
from vaekit.training.clusters import StartClusters
from vaekit.training.collapse import CollapseWarning
from vaekit.training.history import History
from vaekit.training.second_stage import fit_prior
from vaekit.training.trainer import Trainer

__all__ = [
    "Adam",
    "Callback",
    "CollapseWarning",
    "History",
    "StartClusters",
    "Trainer",
    "fit_prior",
]
