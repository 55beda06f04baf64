"""Named models: functions that return a model and an objective."""

from collections.abc import Callable

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


def available() -> dict[str, Callable[..., tuple[GenerativeModel, Objective]]]:
    """Name (with hyphens) to function of every preset."""
    return {name.replace("_", "-"): globals()[name] for name in sorted(__all__)}
