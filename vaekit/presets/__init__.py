"""Named models: functions that return a model and an objective."""

from collections.abc import Callable
from dataclasses import dataclass

from vaekit.errors import ConfigError
from vaekit.models.base import GenerativeModel
from vaekit.objectives import Objective
from vaekit.presets.autoregressive import pixel_vae
from vaekit.presets.flows import vae_iaf, vae_linnf
from vaekit.presets.hierarchies import hierarchical_vamp, ladder_vae
from vaekit.presets.manifolds import poincare_vae, s_vae
from vaekit.presets.models import beta_vae, conv_mnist, conv_vae, mlp_mnist, vae
from vaekit.presets.objectives import (
    beta_tc_vae,
    ciwae,
    dip_vae,
    disentangled_beta_vae,
    dreg,
    factor_vae,
    info_vae,
    iwae,
    miwae,
    piwae,
    tvo,
)
from vaekit.presets.priors import vamp
from vaekit.presets.refinement import hvae, semi_amortized
from vaekit.saving import spec

__all__ = [
    "beta_tc_vae",
    "beta_vae",
    "ciwae",
    "conv_mnist",
    "conv_vae",
    "dip_vae",
    "disentangled_beta_vae",
    "dreg",
    "factor_vae",
    "hierarchical_vamp",
    "hvae",
    "info_vae",
    "iwae",
    "ladder_vae",
    "miwae",
    "mlp_mnist",
    "piwae",
    "pixel_vae",
    "poincare_vae",
    "s_vae",
    "semi_amortized",
    "tvo",
    "vae",
    "vae_iaf",
    "vae_linnf",
    "vamp",
]


_PARTS = frozenset({"latent_dim", "likelihood", "posterior", "prior", "transform", "objective", "beta", "num_samples"})
SETTINGS = _PARTS | {"hidden"}
"""Settings in words that choose parts of a model; the others are those of training."""


@dataclass(frozen=True)
class Preset:
    """A preset as settings in words see it.

    Attributes:
        make: the function.
        takes: the settings that change what it makes; `beta` and `num_samples` where its objective has them.
        likelihood: the family that it is about; None follows the data.
        latent_dim: its own default, where few latents are the point (pictures, a curved space); None follows the data.
    """

    make: Callable[..., tuple[GenerativeModel, Objective]]
    takes: frozenset[str] = SETTINGS
    likelihood: str | None = None
    latent_dim: int | None = None

    @property
    def name(self) -> str:
        """The function's name with hyphens."""
        return self.make.__name__.replace("_", "-")


_PRESETS = (
    Preset(beta_tc_vae),
    Preset(beta_vae),
    Preset(ciwae),
    Preset(conv_mnist, _PARTS, latent_dim=2),
    Preset(conv_vae, _PARTS),
    Preset(dip_vae),
    Preset(disentangled_beta_vae),
    Preset(dreg),
    Preset(factor_vae),
    Preset(hierarchical_vamp),
    Preset(hvae),
    Preset(info_vae),
    Preset(iwae),
    Preset(ladder_vae),
    Preset(miwae),
    Preset(mlp_mnist, latent_dim=2),
    Preset(piwae),
    Preset(pixel_vae, _PARTS, likelihood="pixel-cnn"),
    Preset(poincare_vae, latent_dim=5),
    Preset(s_vae, latent_dim=10),
    Preset(semi_amortized),
    Preset(tvo),
    Preset(vae),
    Preset(vae_iaf),
    Preset(vae_linnf),
    Preset(vamp),
)


def available() -> dict[str, Callable[..., tuple[GenerativeModel, Objective]]]:
    """Name (with hyphens) to function of every preset."""
    return {preset.name: preset.make for preset in _PRESETS}


def find(name: str) -> Preset:
    """The preset of a name; case, hyphens and underscores do not matter.

    Raises:
        ConfigError: if there is none, with the nearest names.
    """
    by_name = {preset.name.replace("-", ""): preset for preset in _PRESETS}
    if spec.normalized(name) not in by_name:
        raise ConfigError(f"there is no preset {name!r}. {spec.nearest(name.lower(), available())}")
    return by_name[spec.normalized(name)]
