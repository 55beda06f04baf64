"""Several models of the same rows as one: a mixture in which each has the same weight."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions.numbered import NumberedMixture, numbers_of
from vaekit.errors import ConfigError, ShapeError
from vaekit.likelihoods import Columns
from vaekit.models.base import GenerativeModel, OfWrapped
from vaekit.models.vae import VAE
from vaekit.saving import spec
from vaekit.traits import ModelTraits, told
from vaekit.transforms import Transform


class Ensemble(OfWrapped, GenerativeModel):
    r"""An equal mixture of models of the same rows as one latent-variable model.

    \( p(x) = \frac1M \sum_m p_m(x) \). Its latent is (m, z): the number m of a member, each as likely as the others,
    and the z of that member, with zeros behind it where others have more dimensions. So
    \( q(m, z|x) = \frac1M q_m(z|x) \), and whatever takes a model takes an ensemble: estimates of log p(x) average the
    members' p, fills weigh the members by \( p_m \) of the observed cells, draws choose a member for each row. K draws
    of z are shared out evenly among the members.

    Use it where rows are few or columns many: by Jensen's inequality log p(x) is at least the mean of the members'
    log p(x), the more so the more they differ. It costs M times the training and the memory. Members have no axes of z
    in common, so that there is no E[z|x] of all: the code of a row is (0, E[z|x] of the first member), and the mean
    that is decoded from it is that member's. Errors and ess are those of independent draws of m: where one member
    explains a row and the others do not, ess is at most K / M, and the error that is said is larger than the true one.

    References:
        Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep
        ensembles", 2017, https://arxiv.org/abs/1612.01474.

    Args:
        models: M models of the same rows: with z that are vectors, the same head of p(x|z), which may have learned
            parameters for each element alone, and the same transform.

    Raises:
        ConfigError: if there are none, or they differ in heads or transforms.
        ShapeError: if they are models of different rows.

    Example:
        >>> import vaekit as vk
        >>> members = [vk.presets.vae((3,), latent_dim=size, hidden=(8,), likelihood="normal")[0] for size in (1, 2)]
        >>> model = Ensemble(members)
        >>> model.latent_shape, model.sample(4, generator=torch.Generator().manual_seed(0)).shape
        ((3,), torch.Size([4, 3]))
    """

    can_compile = False
    posterior_is_fixed = True

    def __init__(self, models: Sequence[GenerativeModel]) -> None:
        super().__init__()
        _check(models)
        self.models = nn.ModuleList(models)

    @property
    def members(self) -> list[VAE]:
        """The models, in their order."""
        return list(self.models)  # type: ignore[arg-type]

    @property
    def describing(self) -> GenerativeModel:
        """The first member: all have rows of one shape, and one transform."""
        return self.members[0]

    @property
    def decoder(self) -> None:
        """None: each member has its own."""
        return

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of (m, z): one more than the most dimensions of a member's z."""
        return (1 + max(model.latent_shape[0] for model in self.members),)

    def posterior(self, x: Tensor) -> NumberedMixture:
        """q(m, z|x) for x of shape (B, *X) in model space: batch shape (B,)."""
        return NumberedMixture([model.posterior(x) for model in self.members])

    def prior(self) -> NumberedMixture:
        """p(m, z), batch shape ()."""
        return NumberedMixture([model.prior() for model in self.members])

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|m, z) for (m, z) of shape (..., 1 + L): batch shape (...), event shape X, in model space.

        Each z passes through the decoder of its own member alone.
        """
        number = numbers_of(z, len(self.models))[0]
        flat, codes = number.flatten(), z[..., 1:].flatten(0, -2)
        order = flat.argsort(stable=True)
        sizes = flat.bincount(minlength=len(self.models)).tolist()
        parts = [
            model.decoder.params(codes[rows][:, : model.latent_shape[0]])
            for model, rows in zip(self.members, order.split(sizes), strict=True)
            if len(rows)
        ]
        params = torch.cat(parts)[order.argsort()].reshape(*number.shape, *parts[0].shape[1:])
        p: Distribution = _of_rows([model.decoder.head for model in self.members], number)(params)
        return p

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all q(z|x): what an E step moves (13.15)."""
        return (parameter for model in self.members for parameter in model.posterior_parameters())


def _of_rows(heads: Sequence[ConditionalDistribution], number: Tensor) -> ConditionalDistribution:
    """A head that has for each z the learned parameters of the head of its number, shape (...); the first if all agree.

    A copy, so that two threads may ask at once.
    """
    first, *others = (dict(head.named_parameters()) for head in heads)
    if not first or not others:
        return heads[0]
    ndims, own = len(heads[0].event_shape), dict[int, Tensor]()
    for name, parameter in first.items():
        values = torch.stack([parameter, *(each[name] for each in others)])
        ones = [1] * (ndims - parameter.ndim)  # one value for all elements
        own[id(parameter)] = values[number].reshape(*number.shape, *ones, *parameter.shape)
    return copy.deepcopy(heads[0], own)


def _check(models: Sequence[GenerativeModel]) -> None:
    if not models:
        raise ConfigError("an ensemble has at least one model")
    heads: list[ConditionalDistribution] = []
    for model in models:
        decoder = told(ModelTraits, model).decoder
        if not isinstance(decoder, Conditional) or not isinstance(model, GenerativeModel):
            raise ConfigError(f"members of an ensemble are of class VAE, with a decoder; got {type(model).__name__}")
        if len(model.latent_shape) != 1:
            raise ShapeError(
                f"members of an ensemble have z that are vectors; got events of shape {model.latent_shape}"
            )
        if model.event_shape != models[0].event_shape:
            raise ShapeError(f"members describe the same rows; got shapes {models[0].event_shape}, {model.event_shape}")
        heads.append(decoder.head)
        if spec.describe(heads[0]) != spec.describe(decoder.head):
            raise ConfigError(f"members have the same head of p(x|z); got {heads[0]} and {decoder.head}")
        _check_transforms(models[0].transform, model.transform)
    _check_elementwise(heads[0])


def _check_transforms(first: Transform | None, other: Transform | None) -> None:
    states = [{} if transform is None else transform.state_dict() for transform in (first, other)]
    alike = spec.describe(first) == spec.describe(other) and states[0].keys() == states[1].keys()
    if not alike or not all(
        torch.equal(value.nan_to_num(), states[1][name].nan_to_num()) for name, value in states[0].items()
    ):
        raise ConfigError("members have the same transform, fitted to the same rows; theirs differ")


def _check_elementwise(head: ConditionalDistribution) -> None:
    """Raise unless all learned parameters of a head belong to single elements, or to all alike."""
    for part in head.parts if isinstance(head, Columns) else [head]:
        for name, parameter in part.named_parameters():
            event = tuple(part.event_shape)
            if parameter.ndim and tuple(parameter.shape[: len(event)]) != event:
                raise ConfigError(
                    f"a head of an ensemble has parameters for each element; {name} of {type(part).__name__} has shape "
                    f"{tuple(parameter.shape)}, and its events {event}. Take num_models=1 with this likelihood"
                )
