"""Presets of models that are conditioned on a context: labels and other things that are known of each row."""

from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack

from torch import nn

from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.errors import ConfigError
from vaekit.likelihoods import Columns, Normal
from vaekit.models import ConditionalVAE, StackedVAE
from vaekit.networks import MLP, ColumnsInput, Concat, ContextInput, ConvDecoder, ConvEncoder, LinearPlus, Readout
from vaekit.objectives import ELBO, HideCells, Objective, SemiSupervised
from vaekit.posteriors import DiagonalNormal, FullNormal
from vaekit.presets.functions import vae
from vaekit.presets.parts import Part, columns_seen, component, rescaled
from vaekit.presets.registry import OF_CONTEXTS, SETTINGS, preset, publish
from vaekit.presets.tables import columns_encoder
from vaekit.shapes import Shape, as_image_shape, as_shape
from vaekit.transforms import Transform

_Make = Callable[[Shape, int], nn.Module]

PLACES = ("prior", "posterior", "likelihood")
"""Where a context may enter."""


class OfM2(TypedDict, total=False):
    """What `conditional_vae` takes beside the arguments of `m2`."""

    proportions: Sequence[float] | None
    conditions: Sequence[str]
    conditioning: str
    posterior: Part | None
    prior: Part
    transform: Transform | None


def _beside(make: _Make, in_shape: Shape, size: int, film: bool, event_shape: Shape | None = None) -> nn.Module:
    """A network that takes a context of `size` entries, in its hidden layers or beside its input; of 0 takes none.

    Args:
        make: from an event shape, and the context of hidden layers, to a network.
        in_shape: event shape of the input.
        size: entries of the context.
        film: whether it enters the hidden layers.
        event_shape: that of the input, where the network sees it as another.
    """
    if not size or film:
        return make(in_shape if event_shape is None else event_shape, size)
    return Concat(make(Concat.widened(in_shape, size), 0), in_shape if event_shape is None else event_shape, size)


def _encoder(
    head: ConditionalDistribution, hidden: Sequence[int], size: int, film: bool, conv: bool, dropout: float = 0.0
) -> nn.Module:
    """The network of an encoder, or a classifier, for the rows that a likelihood describes."""
    columns = columns_seen(head) if isinstance(head, Columns) else None

    def make(shape: Shape, context_dim: int) -> nn.Module:
        if conv:
            return ConvEncoder(shape, context_dim=context_dim)
        return MLP(shape, hidden, dropout=dropout, initialization="he", context_dim=context_dim)

    if columns is not None:
        width = ColumnsInput.width(columns["levels"], columns["holes"])
        return ColumnsInput(_beside(make, width, size, film), **columns)
    shape = as_image_shape(head.event_shape, "event_shape") if conv else head.event_shape
    return rescaled(_beside(make, shape, size, film, head.event_shape), head)


def _of_q(
    head: ConditionalDistribution, q: ConditionalDistribution, hidden: Sequence[int], size: int, film: bool, conv: bool
) -> nn.Module:
    """The network of q(z|x, y): of the columns of a table the posterior of factors, where q can be one."""
    if isinstance(head, Columns) and isinstance(q, FullNormal) and not film:
        return columns_encoder(head, q, tuple(hidden), size)
    return _encoder(head, hidden, size, film, conv)


def _decoder(
    head: ConditionalDistribution, z: tuple[int, ...], hidden: Sequence[int], size: int, film: bool, conv: bool
) -> nn.Module:
    """The decoder's network: of tables a linear one and what bends it, of images convolutions where asked for."""
    if isinstance(head, Columns):
        return _beside(lambda shape, _: LinearPlus(shape, head.param_shape, hidden), z, size, False)

    def make(shape: Shape, context_dim: int) -> nn.Module:
        if conv:
            return ConvDecoder(shape, head.event_shape, context_dim=context_dim)
        return MLP(shape, tuple(hidden)[::-1], initialization="he", context_dim=context_dim)

    return _beside(make, z, size, film)


