"""Presets that do more than set parts: networks of their own, several layers of latents, a refined posterior."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, Unpack

from torch import nn

from vaekit import schedules
from vaekit.conditional import Conditional
from vaekit.errors import ConfigError
from vaekit.likelihoods import Columns, PixelCNN
from vaekit.models import VAE, Hamiltonian, SemiAmortized
from vaekit.models.base import GenerativeModel
from vaekit.networks import MLP, ColumnsInput, ConvDecoder, ConvEncoder
from vaekit.objectives import ELBO, Objective
from vaekit.posteriors import Ladder, TopDown
from vaekit.presets.parts import (
    OfConvVAE,
    OfVAE,
    Part,
    WithLikelihood,
    WithPrior,
    columns_seen,
    component,
    rescaled,
)
from vaekit.presets.registry import PARTS, preset, publish
from vaekit.priors import Hierarchical, VampPrior
from vaekit.shapes import Shape
from vaekit.transforms import Transform

Sizes: TypeAlias = tuple[int, ...]
_WARM_UP = 5_000  # updates until the KL of a ladder has its full weight


def _assemble(
    event_shape: Shape,
    latent_dim: int,
    networks: Callable[[Sizes, Sizes], tuple[nn.Module, nn.Module]],
    likelihood: Part,
    posterior: Part,
    prior: Part,
    transform: Transform | None,
) -> VAE:
    head = component("likelihoods", likelihood, event_shape)
    q = component("posteriors", posterior, latent_dim)
    columns = columns_seen(head) if isinstance(head, Columns) else None
    shape = head.event_shape if columns is None else (ColumnsInput.width(columns["levels"], columns["holes"]),)
    encoder, decoder = networks(shape, q.event_shape)
    return VAE(
        encoder=Conditional(rescaled(encoder, head) if columns is None else ColumnsInput(encoder, **columns), q),
        decoder=Conditional(decoder, head),
        prior=component("priors", prior, latent_dim),
        transform=transform,
    )


@preset()
def vae(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (400, 400),
    likelihood: Part = "bernoulli",
    posterior: Part = "diagonal-normal",
    prior: Part = "standard-normal",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[VAE, Objective]:
    """The VAE of Kingma & Welling 2014 with two-sided MLPs: the place to start.

    Use it for tables and small images, and as what every other preset is compared with.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.
        likelihood: name or head of p(x|z).
        posterior: name or head of q(z|x).
        prior: name or module of p(z).
        transform: from data to model space.
        objective: None is the ELBO.

    Returns:
        The model and the objective.
    """

    def networks(shape: Sizes, latent_shape: Sizes) -> tuple[nn.Module, nn.Module]:
        widths = tuple(hidden)
        return MLP(shape, widths, initialization="he"), MLP(latent_shape, widths[::-1], initialization="he")

    model = _assemble(event_shape, latent_dim, networks, likelihood, posterior, prior, transform)
    return model, objective or ELBO()


@preset(takes=PARTS)
def conv_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 32,
    channels: Sequence[int] | None = None,
    likelihood: Part = "bernoulli",
    posterior: Part = "diagonal-normal",
    prior: Part = "standard-normal",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[VAE, Objective]:
    """A VAE of stride-2 convolutions with batch norm and leaky ReLU, mirrored: for images of any size.

    Use it for images; where they are small and in grey, `vae` is faster.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
        Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
        2016, https://arxiv.org/abs/1511.06434, whose blocks these are.

    Args:
        event_shape: (C, H, W) or (H, W).
        latent_dim: dimensions of z.
        channels: channels of each block of the encoder; None takes up to four of 32, 64, 128, 256.
        likelihood: name or head of p(x|z).
        posterior: name or head of q(z|x).
        prior: name or module of p(z).
        transform: from data to model space.
        objective: None is the ELBO.

    Returns:
        The model and the objective.
    """

    def networks(shape: Sizes, latent_shape: Sizes) -> tuple[nn.Module, nn.Module]:
        mirrored = None if channels is None else tuple(channels)[::-1]
        return ConvEncoder(shape, channels), ConvDecoder(latent_shape, shape, mirrored)

    model = _assemble(event_shape, latent_dim, networks, likelihood, posterior, prior, transform)
    return model, objective or ELBO()


@preset(latent_dim=2)
def mlp_mnist(
    event_shape: Shape = (1, 28, 28), *, latent_dim: int = 2, **parts: Unpack[OfVAE]
) -> tuple[VAE, Objective]:
    """The textbook's program: one hidden layer of 500 units and a two-dimensional z, for figures 13.6a and 13.6b.

    Use it for pictures of the latent space; two dimensions are few for a density.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, section 5 (500
        hidden units for MNIST).

    Args:
        event_shape: shape of one image.
        latent_dim: dimensions of z.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    parts.setdefault("hidden", (500,))
    return vae(event_shape, latent_dim=latent_dim, **parts)


