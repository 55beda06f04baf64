"""Several processes: joining their group, starting them on this machine, and what a Ray cluster does.

Where a group of `torch.distributed` is there, `Trainer.fit` and `evaluation.log_marginal` share their rows among its
processes; every process calls them. `alone` is for what one process does by itself.
"""

from vaekit.distributed.launch import launch
from vaekit.distributed.ray_questions import answer_on_ray
from vaekit.distributed.ray_training import fit_on_ray
from vaekit.engine.group import is_launched, join
from vaekit.engine.world import alone, rank, size

__all__ = ["alone", "answer_on_ray", "fit_on_ray", "is_launched", "join", "launch", "rank", "size"]
