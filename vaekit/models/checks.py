"""What is asked of a model and of rows when they meet: shapes, finiteness, support, and what log p is."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import centre
from vaekit.distributions.base import hooks
from vaekit.distributions.support import elements
from vaekit.errors import ConfigError, DataError, NonFiniteError, ShapeError
from vaekit.models.rows import Rows, as_tensor, given
from vaekit.traits import Data
from vaekit.transforms import Transform


def require(model: object, methods: Iterable[str], what: str = "this") -> None:
    """Raise a `ConfigError` unless the model has these methods.

    Args:
        model: any object.
        methods: their names.
        what: what asks for them, for the message.
    """
    lacking = [name for name in methods if not callable(getattr(model, name, None))]
    if lacking:
        raise ConfigError(
            f"{what} needs {', '.join(f'{name}()' for name in lacking)} of the model, and {type(model).__name__} has "
            "none. A latent-variable model has the methods posterior(x), prior() and likelihood(z)."
        )


def at_prior(model: LatentVariableModel) -> Distribution:
    """p(x|z) at one draw from the prior: enough to ask for the event shape and the support."""
    with engine.evaluating(model), engine.seeded(0):
        return model.likelihood(model.prior().sample(torch.Size((1,))))


def quantity(likelihood: Distribution, transform: Transform | None) -> str:
    """What log p is, in the units of the data handed in: "density", "mass", "bound on a mass" or "no density".

    A mass (of x, or of the bits where the transform binarises) has no Jacobian; a density of dequantised data bounds
    the mass of the integers from below.
    """
    support: Any = likelihood.support
    of_model = hooks(likelihood).quantity or ("mass" if support.is_discrete else "density")
    if of_model == "density" and transform is not None:
        if transform.discretizes:
            return "no density"  # a density at bits is neither one of the grey values nor a mass of the bits
        if transform.dequantizes:
            return "bound on a mass"
    return of_model


def num_values(distribution: Distribution) -> int:
    """How many numbers a distribution holds, or makes on its way to log p: what a pass costs in memory."""
    base = elements(distribution)
    return max(
        [
            distribution.event_shape.numel(),
            hooks(base).num_values,
            *(value.numel() for value in vars(base).values() if isinstance(value, Tensor)),
        ]
    )


def code_of(q: Distribution) -> Tensor:
    """The point that stands for q(z|x), shape (B, *Z): E[z|x], or the centre of q where the set of z has no means.

    Raises:
        ConfigError: if q knows neither.
    """
    try:
        code = centre(q)
    except NotImplementedError:
        code = None
    if code is None or bool(code.isnan().all()):  # torch's way of saying that a categorical has none
        name = type(elements(q)).__name__
        raise ConfigError(
            f"the posterior, {name}, has no mean to take as a code. Take draws instead (mean=False), or encode the "
            "rows in another way and hand the codes over."
        )
    return code


def beside(values: Data, num_rows: int, name: str) -> Tensor:
    """Weights, contexts or keys as a tensor with one entry for each row.

    Raises:
        ShapeError: if there are more or fewer.
    """
    tensor = as_tensor(values)
    if tensor.ndim == 0 or len(tensor) != num_rows:
        raise ShapeError(f"{name} has one entry for each of {num_rows} rows; got shape {tuple(tensor.shape)}")
    return tensor


def check_weight(weight: Tensor) -> None:
    """Raise a `DataError` unless weights are finite, not negative, and not all zero."""
    if weight.ndim != 1:
        raise ShapeError(f"weight has shape (N,), one number for each row; got {tuple(weight.shape)}")
    if not bool((torch.isfinite(weight) & (weight >= 0)).all()) or not bool((weight > 0).any()):
        raise DataError("weight holds numbers that are finite and not negative, some of them positive")


def refuse_context(context: Tensor | None, what: str) -> None:
    """Raise a `ConfigError` where rows have contexts, for what asks the model alone."""
    if context is not None:
        raise ConfigError(f"{what} knows nothing of contexts; ask it of model.given(context), for rows of one context")


def check_shape(rows: Rows, event: tuple[int, ...], where: str) -> None:
    """Raise unless there are rows, each of the model's event shape."""
    came = tuple(rows.shape)
    if came[1:] != event:
        hint = ""
        if len(event) == rows.ndim and came[1:] == event[1:] and event[0] == 1:
            hint = f" Add the channel: {where}[:, None]."
        elif came == event:
            hint = f" Add the batch dimension: {where}[None]."
        raise ShapeError(f"expected {where} of shape (N, {', '.join(map(str, event))}); got {came}.{hint}")
    if len(rows) == 0:
        raise DataError(f"{where} has 0 rows; hand over at least one")


def check_finite(x: Tensor, where: str, allow_holes: bool, start: int = 0) -> None:
    """NaN and infinity are reported before a transform spreads them; `start` is the number of the first row of x."""
    if not x.is_floating_point():
        return
    bad = ~torch.isfinite(x)
    if allow_holes:
        bad &= ~torch.isnan(x)
    if bool(bad.any()):
        row, *place = bad.nonzero()[0].tolist()
        first = (start + row, *place)
        raise NonFiniteError(
            f"{where} has {int(bad.sum())} values that are NaN or infinite, the first at {first}. Drop or fill them."
        )


def check_holes(model: Any, y: Tensor, context: Tensor | None, where: str) -> None:
    """A likelihood may leave holes out; the encoder has to bear them too."""
    if not y.is_floating_point():
        return
    holed = torch.isnan(y).flatten(1).any(1).nonzero()[:2, 0]
    if len(holed) == 0:
        return
    q = given(model, None if context is None else context[holed]).posterior(y[holed])
    if not _draws_are_finite(q):
        raise DataError(
            f"{where} has rows with NaN. The likelihood leaves them out, but the encoder of this model has no way to: "
            "q(z|x) is not finite there. Use an encoder that fills or masks NaN."
        )


def _draws_are_finite(q: Distribution) -> bool:
    try:
        z = q.rsample() if q.has_rsample else q.sample()
    except (RuntimeError, ValueError):  # torch's samplers refuse parameters that are NaN
        return False
    return bool(torch.isfinite(z).all())
