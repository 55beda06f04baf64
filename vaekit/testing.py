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

from vaekit import engine, kl
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.errors import VaekitError
from vaekit.likelihoods import Bernoulli
from vaekit.models import VAE
from vaekit.networks import MLP
from vaekit.objectives import Loss, Objective
from vaekit.posteriors import DiagonalNormal
from vaekit.priors import StandardNormal

__all__ = ["check_likelihood", "check_objective", "check_posterior", "check_prior"]

_BATCHES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3))
_DRAWS = 20_000
_STANDARD_ERRORS = 5.0


def _expect(condition: bool, expected: str, came: object) -> None:
    if not condition:
        raise AssertionError(f"expected {expected}; got {came}")


def _expect_shape(value: Tensor, shape: tuple[int, ...], what: str) -> None:
    _expect(tuple(value.shape) == tuple(shape), f"{what} of shape {tuple(shape)}", tuple(value.shape))


def _raw(head: ConditionalDistribution, batch: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return (0.7 * torch.randn(*batch, *head.param_shape, dtype=dtype)).requires_grad_()


def _within_errors(values: Tensor, exact: Tensor, what: str) -> None:
    """The mean of `values` over their first dimension lies within five standard errors of `exact`."""
    gap = (values.mean(0) - exact).abs()
    stderr = values.std(0) / math.sqrt(len(values))
    _expect(
        bool((gap <= _STANDARD_ERRORS * stderr + 1e-12).all()),
        f"{what} within {_STANDARD_ERRORS:g} standard errors of the average of {len(values)} draws",
        f"a gap of {float((gap / stderr.clamp(min=1e-300)).max()):.3g} standard errors",
    )


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
    seeds = []
    for _ in range(2):
        with engine.fork_rng(torch.Generator().manual_seed(7)):
            seeds.append(d.sample(torch.Size((4,))))
    _expect(torch.equal(*seeds), "equal draws for equal seeds (draw from torch's own stream only)", "different draws")


def _check_expand(d: Distribution, batch: tuple[int, ...]) -> None:
    x = d.sample()
    wide = d.expand(torch.Size((2, *batch)))
    _expect(tuple(wide.batch_shape) == (2, *batch), f"expand to batch shape {(2, *batch)}", tuple(wide.batch_shape))
    _expect_shape(wide.sample(), (2, *batch, *d.event_shape), "a draw of the expanded distribution")
    same = torch.allclose(wide.log_prob(x), d.log_prob(x).expand(2, *batch), rtol=1e-10, atol=1e-10)
    _expect(same, "expand to leave log_prob as it is", "another log_prob")


def _check_mean(d: Distribution) -> None:
    """The stated mean, where there is one, is the average of draws."""
    try:
        mean = d.mean
    except NotImplementedError:
        return
    if bool(mean.isfinite().all()):
        _expect_shape(mean, (*d.batch_shape, *d.event_shape), "mean")
        _within_errors(d.sample(torch.Size((_DRAWS,))), mean, "the mean")


def _grid(d: Distribution) -> tuple[Tensor, Tensor] | None:
    """Points and weights that integrate over the support of one scalar, or sum over it; None for other supports."""
    support: Any = d.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    x = d.sample(torch.Size((2001,))).flatten().sort().values
    if support is constraints.boolean:
        return x.new_tensor([0.0, 1.0]), x.new_ones(2)
    if isinstance(support, constraints.integer_interval):
        points = torch.arange(int(support.lower_bound), int(support.upper_bound) + 1, dtype=x.dtype)
        return points, torch.ones_like(points)
    u = (torch.arange(200_000, dtype=x.dtype) + 0.5) / 200_000  # midpoints: the ends are never touched
    if isinstance(support, constraints.interval):
        low, width = float(support.lower_bound), float(support.upper_bound) - float(support.lower_bound)
        return low + width * u, torch.full_like(u, width / len(u))
    if support not in (constraints.real, constraints.real_vector):
        return None
    # x = median + s t / (1 - t^2) carries (-1, 1) to the whole line; tails that fall like |x|^-2 or faster are covered.
    t, spread = 2 * u - 1, (x[1800] - x[200]).clamp(min=1e-12)
    return x[1000] + spread * t / (1 - t**2), spread * (1 + t**2) / (1 - t**2) ** 2 * 2 / len(u)


def _check_total(d: Distribution, event: tuple[int, ...]) -> None:
    """A density of one scalar integrates to 1, a mass sums to 1."""
    if math.prod(event) != 1 or getattr(d, "quantity", None) == "no density":
        return
    grid = _grid(d)
    if grid is None:
        return
    points, weights = grid
    try:
        log_prob = d.log_prob(points.reshape(-1, *event))
    except VaekitError:  # a density that can be evaluated only at its own draws says so
        return
    total = float((log_prob.exp() * weights).sum())
    _expect(abs(total - 1) < 1e-4, "a total probability of 1 within 1e-4", total)


def _check_gradients(module: nn.Module, leaf: Tensor | None, value: Tensor, what: str) -> None:
    """`value` has finite gradients, not all zero, for each entry of `leaf` and for each parameter of `module`."""
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    parameters = [p for p in module.parameters() if p.requires_grad]
    tensors = parameters + ([] if leaf is None else [leaf])
    if not tensors:
        return
    _expect(value.requires_grad, f"a gradient of {what} for {[*names, 'params']}", "a constant")
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    for name, gradient in zip([*names, "params"], gradients, strict=False):
        _expect(gradient is not None, f"a gradient of {what} for {name}", "none")
        assert gradient is not None
        _expect(bool(gradient.isfinite().all()), f"a finite gradient of {what} for {name}", gradient)
        if name == "params":
            gradient = gradient.abs().sum(0)
            _expect(bool((gradient > 0).all()), f"a gradient of {what} for every raw parameter", gradient)
        else:
            _expect(bool((gradient != 0).any()), f"a gradient of {what} for {name} that is not zero", gradient)


def _check_state(module: nn.Module) -> None:
    """A copy with other values takes the same state back."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    other.load_state_dict(module.state_dict())
    for name, value in module.state_dict().items():
        _expect(torch.equal(other.state_dict()[name], value), f"state_dict to carry {name}", other.state_dict()[name])


def _check_head(head: ConditionalDistribution) -> None:
    event = tuple(head.event_shape)
    _check_state(head)
    for dtype in (torch.float64, torch.float32):
        head = head.to(dtype)
        for batch in _BATCHES:
            d = head(_raw(head, batch, dtype))
            _expect(isinstance(d, Distribution), "a torch.distributions.Distribution", type(d).__name__)
            _check_draws(d, batch, event, dtype)
    head = head.double()
    params = _raw(head, (16,))
    d = head(params)
    x = d.sample()
    _check_gradients(head, params, d.log_prob(x).sum(), "log_prob")
    if d.has_rsample:
        z = head(params).rsample(torch.Size((8,)))
        _check_gradients(head, params, (z**3 + z).sum(), "rsample")
    with torch.no_grad():
        d = head(_raw(head, ()))
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
            wide, narrow = head(_raw(head, (4, 3))), head(_raw(head, (3,)))
            x = narrow.sample()
            _check_expand(narrow, (3,))
            _expect_shape(wide.log_prob(x), (4, 3), "log_prob of x of shape (B, *X) against a batch (K, B)")
            same = torch.allclose(wide.log_prob(x), wide.log_prob(x.expand(4, *x.shape)), rtol=1e-10, atol=1e-10)
            _expect(same, "log_prob of x to broadcast over K", "other values than for repeated rows")
            discrete = bool(getattr(wide.support, "is_discrete", False))
            quantity = getattr(wide, "quantity", "mass" if discrete else "density")
            _expect(
                quantity == "no density" or quantity == ("mass" if discrete else "density"),
                "a quantity that follows from the support, or 'no density'",
                quantity,
            )


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
            q, p = head(_raw(head, (3,))), StandardNormal(head.event_shape).double()()
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


def _small_model() -> VAE:
    return VAE(
        encoder=Conditional(MLP(6, (5,), activation="tanh"), DiagonalNormal(2)),
        decoder=Conditional(MLP(2, (5,), activation="tanh"), Bernoulli(6)),
        prior=StandardNormal(2),
    ).double()


def _run(objective: Objective, model: LatentVariableModel, x: Tensor) -> Loss:
    with engine.seeded(11):
        return copy.deepcopy(objective)(model, x)


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
        objective, model = copy.deepcopy(objective), copy.deepcopy(model) if model is not None else _small_model()
        with torch.no_grad():
            x = model.likelihood(model.prior().sample(torch.Size((12,)))).sample()
        objective.prepare(1000)
        loss = _run(objective, model, x)
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
        again = _run(objective, model, x)
        _expect(torch.equal(again.value, loss.value), "equal values for equal seeds", (loss.value, again.value))
        if isinstance(model, nn.Module):
            _check_gradients(model, None, loss.value, "value")
        step = objective.state_dict().get("step")
        _expect(step is not None and step.shape == (), "a 0-d buffer `step` in state_dict", step)
        _check_state(objective)
