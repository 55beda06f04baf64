"""What a part may say of itself, and what is taken for granted where it says nothing.

vaekit works with modules, models and data of anyone's making. Whatever it asks of them beyond a call or the three
methods stands here, one class per kind of part: a field is an attribute that the part may have, with its default.
Distributions have `distributions.base.Hooks`, heads `conditional.ConditionalDistribution`, transforms
`transforms.Transform`, objectives `objectives.Objective`, callbacks `training.Callback`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

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


def told(kind: type[T], thing: object) -> T:
    """What a thing says of itself: an instance of one of the classes below, made of its attributes."""
    said: dict[str, Any] = {field.name: getattr(thing, field.name, field.default) for field in fields(kind)}  # type: ignore[arg-type]
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
    bind: Callable[[Any], None] | None = None
    shared_layers: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ModelTraits:
    """A latent-variable model beside its three methods.

    Attributes:
        transform: the way from data to model space; None where the model sees the data as they are.
        encoder: the module behind `posterior`, where there is one.
        decoder: the module behind `likelihood`, where there is one.
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

    transform: Any = None
    encoder: Any = None
    decoder: Any = None
    num_likelihood_params: int | None = None
    posterior_is_fixed: bool = False
    check_context: Callable[[Any], None] | None = None
    some_context: Any = None
    num_labels: int = 0
    num_contexts: int | None = None
    alternatives: Callable[[Any], Any] | None = None
    classifier: Any = None
    log_label_posterior: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class RowTraits:
    """A set of rows, such as a data set or a data frame.

    Attributes:
        columns: names of the columns of a table.
        labels: one per row.
        shown_labels: the same for pictures, where some are missing; None takes `labels`.
        value_range: least and greatest value that can occur.
        contexts: what a model of the rows is conditioned on, shape (N, C).
    """

    columns: Any = None
    labels: Any = None
    shown_labels: Any = None
    value_range: tuple[float, float] | None = None
    contexts: Any = None
