"""Paths as text. A path is bytes, and may be no Unicode; JSON, pictures and screens hold Unicode alone."""

import codecs
import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

_URI = "file://"
ERRORS = "vaekit.escaped"
"""The name of the error handler by which a stream writes whatever it is handed, see `register_escapes`."""


def as_text(path: str | Path) -> str:
    r"""A path, or a part of one, for people to read: bytes that are no UTF-8 are written as \xNN.

    Example:
        >>> as_text("d\udce9pense.csv")
        'd\\xe9pense.csv'
    """
    text = str(path)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair, which no name of a file gives
        return text.encode("utf-8", "backslashreplace").decode()


def to_place(path: str | Path) -> str:
    r"""A path as text from which `from_place` has it back, in a process of another locale too.

    The text is the path, and a URI where the path is no UTF-8.

    Example:
        >>> to_place("/data/größe.csv"), to_place("/data/d\udce9pense.csv")
        ('/data/größe.csv', 'file:///data/d%E9pense.csv')
    """
    name = os.fsencode(path)
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return _URI + quote(name)


def from_place(text: str) -> str:
    """The path of which `to_place` made the text."""
    name = unquote_to_bytes(text.removeprefix(_URI)) if text.startswith(_URI) else text.encode()
    return os.fsdecode(name)


def register_escapes() -> None:
    r"""Make `ERRORS` a name that streams know: what an encoding lacks is written as \xNN, \uNNNN and the like."""
    codecs.register_error(ERRORS, _escaped)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in text)
    return "".join(escaped), error.end
