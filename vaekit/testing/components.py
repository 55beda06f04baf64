"""The checks of likelihoods, posteriors, priors and objectives."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine, kl, likelihoods, models, networks, posteriors, priors
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions.base import hooks
from vaekit.objectives import Loss, Objective
from vaekit.testing.distributions import (
    DRAWS,
    check_draws,
    check_mean,
    check_total,
    expect,
    expect_shape,
    raw,
    within_errors,
)
from vaekit.traits import PartTraits, told


def _check_gradients(module: nn.Module, leaf: Tensor | None, value: Tensor, what: str) -> None:
    """`value` has finite gradients, not all zero, for each entry of `leaf` and for each parameter of `module`."""
    tensors: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if leaf is not None:
        tensors["params"] = leaf
    if not tensors:
        return
    expect(value.requires_grad, f"a gradient of {what} for {', '.join(tensors)}", "a constant")
    gradients = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
    for name, gradient in zip(tensors, gradients, strict=True):
        expect(gradient is not None, f"a gradient of {what} for {name}", "none")
        assert gradient is not None
        expect(bool(gradient.isfinite().all()), f"a finite gradient of {what} for {name}", gradient)
        entries = gradient.abs().sum(0) if name == "params" else gradient.abs().sum()  # every raw parameter counts
        expect(bool((entries > 0).all()), f"a gradient of {what} for {name} that is not zero", gradient)


def _check_state(module: nn.Module) -> None:
    """Every tensor is a parameter or a buffer: anything else is neither saved nor moved with the module."""
    for part in module.modules():
        loose = [name for name, value in vars(part).items() if isinstance(value, Tensor)]
        expect(not loose, f"parameters and buffers only in {type(part).__name__}", f"plain tensors {loose}")


def _check_head(head: ConditionalDistribution) -> None:
    event = tuple(head.event_shape)
    _check_state(head)
    for dtype in (torch.float64, torch.float32):
        head = head.to(dtype)
        for batch in ((), (3,), (2, 3)):
            d = head(raw(head, *batch, dtype=dtype))
            expect(isinstance(d, Distribution), "a torch.distributions.Distribution", type(d).__name__)
            check_draws(d, batch, event, dtype)
    head = head.double()
    params = raw(head, 16)
    d = head(params)
    _check_gradients(head, params, d.log_prob(d.sample()).sum(), "log_prob")
    if d.has_rsample:
        z = head(params).rsample(torch.Size((8,)))
        _check_gradients(head, params, (z**3 + z).sum(), "rsample")
    with torch.no_grad():
        d = head(raw(head))
        check_mean(d)
        check_total(d, event)


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
            wide, narrow = head(raw(head, 4, 3)), head(raw(head, 3))
            x = narrow.sample()
            expanded = narrow.expand(torch.Size((4, 3)))
            expect_shape(expanded.sample(), (4, *x.shape), "a draw of a batch (3,) expanded to (4, 3)")
            same = torch.allclose(expanded.log_prob(x), narrow.log_prob(x).expand(4, 3), rtol=1e-10, atol=1e-10)
            expect(same, "expand to leave log_prob as it is", "another log_prob")
            expect_shape(wide.log_prob(x), (4, 3), "log_prob of x of shape (B, *X) against a batch (K, B)")
            same = torch.allclose(wide.log_prob(x), wide.log_prob(x.expand(4, *x.shape)), rtol=1e-10, atol=1e-10)
            expect(same, "log_prob of x to broadcast over K", "other values than for repeated rows")
            support: Any = wide.support
            expected = "mass" if support.is_discrete else "density"
            quantity = hooks(wide).quantity or expected
            allowed = (expected, "no density") if support.is_discrete else (expected, "no density", "density and mass")
            expect(quantity in allowed, f"one of the quantities {allowed}", quantity)


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
            q, p = head(raw(head, 3)), priors.StandardNormal(head.event_shape).double()()
            divergence = kl.kl_divergence(q, p)
            if divergence is not None:
                expect_shape(divergence, (3,), "KL(q, N(0, I))")
                z = q.sample(torch.Size((DRAWS,)))
                within_errors(q.log_prob(z) - p.log_prob(z), divergence, "KL(q, N(0, I))")


def check_prior(prior: nn.Module, *, seed: int = 0) -> None:
    """Check a prior: its call, without an argument, returns a distribution of z with batch shape ().

    Args:
        prior: the module, or a `VAE` for one that works through its model, such as `VampPrior`; it is copied, not
            changed.
        seed: seed of the draws.

    Raises:
        AssertionError: saying what was expected and what came.

    Example:
        >>> import vaekit as vk
        >>> check_prior(vk.priors.StandardNormal((2, 3)))
    """
    with engine.seeded(seed):
        whole = copy.deepcopy(prior)
        prior = whole.prior if isinstance(whole, models.VAE) else whole
        _check_state(prior)
        for dtype in (torch.float32, torch.float64):
            whole.to(dtype)
            p = prior()
            expect(isinstance(p, Distribution), "a torch.distributions.Distribution", type(p).__name__)
            event = tuple(told(PartTraits, prior).event_shape or p.event_shape)
            check_draws(p, (), event, dtype)
        _check_gradients(prior, None, p.log_prob(p.sample(torch.Size((64,)))).sum(), "log_prob")
        with torch.no_grad():
            check_mean(p)
            check_total(p, event)


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
        expect(isinstance(loss, Loss), "a Loss", type(loss).__name__)
        expect_shape(loss.value, (), "value")
        expect(loss.value.dtype == x.dtype, f"a value of dtype {x.dtype}, the model's", loss.value.dtype)
        expect(bool(loss.value.isfinite()), "a finite value", loss.value)
        for name, term in loss.terms.items():
            expect(tuple(term.shape) in ((), (len(x),)), f"term {name} of shape () or ({len(x)},)", tuple(term.shape))
            expect(bool(term.isfinite().all()), f"a finite term {name}", term)
        if {"elbo", "log_likelihood", "kl"} <= loss.terms.keys():
            gap = loss.terms["elbo"] - (loss.terms["log_likelihood"] - loss.terms["kl"])
            expect(bool(gap.abs().max() < 1e-9), "elbo = log_likelihood - kl, with natural signs", f"a gap of {gap}")
        expect(torch.equal(again.value, loss.value), "equal values for equal seeds", (loss.value, again.value))
        if isinstance(model, nn.Module):
            _check_gradients(model, None, loss.value, "value")
        step = objective.state_dict().get("step")
        expect(step is not None and step.shape == (), "a 0-d buffer `step` in state_dict", step)
        _check_state(objective)
