"""What scikit-learn calls X, as the data frame that a schema reads, and the way back."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import validate_data

from vaekit.data import Dataset
from vaekit.data.kinds import TABLES
from vaekit.data.schema import Schema
from vaekit.frames import as_frame, to_arrow
from vaekit.runs import Run, Table

LEAST_ROWS = 3  # two to train on, one to validate on


@dataclass(frozen=True)
class Layout:
    """How X was handed to `fit`: what an estimator gives back has the same form.

    Attributes:
        is_frame: whether X was a data frame; an array otherwise.
        dtype: of the array.
        index: of a data frame of pandas whose rows are answered one by one.
    """

    is_frame: bool
    dtype: str = "float64"
    index: Any = None


def as_table(estimator: Any, X: Any, names: tuple[str, ...] | None = None) -> tuple[Any, Layout]:
    """X as a data frame after scikit-learn's checks, and how it came.

    Args:
        estimator: whose X it is.
        X: an array, a list of rows, or a data frame of any library.
        names: the columns that the estimator was fitted to, which those of X are called then; None in `fit`: columns
            without names are called x0, x1, ...

    Raises:
        ValueError, TypeError: as `sklearn.utils.validation.validate_data` raises them: for X that is sparse, infinite,
            of one dimension or without rows, of other columns or of the same ones in another order.
    """
    frame = None if isinstance(X, np.ndarray | list | tuple) else as_frame(X)
    options: dict[str, Any] = {"reset": names is None}
    least = LEAST_ROWS if names is None else 1
    if frame is None or not hasattr(frame, "columns"):  # a series has one dimension too few
        array = validate_data(
            estimator, X, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=least, **options
        )
        names = names or tuple(f"x{i}" for i in range(array.shape[1]))
        table = to_arrow({name: _column(array[:, i]) for i, name in enumerate(names)})
        return table, Layout(False, str(array.dtype))
    validate_data(estimator, frame.to_native(), skip_check_array=True, **options)
    if len(frame) < least:
        raise ValueError(
            f"Found a data frame with {len(frame)} sample(s) (shape={frame.shape}) while a minimum of {least} is "
            f"required by {type(estimator).__name__}."
        )
    own, index = list(frame.columns), None if names is None else getattr(frame.to_native(), "index", None)
    if names is None:
        names = tuple(own) if all(isinstance(name, str) for name in own) else tuple(f"x{i}" for i in range(len(own)))
    return _renamed(frame, names), Layout(True, index=index)


def _column(values: np.ndarray) -> np.ndarray:
    """A column of an array: of one of Python objects as numbers where all are, as text with None for holes otherwise.

    Raises:
        TypeError: if an object is neither.
    """
    if values.dtype.kind == "U":
        return values
    if values.dtype.kind != "O":
        return np.ascontiguousarray(values)
    is_hole = np.array([value is None or value != value for value in values])
    if any(isinstance(value, str) for value in values):
        return np.array([None if hole else str(value) for value, hole in zip(values, is_hole, strict=True)], object)
    return np.array([np.nan if hole else float(value) for value, hole in zip(values, is_hole, strict=True)])


def _renamed(frame: Any, names: tuple[str, ...]) -> Any:
    if tuple(frame.columns) == names:
        return frame.to_native()
    native = frame.to_native()
    if hasattr(native, "set_axis"):  # of pandas, whose columns may have names that are no text
        return native.set_axis(list(names), axis=1)
    return frame.rename(dict(zip(frame.columns, names, strict=True))).to_native()


def with_holes(X: Any, mark: Any) -> Any:
    """X with holes where a cell is the mark; NaN and None are holes anyway."""
    if mark is None or mark != mark:
        return X
    frame = None if isinstance(X, np.ndarray | list | tuple) else as_frame(X)
    if frame is None or not hasattr(frame, "columns"):
        array = np.asarray(X)
        if array.dtype.kind in "biu":
            array = array.astype(np.float64)
        hole = array == mark
        if np.any(hole):
            array = array.copy() if array.dtype.kind == "f" else array.astype(object)
            array[hole] = np.nan
        return array
    import narwhals as nw

    alike = [c.name for c in frame.iter_columns() if c.dtype.is_numeric() != isinstance(mark, str)]
    return frame.with_columns(nw.when(nw.col(name) != mark).then(nw.col(name)) for name in alike).to_native()


def found_schema(frame: Any, layout: Layout, kinds: dict[str, Any]) -> Schema:
    """The schema of X; whole numbers of an array that all differ are numbers: without a name nothing says otherwise."""
    schema = Schema.found(frame, kinds=kinds or None, name="X")
    counted = [column.name for column in schema.columns if column.kind == "identifier" and column.name not in kinds]
    if layout.is_frame or not counted or layout.dtype == "object":
        return schema
    return Schema.found(frame, kinds={**kinds, **dict.fromkeys(counted, "continuous")}, name="X")


def as_dataset(
    frame: Any,
    schema: Schema,
    weights: np.ndarray | None,
    *,
    model_holes: bool | Literal["self"] = False,
    lenient: bool = False,
) -> Dataset:
    """The rows of a frame with their weights, for a fit; `lenient` and `model_holes` as in `data.load_by_schema`."""
    excluded = np.zeros((len(as_frame(frame)), len(schema.modelled)), dtype=bool) if lenient else None
    x = schema.encode(frame, name="X", excluded=excluded)
    if model_holes:
        schema, x = schema.with_holes(x, by_value=model_holes == "self")
    excluded = excluded if excluded is not None and excluded.any() else None
    names = tuple(column.name for column in schema.modelled)
    return Dataset(x, None, "X", names, kind=TABLES.name, schema=schema, weights=weights, excluded=excluded)


def columns_of(run: Run) -> tuple[str, ...]:
    """The columns that X of a run has: all of its table but those of labels and keys."""
    if run.data.columns_schema is not None:
        return tuple(column.name for column in run.data.columns_schema.columns if column.of is None)
    return run.data.columns or tuple(f"x{i}" for i in range((run.data.event_shape or (0,))[0]))


def given_back(table: Table, layout: Layout) -> Any:
    """The rows of an answer in the form of X: a data frame of the library that X came in, or an array."""
    table = table.without_keys()
    if layout.is_frame:
        frame = table.to_frame()
        return frame if layout.index is None or not hasattr(frame, "set_axis") else frame.set_axis(layout.index, axis=0)
    if table.schema is None:
        return table.values.reshape(len(table), -1)
    frame = as_frame(table.to_frame("pyarrow"))
    columns = [_cells(column) for column in frame.iter_columns()]
    return np.column_stack(columns) if columns else np.empty((len(table), 0))


def _cells(column: Any) -> np.ndarray:
    """A column as one of an array: numbers as floats, NaN where empty; anything else as Python objects."""
    if column.dtype.is_numeric():
        import narwhals as nw

        values = column.cast(nw.Float64).to_list()
        return np.array([np.nan if value is None else value for value in values])
    return np.array(column.to_list(), object)
