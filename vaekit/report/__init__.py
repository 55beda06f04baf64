"""One self-contained HTML page about a fitted model: what it is, its numbers, its pictures."""

from vaekit.report.numbers import MAX_ROWS, evaluate
from vaekit.report.page import build, write

__all__ = ["MAX_ROWS", "build", "evaluate", "write"]
