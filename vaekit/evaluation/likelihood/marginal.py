"""log p(x), ELBO and IWAE per point, with errors."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import KLMode, LatentVariableModel, check_arguments, closed_form_kl
from vaekit.engine import world
from vaekit.errors import UnreliableEstimateWarning
from vaekit.evaluation.estimate import FAR, MANY_UNRELIABLE, NARROW, UNRESOLVED, Estimate
from vaekit.evaluation.likelihood.far import Floors, Means, is_searchable, redrawn
from vaekit.evaluation.likelihood.narrow import MOST_DIMS, is_narrow, is_unresolved
from vaekit.evaluation.likelihood.transform_draws import is_averaged, over_draws
from vaekit.evaluation.weights import RunningMoments, Weights
from vaekit.models.draws import BLOCK_ROWS, Block, Key, RowNoise, Sampling, row_seed
from vaekit.models.view import View
from vaekit.traits import Data

_CONTEXTS = 100  # of rows, beyond which rows that the encoder fails are not searched for: each context is another model


def log_marginal(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
    key: Key | None = None,
    transform_draws: int = 1,
    transform_seed: int | None = None,
) -> Estimate:
    r"""log p(x) of each row by importance sampling from q(z|x), in the units of x.

    \( \log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x) \): a lower bound in expectation that becomes exact as K grows.
    The weights are accumulated in float64 and never kept, so memory does not grow with K.

    In a group of `torch.distributed` every process calls this with the same rows and an equal generator. The processes
    divide the rows, and each has the estimate of one process; `vaekit.distributed.alone` is for a process that asks by
    itself.

    Rows far from what the model generates, of which an encoder knows nothing, and those whose q(z|x) is far narrower
    than p(z|x) (`evaluation.likelihood.narrow`) get draws of their own; see `evaluation.likelihood.far`. They take as
    long as some 1,000 draws more.

    A random transform (drawn bits, dequantisation) draws noise that is a function of the row and of the transform seed,
    whatever the generator. With `transform_draws` T the value is \( \frac1T \sum_t \log p(y_t) \) over the rows
    \( y_t \) in model space under the seeds s, ..., s + T - 1, log|det| included: an estimate of \( E[\log p(y)] \)
    over that noise. Of bits this is the mean log mass of the bits, of dequantised integers the bound
    \( E_u[\log p(y) - D \log L] \le \log P(x) \), not the tighter log of a mean. `stderr` is then the standard
    error of this mean from the scatter of its T terms, each of which has draws of z of its own, so that Monte Carlo
    noise is in it; times the factor of Student's t, so that value +- 1.96 stderr covers 95% from T = 2 on.

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
        key: what the noise of a row depends on beside the generator: "content" (its values) or "row" (its number), or
            integers of shape (N,): a row then scores the same alone and among others, up to rounding. None draws noise
            in fixed blocks of rows, which is faster.
        transform_draws: T, draws of the noise of a random transform for each row. With 1, `stderr` is that of Monte
            Carlo for the one draw, and does not hold the scatter over others; `Estimate.transform_noise` says so. It
            costs T times as much. Without a random transform there is nothing to average.
        transform_seed: s, the first transform seed; None is that of a view, and 0 for rows.

    Returns:
        Per point: value, stderr (`evaluation.weights.Weights.stderr`), ess and the largest weight; see `Estimate`.
        A row with NaN or +inf among its weights has the value NaN, one without mass at every draw -inf. Both are
        `unreliable`, and `Estimate.reason` says why.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model.
        ConfigError: if K or T < 1.

    Warns:
        UnreliableEstimateWarning: where more than a tenth of the points have `Estimate.unreliable`.
    """
    check_arguments(num_samples)
    view = View.of(model, x).under(transform_seed)
    how = Sampling(num_samples, _agreed(generator), compile, chunk_size, progress, key, is_shared=True)
    result = _over_draws(_log_marginal, view, how, precision, transform_draws)
    _warn_if_unreliable(result)
    return result


def _agreed(generator: torch.Generator | None) -> torch.Generator | None:
    """A source of noise that is the same on all processes: the one that all of them have, or one of process 0's."""
    if generator is not None or world.size() == 1:
        return generator
    seed = world.from_first(lambda: str(engine.draw_seed(None)).encode())
    return torch.Generator().manual_seed(int(seed))


def _warn_if_unreliable(estimate: Estimate) -> None:
    num_bad = int(estimate.unreliable.sum())
    if num_bad <= MANY_UNRELIABLE * len(estimate):
        return
    counts = "; ".join(f"{int(rows.sum())}: {text}" for text, rows in estimate.reasons.items())
    warnings.warn(
        f"log p(x) of {num_bad} of {len(estimate)} points is not to be believed to its standard error (median ess "
        f"{float(estimate.ess.nanmedian()):.1f} of K = {estimate.num_samples}). Of them {counts}. Finite values remain "
        "lower bounds in expectation. Raise num_samples, train with IWAE or a richer posterior, or enclose log p(x) by "
        "evaluation.ais.",
        UnreliableEstimateWarning,
        stacklevel=3,
    )


