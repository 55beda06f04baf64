"""The protocol's edge: what a model's three methods return is looked at once, before torch stumbles over it.

A model of anyone's making may forget `Independent`, a support, or a dimension, or fail on the rows' dtype. Here it
learns what was expected, what came, and how to mend it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions.support import log_prob_at
from vaekit.errors import ConfigError, ShapeError, VaekitError
from vaekit.models.rows import Batch, given
from vaekit.traits import ModelTraits, told

_NEEDED = ("log_prob", "sample", "batch_shape", "event_shape")


def at_prior(model: LatentVariableModel, has_posterior: bool = True) -> Distribution:
    """p(x|z) at one draw from the prior, the dry run of the decoder: enough to ask for event shape and support.

    Args:
        model: a model with `prior` and `likelihood`.
        has_posterior: whether it will be asked for q(z|x) as well, for which one latent number has shape (1,).

    Raises:
        ShapeError: if p(z) or p(x|z) have batch dimensions too many, or events without a dimension.
        ConfigError: if they are no distributions, p(x|z) does not say its support, or a method fails.
    """
    with engine.evaluating(model), engine.seeded(0):
        p = _distribution(model, "prior", lambda: model.prior())
        is_conditioned = len(p.batch_shape) == 1 and len(p.event_shape) > 0  # on the rows: as many as those
        _check_batch(model, "prior()", p, p.batch_shape if is_conditioned else ())
        if has_posterior:
            _check_latent(model, "prior()", p)
        with _asking(model, "prior().sample", "(1,)"):
            z = p.sample(torch.Size((1,)))
        came = f" This z is a draw of prior(), whose events have shape {tuple(p.event_shape)}."
        q = _distribution(model, "likelihood", lambda: model.likelihood(z), z, "z", came)
    _check_batch(model, "likelihood(z)", q, (1, *p.batch_shape))
    _check_event(model, "likelihood(z)", q, "rows of one number have shape (N, 1): hand over x[:, None]")
    if _support(q) is None:
        raise ConfigError(
            f"{_name(model)}.likelihood(z) is a {type(q).__name__} that does not say its support. Give the class a "
            "property `support`, such as torch.distributions.constraints.real."
        )
    return q


def check_posterior(model: LatentVariableModel, batch: Batch, has_likelihood: bool, num_rows: int) -> None:
    """Ask a model once for what evaluation and training ask it for, at one or two rows.

    Models whose parts are all vaekit's are believed.

    Args:
        model: a model with `posterior` and `prior`.
        batch: the rows, B of them, in model space.
        has_likelihood: whether it has a `likelihood` as well.
        num_rows: of how many rows these are the first: a prior under their contexts has one batch entry for each.

    Raises:
        ShapeError: if q(z|x) and p(z) differ in their events, or a log-density is no number for each draw and row.
        ConfigError: if a method fails, or returns no distribution.
    """
    if _is_ours(model) or bool(torch.isnan(batch.x).any()):
        return
    model, x = given(model, batch.context), batch.x
    with engine.seeded(0), torch.no_grad():
        q = _distribution(model, "posterior", lambda: model.posterior(x), x, "x")
        _check_batch(model, "posterior(x)", q, (len(x),))
        _check_latent(model, "posterior(x)", q)
        p = _distribution(model, "prior", lambda: model.prior())
        if len(p.batch_shape) == 1 and p.batch_shape[0] not in (1, len(x), num_rows):
            _check_batch(model, "prior()", p, ())
        if q.event_shape != p.event_shape:
            raise ShapeError(
                f"{_name(model)}.posterior(x) has events of shape {tuple(q.event_shape)}, prior() of shape "
                f"{tuple(p.event_shape)}; both describe z and must agree. Where one of them has the dimensions of z "
                "in its batch shape, wrap it: torch.distributions.Independent(..., 1)."
            )
        with _asking(model, "posterior(x).sample", "(2,)"):
            z = q.sample(torch.Size((2,)))
        _check_log_prob(model, "posterior(x)", q, z, z.shape[:2])
        if not bool(z.isfinite().all()):  # rows without z have no number, which is theirs to say
            return
        if len(p.batch_shape) == 0:
            _check_log_prob(model, "prior()", p, z, z.shape[:2])
        if has_likelihood:
            likelihood = _distribution(model, "likelihood", lambda: model.likelihood(z), z, "z")
            _check_batch(model, "likelihood(z)", likelihood, tuple(z.shape[:2]))
            _check_log_prob(model, "likelihood(z)", likelihood, x, z.shape[:2], log_prob_at)


def _name(model: object) -> str:
    return model.__name__ if isinstance(model, type) else type(model).__name__


def _is_ours(model: LatentVariableModel) -> bool:
    """Whether the model and all heads that make distributions in it are vaekit's, which have tests of their own."""
    if not _is_from_here(model):
        return False
    traits = told(ModelTraits, model)
    parts = [part for part in (traits.encoder, traits.decoder) if part is not None and _is_from_here(part)]
    return len(parts) == 2 and all(_is_from_here(part) for part in (*(part.head for part in parts), model.prior))


