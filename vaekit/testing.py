"""Conformance checks of components, shipped so that whoever writes a likelihood, posterior or objective can run them.

Each check builds float64 copies, draws from a seeded stream that it puts back, and raises an `AssertionError` that says
what was expected and what came. A component that passes works with every other part of vaekit.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaekit import engine, kl, likelihoods, models, networks, posteriors, priors
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions import element_support
from vaekit.errors import VaekitError
from vaekit.objectives import Loss, Objective

__all__ = ["check_likelihood", "check_objective", "check_posterior", "check_prior"]

_DRAWS = 20_000


def _expect(condition: bool, expected: str, came: object) -> None:
    if not condition:
        raise AssertionError(f"expected {expected}; got {came}")


def _expect_shape(value: Tensor, shape: tuple[int, ...], what: str) -> None:
    _expect(tuple(value.shape) == tuple(shape), f"{what} of shape {tuple(shape)}", tuple(value.shape))


def _raw(head: ConditionalDistribution, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (0.7 * torch.randn(*batch, *head.param_shape, dtype=dtype)).requires_grad_()


def _within_errors(values: Tensor, exact: Tensor, what: str) -> None:
    """The mean of `values` over their first dimension lies within five standard errors of `exact`."""
    gap = (values.mean(0) - exact).abs()
    stderr = values.std(0) / math.sqrt(len(values))
    expected = f"{what} within 5 standard errors of the average of {len(values)} draws"
    worst = float((gap / stderr.clamp(min=1e-300)).max())
    _expect(bool((gap <= 5 * stderr + 1e-12).all()), expected, f"a gap of {worst:.3g} of them")


def _check_draws(d: Distribution, batch: tuple[int, ...], event: tuple[int, ...], dtype: torch.dtype) -> None:
    """Shapes, dtype, support and log-density of a distribution's own draws."""
    _expect(tuple(d.batch_shape) == batch, f"batch shape {batch}", tuple(d.batch_shape))
    _expect(tuple(d.event_shape) == event, f"event shape {event}", tuple(d.event_shape))
    for leading in ((), (4,), (2, 5)):
        x = d.sample(torch.Size(leading))
        _expect_shape(x, (*leading, *batch, *event), f"sample({leading})")
        _expect(x.dtype == dtype, f"draws of dtype {dtype}, the parameters' own", x.dtype)
        _expect(not x.requires_grad, "draws of sample() without gradients", "draws that require them")
        log_prob = d.log_prob(x)
        _expect_shape(log_prob, (*leading, *batch), "log_prob of own draws")
        _expect(log_prob.dtype == dtype, f"log_prob of dtype {dtype}", log_prob.dtype)
        _expect(bool(log_prob.isfinite().all()), "a finite log_prob at own draws", log_prob)
        support: Any = d.support
        _expect(bool(support.check(x).all()), f"own draws inside the support {support}", x)
    if d.has_rsample:
        _expect_shape(d.rsample(torch.Size((4,))), (4, *batch, *event), "rsample((4,))")
    first, second = _repeated(d), _repeated(d)
    _expect(torch.equal(first, second), "equal draws for equal seeds (draw from torch's own stream)", "different draws")


def _repeated(d: Distribution) -> Tensor:
    with engine.seeded(7):
        return d.sample(torch.Size((4,)))


def _check_mean(d: Distribution) -> None:
    """The stated mean, where there is one that claims to be exact, is the average of draws."""
    try:
        mean = d.mean
    except NotImplementedError:
        return
    if getattr(d, "has_exact_mean", True) and bool(mean.isfinite().all()):
        _expect_shape(mean, (*d.batch_shape, *d.event_shape), "mean")
        _within_errors(d.sample(torch.Size((_DRAWS,))), mean, "the mean")


def _grid(d: Distribution) -> tuple[Tensor, Tensor] | None:
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
        return low + width * u, torch.full_like(u, width / len(u))
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


def _check_total(d: Distribution, event: tuple[int, ...]) -> None:
    """A density of one scalar integrates to 1, a mass sums to 1."""
    if math.prod(event) != 1 or getattr(d, "quantity", None) == "no density":
        return
    try:
        grid = _grid(d)
        if grid is None:
            return
        total = float((d.log_prob(grid[0].reshape(-1, *event)).exp() * grid[1]).sum())
    except VaekitError:  # a density that can be evaluated only at its own draws says so
        return
    _expect(abs(total - 1) < 1e-4, "a total probability of 1 within 1e-4", total)


