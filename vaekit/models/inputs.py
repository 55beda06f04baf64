"""The edge between data as handed in and a model: tensors, checks, transforms, and what a log p is.

Everything here takes any `LatentVariableModel`; the optional attribute `transform` is used where there is one.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import check_support
from vaekit.errors import DataError, ShapeError
from vaekit.transforms.base import as_floating

_AT_ONCE_BYTES = 2**26  # of rows in model space that are kept for all epochs

QUANTITIES = ("density", "mass", "bound on a mass", "no density")


class Rows(Protocol):
    """What is asked of rows that are used in blocks: a tensor has it, and rows that stay on disk."""

    @property
    def shape(self) -> torch.Size:
        """Shape (N, *X)."""
        ...

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor: ...


def as_rows(x: Any) -> Rows:
    """Like `as_tensor`, but the rows of a `StoredDataset` stay on disk: for what goes through rows in blocks."""
    rows = getattr(x, "rows", x)
    return rows if hasattr(rows, "in_memory") else as_tensor(x)


def read(x: Rows, indices: Iterable[slice | Tensor]) -> Generator[Tensor, None, None]:
    """The rows of each batch in turn; those on disk are decoded ahead by worker processes, until this is closed."""
    if hasattr(x, "ahead"):
        return x.ahead(indices)
    return (_taken(x, rows) for rows in indices)


def _taken(x: Any, rows: slice | Tensor) -> Tensor:
    return x[rows] if isinstance(rows, slice) else x.index_select(0, rows)


def as_tensor(x: Any) -> Tensor:
    """Arrays, tensors, data frames and data sets as one tensor in their own dtype, without a copy where possible.

    Items of a torch `Dataset` that are tuples count by their first member (the second one is a label). A map-style data
    set is read once, into memory: from then on it is indexed in batches like any tensor.

    Raises:
        DataError: if x is not numeric, or is on disk and does not fit into memory.
    """
    if hasattr(x, "in_memory"):
        return x.in_memory()
    if isinstance(x, Tensor):
        if x.is_complex() or x.is_quantized:
            raise DataError(f"expected real numbers; got a tensor of dtype {x.dtype}. Convert it first.")
        return x.to(torch.uint8) if x.dtype == torch.bool else x
    if isinstance(x, torch.utils.data.TensorDataset):
        return x.tensors[0]
    if isinstance(x, torch.utils.data.Dataset):
        return _stacked(x)
    array = np.asarray(x.x if hasattr(x, "x") and hasattr(x, "event_shape") else x)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif" or array.dtype == np.float16:
        raise DataError(f"expected numbers; got an array of dtype {array.dtype}. Convert it first.")
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(array))


def _stacked(dataset: Any) -> Tensor:
    items = (dataset[i] for i in range(len(dataset)))
    return torch.stack([as_tensor(item[0] if isinstance(item, tuple | list) else item) for item in items])


def transform_of(model: object) -> Any:
    """The model's transform, or None."""
    return getattr(model, "transform", None)


def to_model_space(
    model: LatentVariableModel, x: Tensor, dtype: torch.dtype | None = None, jacobian: bool = True
) -> tuple[Tensor, Tensor]:
    """A batch of data as the model sees it, and log|det| of the way there.

    Args:
        model: the model.
        x: data as handed in, shape (B, *X), on the model's device.
        dtype: the model's dtype where it is at hand already.
        jacobian: whether log|det| is wanted.

    Returns:
        y of shape (B, *X) in the model's dtype, and log|det dy/dx| of shape (B,) in nats, zero where it is not wanted.
    """
    dtype = dtype or engine.model_dtype(model) or (x.dtype if x.is_floating_point() else torch.get_default_dtype())
    transform = transform_of(model)
    # In the dtype of the data: the transform may take an offset away that the model's dtype could not hold.
    if transform is not None and jacobian:
        y, log_det = transform.with_log_det(x)
        return y.to(dtype), log_det
    y = (x if transform is None else transform(x)).to(dtype)
    return y, y.new_zeros(len(y))