def _is_from_here(part: object) -> bool:
    kind = type(getattr(part, "__self__", part))
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


@contextmanager
def _asking(
    model: object, what: str, of: str, hint: str = "", given: Tensor | None = None, name: str = ""
) -> Iterator[None]:
    """Turn whatever a method raises into an error that says where; vaekit's own errors say it already."""
    try:
        yield
    except (VaekitError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = (str(error).splitlines() or ["no message"])[0].rstrip(".")
        if given is not None and "dtype" in said:
            hint = _other_dtype(given.dtype, name)
        raise ConfigError(f"{_name(model)}.{what} fails at {of}: {type(error).__name__}: {said}.{hint}") from error


def _other_dtype(came: torch.dtype, name: str) -> str:
    """What to do where a network's weights are of another dtype than what it was given."""
    if name == "z":
        return " z has the dtype of prior() and posterior(x): give their parameters that of the decoder's weights."
    wanted = torch.float64 if came == torch.float32 else torch.float32
    return (
        f" Rows keep their dtype where a model shows no parameters: hand over x as {wanted}, or make the model an "
        "nn.Module, whose dtype they get."
    )


def _distribution(
    model: object,
    method: str,
    call: Callable[[], Distribution],
    given: Tensor | None = None,
    name: str = "",
    came: str = "",
) -> Distribution:
    """What a method returns, which is to be a distribution."""
    of, hint = "a call without arguments", ""
    if given is not None:
        of = f"{name} of shape {tuple(given.shape)} and dtype {given.dtype}"
        if name == "z":
            hint = " z has shape (..., *Z): any number of dimensions in front, of draws and rows; p(x|z) keeps them."
            hint += came
    if isinstance(model, type):
        hint = f" This is a class; hand over an instance of it: {model.__name__}(...)."
    with _asking(model, method, of, hint, given, name):
        found = call()
    if not all(hasattr(found, needed) for needed in _NEEDED):
        raise ConfigError(
            f"{_name(model)}.{method} returns a distribution, as those of torch.distributions; got "
            f"{type(found).__name__}. For a normal with these means and scales: "
            "torch.distributions.Independent(torch.distributions.Normal(mean, scale), 1)."
        )
    return found


def _check_batch(model: object, what: str, found: Distribution, expected: Sequence[int]) -> None:
    """Raise unless a distribution has one batch entry for each draw and row."""
    batch, event = tuple(found.batch_shape), tuple(found.event_shape)
    if batch == tuple(expected):
        return
    meant = {"prior()": "p(z)", "posterior(x)": "q(z|x) of B rows", "likelihood(z)": "p(x|z) of z of shape (..., *Z)"}
    shapes = {"prior()": "()", "posterior(x)": "(B,)", "likelihood(z)": "(...)"}
    extra = len(batch) - len(expected)
    mend = f"return one for each of {math.prod(expected)} of them"
    if extra > 0:
        mend = f"wrap it, so that these are part of an event: torch.distributions.Independent(..., {extra})"
    raise ShapeError(
        f"{_name(model)}.{what} has batch shape {batch} and event shape {event}; {meant[what]} has batch shape "
        f"{shapes[what]}, here {tuple(expected)}. To mend it, {mend}."
    )


def _check_event(model: object, what: str, found: Distribution, mend: str) -> None:
    """Raise if events have no dimension."""
    if len(found.event_shape) == 0:
        raise ShapeError(
            f"{_name(model)}.{what} has events of shape (); expected at least one dimension, as {mend}. Give its "
            "parameters the shape (..., 1) and wrap it: torch.distributions.Independent(..., 1)."
        )


def _check_latent(model: object, what: str, found: Distribution) -> None:
    """Raise if latents have no dimension, unless they are levels that can be counted up."""
    if not (isinstance(found, Distribution) and found.has_enumerate_support):
        _check_event(model, what, found, "one latent number has shape (1,)")


def _check_log_prob(
    model: object,
    what: str,
    found: Distribution,
    value: Tensor,
    expected: torch.Size,
    ask: Callable[[Distribution, Tensor], Tensor] | None = None,
) -> None:
    with _asking(model, f"{what}.log_prob", f"a value of shape {tuple(value.shape)} and dtype {value.dtype}"):
        log_prob = found.log_prob(value) if ask is None else ask(found, value)
    shape = tuple(getattr(log_prob, "shape", ()))
    if shape != tuple(expected):
        raise ShapeError(
            f"{_name(model)}.{what}.log_prob gives shape {shape}; expected {tuple(expected)}: one number for each draw "
            "and row, the sum over the elements of an event (torch.distributions.Independent)."
        )


def _support(distribution: Distribution) -> constraints.Constraint | None:
    try:
        return distribution.support
    except (NotImplementedError, AttributeError):
        return None
