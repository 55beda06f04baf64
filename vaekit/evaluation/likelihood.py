"""log p(x), ELBO and IWAE per point, with errors."""

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import KLMode, LatentVariableModel, check_arguments, closed_form_kl
from vaekit.errors import UnreliableEstimateWarning
from vaekit.evaluation.blocks import weight_blocks
from vaekit.evaluation.estimate import MANY_UNRELIABLE, Estimate
from vaekit.evaluation.sums import RunningMoments, WeightSums
from vaekit.evaluation.tails import TailIndex
from vaekit.models import inputs


def prepare(model: LatentVariableModel, x: Any, num_samples: int, kl: str = "auto") -> tuple[inputs.Rows, str, bool]:
    """Checked data, what log p is, and whether it has a Jacobian."""
    check_arguments(num_samples, kl)
    rows = inputs.as_rows(x)
    inputs.check_data(model, rows)
    quantity = inputs.quantity(model)
    return rows, quantity, inputs.counts_jacobian(quantity)


def log_marginal(
    model: LatentVariableModel,
    x: Any,
    *,
    num_samples: int,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
) -> Estimate:
    r"""log p(x) of each row by importance sampling from q(z|x), in the units of x.

    \( \log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x) \): a lower bound in expectation that becomes exact as K grows.
    The weights are accumulated in float64 and never kept, so memory does not grow with K.

    References:
        Rezende et al., "Stochastic backpropagation", 2014, https://arxiv.org/abs/1401.4082, appendix E.
        Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`; its `transform` is applied where it has one.
        x: data in their own units, shape (N, *X).
        num_samples: K, honoured exactly.
        generator: source of the noise; with one the result repeats bit for bit at equal chunking, to 1e-5 otherwise.
        precision: of matrix products inside the model's networks.
        compile: "on" compiles the decoder's pass.
        chunk_size: number of z per decoder pass; None keeps its output within 4 MiB.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        Per point: value, stderr (delta method), ess and the largest weight; see `Estimate`.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model.
        ConfigError: if K < 1.

    Warns:
        UnreliableEstimateWarning: where more than a tenth of the points have `Estimate.unreliable`.
    """
    options: dict[str, Any] = {"generator": generator, "precision": precision, "compile": compile}
    result = iwae(model, x, num_samples=num_samples, chunk_size=chunk_size, progress=progress, **options)
    _warn_if_unreliable(result)
    return replace(result, method="importance sampling")


def _warn_if_unreliable(estimate: Estimate) -> None:
    num_bad = int(estimate.unreliable.sum())
    if num_bad <= MANY_UNRELIABLE * len(estimate):
        return
    warnings.warn(
        f"log p(x) of {num_bad} of {len(estimate)} points is not to be believed to its standard error (median ess "
        f"{float(estimate.ess.median()):.1f} of K = {estimate.num_samples}): q(z|x) is too far from p(z|x), and the "
        "largest weights are missing. The values remain lower bounds in expectation. Raise num_samples, train with "
        "IWAE or a richer posterior, or enclose log p(x) by evaluation.ais.",
        UnreliableEstimateWarning,
        stacklevel=3,
    )


def iwae(
    model: LatentVariableModel,
    x: Any,
    *,
    num_samples: int,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
) -> Estimate:
    """The importance-weighted bound L_K per point: what `log_marginal` computes, read as a bound for this K.

    Args:
        model: see `log_marginal`.
        x: data in their own units, shape (N, *X).
        num_samples: K.
        generator: see `log_marginal`, as for the other options.
        precision: of matrix products inside the model's networks.
        compile: "on" compiles the decoder's pass.
        chunk_size: number of z per decoder pass.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        See `Estimate`; `method` is "iwae".
    """
    x, quantity, jacobian = prepare(model, x, num_samples)
    weights, tails = WeightSums(len(x)), TailIndex(len(x), num_samples)
    offset = torch.zeros(len(x), dtype=torch.float64)
    with engine.evaluating_in(model, precision):
        for rows, _, draws, log_det in weight_blocks(
            model, x, num_samples, generator=generator, compile=compile, chunk_size=chunk_size, progress=progress
        ):
            weights.add(rows, draws.log_weights)
            tails.add(rows, draws.log_weights)
            if jacobian:
                offset[rows] = log_det.double().cpu()
    return _from_weights(weights, tails, offset, num_samples, quantity)


def _from_weights(weights: WeightSums, tails: TailIndex, offset: Tensor, num_samples: int, quantity: str) -> Estimate:
    return Estimate(
        value=weights.log_mean(num_samples) + offset,
        stderr=weights.log_mean_stderr(num_samples),
        ess=weights.ess,
        max_weight=weights.max_weight,
        num_samples=num_samples,
        method="iwae",
        quantity=quantity,
        terms={"tail_index": tails.index},
    )


def elbo(model: LatentVariableModel, x: Any, *, num_samples: int = 1, kl: KLMode = "auto", **options: Any) -> Estimate:
    """The evidence lower bound per point, at beta = 1, in the units of x; `terms` holds `log_likelihood` and `kl`.

    Args:
        model: see `log_marginal`.
        x: data in their own units, shape (N, *X).
        num_samples: M, draws of z per point.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.
        **options: `generator`, `precision`, `compile`, `chunk_size`, `progress` of `log_marginal`.

    Returns:
        See `Estimate`. The log-likelihood term includes log|det| of the transform where the value is a density.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model.
        ConfigError: if M < 1, or kl="analytic" and there is no closed form.
    """
    return elbo_and_iwae(model, x, num_samples=num_samples, kl=kl, **options)[0]


def elbo_and_iwae(
    model: LatentVariableModel,
    x: Any,
    *,
    num_samples: int,
    kl: KLMode = "auto",
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
) -> tuple[Estimate, Estimate]:
    """The ELBO and the IWAE bound of the same K draws, for the price of one; see `elbo` and `iwae`."""
    x, quantity, jacobian = prepare(model, x, num_samples, kl)
    weights, values = WeightSums(len(x)), RunningMoments(len(x))
    log_likelihoods, divergences = RunningMoments(len(x)), RunningMoments(len(x))
    tails = TailIndex(len(x), num_samples)
    offset = torch.zeros(len(x), dtype=torch.float64)
    with engine.evaluating_in(model, precision):
        for rows, q, draws, log_det in weight_blocks(
            model, x, num_samples, generator=generator, compile=compile, chunk_size=chunk_size, progress=progress
        ):
            sampled = draws.log_posterior - draws.log_prior
            closed = closed_form_kl(q, model.prior(), kl)
            divergence = sampled if closed is None else closed.expand_as(sampled)
            log_likelihood = draws.log_likelihood + log_det if jacobian else draws.log_likelihood
            values.add(rows, log_likelihood - divergence)
            log_likelihoods.add(rows, log_likelihood)
            divergences.add(rows, divergence)
            weights.add(rows, draws.log_weights)
            tails.add(rows, draws.log_weights)
            if jacobian:
                offset[rows] = log_det.double().cpu()
    common: dict[str, Any] = {"ess": weights.ess, "max_weight": weights.max_weight}
    common |= {"num_samples": num_samples, "quantity": quantity}
    terms = {"log_likelihood": log_likelihoods.mean, "kl": divergences.mean}
    lower = Estimate(value=values.mean, stderr=values.mean_stderr, method="elbo", terms=terms, **common)
    return lower, _from_weights(weights, tails, offset, num_samples, quantity)