def iwae(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
    key: Key | None = None,
    transform_draws: int = 1,
    transform_seed: int | None = None,
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
        key: see `log_marginal`.
        transform_draws: see `log_marginal`.
        transform_seed: see `log_marginal`.

    Returns:
        See `Estimate`; `method` is "iwae".
    """
    check_arguments(num_samples)
    view = View.of(model, x).under(transform_seed)
    how = Sampling(num_samples, _agreed(generator), compile, chunk_size, progress, key, is_shared=True)
    return _over_draws(_iwae, view, how, precision, transform_draws)


def _over_draws(
    ask: Callable[[View, Sampling, engine.Precision], Estimate],
    view: View,
    how: Sampling,
    precision: engine.Precision,
    transform_draws: int,
) -> Estimate:
    """What is asked, or its mean over draws of the transform's noise."""
    if not is_averaged(view, transform_draws):
        return ask(view, how, precision)
    draws, noise = transform_draws, how.generator
    return over_draws(view, draws, noise, lambda v, g: (ask(v, replace(how, generator=g), precision),))[0]


def _iwae(view: View, how: Sampling, precision: engine.Precision) -> Estimate:
    return _weighed(view, how, precision).estimate()


def _log_marginal(view: View, how: Sampling, precision: engine.Precision) -> Estimate:
    sums = _weighed(view, how, precision)
    for index, part in view.by_context(_CONTEXTS):
        _redraw(sums, view, part, index, how)
    return replace(sums.estimate(), method="importance sampling")


class _Sums:
    """The importance weights of all rows, and what else their estimate says of them.

    Attributes:
        weights: the weights.
        means: where the rows lie.
        quantity: what log p is.
        noise: what is to be said of the transform's noise, or None.
        unresolved, narrow: see `evaluation.likelihood.narrow`, shape (N,); of the first draws of each row, at most 512.
        offset: log|det| of the transform, and of rows with draws of their own what `Redrawn.offset` has, shape (N,).
        far: rows whose draws from q lie far from what the model generates, shape (N,); known at the end.
    """

    def __init__(self, view: View, num_samples: int) -> None:
        num_rows = len(view)
        self.weights, self.means, self.quantity = Weights(num_rows, num_samples), Means(num_rows), view.quantity
        self.noise = view.transform_noise()
        self.unresolved, self.narrow, self.far, self._judged = torch.zeros(4, num_rows, dtype=torch.bool).unbind()
        self.offset = torch.zeros(num_rows, dtype=torch.float64)
        self._own = slice(0, 0)  # the rows of this process, which are next to each other

    def add(self, block: Block) -> None:
        """Add draws of some rows."""
        self.weights.add(block.rows, block.draws.log_weights)
        self.means.add(block.rows, block.draws)
        if not bool(self._judged[block.rows].all()):
            self.unresolved[block.rows] = is_unresolved(block.posterior, block.draws.z)
            self.narrow[block.rows] = is_narrow(block.posterior, block.draws)
            self._judged[block.rows] = True
        self.offset[block.rows] = block.log_det.cpu()
        self._own = slice(self._own.start if self._own.stop else block.rows.start, block.rows.stop)

    def finish(self, view: View, *beside: Tensor) -> None:
        """Bring the rows of all processes together, and find the far ones.

        Of many contexts no floors are known, as each makes another model.

        Args:
            view: all rows.
            beside: what else is kept of each row, shape (N,) each, float64; written to.
        """
        if world.size() > 1:
            kept = (*self.weights.parts(), *self.means.parts(), self.unresolved, self.narrow, self.offset, *beside)
            found = world.gather(torch.stack([values[self._own].double() for values in kept], 1))
            for values, column in zip(kept, found.unbind(1), strict=True):
                values.copy_(column)
        for index, part in view.by_context(_CONTEXTS):
            log_prior, log_likelihood = self.means.log_prior[index], self.means.log_likelihood[index]
            self.far[index] = part.once(Floors.of).passed(log_prior, log_likelihood)

    def estimate(self) -> Estimate:
        """The mean weight of each row, as a bound."""
        weights = self.weights
        summary: dict[str, Any] = weights.summary()
        return Estimate(
            value=weights.sums.log_mean(weights.num_samples) + self.offset,
            stderr=weights.stderr(),
            num_samples=weights.num_samples,
            method="iwae",
            quantity=self.quantity,
            terms=weights.terms(),
            doubts={UNRESOLVED: self.unresolved, NARROW: self.narrow, FAR: self.far},
            transform_noise=self.noise,
            **summary,
        )


def _weighed(view: View, how: Sampling, precision: engine.Precision) -> _Sums:
    """The importance weights of draws from q."""
    sums = _Sums(view, how.num_samples)
    with engine.evaluating_in(view.model, precision):
        for block in view.blocks(how, keep_z=_is_small(view)):
            sums.add(block)
    sums.finish(view)
    return sums


def _is_small(view: View) -> bool:
    """Whether z has few enough dimensions for its draws to be looked at."""
    return math.prod(view.latent_shape) <= MOST_DIMS


def _redraw(sums: _Sums, view: View, part: View, index: Tensor, how: Sampling) -> None:
    """Let draws that do not rest on the encoder stand for rows that it fails, wherever they are the better ones.

    Args:
        sums: of all rows.
        view: all rows.
        part: those of one context, by the model under it.
        index: which of the rows these are.
        how: as for the draws of q.
    """
    failed = torch.zeros(len(view), dtype=torch.bool)
    failed[index] = (sums.far | sums.unresolved | sums.narrow)[index]
    if not bool(failed.any()) or not is_searchable(part.model):
        return
    seed = engine.draw_seed(how.generator)
    noise = RowNoise("row" if how.key is None else how.key, seed, len(view))
    for rows in failed.nonzero().flatten().split(BLOCK_ROWS):
        with engine.evaluating(view.model):
            batch = view.batch(rows, noise)
            assert batch.key is not None
            seeds = [row_seed(seed, key) for key in batch.key.tolist()]
            found = redrawn(part, batch, how.num_samples, seeds)
        # Weights of draws that differ by rounding alone may be of any size.
        own = sums.means.log_weight[rows].nan_to_num(nan=-math.inf).masked_fill(sums.unresolved[rows], -math.inf)
        taken = found.is_number & (found.log_weight >= own)
        sums.weights.put(rows[taken], found.weights, taken)
        sums.offset[rows[taken]] = found.offset[taken]
        sums.narrow[rows[taken]] = False
        # A row like others whose q is a point stays marked: that q serves nothing else either.
        sums.unresolved[rows[taken]] &= ~sums.far[rows[taken]]
        sums.far[rows] = sums.far[rows] & ~found.is_number


def elbo(model: LatentVariableModel, x: Data, *, num_samples: int = 1, kl: KLMode = "auto", **options: Any) -> Estimate:
    """The evidence lower bound per point, at beta = 1, in the units of x; `terms` holds `log_likelihood` and `kl`.

    Args:
        model: see `log_marginal`.
        x: data in their own units, shape (N, *X).
        num_samples: M, draws of z per point.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.
        **options: `generator`, `precision`, `compile`, `chunk_size`, `progress`, `key`, `transform_draws`,
            `transform_seed` of `log_marginal`.

    Returns:
        See `Estimate`. The log-likelihood term includes log|det| of the transform where the value is a density.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model.
        ConfigError: if M or T < 1, or kl="analytic" and there is no closed form.
    """
    return elbo_and_iwae(model, x, num_samples=num_samples, kl=kl, **options)[0]


def elbo_and_iwae(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int,
    kl: KLMode = "auto",
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
    key: Key | None = None,
    transform_draws: int = 1,
    transform_seed: int | None = None,
) -> tuple[Estimate, Estimate]:
    """The ELBO and the IWAE bound of the same K draws, for the price of one; see `elbo` and `iwae`."""
    check_arguments(num_samples, kl)
    view = View.of(model, x).under(transform_seed)
    generator = _agreed(generator)
    if is_averaged(view, transform_draws):
        options: dict[str, Any] = {"precision": precision, "compile": compile, "chunk_size": chunk_size, "key": key}
        options |= {"num_samples": num_samples, "progress": progress, "kl": kl}
        lower, tighter = over_draws(
            view, transform_draws, generator, lambda v, g: elbo_and_iwae(model, v, generator=g, **options)
        )
        return lower, tighter
    sums, values = _Sums(view, num_samples), RunningMoments(len(view))
    log_likelihoods, divergences = RunningMoments(len(view)), RunningMoments(len(view))
    with engine.evaluating_in(model, precision):
        how = Sampling(num_samples, generator, compile, chunk_size, progress, key, is_shared=True)
        for block in view.blocks(how, keep_z=_is_small(view)):
            rows, q, prior, draws, _ = block
            sampled = draws.log_posterior - draws.log_prior
            closed = closed_form_kl(q, prior, kl)
            divergence = sampled if closed is None else closed.expand_as(sampled)
            values.add(rows, draws.log_likelihood - divergence)
            log_likelihoods.add(rows, draws.log_likelihood)
            divergences.add(rows, divergence)
            sums.add(block)
    sums.finish(view, *values.parts(), *log_likelihoods.parts(), *divergences.parts())
    common: dict[str, Any] = {"num_samples": num_samples, "quantity": view.quantity, **sums.weights.summary()}
    common["transform_noise"] = view.transform_noise()
    terms = {"log_likelihood": log_likelihoods.mean + sums.offset, "kl": divergences.mean}
    value = values.mean + sums.offset
    lower = Estimate(value=value, stderr=values.mean_stderr, method="elbo", terms=terms, **common)
    return lower, sums.estimate()
