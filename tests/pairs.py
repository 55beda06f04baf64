"""A covering design: few rows in which every two values of different axes that can meet do meet."""

from collections.abc import Callable, Sequence
from itertools import combinations, product

Row = tuple[str, ...]
Pair = tuple[tuple[int, str], tuple[int, str]]


def pairs_of(row: Row) -> set[Pair]:
    """The pairs of (axis, value) that a row brings together."""
    return {(a, b) for a, b in combinations(enumerate(row), 2)}


def covering(axes: Sequence[Sequence[str]], allowed: Callable[[Row], bool]) -> tuple[list[Row], list[Pair]]:
    """Rows that cover all pairs, greedily and always in the same order.

    Args:
        axes: the values of each axis.
        allowed: whether a row makes sense.

    Returns:
        The rows, and the pairs that no allowed row has.
    """
    valid = [row for row in product(*axes) if allowed(row)]
    possible = {row: pairs_of(row) for row in valid}
    open_pairs = [
        ((i, a), (j, b)) for i, j in combinations(range(len(axes)), 2) for a in axes[i] for b in axes[j]
    ]  # fmt: skip
    holders: dict[Pair, list[Row]] = {}
    for row, pairs in possible.items():
        for pair in pairs:
            holders.setdefault(pair, []).append(row)
    missing, rows = [pair for pair in open_pairs if pair not in holders], []
    uncovered = {pair for pair in open_pairs if pair in holders}
    for pair in open_pairs:
        if pair in uncovered:
            best = max(holders[pair], key=lambda row: len(possible[row] & uncovered))
            rows.append(best)
            uncovered -= possible[best]
    return rows, missing
