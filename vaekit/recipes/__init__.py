"""From settings in words to a model, an objective and a trainer that suit the data at hand."""

from vaekit.recipes.plan import Plan, onward, plan
from vaekit.recipes.settings import STRUCTURE, Settings, settings

__all__ = ["STRUCTURE", "Plan", "Settings", "onward", "plan", "settings"]