def _check_gradients(module: nn.Module, leaf: Tensor | None, value: Tensor, what: str) -> None:
    """`value` has finite gradients, not all zero, for each entry of `leaf` and for each parameter of `module`."""
    tensors: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if leaf is not None:
        tensors["params"] = leaf
    if not tensors:
        return
    _expect(value.requires_grad, f"a gradient of {what} for {', '.join(tensors)}", "a constant")
    gradients = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
    for name, gradient in zip(tensors, gradients, strict=True):
        _expect(gradient is not None, f"a gradient of {what} for {name}", "none")
        assert gradient is not None
        _expect(bool(gradient.isfinite().all()), f"a finite gradient of {what} for {name}", gradient)
        entries = gradient.abs().sum(0) if name == "params" else gradient.abs().sum()  # every raw parameter counts
        _expect(bool((entries > 0).all()), f"a gradient of {what} for {name} that is not zero", gradient)


def _check_state(module: nn.Module) -> None:
    """Every tensor is a parameter or a buffer: anything else is neither saved nor moved with the module."""
    for part in module.modules():
        loose = [name for name, value in vars(part).items() if isinstance(value, Tensor)]
        _expect(not loose, f"parameters and buffers only in {type(part).__name__}", f"plain tensors {loose}")


def _check_head(head: ConditionalDistribution) -> None:
    event = tuple(head.event_shape)
    _check_state(head)
    for dtype in (torch.float64, torch.float32):
        head = head.to(dtype)
        for batch in ((), (3,), (2, 3)):
            d = head(_raw(head, *batch, dtype=dtype))
            _expect(isinstance(d, Distribution), "a torch.distributions.Distribution", type(d).__name__)
            _check_draws(d, batch, event, dtype)
    head = head.double()
    params = _raw(head, 16)
    d = head(params)
    _check_gradients(head, params, d.log_prob(d.sample()).sum(), "log_prob")
    if d.has_rsample:
        z = head(params).rsample(torch.Size((8,)))
        _check_gradients(head, params, (z**3 + z).sum(), "rsample")
    with torch.no_grad():
        d = head(_raw(head))
        _check_mean(d)
        _check_total(d, event)


def check_likelihood(head: ConditionalDistribution, *, seed: int = 0) -> None:
    """Check a likelihood head: what it returns is a distribution of x that every part of vaekit can use.

    Shapes for several leading dimensions, dtype, support, draws, the mean, expansion, gradients, and that x of shape
    (B, *X) is scored against a batch of shape (K, B). A head of scalar events is also integrated (or summed) to 1.

    Args:
        head: the head, with an event of any shape; it is copied, not changed.
        seed: seed of the draws.

    Raises:
        AssertionError: saying what was expected and what came.

    Example:
        >>> import vaekit as vk
        >>> check_likelihood(vk.likelihoods.Laplace(1))
    """
    with engine.seeded(seed):
        head = copy.deepcopy(head)
        _check_head(head)
        with torch.no_grad():
            wide, narrow = head(_raw(head, 4, 3)), head(_raw(head, 3))
            x = narrow.sample()
            expanded = narrow.expand(torch.Size((4, 3)))
            _expect_shape(expanded.sample(), (4, *x.shape), "a draw of a batch (3,) expanded to (4, 3)")
            same = torch.allclose(expanded.log_prob(x), narrow.log_prob(x).expand(4, 3), rtol=1e-10, atol=1e-10)
            _expect(same, "expand to leave log_prob as it is", "another log_prob")
            _expect_shape(wide.log_prob(x), (4, 3), "log_prob of x of shape (B, *X) against a batch (K, B)")
            same = torch.allclose(wide.log_prob(x), wide.log_prob(x.expand(4, *x.shape)), rtol=1e-10, atol=1e-10)
            _expect(same, "log_prob of x to broadcast over K", "other values than for repeated rows")
            support: Any = wide.support
            expected = "mass" if support.is_discrete else "density"
            quantity = getattr(wide, "quantity", expected)
            _expect(quantity in (expected, "no density"), f"the quantity {expected!r} or 'no density'", quantity)


