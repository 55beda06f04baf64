"""Data frames of any library: read as one of narwhals, and made of a table of pyarrow with their own dtypes."""

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vaekit.data.column import Column
from vaekit.errors import ConfigError, DataError
from vaekit.frames import as_frame

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from vaekit.frames import Arrow, Frame

_ALIASES = ("string", "large_string", "string_view", "date64[ms]")  # of types that pyarrow has several of
_DICTIONARY = re.compile(r"dictionary<values=(\w+), indices=(\w+), ordered=\d>")


def native_frame(table: "pa.Table", columns: tuple[Column, ...], backend: str, same: bool) -> Any:
    """The frame.

    Args:
        table: Of pyarrow, one column for each of `columns`, of the types of `column_cells`.
        columns: In the order of the table.
        backend: What narwhals calls the library: "pandas", "polars", "pyarrow", ...
        same: Whether the columns came from that library, so that `native` holds.

    Raises:
        ConfigError: There is no such library.
    """
    import narwhals as nw

    if backend == "pyarrow":
        return _pyarrow(table, columns) if same else table
    if not find_spec(backend):
        raise ConfigError(f"there is no library {backend!r} of data frames here. Install it, or name another backend.")
    if backend == "pandas":
        return _pandas(table, columns, same)
    frame: Any = nw.from_arrow(table, backend=backend)  # type: ignore[arg-type]  # any library by its name
    listed = [column for column in columns if column.dtype == "Enum" and column.kind != "text"]
    casts = [nw.col(column.name).cast(nw.Enum(_texts(table[column.name]))) for column in listed]
    return frame.with_columns(*casts).to_native() if casts else frame.to_native()


def _texts(column: "Arrow") -> list[str]:
    return [str(name) for name in column.combine_chunks().dictionary.to_pylist()]


def _pyarrow(table: "pa.Table", columns: tuple[Column, ...]) -> "pa.Table":
    """With the types of text and dictionaries that pyarrow has several of."""
    import pyarrow as pa

    arrays = []
    for column, array in zip(columns, table.columns, strict=True):
        found = _DICTIONARY.fullmatch(column.native)
        if column.native in _ALIASES and column.kind != "text":
            array = array.cast(pa.type_for_alias(column.native.removesuffix("[ms]")))
        elif found and pa.types.is_dictionary(array.type):
            values, indices = pa.type_for_alias(found[1]), pa.type_for_alias(found[2])
            array = array.cast(pa.dictionary(indices, values, ordered=array.type.ordered))
        arrays.append(array)
    return pa.table(dict(zip(table.column_names, arrays, strict=True)))


def _pandas(table: "pa.Table", columns: tuple[Column, ...], same: bool) -> "pd.DataFrame":
    import pandas as pd

    series = {
        column.name: _series(array, column.native if same else "")
        for column, array in zip(columns, table.columns, strict=True)
    }
    return pd.DataFrame(series, index=pd.RangeIndex(table.num_rows))


def _series(array: "Arrow", native: str) -> "pd.Series":
    """A column as pandas had it; whole numbers and bools with empty cells become those of pandas that can be empty."""
    import pandas as pd
    import pyarrow as pa

    if native.endswith("[pyarrow]"):
        return array.to_pandas(types_mapper=pd.ArrowDtype)
    if native.startswith("object"):
        cells = pd.Series(array.to_pylist(), dtype=object)
        return cells.fillna(float("nan")) if native == "object (NaN)" else cells
    if array.null_count and pa.types.is_integer(array.type) and native[:1].islower():
        native = str(array.type).replace("uint", "UInt").replace("int", "Int")
    if array.null_count and pa.types.is_boolean(array.type) and native in ("", "bool"):
        native = "boolean"
    if array.null_count and pa.types.is_integer(array.type) and not native:
        native = "Int64"
    values = array.to_pandas()
    return values if native in ("", "str", "category") else values.astype(native)


def table_in(frame: object, name: str) -> "Frame":
    """An eager narwhals frame of any data frame; a `DataError` where it is none, or the name of a column is no text."""
    import narwhals as nw

    try:
        table = as_frame(frame)
        if not isinstance(table, nw.DataFrame):
            raise DataError(f"{name!r} is not a data frame; got {type(frame).__name__}.")
        names = table.columns
    except (TypeError, nw.exceptions.NarwhalsError) as error:  # two columns of one name
        raise DataError(f"{name!r} is not a data frame that can be read: {error}.") from error
    odd = [column for column in names if not isinstance(column, str)]
    if odd:
        raise DataError(f"{name!r} has columns whose names are no text: {odd[:3]}. Name them (frame.columns = [...]).")
    return table
