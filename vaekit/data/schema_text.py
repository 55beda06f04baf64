"""The text of a schema in a file, and what to say of one that is none."""

import json
from pathlib import Path

from pydantic import ValidationError

from vaekit.errors import DataError


def text_of(path: str | Path) -> str:
    """The text of a file.

    Raises:
        DataError: It cannot be read, or holds no text.
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise DataError(f"cannot read the schema {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no schema: it is not UTF-8 text. vaekit schema writes one.") from error


def invalid(path: str | Path, text: str, error: ValidationError) -> DataError:
    """What is wrong with the text of a file, with the place in it."""
    loc, message = error.errors()[0]["loc"], error.errors()[0]["msg"]
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return DataError(
        f"{path} is no schema: {f'{at}{_named(text, loc)}: ' if at else ''}{message}{more}. Mend it, or write it anew "
        "with vaekit schema."
    )


def _named(text: str, loc: tuple[int | str, ...]) -> str:
    """The name of the column in which an error lies, for a message."""
    if len(loc) < 2 or loc[0] != "columns" or not isinstance(loc[1], int):
        return ""
    column = json.loads(text)["columns"][loc[1]]
    return f" (column {column['name']!r})" if isinstance(column, dict) and "name" in column else ""
