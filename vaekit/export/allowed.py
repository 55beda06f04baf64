"""Which values a row may hold, in words and numbers that need no torch."""

from typing import Any

from torch.distributions import constraints

from vaekit.distributions.support import element_support
from vaekit.models.view import View
from vaekit.transforms import Binarize, Dequantize, Log, Logit, Scale
from vaekit.transforms.base import steps_of

Ends = tuple[float | None, float | None, bool]


def allowed_values(view: View) -> dict[str, Any]:
    """Bounds of the values of a row in the units of the data, and whether they are whole.

    Of rows whose elements differ, such as those of tables, nothing is said here: their columns say more.
    """
    low, scale = 0.0, 1.0  # what the first steps take away, and divide by
    ends: Ends | None = None
    for step in steps_of(view.transform):
        if isinstance(step, Scale):
            low, scale = low + scale * step.low, scale * (step.high - step.low)
            continue
        ends = _of_step(step)
        break
    else:
        ends = _of_support(element_support(view.at_prior)) if view.has_likelihood else None
    least, most, whole = ends or (None, None, False)
    found = (least if least is None else low + scale * least, most if most is None else low + scale * most)
    whole = whole and scale == 1
    return {"low": found[0], "high": found[1], "whole": whole, "words": _words(*found, whole)}


def _of_step(step: Any) -> Ends | None:
    """What a transform takes."""
    if isinstance(step, Binarize | Logit):
        return 0.0, 1.0, False
    if isinstance(step, Dequantize):
        return 0.0, step.num_levels - 1.0, True
    return (0.0, None, False) if isinstance(step, Log) else None


def _of_support(support: Any) -> Ends | None:
    """What a likelihood takes, where all elements are alike."""
    if support is constraints.boolean:
        return 0.0, 1.0, True
    if isinstance(support, constraints.integer_interval | constraints.interval):
        low, high = support.lower_bound, support.upper_bound
        is_number = isinstance(low, int | float) and isinstance(high, int | float)
        return (float(low), float(high), isinstance(support, constraints.integer_interval)) if is_number else None
    if support is constraints.nonnegative_integer:
        return 0.0, None, True
    return (0.0, None, False) if isinstance(support, constraints.greater_than) and support.lower_bound == 0 else None


def _words(low: float | None, high: float | None, whole: bool) -> str:
    what = "the whole numbers" if whole else "the numbers"
    if low is not None and high is not None:
        return f"{what} from {low:g} to {high:g}"
    return f"{what} from {low:g} on" if low is not None else f"the finite {what.removeprefix('the ')}"
