"""What a part may say of itself, and what is taken for granted where it says nothing.

vaekit works with modules, models and data of anyone's making. Whatever it asks of them beyond a call or the three
methods stands here, one class per kind of part: a field is an attribute that the part may have, with its default.
Distributions have `distributions.base.Hooks`, heads `conditional.ConditionalDistribution`, transforms
`transforms.Transform`, objectives `objectives.Objective`, callbacks `training.Callback`.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor, nn

    from vaekit.models.labels import Alternatives
    from vaekit.models.vae import VAE
    from vaekit.transforms import Transform

T = TypeVar("T")

Data: TypeAlias = object
"""Rows in their own units, shape (N, *X): a tensor, an array, a data frame, a data set, or a view of one.

Of any library's type: whether they are numbers, and as many as a model takes, is found out where they meet it.
"""


class Kept(Protocol):
    """What torch hands the two halves of a derivative of our own (`ctx`): the one keeps there what the other needs."""

    saved_tensors: "tuple[Tensor, ...]"
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: "Tensor") -> None:
        """Keep tensors."""
        ...


@runtime_checkable
class OnDisk(Protocol):
    """Rows that stay on disk, and stand in for a tensor of shape (N, *X) where rows are read in blocks."""

    @property
    def shape(self) -> "torch.Size":
        """Shape (N, *X)."""
        ...

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: "slice | Tensor", /) -> "Tensor": ...

    def take(self, indices: "np.ndarray", /) -> "OnDisk":
        """Some of the rows, which stay there."""
        ...

    def ahead(self, batches: "Iterable[slice | Tensor]", /) -> "Generator[Tensor, None, None]":
        """The rows of each batch in turn, decoded before they are asked for."""
        ...

    def in_memory(self) -> "Tensor":
        """All of them; a `DataError` where they do not fit."""
        ...


def told(kind: type[T], thing: object) -> T:
    """What a thing says of itself: an instance of one of the classes below, made of its attributes."""
    said = {field.name: getattr(thing, field.name, field.default) for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**said)


def told_of(kind: type, thing: object, name: str) -> Any:
    """One thing that a thing says of itself, as `told` has it, in a form that torch.compile can follow."""
    return getattr(thing, name, getattr(kind, name))


def all_told(kind: type[T], things: Iterable[object]) -> list[T]:
    """What each of several things says of itself."""
    return [told(kind, thing) for thing in things]


@dataclass(frozen=True)
class ModuleTraits:
    """Any module of a model or an objective.

    Attributes:
        can_compile: whether torch.compile can take a training step through it; False where it contains a derivative of
            its own, or a sampler that rejects.
    """

    can_compile: bool = True


@dataclass(frozen=True)
class NetworkTraits:
    """A network from (B, *in_shape) to (B, *out_shape).

    Attributes:
        in_shape: event shape of the input; None leaves it to the `Conditional`.
        out_shape: event shape of the output; None is found by a dry run.
        bears_low_precision: whether its convolutions may run in bfloat16.
        returns_features: whether what it returns are features in any case, of which a layer of its own makes
            parameters; False where a network whose output has the shape of the parameters returns these.
        context_dim: entries of a context (B, E) that it takes beside its input; 0 for a network that takes none.
    """

    in_shape: Sequence[int] | None = None
    out_shape: Sequence[int] | None = None
    bears_low_precision: bool = False
    returns_features: bool = False
    context_dim: int = 0


@dataclass(frozen=True)
class PartTraits:
    """A prior, or a head of a posterior or a likelihood, as a part of a model.

    Attributes:
        event_shape: shape of one event; None is read off the distribution.
        bind: called with the model that the part becomes a part of; None for a part that works alone.
        shared_layers: of a hierarchical prior, what a posterior that is made of its conditionals must agree with.
    """

    event_shape: Sequence[int] | None = None
    bind: "Callable[[VAE], None] | None" = None
    shared_layers: tuple[object, ...] = ()


@dataclass(frozen=True)
class ModelTraits:
    """A latent-variable model beside its three methods.

    Attributes:
        transform: the way from data to model space; None where the model sees the data as they are.
        encoder: the module behind `posterior`, where there is one.
        decoder: the module behind `likelihood`, where there is one.
        latent_prior: p(z) as a module, where `prior` is no module, or one of labels as well; None takes `prior`.
        latent_shape: shape Z of one latent, given the context where there is one; None reads it off `prior`.
        num_likelihood_params: how many raw parameters p(x|z) has for one z; None reads it off a distribution.
        posterior_is_fixed: whether `posterior(x)` draws no noise of its own, as one that refines q does.
        check_context: raises where contexts, a tensor (N, C), are none that the model knows; None for a model that has
            no opinion, and is not told the contexts that rows bring along.
        some_context: a context of shape (1, C) that the model knows, for what does not depend on it, such as shapes;
            None for a model that needs none to answer.
        num_labels: classes of a model that is conditioned on a single label; 0 for all others.
        num_contexts: how many rows' contexts a model holds that stands under them; None for one of any rows.
        alternatives: for x (B, *X), the model under each of its labels, which rows may lack; see
            `models.labels.Alternatives`. None for a model without labels.
        classifier: what makes q(y|x) of a model with a label, trained for it; None where nothing was.
        log_label_posterior: for x (B, *X), log q(y|x), shape (B, L), nats.
    """

    transform: "Transform | None" = None
    encoder: "nn.Module | None" = None
    decoder: "nn.Module | None" = None
    latent_prior: "nn.Module | None" = None
    latent_shape: Sequence[int] | None = None
    num_likelihood_params: int | None = None
    posterior_is_fixed: bool = False
    check_context: "Callable[[Tensor], None] | None" = None
    some_context: "Tensor | None" = None
    num_labels: int = 0
    num_contexts: int | None = None
    alternatives: "Callable[[Tensor], Alternatives] | None" = None
    classifier: "nn.Module | None" = None
    log_label_posterior: "Callable[[Tensor], Tensor] | None" = None


@dataclass(frozen=True)
class TransformTraits:
    """A transform of someone else's, beside its call and its `inverse`; see `transforms.Transform`.

    Attributes:
        dequantizes: whether it turns a density of y into a lower bound on a mass of x.
        discretizes: whether it forgets x, so that the result is the mass of y.
        is_fixed: whether it draws nothing and has nothing to learn while a model trains.
        takes_noise: whether it has `from_noise`.
        noise_name: what it draws, in words.
        with_log_det: for x (N, *X), y and log|det dy/dx|; None takes `log_abs_det_jacobian`.
        check: raises where x (N, *X) holds values that it is not made for; None takes all.
    """

    dequantizes: bool = False
    discretizes: bool = False
    is_fixed: bool = False
    takes_noise: bool = False
    noise_name: str = "noise of the transform"
    with_log_det: "Callable[[Tensor], tuple[Tensor, Tensor]] | None" = None
    check: "Callable[[Tensor], None] | None" = None


@dataclass(frozen=True)
class RowTraits:
    """A set of rows, such as a data set or a data frame.

    Attributes:
        columns: names of the columns of a table.
        labels: one per row.
        shown_labels: the same for pictures, where some are missing; None takes `labels`.
        value_range: least and greatest value that can occur.
        contexts: what a model of the rows is conditioned on, shape (N, C).
        rows: those of a data set that stay on disk (`OnDisk`).
    """

    columns: Sequence[str] | None = None
    labels: "npt.ArrayLike | None" = None
    shown_labels: "npt.ArrayLike | None" = None
    value_range: tuple[float, float] | None = None
    contexts: "npt.ArrayLike | None" = None
    rows: object = None
