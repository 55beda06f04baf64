"""What people hand over as rows, as one tensor: the rule is in `vaekit.models.rows.as_tensor`.

Whatever is neither a tensor nor an array is read once, into memory. What cannot be rows of numbers, or could be several
things, is refused in a line that names the way.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, SupportsFloat

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from vaekit import engine
from vaekit.errors import DataError
from vaekit.frames import as_frame, cells, text_columns

_CHUNK, _MAX_STREAM = 1024, 2**34  # rows that are stacked at once; bytes that a stream may bring
Unit = Literal["item", "batch"]
_RANDOM = (SequentialSampler, RandomSampler)


def to_tensor(x: Any) -> Tensor:
    """Anything that holds rows of numbers as one tensor of shape (N, *X); see `vaekit.models.rows.as_tensor`.

    Raises:
        DataError: if it does not, or not in one way only.
    """
    if isinstance(x, Tensor):
        return _plain(x)
    if isinstance(x, np.ndarray | np.generic):
        return _of_array(x)
    if isinstance(x, str | bytes | os.PathLike):
        raise DataError(f"expected rows of numbers; got the text {str(x)!r}. Read a file: vaekit.data.load(path).")
    if isinstance(x, torch.utils.data.TensorDataset):
        return to_tensor(x.tensors[0])
    if isinstance(x, DataLoader):
        return _joined(_batches(x), "the DataLoader")
    if isinstance(x, torch.utils.data.Dataset) and not isinstance(x, IterableDataset):
        return _joined(_stacked(map(x.__getitem__, range(_length(x)))), type(x).__name__)
    if hasattr(x, "toarray") or hasattr(x, "todense"):  # one of scipy's is a dictionary, too
        return _dense(x.toarray if hasattr(x, "toarray") else x.todense, x)
    if isinstance(x, Mapping):
        return to_tensor(_rows_of(x, "batch"))
    if isinstance(x, tuple | list):
        return _of_sequence(x)
    frame = as_frame(x)
    if frame is not None:
        return _of_frame(x, frame)
    if hasattr(x, "__array__") or hasattr(x, "__array_interface__"):
        return _of_array(_array(x))
    if hasattr(x, "__dlpack__"):
        return _plain(torch.utils.dlpack.from_dlpack(x))
    return _of_other(x)


def _of_other(x: Any) -> Tensor:
    name = type(x).__name__
    if isinstance(x, Iterable) and not isinstance(x, set | frozenset):
        return _joined(_stacked(x), name)
    if hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        return _joined(_stacked(map(x.__getitem__, range(len(x)))), name)
    raise DataError(
        f"expected rows of numbers; got {name}, which is not a data frame, an array, a tensor, a data set or a "
        "DataLoader. Hand over one of these."
    )


def _length(x: Any) -> int:
    try:
        return len(x)
    except TypeError as error:
        raise DataError(f"{type(x).__name__} has no length; make it an IterableDataset, or stack its rows.") from error


# --- Tensors and arrays --------------------------------------------------------------------------------------------


def _plain(x: Tensor) -> Tensor:
    """A tensor as one that holds numbers alone: no subclass, no graph, no sparse layout."""
    if x.is_complex() or x.is_quantized:
        raise DataError(f"expected real numbers; got a tensor of dtype {x.dtype}. Convert it first.")
    if x.is_nested:
        raise DataError("expected rows of one shape; got a nested tensor. Pad it: x.to_padded_tensor(0.0).")
    if x.device.type == "meta":
        raise DataError("expected rows of numbers; got a tensor on the device meta, which has none. Compute it first.")
    if type(x) is not Tensor:
        x = _unmasked(x) if hasattr(x, "get_mask") else x.as_subclass(Tensor)
    if x.requires_grad:
        x = x.detach()
    if x.layout != torch.strided:
        x = _dense(x.to_dense, x)
    if x.is_inference() and not torch.is_inference_mode_enabled():
        x = x.clone()  # training saves rows for the backward pass, which such a tensor refuses
    if x.is_neg():
        x = x.resolve_neg()
    if x.dtype == torch.bool:
        return x.to(torch.uint8)
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return _of_array(x.cpu().numpy()).to(x.device)
    return x.float() if x.is_floating_point() and x.element_size() == 1 else x


def _unmasked(x: Any) -> Tensor:
    """A torch.masked tensor with NaN where it is masked."""
    return torch.where(x.get_mask(), x.get_data(), torch.nan)


def _dense(dense: Callable[[], object], x: Any) -> Tensor:
    try:
        return to_tensor(dense())
    except (MemoryError, RuntimeError) as error:
        shape = tuple(x.shape)
        raise DataError(
            f"the sparse matrix of shape {shape} does not fit into memory as a dense one. Take fewer columns, or write "
            'it to a .npy file in parts: vaekit.data.load("x.npy", in_memory=False).'
        ) from error


def _array(x: object) -> np.ndarray:
    try:
        return np.asarray(x)
    except Exception as error:  # whatever another library raises where its numbers cannot be had
        raise DataError(
            f"{type(x).__name__} cannot be read as numbers: {str(error).splitlines()[0]} Make it an array first."
        ) from error


def _of_array(x: np.ndarray | np.generic) -> Tensor:
    if isinstance(x, np.ma.MaskedArray):
        x = x.filled() if x.mask is np.ma.nomask else np.ma.filled(x.astype(np.float64), np.nan)
    array = np.asarray(x)
    if array.dtype.kind == "O":
        return _of_objects(array)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.dtype.kind not in "buif":
        raise DataError(f"expected numbers; got an array of dtype {array.dtype}{_way(array.dtype)}")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.dtype.itemsize == 8 and array.size and array.max() > np.iinfo(np.int64).max:
            array = array.astype(np.float64)
        else:
            array = array.astype(np.int64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(array))


def _way(dtype: np.dtype) -> str:
    """From what is no number to numbers, in words that follow the name of the dtype."""
    if dtype.names:
        return ". Put its fields side by side: np.column_stack([x[name] for name in x.dtype.names])."
    ways = {
        "c": ". Put real and imaginary parts side by side: np.concatenate([x.real, x.imag], 1).",
        "M": ", which are dates. Count seconds: x.astype('datetime64[s]').astype('int64').",
        "m": ", which are times. Count seconds: x / np.timedelta64(1, 's').",
    }
    text = ", which is text. Turn it into numbers: x.astype('float64'); read a file by vaekit.data.load(path)."
    return ways.get(dtype.kind, text if dtype.kind in "US" else ". Turn it into numbers first.")


def _of_objects(array: np.ndarray) -> Tensor:
    """Python objects that are numbers, None for a hole; or arrays of one shape."""
    flat = array.reshape(-1)
    if array.ndim == 0:
        return _of_other(array.item())
    if len(flat) and all(_shape_of(value) for value in flat[:1]):
        return _joined(_stacked(iter(array)), "the array")
    values = np.empty(len(flat))
    for i, value in enumerate(flat):
        try:
            values[i] = np.nan if value is None or type(value).__name__ == "NAType" else _number(value)
        except (TypeError, ValueError) as error:
            place = tuple(int(k) for k in np.unravel_index(i, array.shape))
            raise DataError(
                f"expected numbers; got an array of Python objects, with {value!r} ({type(value).__name__}) at "
                f"{place}. Turn them into numbers: x.astype('float64')."
            ) from error
    return torch.from_numpy(values.reshape(array.shape))


def _number(value: SupportsFloat) -> float:
    if isinstance(value, str | bytes):
        raise TypeError("text")
    return float(value)


# --- Data frames ---------------------------------------------------------------------------------------------------


def _of_frame(x: Any, frame: Any) -> Tensor:
    """A narwhals frame, or a series of it: as numpy has it where that is numbers, else column by column."""
    found = np.asarray(x) if hasattr(x, "__array__") else None
    if found is not None and found.dtype.kind in "uifb":
        return _of_array(found)
    columns = [frame[:, i] for i in range(frame.shape[1])] if len(frame.shape) == 2 else [frame]
    refused = text_columns(columns)
    if refused:
        others = f" (so do {', '.join(repr(c.name) for c in refused[1:6])})" if len(refused) > 1 else ""
        first = refused[0]
        raise DataError(
            f"column {first.name!r} of the data frame holds {first.dtype}, not numbers{others}. Drop or encode it, or "
            f"say what it is: vaekit.data.from_frame(frame, label={first.name!r}), or key={first.name!r}."
        )
    values = [cells(column, "the data frame") for column in columns]
    return _of_array(np.column_stack(values) if len(frame.shape) == 2 else values[0])


# --- Items and batches ---------------------------------------------------------------------------------------------


def _rows_of(item: Any, unit: Unit) -> Any:
    """The rows within an item of a data set or a batch of a loader: itself, or what of it is no label.

    Of a tuple or list the first member that is a row (of a batch: rows), or all of them where they are numbers of one
    kind; of a dictionary the value of "x", or the only one that is a row.
    """
    if isinstance(item, Mapping):
        rows = [name for name, value in item.items() if _is_rows(value, unit)]
        chosen = "x" if "x" in item else rows[0] if len(rows) == 1 else None
        if chosen is None and len(item) == 1:
            chosen = next(iter(item))
        if chosen is None:
            names = ", ".join(map(repr, item)) or "no keys"
            raise DataError(
                f"expected rows of numbers; got a dictionary with {names}, and cannot tell which are the rows. Call "
                "them 'x' or hand them over alone; a table goes by vaekit.data.from_records or from_frame."
            )
        return item[chosen]
    if not isinstance(item, tuple | list) or not len(item):
        return item
    if any(isinstance(member, Mapping) for member in item[:1]):
        return _rows_of(item[0], unit)
    first = next((member for member in item if _is_rows(member, unit)), None)
    if first is not None:
        return first
    kinds = {_kind(member) for member in item}
    if isinstance(item, tuple) and len(kinds) > 1:
        raise DataError(
            f"an item is a tuple of {', '.join(sorted(kinds))}: is it a row, or a row with its label? Make the row an "
            "array of at least one dimension: (x, label)."
        )
    return item if unit == "item" else torch.stack([to_tensor(member) for member in item], 1)


def _shape_of(value: object) -> tuple[int, ...] | None:
    """The shape of an array of any library; None for what is none."""
    shape: Iterable[int] | None = getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _is_rows(value: object, unit: Unit) -> bool:
    """Whether a value has the dimensions of a row, or of rows."""
    if isinstance(value, str | bytes):
        return False
    shape = _shape_of(value)
    if shape is None:
        return isinstance(value, tuple | list) and len(value) > 0 and (unit == "item" or _is_rows(value[0], "item"))
    return len(shape) >= (1 if unit == "item" else 2)


def _kind(value: object) -> str:
    if isinstance(value, str | bytes):
        return "text"
    dtype = str(getattr(value, "dtype", type(value).__name__))
    return "whole numbers" if "int" in dtype or "bool" in dtype else "fractions" if "float" in dtype else dtype


def _of_sequence(x: Any) -> Tensor:
    """A list or tuple: N rows of one shape, N items of a data set, or a pair of rows and labels."""
    if len(x) and not isinstance(x[0], Mapping | Tensor):
        try:
            array = np.asarray(x)
        except Exception:  # no array as it stands: what its members are decides
            array = np.empty(0, dtype=object)
        if array.dtype.kind in "buif":
            return _of_array(array)
    if isinstance(x, tuple) and len(x) > 1 and _is_rows(x[0], "batch") and not _are_alike(x):
        lengths = {len(member) for member in x if hasattr(member, "__len__")}
        if len(lengths) > 1:
            raise DataError(
                f"expected rows, or a pair (x, y) of one length; got a tuple of lengths {sorted(lengths)}. Hand over "
                "training and validation rows one by one: fit(model, objective, train, valid)."
            )
        return to_tensor(x[0])
    if isinstance(x, list) and 1 < len(x) < 4 and _is_rows(x[0], "batch") and not _are_alike(x):
        shapes = ", ".join(str(tuple(np.shape(part))) for part in x)
        raise DataError(
            f"expected rows of one shape; got a list of {shapes}. If they are rows and their labels, as a DataLoader "
            "collates them, hand over the first alone, or a tuple: (x, y)."
        )
    return _joined(_stacked(x), type(x).__name__)


def _are_alike(members: Iterable[object]) -> bool:
    return len({_shape_of(member) or () for member in members}) == 1


def _stacked(items: Iterable[object]) -> Iterator[Tensor]:
    """Items as rows, some at a time."""
    items, start = iter(items), 0
    while chunk := list(islice(items, _CHUNK)):
        rows = [_row(item, start + i) for i, item in enumerate(chunk)]
        for i, row in enumerate(rows):
            if row.shape != rows[0].shape:
                raise _unequal(start + i, tuple(row.shape), tuple(rows[0].shape))
        yield torch.stack(rows)
        start += len(chunk)


def _row(item: object, place: int) -> Tensor:
    try:
        row = _rows_of(item, "item")
        if isinstance(row, bool | int | float | np.generic):
            return _of_array(np.asarray(row))
        return to_tensor(row) if isinstance(row, Tensor | np.ndarray) else _of_array(_array(row))
    except DataError as error:
        raise DataError(f"row {place}: {error}") from error


def _unequal(place: int, came: tuple[int, ...], expected: tuple[int, ...]) -> DataError:
    return DataError(
        f"expected rows of one shape; row {place} has shape {came}, those before it {expected}. Pad or crop them."
    )


def _batches(loader: "DataLoader[Any]") -> Iterator[Tensor]:
    """Batches of a loader; all rows of its data set in their order, where it would only shuffle them."""
    sampler = getattr(loader, "sampler", None)
    whole = type(sampler) in _RANDOM and len(sampler) == len(loader.dataset)  # type: ignore[arg-type]
    is_plain = type(loader.batch_sampler) is torch.utils.data.BatchSampler
    if whole and is_plain and not getattr(sampler, "replacement", False):
        loader = DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )
    stream = engine.Stream(0)  # what a loader draws from torch's stream leaves that as it was
    with stream:
        batches = iter(loader)
    while True:
        with stream:
            batch = next(batches, None)
        if batch is None:
            return
        yield to_tensor(_rows_of(batch, "batch"))


def _joined(parts: Iterable[Tensor], name: str) -> Tensor:
    """Parts of shape (B, *X) one after the other; a bound on their size ends a stream that does not end by itself."""
    found: list[Tensor] = []
    num_bytes, most = 0, min(_MAX_STREAM, _physical_memory() // 2)
    for part in parts:
        if found and part.shape[1:] != found[0].shape[1:]:
            raise _unequal(sum(map(len, found)), tuple(part.shape[1:]), tuple(found[0].shape[1:]))
        found.append(part)
        num_bytes += part.numel() * part.element_size()
        if num_bytes > most:
            raise DataError(
                f"{name} brings more than {most / 2**30:.0f} GiB, and all rows are held in memory. Take fewer "
                '(itertools.islice), or store them in a file: vaekit.data.load("x.npy", in_memory=False).'
            )
    if not found:
        raise DataError(f"{name} has 0 rows. An iterator is read once: make it anew, or hand over a list of its rows.")
    return torch.cat(found)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 * 2**30
