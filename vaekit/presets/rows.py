"""Presets that only set parts of `vae`: a row each, from a paper to the parts that it is about.

A row becomes a function of the name of its variable; see `row`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from vaekit import schedules
from vaekit.models import VAE
from vaekit.objectives import (
    CIWAE,
    DIPVAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    TVO,
    BetaTC,
    Capacity,
    DReG,
    FactorVAE,
    InfoVAE,
    Objective,
)
from vaekit.posteriors import InverseAutoregressive, Planar, WrappedNormal
from vaekit.presets.functions import vae
from vaekit.presets.registry import preset, publish
from vaekit.priors import VampPrior
from vaekit.priors import WrappedNormal as WrappedNormalPrior
from vaekit.shapes import Shape

_WARM_UP = 10_000  # updates until a capacity is reached


class Row(Protocol):
    """The function that a row becomes: keywords of its own, and the parts that `vae` takes."""

    def __call__(self, event_shape: Shape, *, latent_dim: int = ..., **parts: object) -> tuple[VAE, Objective]:
        """The model and the objective."""


def row(what: str, use: str, source: str, parts: Callable[..., dict[str, Any]], /, **about: str) -> Row:
    """A preset that is `vae` with other parts.

    Args:
        what: a sentence with the authors and the year of the paper.
        use: where to use it, and where not.
        source: the paper, as the section "References" of a docstring has it.
        parts: from the preset's own arguments to what `vae` is given; the caller's parts win. Its defaults are those of
            the preset; one of `latent_dim`, where few latents are the point, also wins over what the data suggest.
        **about: of each argument, and of `parts`, what the docstring says.
    """
    own = {name: argument.default for name, argument in inspect.signature(parts).parameters.items()}
    few = own["latent_dim"] if isinstance(own.get("latent_dim"), int) else None
    defaults = {"latent_dim": few or 16} | {name: value for name, value in own.items() if name != "latent_dim"}

    @preset(latent_dim=few)
    def make(event_shape: Shape, **given: Any) -> tuple[VAE, Objective]:
        arguments = {name: given.pop(name, default) for name, default in defaults.items()}
        chosen = parts(**{name: arguments[name] for name in own})
        return vae(event_shape, latent_dim=arguments["latent_dim"], **{**chosen, **given})

    said = {"event_shape": "shape of one row of data.", "latent_dim": "dimensions of z.", **about}
    said["**parts"] = said.pop("parts", "as in `vae`.")
    listed = "\n    ".join(f"{name}: {text}" for name, text in said.items())
    make.__doc__ = (
        f"{what}\n\n{use}\n\nReferences:\n    {source}\n\nArgs:\n    {listed}\n\n"
        "Returns:\n    The model and the objective.\n"
    )
    make.__dict__["__signature__"] = _signature(defaults)
    return make


def _signature(defaults: dict[str, Any]) -> inspect.Signature:
    """(event_shape, *, latent_dim=16, ..., **parts), with the types of the defaults."""
    kind = inspect.Parameter
    types = {name: Sequence[int] if isinstance(value, tuple) else type(value) for name, value in defaults.items()}
    keywords = [kind(name, kind.KEYWORD_ONLY, default=defaults[name], annotation=types[name]) for name in defaults]
    shape = kind("event_shape", kind.POSITIONAL_OR_KEYWORD, annotation=Shape)
    rest = kind("parts", kind.VAR_KEYWORD, annotation=Any)
    return inspect.Signature([shape, *keywords, rest], return_annotation=tuple[VAE, Objective])


beta_vae = row(
    "The beta-VAE of Higgins et al. 2017: a KL weighted by beta > 1, for fewer and more independent latents.",
    "Use it for codes whose dimensions are looked at one by one; log p(x) pays for it.",
    'Higgins et al., "beta-VAE", 2017, https://openreview.net/forum?id=Sy2fzU9gl.',
    lambda beta=4.0: {"objective": ELBO(beta=beta)},
    beta="weight of the KL.",
)

disentangled_beta_vae = row(
    "The beta-VAE of Burgess et al. 2018: a KL held at a capacity, for disentangled codes at a chosen rate.",
    "Use it for disentangled codes at a rate that one chooses, not for log p(x).",
    'Burgess et al., "Understanding disentangling in beta-VAE", 2018, https://arxiv.org/abs/1804.03599.',
    lambda capacity=25.0, gamma=100.0: {"objective": Capacity(schedules.Linear(0.0, capacity, _WARM_UP), gamma)},
    capacity="the rate, nats; it grows to it over the first 10,000 updates.",
    gamma="weight of the distance from it.",
)

beta_tc_vae = row(
    "The beta-TC-VAE of Chen et al. 2018: only the dependence between latents is weighted, for disentangled codes.",
    "Use it for disentangled codes with batches of a hundred rows and more, not for log p(x).",
    'Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018, '
    "https://arxiv.org/abs/1802.04942.",
    lambda beta=6.0: {"objective": BetaTC(beta)},
    beta="weight of the total correlation.",
)

factor_vae = row(
    "FactorVAE of Kim & Mnih 2018: the dependence between latents by a discriminator, for disentangled codes.",
    "Use it for disentangled codes where batches are too small for `beta_tc_vae`, not for log p(x).",
    'Kim & Mnih, "Disentangling by factorising", 2018, https://arxiv.org/abs/1802.05983.',
    lambda gamma=10.0: {"objective": FactorVAE(gamma)},
    gamma="weight of the total correlation.",
)

dip_vae = row(
    "DIP-VAE of Kumar et al. 2018: the covariance of the codes is drawn to the identity, for disentangled codes.",
    "Use it for disentangled codes at little cost; it sees linear dependence alone.",
    'Kumar et al., "Variational inference of disentangled latent concepts from unlabeled observations", 2018, '
    "https://arxiv.org/abs/1711.00848.",
    lambda off_diagonal=10.0: {"objective": DIPVAE(off_diagonal=off_diagonal)},
    off_diagonal="weight of the squared covariances.",
)

info_vae = row(
    "InfoVAE of Zhao et al. 2019: less KL and an MMD between q(z) and the prior, for codes that carry more.",
    "Use it where codes collapse, or must fill the prior well.",
    'Zhao et al., "InfoVAE: balancing learning and inference in variational autoencoders", 2019, '
    "https://arxiv.org/abs/1706.02262.",
    lambda weight=100.0: {"objective": InfoVAE(weight=weight)},
    weight="of the maximum mean discrepancy.",
)

iwae = row(
    "The importance-weighted autoencoder of Burda et al. 2016: a tighter bound at K times the decoder's cost.",
    "Use it where log p(x) matters more than the time of training; `dreg` is the better gradient for many draws.",
    'Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519.',
    lambda num_samples=5: {"objective": IWAE(num_samples)},
    num_samples="K.",
)

dreg = row(
    "IWAE by the doubly reparameterised gradient of Tucker et al. 2019: a good encoder with many samples, too.",
    "Use it in place of `iwae`, most of all with many draws; the posterior has to be reparameterisable.",
    'Tucker et al., "Doubly reparameterized gradient estimators for Monte Carlo objectives", 2019, '
    "https://arxiv.org/abs/1810.04152.",
    lambda num_samples=5: {"objective": DReG(num_samples)},
    num_samples="K.",
)

_TIGHTER = (
    'Rainforth et al., "Tighter variational bounds are not necessarily better", 2018, https://arxiv.org/abs/1802.04537.'
)

miwae = row(
    "MIWAE of Rainforth et al. 2018: means of smaller importance-weighted bounds, for a better encoder.",
    "Use it where many draws are affordable and the encoder suffers under `iwae`.",
    _TIGHTER,
    lambda num_samples=10, num_groups=2: {"objective": MIWAE(num_samples, num_groups)},
    num_samples="all draws of z per row.",
    num_groups="M, which divides them; each group has a bound of its own.",
)

ciwae = row(
    "CIWAE of Rainforth et al. 2018: a blend of ELBO and IWAE, between a tight bound and a good encoder.",
    "Use it as a compromise between `vae` and `iwae`, with a weight that has to be found by trial.",
    _TIGHTER,
    lambda elbo_weight=0.5, num_samples=5: {"objective": CIWAE(num_samples, elbo_weight)},
    elbo_weight="share of the ELBO.",
    num_samples="K.",
)

piwae = row(
    "PIWAE of Rainforth et al. 2018: the decoder learns from IWAE, the encoder from MIWAE.",
    "Use it where log p(x) matters most and two backward passes are affordable.",
    _TIGHTER,
    lambda num_samples=10, num_groups=2: {"objective": PIWAE(num_samples, num_groups)},
    num_samples="all draws of z per row.",
    num_groups="M of the encoder's bound, which divides them.",
)

tvo = row(
    "The thermodynamic variational objective of Masrani et al. 2019: a bound by integration over temperatures.",
    "Use it for discrete latents, with many draws; with latents that can be reparameterised `dreg` is less noisy.",
    'Masrani et al., "The thermodynamic variational objective", 2019, https://arxiv.org/abs/1907.00031.',
    lambda num_samples=10: {"objective": TVO(num_samples)},
    num_samples="draws of z per row.",
)

vamp = row(
    "The VAE with a VampPrior of Tomczak & Welling 2018: a prior that learns the shape of the codes.",
    "Use it first where a better prior is wanted; before training, `model.prior.initialize(train_rows)` lets the "
    "pseudo-inputs begin at data, which trains faster.",
    'Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120.',
    lambda latent_dim, num_pseudo_inputs=500: {"prior": VampPrior(latent_dim, num_pseudo_inputs=num_pseudo_inputs)},
    num_pseudo_inputs="K.",
)

vae_linnf = row(
    "The planar-flow VAE of Rezende & Mohamed 2015: q(z|x) bent along one direction per step, for few latents.",
    "Use it with up to some twenty latents whose posteriors are skewed; `vae_iaf` bends all dimensions at once.",
    'Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770.',
    lambda latent_dim, num_flows=8: {"posterior": Planar(latent_dim, num_flows)},
    num_flows="planar maps, each with parameters of its own for each row.",
    parts="as in `vae`; `posterior=posteriors.Radial(latent_dim)` is the radial sister.",
)

vae_iaf = row(
    "The VAE of Kingma et al. 2016 with an inverse autoregressive flow: correlated, bent q(z|x) in many dimensions.",
    "Use it for long runs: it starts behind the diagonal posterior and needs updates to get ahead of it.",
    'Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016, '
    "https://arxiv.org/abs/1606.04934.",
    lambda latent_dim, num_flows=2, flow_hidden=(128,): {
        "posterior": InverseAutoregressive(latent_dim, num_flows, flow_hidden)
    },
    latent_dim="dimensions of z, at least 2.",
    num_flows="gated autoregressive steps.",
    flow_hidden="widths of the hidden layers of each step's masked network.",
)

s_vae = row(
    "The S-VAE of Davidson et al. 2018: von Mises-Fisher posteriors on the unit sphere.",
    "Use it where codes are directions, in few dimensions, up to about 20: its uniform prior pulls them nowhere.",
    'Davidson et al., "Hyperspherical variational auto-encoders", 2018, https://arxiv.org/abs/1804.00891.',
    lambda latent_dim=10: {"posterior": "von-mises-fisher", "prior": "uniform-sphere"},
    latent_dim="D >= 2, dimensions of the space around the sphere: the codes have D - 1 degrees of freedom.",
)

poincare_vae = row(
    "The VAE of Mathieu et al. 2019: wrapped normals on the Poincare ball, for data that branch like a tree.",
    "Use it for hierarchies in two to ten dimensions. The networks are those of `vae` and see points of the ball by "
    "their coordinates; the paper's decoder begins with a layer of its own, of distances to hyperbolic hyperplanes.",
    'Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019, '
    "https://arxiv.org/abs/1901.06033.",
    lambda latent_dim=5, curvature=1.0: {
        "posterior": WrappedNormal(latent_dim, curvature),
        "prior": WrappedNormalPrior(latent_dim, curvature),
    },
    latent_dim="dimensions of z, best 2 to 20.",
    curvature="c > 0; the curvature is -c.",
)

publish(globals())