def in_model_space(
    model: LatentVariableModel,
    x: Rows,
    indices: Iterable[slice | Tensor],
    device: torch.device,
    dtype: torch.dtype | None = None,
    jacobian: bool = True,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """`to_model_space` of each batch in turn.

    Where the transform is fixed and the rows are few, all go through it at once, before the first batch: the dozen
    operations of a standardisation take as long as a tenth of a small model's step.

    Args:
        model: the model.
        x: data as handed in, shape (N, *X).
        indices: which rows each batch has.
        device: the model's.
        dtype: the model's dtype where it is at hand already.
        jacobian: whether log|det| is wanted.
    """
    with torch.no_grad():
        whole = _at_once(model, x, device, dtype, jacobian)
    if whole is not None:
        y, log_det = whole
        yield from ((_taken(y, rows), _taken(log_det, rows)) for rows in indices)
        return
    with closing(read(x, indices)) as batches:
        for batch in batches:
            with torch.no_grad():
                pair = to_model_space(model, batch.to(device, non_blocking=True), dtype, jacobian)
            yield pair


def _at_once(
    model: LatentVariableModel, x: Any, device: torch.device, dtype: torch.dtype | None, jacobian: bool
) -> tuple[Tensor, Tensor] | None:
    """All rows in model space and their log|det|, or None where they are drawn anew, not in memory, or many."""
    transform = transform_of(model)
    if not isinstance(x, Tensor) or x.device != device or not getattr(transform, "is_fixed", transform is None):
        return None
    first, first_log_det = to_model_space(model, x[:1], dtype, jacobian)
    if len(x) * first.numel() * first.element_size() > _AT_ONCE_BYTES:
        return None
    if transform is None and first.dtype == x.dtype:
        return x, x.new_zeros(len(x))
    y, log_det = first.new_empty(len(x), *first.shape[1:]), first_log_det.new_empty(len(x))
    for rows in batches(len(x), 4096):
        y[rows], log_det[rows] = to_model_space(model, x[rows], dtype, jacobian)
    return y, log_det


def likelihood_at_prior(model: LatentVariableModel) -> Distribution:
    """p(x|z) at one draw from the prior: enough to ask for the event shape and the support."""
    with engine.evaluating(model), engine.seeded(0):
        return model.likelihood(model.prior().sample(torch.Size((1,))))


def quantity(model: LatentVariableModel) -> str:
    """What log p of `model` is, in the units of the data handed in: one of `QUANTITIES`.

    A mass (of x, or of the bits where the transform binarises) has no Jacobian; a density of dequantised data bounds
    the mass of the integers from below.
    """
    distribution = likelihood_at_prior(model)
    support: Any = distribution.support
    of_model = getattr(distribution, "quantity", None) or ("mass" if support.is_discrete else "density")
    if of_model == "density" and getattr(transform_of(model), "discretizes", False):
        return "no density"  # a density at bits is neither one of the grey values nor a mass of the bits
    if of_model == "density" and getattr(transform_of(model), "dequantizes", False):
        return "bound on a mass"
    return of_model


def counts_jacobian(name: str) -> bool:
    """Whether log|det| is part of a log p of that quantity."""
    return name in ("density", "bound on a mass")


def batches(num_rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `num_rows`."""
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def some_rows(x: Rows, max_rows: int | None) -> Any:
    """All rows as they are, or a fixed choice of `max_rows` of them in their own order, as a tensor."""
    return x if max_rows is None or len(x) <= max_rows else x[chosen(len(x), max_rows)]


def chosen(num_rows: int, max_rows: int | None) -> Tensor:
    """Indices of at most `max_rows` rows: the same ones each time."""
    if max_rows is None or num_rows <= max_rows:
        return torch.arange(num_rows)
    return torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))[:max_rows].sort().values


def check_data(model: LatentVariableModel, x: Rows, *, where: str = "x") -> None:
    """Check all of x once: shape, finiteness, and the support of the likelihood behind the transform.

    Args:
        model: the model.
        x: data as handed in, shape (N, *X).
        where: what to call x in messages.

    Raises:
        ShapeError: if the rows do not have the model's event shape.
        DataError: if x is empty.
        SupportError: if a value is NaN or infinite, or lies outside the support.
    """
    distribution = likelihood_at_prior(model)
    event = tuple(distribution.event_shape)
    if tuple(x.shape[1:]) != event:
        came = tuple(x.shape)
        hint = ""
        if len(event) == x.ndim and tuple(x.shape[1:]) == event[1:] and event[0] == 1:
            hint = f" Add the channel: {where}[:, None]."
        elif tuple(x.shape) == event:
            hint = f" Add the batch dimension: {where}[None]."
        raise ShapeError(f"expected {where} of shape (N, {', '.join(map(str, event))}); got {came}.{hint}")
    if len(x) == 0:
        raise DataError(f"{where} has no rows")
    device = engine.model_device(model)
    with engine.evaluating(model), engine.seeded(0):
        for rows in read(x, batches(len(x), 4096)):
            chunk = rows.to(device)
            if chunk.is_floating_point():
                _check_finite(distribution, chunk, where)
            transform = transform_of(model)
            if hasattr(transform, "check"):
                transform.check(as_floating(chunk))
            y, _ = to_model_space(model, chunk, jacobian=False)
            check_support(distribution, y, where=where)
            _check_holes(model, y, where)


def _check_holes(model: LatentVariableModel, y: Tensor, where: str) -> None:
    """A likelihood may leave holes out; the encoder has to bear them too."""
    if not y.is_floating_point():
        return
    holes = torch.isnan(y).flatten(1).any(1)
    if bool(holes.any()) and not _draws_are_finite(model.posterior(y[holes][:2])):
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


def _check_finite(distribution: Distribution, x: Tensor, where: str) -> None:
    """NaN and infinity are reported before a transform spreads them."""
    bad = ~torch.isfinite(x)
    missing_allowed = getattr(distribution, "missing", "error") == "observed-only"
    if missing_allowed:
        bad &= ~torch.isnan(x)
    if bool(bad.any()):
        first = tuple(bad.nonzero()[0].tolist())
        raise DataError(
            f"{where} has {int(bad.sum())} values that are NaN or infinite, the first at {first}. Drop or fill them."
        )
