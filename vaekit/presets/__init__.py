"""Named models: functions that return a model and an objective."""

from vaekit.presets.clusters import *  # noqa: F403
from vaekit.presets.conditional import *  # noqa: F403
from vaekit.presets.functions import *  # noqa: F403
from vaekit.presets.registry import *  # noqa: F403
from vaekit.presets.registry import available
from vaekit.presets.rows import *  # noqa: F403
from vaekit.presets.tables import *  # noqa: F403

__all__ = [make.__name__ for make in available().values()]
