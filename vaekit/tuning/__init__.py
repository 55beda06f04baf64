"""A search over settings: trials are fits, judged by log p of held-out rows; Optuna chooses what is tried next."""

from vaekit.tuning.ranges import Among, Between, ranges
from vaekit.tuning.search import Search, tune
from vaekit.tuning.trials import Trial

__all__ = ["Among", "Between", "Search", "Trial", "ranges", "tune"]