@preset(takes=SETTINGS | OF_CONTEXTS, is_conditional=True)
def conditional_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] | None = None,
    levels: Sequence[int] = (2,),
    context: ContextInput | None = None,
    proportions: Sequence[float] | None = None,
    conditions: Sequence[str] = ("posterior", "likelihood"),
    conditioning: str = "concat",
    networks: str = "mlp",
    likelihood: Part = "bernoulli",
    posterior: Part | None = None,
    prior: Part = "standard-normal",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[ConditionalVAE, Objective]:
    """The conditional VAE of Sohn et al. 2015: p(x|y), where a label or another context y is known of each row.

    Use it to draw rows of a label, to classify by Bayes' rule, and, with the context in the likelihood alone, to take
    the effect of a batch out of the codes.

    References:
        Sohn et al., "Learning structured output representation using deep conditional generative models", 2015,
        https://papers.nips.cc/paper/5775.
        Perez et al., "FiLM: visual reasoning with a general conditioning layer", 2018,
        https://arxiv.org/abs/1709.07871.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers, which the decoder mirrors; None is 400, 400, of tables 128, 128.
        levels: for each entry of a context the number of its levels, 0 for numbers; where no `context` is handed over.
        context: what makes a vector of a context.
        proportions: p(y) of a single label; None takes equal ones.
        conditions: where the context enters: of "prior", "posterior" and "likelihood".
        conditioning: "concat" feeds it beside the input, "film" modulates every hidden layer.
        networks: "mlp", or "conv" for images.
        likelihood: name or head of p(x|z, y).
        posterior: name or head of q(z|x, y); None is "diagonal-normal", of tables "full-normal".
        prior: name or module of p(z); not where the context enters the prior, which then is a normal p(z|y).
        transform: from data to model space.
        objective: None is the ELBO, of tables `HideCells` around an `IWAE` of 5 draws.

    Returns:
        The model and the objective.

    Raises:
        ConfigError: for other words, or no place for the context.
    """
    for name, words, known in (
        ("conditions", conditions, PLACES),
        ("conditioning", (conditioning,), ("concat", "film")),
        ("networks", (networks,), ("mlp", "conv")),
    ):
        strange = [word for word in words if word not in known]
        if strange or not words:
            raise ConfigError(f"{name} are of {', '.join(known)}; got {', '.join(words) or 'none'}")
    front = context or ContextInput(levels)
    size, film, conv = front.out_shape[0], conditioning == "film", networks == "conv"
    head = component("likelihoods", likelihood, event_shape)
    is_table = isinstance(head, Columns)
    widths = tuple(hidden or ((128, 128) if is_table else (400, 400)))
    q = component("posteriors", posterior or ("full-normal" if is_table else "diagonal-normal"), latent_dim)
    in_prior, in_q, in_p = (place in conditions for place in PLACES)
    p_of_z: nn.Module
    if in_prior:
        p_of_z = Conditional(MLP(size, (64,), initialization="he"), DiagonalNormal(as_shape(q.event_shape)))
    else:
        p_of_z = component("priors", prior, latent_dim)
    model = ConditionalVAE(
        encoder=Conditional(_of_q(head, q, widths, size * in_q, film, conv), q),
        decoder=Conditional(_decoder(head, q.event_shape, widths, size * in_p, film, conv), head),
        latent_prior=p_of_z,
        context=front,
        transform=transform,
        proportions=proportions,
    )
    return model, objective or (HideCells() if is_table else ELBO())


@preset(takes=SETTINGS | OF_CONTEXTS, is_conditional=True, learns_unlabelled=True)
def m2(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (400,),
    levels: Sequence[int] = (2,),
    context: ContextInput | None = None,
    dropout: float = 0.0,
    networks: str = "mlp",
    likelihood: Part = "bernoulli",
    objective: Objective | None = None,
    **parts: Unpack[OfM2],
) -> tuple[ConditionalVAE, Objective]:
    """M2 of Kingma et al. 2014: a class and a style behind each row, learned from rows of which few have a label.

    Use it with few labels and many rows: -1, or an empty cell, is a label that is unknown. `classifier` is q(y|x), the
    classifier of the paper; p(y|x) by Bayes' rule is `queries.classify`.

    References:
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        hidden: widths of the hidden layers of encoder and classifier; the decoder mirrors them.
        levels: the number of classes, alone; where no `context` is handed over.
        context: what makes a vector of a label.
        dropout: probability of dropping a hidden unit of the classifier while training.
        networks: "mlp", or "conv" for images.
        likelihood: name or head of p(x|z, y).
        objective: None is `SemiSupervised`.
        **parts: as in `conditional_vae`.

    Returns:
        The model and the objective.
    """
    given = context or ContextInput(levels)
    front = ContextInput(given.levels, unknown=True)
    head = component("likelihoods", likelihood, event_shape)
    model, _ = conditional_vae(
        event_shape, latent_dim=latent_dim, hidden=hidden, networks=networks, likelihood=head, context=front, **parts
    )
    network = _encoder(head, hidden, 0, False, networks == "conv", dropout)
    model.classifier = Readout(network, front.levels[0])
    return model, objective or SemiSupervised()


@preset(
    takes=frozenset({"latent_dim", "hidden", "likelihood", "transform", "objective", "num_samples"}),
    is_conditional=True,
    learns_unlabelled=True,
)
def m1_m2(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (400, 400),
    second_latent_dim: int | None = None,
    second_hidden: Sequence[int] = (300,),
    levels: Sequence[int] = (2,),
    context: ContextInput | None = None,
    proportions: Sequence[float] | None = None,
    dropout: float = 0.0,
    likelihood: Part = "bernoulli",
    transform: Transform | None = None,
    objective: Objective | None = None,
) -> tuple[StackedVAE, Objective]:
    """M1+M2 of Kingma et al. 2014: a VAE, and M2 on its codes, which are drawn anew at each use.

    Use it where M2 on the rows themselves gives too little weight to what a label says of them, as on images: the
    codes of a VAE are few numbers in which rows of a label lie together. Settings train the VAE first, on all rows.

    References:
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z_1, the codes of the VAE.
        hidden: widths of the hidden layers of the VAE's encoder; its decoder mirrors them.
        second_latent_dim: dimensions of z_2; None takes those of z_1.
        second_hidden: widths of the hidden layers of M2.
        levels: the number of classes, alone; where no `context` is handed over.
        context: what makes a vector of a label.
        proportions: p(y); None takes equal ones.
        dropout: probability of dropping a hidden unit of the classifier while training.
        likelihood: name or head of p(x|z_1).
        transform: from data to model space.
        objective: None is `SemiSupervised`.

    Returns:
        The model and the objective.
    """
    first, _ = vae(event_shape, latent_dim=latent_dim, hidden=hidden, likelihood=likelihood, transform=transform)
    second, default = m2(
        (latent_dim,),
        latent_dim=second_latent_dim or latent_dim,
        hidden=second_hidden,
        levels=levels,
        context=context,
        dropout=dropout,
        likelihood=Normal(latent_dim, scale="network"),
        proportions=proportions,
    )
    return StackedVAE(first, second), objective or default


publish(globals())