@preset(takes=PARTS, latent_dim=2)
def conv_mnist(
    event_shape: Shape = (1, 28, 28), *, latent_dim: int = 2, **parts: Unpack[OfConvVAE]
) -> tuple[VAE, Objective]:
    """The textbook's convolutional program: four stride-2 blocks and a two-dimensional z.

    Use it as `mlp_mnist`, for pictures of the latent space.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
        Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
        2016, https://arxiv.org/abs/1511.06434.

    Args:
        event_shape: shape of one image.
        latent_dim: dimensions of z.
        **parts: as in `conv_vae`.

    Returns:
        The model and the objective.
    """
    parts.setdefault("channels", (32, 64, 128, 256))
    return conv_vae(event_shape, latent_dim=latent_dim, **parts)


@preset(takes=PARTS, likelihood="pixel-cnn")
def pixel_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 32,
    num_levels: int = 2,
    channels: int = 32,
    num_layers: int = 2,
    blocks: Sequence[int] | None = None,
    likelihood: Part = "pixel-cnn",
    **parts: Unpack[WithPrior],
) -> tuple[VAE, Objective]:
    """The PixelVAE of Gulrajani et al. 2017: z says what is in the image, a shallow PixelCNN draws its pixels.

    Use it where log p(x) of images matters most, and draws may be slow; a PixelCNN of many layers would do without z.

    References:
        Gulrajani et al., "PixelVAE: a latent variable model for natural images", 2017,
        https://arxiv.org/abs/1611.05013.

    Args:
        event_shape: (C, H, W) or (H, W).
        latent_dim: dimensions of z.
        num_levels: L, the number of values of a pixel; 2 for bits.
        channels: feature maps of the PixelCNN per channel of the image.
        num_layers: its residual layers.
        blocks: channels of each block of the encoder, as `channels` of `conv_vae`.
        likelihood: name or head of p(x|z); a head takes the place of what the three numbers say.
        **parts: as in `conv_vae`.

    Returns:
        The model and the objective.
    """
    head: Part = likelihood
    if likelihood == "pixel-cnn":
        head = PixelCNN(event_shape, num_levels, channels, num_layers)
    return conv_vae(event_shape, latent_dim=latent_dim, channels=blocks, likelihood=head, **parts)


