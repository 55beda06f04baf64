"""Work on several processes and machines, by engines that exist: Ray asks a run about a table in parts."""

from vaekit.distributed.ray_questions import answer_on_ray

__all__ = ["answer_on_ray"]
