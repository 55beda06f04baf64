"""One self-contained HTML page about a fitted model: what it is, its numbers, its pictures."""

from vaekit.report.numbers import evaluate
from vaekit.report.page import build, write

__all__ = ["build", "evaluate", "write"]
