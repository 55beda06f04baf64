"""Progress of long work, on stderr, where that is a terminal."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """The items in turn, with a bar where stderr is a terminal and silently elsewhere."""
    if not sys.stderr.isatty():
        return iter(items)
    from rich.console import Console
    from rich.progress import track as rich_track

    return iter(rich_track(items, description=label, console=Console(stderr=True), transient=True))
