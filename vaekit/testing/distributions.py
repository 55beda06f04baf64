"""What every distribution is held to: shapes, draws that repeat, moments, a total of 1."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit import engine
from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import element_support
from vaekit.distributions.base import hooks
from vaekit.errors import VaekitError

DRAWS = 20_000


def expect(condition: bool, expected: str, came: object) -> None:
    """Raise an `AssertionError` unless the condition holds."""
    if not condition:
        raise AssertionError(f"expected {expected}; got {came}")


def expect_shape(value: Tensor, shape: tuple[int, ...], what: str) -> None:
    """The shape, or an error."""
    expect(tuple(value.shape) == tuple(shape), f"{what} of shape {tuple(shape)}", tuple(value.shape))


def raw(head: ConditionalDistribution, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Raw parameters for a head, drawn from torch's stream."""
    return (0.7 * torch.randn(*batch, *head.param_shape, dtype=dtype)).requires_grad_()


def within_errors(values: Tensor, exact: Tensor, what: str) -> None:
    """The mean of `values` over their first dimension lies within five standard errors of `exact`."""
    gap = (values.mean(0) - exact).abs()
    stderr = values.std(0) / math.sqrt(len(values))
    expected = f"{what} within 5 standard errors of the average of {len(values)} draws"
    worst = float((gap / stderr.clamp(min=1e-300)).max())
    expect(bool((gap <= 5 * stderr + 1e-12).all()), expected, f"a gap of {worst:.3g} of them")


def check_draws(d: Distribution, batch: tuple[int, ...], event: tuple[int, ...], dtype: torch.dtype) -> None:
    """Shapes, dtype, support and log-density of a distribution's own draws."""
    expect(tuple(d.batch_shape) == batch, f"batch shape {batch}", tuple(d.batch_shape))
    expect(tuple(d.event_shape) == event, f"event shape {event}", tuple(d.event_shape))
    for leading in ((), (4,), (2, 5)):
        x = d.sample(torch.Size(leading))
        expect_shape(x, (*leading, *batch, *event), f"sample({leading})")
        expect(x.dtype == dtype, f"draws of dtype {dtype}, the parameters' own", x.dtype)
        expect(not x.requires_grad, "draws of sample() without gradients", "draws that require them")
        log_prob = d.log_prob(x)
        expect_shape(log_prob, (*leading, *batch), "log_prob of own draws")
        expect(log_prob.dtype == dtype, f"log_prob of dtype {dtype}", log_prob.dtype)
        expect(bool(log_prob.isfinite().all()), "a finite log_prob at own draws", log_prob)
        support: Any = d.support
        expect(bool(support.check(x).all()), f"own draws inside the support {support}", x)
    if d.has_rsample:
        expect_shape(d.rsample(torch.Size((4,))), (4, *batch, *event), "rsample((4,))")
    first, second = repeated(d), repeated(d)
    expect(torch.equal(first, second), "equal draws for equal seeds (draw from torch's own stream)", "different draws")


def repeated(d: Distribution) -> Tensor:
    """Draws from a seed of their own."""
    with engine.seeded(7):
        return d.sample(torch.Size((4,)))


def check_mean(d: Distribution) -> None:
    """The stated mean, where there is one that claims to be exact, is the average of draws."""
    try:
        mean = d.mean
    except NotImplementedError:
        return
    if hooks(d).has_exact_mean and bool(mean.isfinite().all()):
        expect_shape(mean, (*d.batch_shape, *d.event_shape), "mean")
        within_errors(d.sample(torch.Size((DRAWS,))), mean, "the mean")


def grid(d: Distribution) -> tuple[Tensor, Tensor] | None:
    """Points and weights that integrate over the support of one scalar, or sum over it; None for other supports."""
    support: Any = element_support(d)
    x = d.sample(torch.Size((2001,))).flatten().sort().values
    if support is constraints.boolean:
        return x.new_tensor([0.0, 1.0]), x.new_ones(2)
    if isinstance(support, constraints.integer_interval):
        points = torch.arange(int(support.lower_bound), int(support.upper_bound) + 1, dtype=x.dtype)
        return points, torch.ones_like(points)
    if support is constraints.nonnegative_integer:
        points = torch.arange(100_000, dtype=x.dtype)
        return points, torch.ones_like(points)
    u = (torch.arange(200_000, dtype=x.dtype) + 0.5) / 200_000  # midpoints: the ends are never touched
    if isinstance(support, constraints.interval):
        low, width = float(support.lower_bound), float(support.upper_bound) - float(support.lower_bound)
        inner = torch.sigmoid(36 * (2 * u - 1))  # many points near the ends, where densities may rise without bound
        return low + width * inner, width * inner * (1 - inner) * 72 / len(u)
    if support not in (constraints.real, constraints.real_vector, constraints.positive):
        return None
    x = x.log() if support is constraints.positive else x
    # x = median + s t / (1 - t^2) carries (-1, 1) to the whole line; tails that fall like |x|^-2 or faster are covered.
    t, spread = 2 * u - 1, (x[1800] - x[200]).clamp(min=1e-12)
    points, weights = x[1000] + spread * t / (1 - t**2), spread * (1 + t**2) / (1 - t**2) ** 2 * 2 / len(u)
    if support is constraints.positive:
        kept = points.abs() < 700  # beyond, the exponential is no number
        return points[kept].exp(), weights[kept] * points[kept].exp()
    return points, weights


def check_total(d: Distribution, event: tuple[int, ...]) -> None:
    """A density of one scalar integrates to 1, a mass sums to 1."""
    if math.prod(event) != 1 or hooks(d).quantity in ("no density", "density and mass"):
        return
    try:
        points = grid(d)
        if points is None:
            return
        total = float((d.log_prob(points[0].reshape(-1, *event)).exp() * points[1]).sum())
    except VaekitError:  # a density that can be evaluated only at its own draws says so
        return
    expect(abs(total - 1) < 1e-4, "a total probability of 1 within 1e-4", total)
