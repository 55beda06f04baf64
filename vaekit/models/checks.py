"""What is asked of a model and of rows when they meet: shapes, finiteness, support, and what log p is."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import centre, check_support
from vaekit.distributions.base import hooks
from vaekit.distributions.support import elements, support_of
from vaekit.errors import ConfigError, DataError, NonFiniteError, ShapeError
from vaekit.models import protocol
from vaekit.models.rows import Rows, as_tensor, given, read, slices
from vaekit.traits import Data, ModelTraits, told
from vaekit.transforms import Transform
from vaekit.transforms.base import as_floating

if TYPE_CHECKING:
    from vaekit.models.view import View


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


def quantity(likelihood: Distribution, transform: Transform | None) -> str:
    """What log p is, in the units of the data handed in: "density", "mass", "bound on a mass" or "no density".

    A mass (of x, or of the bits where the transform binarises) has no Jacobian; a density of dequantised data bounds
    the mass of the integers from below.
    """
    support = support_of(likelihood)
    of_model = hooks(likelihood).quantity or ("mass" if support.is_discrete else "density")
    if of_model == "density" and transform is not None:
        if transform.discretizes:
            return "no density"  # a density at bits is neither one of the grey values nor a mass of the bits
        if transform.dequantizes:
            return "bound on a mass"
    return of_model


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


def contexts_of(model: object, values: Data, num_rows: int) -> Tensor:
    """Contexts of rows as the model takes them, one for each row.

    Raises:
        ShapeError: if there are more or fewer, or they have other entries than the model takes.
        DataError: if an entry is none that the model knows.
    """
    found = beside(values, num_rows, "context")
    check = told(ModelTraits, model).check_context
    if check is None:
        return found
    check(found)
    return found.to(engine.model_dtype(model) or found.dtype)


def weights_of(values: Data, num_rows: int) -> Tensor | None:
    """Weights of rows as a tensor of shape (N,); None where there are none.

    Raises:
        ShapeError: if there is not one number for each row.
        DataError: unless they are finite, not negative, and not all zero.
    """
    if values is None:
        return None
    weight = beside(values, num_rows, "weight")
    if weight.ndim != 1:
        raise ShapeError(f"weight has shape (N,), one number for each row; got {tuple(weight.shape)}")
    if not bool((torch.isfinite(weight) & (weight >= 0)).all()) or not bool((weight > 0).any()):
        raise DataError("weight holds numbers that are finite and not negative, some of them positive")
    return weight


def refuse_context(context: Tensor | None, what: str) -> None:
    """Raise a `ConfigError` where rows have contexts, for what asks the model alone."""
    if context is not None:
        raise ConfigError(f"{what} knows nothing of contexts; ask it of model.given(context), for rows of one context")


def check_rows(view: "View", where: str) -> None:
    """Shape, finiteness, and the support of the likelihood behind the transform, of all rows; and the model at two.

    Args:
        view: a view, as it is made.
        where: what to call the rows in messages.
    """
    check_shape(view.rows, view.event_shape, where)
    allow_holes = view.has_likelihood and hooks(view.at_prior).missing == "observed-only"
    fits = Fit(view.dtype, where, has_transform=view.transform is not None)
    noise = engine.Stream(0)  # for one block of rows at a time: other threads get their turn in between
    with engine.evaluating(view.model):
        places = slices(len(view), 4096)
        for place, rows in zip(places, read(view.rows, places), strict=True):
            x = rows.to(view.device)
            check_finite(x, where, allow_holes, place.start, is_all=place.stop == len(view))
            if view.has_likelihood:
                with noise:
                    _check_support(view, x, place, where, fits)
        if where != "x" or view.transform is None:
            # Rows that are asked about may be all alike: a transform has the scale of the training rows.
            fits.check_spread()
        if "posterior" in view.requires:
            some = view.batch(slice(0, 2), by_row=True)
            protocol.check_posterior(view.model, some, view.has_likelihood, len(view))


def _check_support(view: "View", x: Tensor, place: slice, where: str, fits: "Fit") -> None:
    if view.transform is not None:
        view.transform.check(as_floating(x))
    wide = view.space.seen(x, torch.float64 if x.element_size() == 8 else view.dtype)
    y = wide.to(view.dtype)
    fits.add(wide, y, place)
    check_support(view.at_prior, y, where=where)
    if "posterior" in view.requires:
        context = None if view.context is None else view.context[place].to(y.device)
        check_holes(view.model, y, context, where)


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


def check_finite(x: Tensor, where: str, allow_holes: bool, start: int = 0, is_all: bool = True) -> None:
    """NaN and infinity are reported before a transform spreads them.

    Args:
        x: rows.
        where: what to call them in messages.
        allow_holes: whether NaN means not observed.
        start: number of the first row of x.
        is_all: whether no row follows.

    Raises:
        NonFiniteError: if there are some.
    """
    if not x.is_floating_point():
        return
    bad = ~torch.isfinite(x)
    if allow_holes:
        bad &= ~torch.isnan(x)
    if bool(bad.any()):
        row, *place = bad.nonzero()[0].tolist()
        first = (start + row, *place)
        num_bad = f"{'' if is_all else 'at least '}{int(bad.sum())}"
        raise NonFiniteError(
            f"{where} has {num_bad} values that are NaN or infinite, the first at {first}. Drop or fill them."
        )


class Fit:
    """Whether rows of 64 bits survive in a model's dtype: neither infinite there, nor zero, nor all alike.

    Args:
        dtype: that of the model.
        where: what to call the rows in messages.
        has_transform: whether they have been through a transform already.
    """

    def __init__(self, dtype: torch.dtype, where: str, has_transform: bool) -> None:
        self.dtype, self.where, self.has_transform = dtype, where, has_transform
        self._first: Tensor | None = None
        self._sums: list[Tensor] = []  # of 1, x - first, its square, the square of what rounding changes, and |y|

    def add(self, wide: Tensor, y: Tensor, place: slice) -> None:
        """Look at some rows, in float64 and as the model gets them, shape (B, *X) each.

        Raises:
            DataError: if a finite number is infinite in the model's dtype.
        """
        if wide.dtype == y.dtype:
            return
        beyond = torch.isfinite(wide) & ~torch.isfinite(y)
        if bool(beyond.any()):
            first = beyond.nonzero()[0].tolist()
            value, at = wide[tuple(first)], (place.start + first[0], *first[1:])
            raise DataError(
                f"{self.where} has finite numbers beyond those of {self.dtype} ({torch.finfo(self.dtype).max:.2g}), "
                f"such as {value:.4g} at {at}. {self._mend(wide)}"
            )
        if self._first is None:
            self._first = wide[:1].nan_to_num()
        change, error = wide - self._first, wide - y
        terms = (torch.isfinite(wide).double(), change, change.square(), error.square(), y.double().abs())
        sums = [term.nansum(0) for term in terms]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums

    def check_spread(self) -> None:
        """Raise a `DataError` if the model's dtype does not tell the values of an element apart, all rows together."""
        if not self._sums or self._first is None:
            return
        count, change, square, error, size = self._sums
        count = count.clamp(min=1)
        std = (square / count - (change / count).square()).clamp(min=0).sqrt()
        lost = (error / count).sqrt() > 0.1 * std.clamp(min=1e-300)
        middle = self._first[0] + change / count
        lost = (lost & (std > 1e-12 * middle.abs())) | ((change != 0) & (size == 0))
        if bool(lost.any()):
            at = tuple(lost.nonzero()[0].tolist())
            raise DataError(
                f"{self.where} has {int(lost.sum())} columns whose values {self.dtype} does not tell apart, the first "
                f"at {at[0] if len(at) == 1 else at}: they are {middle[at]:.4g} give or take {std[at]:.2g}. "
                f"{self._mend(self._first)}"
            )

    def _mend(self, rows: Tensor) -> str:
        double = "compute in float64 (model.double())"
        if self.has_transform:
            return f"Scale the data before the transform, or {double}."
        return f"{standardize(rows.shape[1:])}, or {double}."


def standardize(event_shape: Sequence[int]) -> str:
    """What to do about rows that are too large or too small, in words."""
    shape = event_shape[0] if len(event_shape) == 1 else tuple(event_shape)
    return f"Standardise them: VAE(..., transform=vaekit.transforms.Standardize({shape}).fit(x))"


def check_holes(model: LatentVariableModel, y: Tensor, context: Tensor | None, where: str) -> None:
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
