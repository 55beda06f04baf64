"""From settings in words to a model, an objective and a trainer that suit the data at hand."""

from vaekit.recipes.plan import Plan, plan
from vaekit.recipes.settings import Settings, settings

__all__ = ["Plan", "Settings", "plan", "settings"]
