"""Named columns as a data frame of the reader's own library."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def to_frame(columns: Mapping[str, Any], backend: str | None = None) -> Any:
    """A data frame of these columns.

    Args:
        columns: name to values, all of one length.
        backend: any installed library that narwhals knows: "pandas", "polars", "pyarrow", ...; None takes the first of
            these three.
    """
    backend = backend or next(name for name in ("pandas", "polars", "pyarrow") if find_spec(name))
    import narwhals

    return narwhals.from_dict(dict(columns), backend=backend).to_native()  # type: ignore[arg-type]
