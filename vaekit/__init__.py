"""vaekit: variational autoencoders whose numbers can be believed.

A VAE is two conditional distributions, a posterior q(z|x) and a likelihood p(x|z), and a prior p(z), trained by an
objective and judged by a bound on log p(x). Every subpackage is one of those nouns.

Names are resolved on first use, so that `import vaekit` costs next to nothing and the command line can answer
`--help` without loading torch.
"""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from vaekit import bounds as bounds
    from vaekit import catalog as catalog
    from vaekit import conditional as conditional
    from vaekit import contrib as contrib
    from vaekit import data as data
    from vaekit import distributed as distributed
    from vaekit import distributions as distributions
    from vaekit import docstrings as docstrings
    from vaekit import engine as engine
    from vaekit import errors as errors
    from vaekit import estimators as estimators
    from vaekit import evaluation as evaluation
    from vaekit import export as export
    from vaekit import kl as kl
    from vaekit import likelihoods as likelihoods
    from vaekit import models as models
    from vaekit import networks as networks
    from vaekit import objectives as objectives
    from vaekit import plots as plots
    from vaekit import posteriors as posteriors
    from vaekit import presets as presets
    from vaekit import priors as priors
    from vaekit import queries as queries
    from vaekit import recipes as recipes
    from vaekit import report as report
    from vaekit import runs as runs
    from vaekit import saving as saving
    from vaekit import schedules as schedules
    from vaekit import serve as serve
    from vaekit import testing as testing
    from vaekit import training as training
    from vaekit import transforms as transforms
    from vaekit import tuning as tuning
    from vaekit.conditional import Conditional, ConditionalDistribution
    from vaekit.models import VAE
    from vaekit.models.base import GenerativeModel
    from vaekit.saving.artifact import save
    from vaekit.training import Trainer

    def load(path: str | Path, *, modules: dict[str, nn.Module] | None = None, device: str = "cpu") -> GenerativeModel:
        """`saving.artifact.load`, which lies below models and cannot name what it returns."""


_OBJECTS = {
    "VAE": "models",
    "Conditional": "conditional",
    "ConditionalDistribution": "conditional",
    "Trainer": "training",
    "save": "saving.artifact",
    "load": "saving.artifact",
}
_MODULES = frozenset(
    [
        "bounds",
        "catalog",
        "columns",
        "conditional",
        "contrib",
        "data",
        "distributed",
        "distributions",
        "docstrings",
        "engine",
        "errors",
        "estimators",
        "evaluation",
        "export",
        "kl",
        "likelihoods",
        "models",
        "networks",
        "objectives",
        "plots",
        "posteriors",
        "presets",
        "priors",
        "queries",
        "recipes",
        "report",
        "runs",
        "saving",
        "schedules",
        "serve",
        "testing",
        "training",
        "transforms",
        "tuning",
    ]
)

__all__ = ["VAE", "Conditional", "ConditionalDistribution", "Trainer", "__version__", "load", "save"]

if not TYPE_CHECKING:  # a module with `__getattr__` has every name, to type checkers
    __getattr__, __dir__ = attributes(__name__, {**_OBJECTS, **dict.fromkeys(_MODULES, "")})
