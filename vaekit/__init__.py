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
    from vaekit.conditional import Conditional, ConditionalDistribution
    from vaekit.models import VAE
    from vaekit.saving.artifact import load, save
    from vaekit.training import Trainer

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
        "distributions",
        "docstrings",
        "engine",
        "errors",
        "evaluation",
        "kl",
        "likelihoods",
        "models",
        "networks",
        "objectives",
        "plots",
        "posteriors",
        "presets",
        "priors",
        "recipes",
        "report",
        "runs",
        "saving",
        "schedules",
        "testing",
        "training",
        "transforms",
    ]
)

__all__ = ["VAE", "Conditional", "ConditionalDistribution", "Trainer", "__version__", "load", "save"]

__getattr__, __dir__ = attributes(__name__, {**_OBJECTS, **dict.fromkeys(_MODULES, "")})