def _sizes(latent_dim: int, sizes: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Sizes of the layers, z_1 first: given, or each half of what the layers below it leave."""
    if sizes is not None:
        if sum(sizes) != latent_dim:
            raise ConfigError(f"the layers {tuple(sizes)} add up to {sum(sizes)} dimensions, not to {latent_dim}")
        return tuple(sizes)
    found: list[int] = []
    rest = latent_dim
    while rest > 1 and len(found) < num_layers - 1:
        found.append(rest - rest // 2)
        rest //= 2
    return (*found, rest)


@preset()
def ladder_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 28,
    sizes: Sequence[int] | None = None,
    hidden: Sequence[int] = (400, 400),
    **parts: Unpack[WithLikelihood],
) -> tuple[VAE, Objective]:
    """The ladder VAE of Sonderby et al. 2016: three stochastic layers, inference from the top down, KL warm-up.

    Use it for data with structure at several levels and long runs; on small data the plain `vae` is ahead.

    References:
        Sonderby et al., "Ladder variational autoencoders", 2016, https://arxiv.org/abs/1602.02282.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of all layers together.
        sizes: sizes of the layers, z_1 first; None halves them upwards, as 14, 7, 7.
        hidden: widths of the hidden layers of encoder and decoder; the last one also of the steps between layers.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    layers, width = _sizes(latent_dim, sizes, 3), (tuple(hidden) or (64,))[-1]
    own: WithLikelihood = {
        "posterior": Ladder(layers, (width,), width),
        "prior": Hierarchical(layers, (width,)),
        "objective": ELBO(beta=schedules.Linear(0.0, 1.0, _WARM_UP)),
    }
    own.update(parts)
    return vae(event_shape, latent_dim=latent_dim, hidden=hidden, **own)


@preset()
def hierarchical_vamp(
    event_shape: Shape,
    *,
    latent_dim: int = 80,
    sizes: Sequence[int] | None = None,
    hidden: Sequence[int] = (300, 300),
    num_pseudo_inputs: int = 500,
    **parts: Unpack[WithLikelihood],
) -> tuple[VAE, Objective]:
    """The two-layer VAE with a VampPrior at the top of Tomczak & Welling 2018: their strongest model, as MLPs.

    Use it for images and long runs. The decoder sees both layers, as theirs does.

    References:
        Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120, section 3.2.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of both layers together.
        sizes: sizes of z_1 and z_2; None halves them.
        hidden: widths of the hidden layers of encoder and decoder; the last one also of the steps between layers.
        num_pseudo_inputs: K.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    layers, width = _sizes(latent_dim, sizes, 2), (tuple(hidden) or (64,))[-1]
    own: WithLikelihood = {
        "posterior": TopDown(layers, (width,), width),
        "prior": Hierarchical(layers, (width,), top=VampPrior(layers[-1], num_pseudo_inputs=num_pseudo_inputs)),
    }
    own.update(parts)
    return vae(event_shape, latent_dim=latent_dim, hidden=hidden, **own)


@preset()
def hvae(
    event_shape: Shape, *, latent_dim: int = 16, num_steps: int = 3, step_size: float = 0.05, **parts: Unpack[OfVAE]
) -> tuple[GenerativeModel, Objective]:
    """The Hamiltonian VAE of Caterini et al. 2018: draws of q follow the gradient of log p(x, z) for a few steps.

    Use it where the posterior is bent and the decoder is cheap: training takes some K + 2 times as long. Its latents
    are (z, momentum).

    References:
        Caterini et al., "Hamiltonian variational auto-encoder", 2018, https://arxiv.org/abs/1805.11328.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_steps: K, leapfrog steps.
        step_size: where the learned step sizes start.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    model, objective = vae(event_shape, latent_dim=latent_dim, **parts)
    return Hamiltonian(model, num_steps, step_size), objective


@preset()
def semi_amortized(
    event_shape: Shape, *, latent_dim: int = 16, num_steps: int = 5, learning_rate: float = 0.02, **parts: Unpack[OfVAE]
) -> tuple[GenerativeModel, Objective]:
    """The semi-amortised VAE of Kim et al. 2018: the encoder's q(z|x) is improved for each x by gradient steps.

    Use it where the encoder is the weak part, and where a powerful decoder ignores z; training takes some 2 K times as
    long.

    References:
        Kim et al., "Semi-amortized variational autoencoders", 2018, https://arxiv.org/abs/1802.02550.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_steps: K, gradient steps per point.
        learning_rate: their size.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    model, objective = vae(event_shape, latent_dim=latent_dim, **parts)
    return SemiAmortized(model, num_steps, learning_rate), objective


publish(globals())