def check_posterior(head: ConditionalDistribution, *, seed: int = 0) -> None:
    """Check a posterior head: what it returns is a distribution of z that the bounds can use.

    As `check_likelihood`, and where a closed form of KL(q, N(0, I)) exists, that it is the average of log q - log p.

    Args:
        head: the head; it is copied, not changed.
        seed: seed of the draws.

    Raises:
        AssertionError: saying what was expected and what came.

    Example:
        >>> import vaekit as vk
        >>> check_posterior(vk.posteriors.FullNormal(3))
    """
    with engine.seeded(seed):
        head = copy.deepcopy(head)
        _check_head(head)
        with torch.no_grad():
            q, p = head(_raw(head, 3)), priors.StandardNormal(head.event_shape).double()()
            divergence = kl.kl_divergence(q, p)
            if divergence is not None:
                _expect_shape(divergence, (3,), "KL(q, N(0, I))")
                z = q.sample(torch.Size((_DRAWS,)))
                _within_errors(q.log_prob(z) - p.log_prob(z), divergence, "KL(q, N(0, I))")


def check_prior(prior: nn.Module, *, seed: int = 0) -> None:
    """Check a prior: its call, without an argument, returns a distribution of z with batch shape ().

    Args:
        prior: the module; it is copied, not changed.
        seed: seed of the draws.

    Raises:
        AssertionError: saying what was expected and what came.

    Example:
        >>> import vaekit as vk
        >>> check_prior(vk.priors.StandardNormal((2, 3)))
    """
    with engine.seeded(seed):
        prior = copy.deepcopy(prior)
        _check_state(prior)
        for dtype in (torch.float32, torch.float64):
            p = prior.to(dtype)()
            _expect(isinstance(p, Distribution), "a torch.distributions.Distribution", type(p).__name__)
            event = tuple(getattr(prior, "event_shape", p.event_shape))
            _check_draws(p, (), event, dtype)
        _check_gradients(prior, None, p.log_prob(p.sample(torch.Size((64,)))).sum(), "log_prob")
        with torch.no_grad():
            _check_mean(p)
            _check_total(p, event)


def check_objective(objective: Objective, model: LatentVariableModel | None = None, *, seed: int = 0) -> None:
    """Check an objective: a scalar to minimise whose gradient reaches the whole model, and terms with natural signs.

    `value` is finite, of shape () and differentiable; each term has shape (B,) or (); `elbo` is `log_likelihood` minus
    `kl` where all three are given; equal seeds give equal values; the state goes through `state_dict`, `step` included.

    Args:
        objective: the objective; it is copied, not changed.
        model: a model in float64 whose likelihood has events that its own prior can generate; None takes a small VAE.
        seed: seed of the model's weights and of the draws.

    Raises:
        AssertionError: saying what was expected and what came.

    Example:
        >>> import vaekit as vk
        >>> check_objective(vk.objectives.IWAE(num_samples=3))
    """
    with engine.seeded(seed):
        objective, model = copy.deepcopy(objective), copy.deepcopy(model)
        if model is None:
            encoder = Conditional(networks.MLP(6, (5,), activation="tanh"), posteriors.DiagonalNormal(2))
            decoder = Conditional(networks.MLP(2, (5,), activation="tanh"), likelihoods.Bernoulli(6))
            model = models.VAE(encoder, decoder, priors.StandardNormal(2)).double()
        with torch.no_grad():
            x = model.likelihood(model.prior().sample(torch.Size((12,)))).sample()
        objective.prepare(1000)
        losses = []
        for _ in range(2):
            with engine.seeded(11):
                losses.append(copy.deepcopy(objective)(model, x))
        loss, again = losses
        _expect(isinstance(loss, Loss), "a Loss", type(loss).__name__)
        _expect_shape(loss.value, (), "value")
        _expect(loss.value.dtype == x.dtype, f"a value of dtype {x.dtype}, the model's", loss.value.dtype)
        _expect(bool(loss.value.isfinite()), "a finite value", loss.value)
        for name, term in loss.terms.items():
            _expect(tuple(term.shape) in ((), (len(x),)), f"term {name} of shape () or ({len(x)},)", tuple(term.shape))
            _expect(bool(term.isfinite().all()), f"a finite term {name}", term)
        if {"elbo", "log_likelihood", "kl"} <= loss.terms.keys():
            gap = loss.terms["elbo"] - (loss.terms["log_likelihood"] - loss.terms["kl"])
            _expect(bool(gap.abs().max() < 1e-9), "elbo = log_likelihood - kl, with natural signs", f"a gap of {gap}")
        _expect(torch.equal(again.value, loss.value), "equal values for equal seeds", (loss.value, again.value))
        if isinstance(model, nn.Module):
            _check_gradients(model, None, loss.value, "value")
        step = objective.state_dict().get("step")
        _expect(step is not None and step.shape == (), "a 0-d buffer `step` in state_dict", step)
        _check_state(objective)
