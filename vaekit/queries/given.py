"""Draws of rows of which some cells are given."""

import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from vaekit import engine
from vaekit.errors import ConfigError, DataError, UnreliableEstimateWarning
from vaekit.evaluation.chains.hmc import hmc_posterior
from vaekit.models.draws import BLOCK_ROWS
from vaekit.models.rows import as_tensor, slices
from vaekit.models.view import View
from vaekit.queries.apart import merged, under_contexts
from vaekit.queries.cells import Cells
from vaekit.queries.latents import Latents, keys_of, latents, view_of
from vaekit.shapes import check_count
from vaekit.traits import Data, RowTraits, told

Method = Literal["importance", "hmc"]

_ENOUGH = 100  # effective draws of z, from which on more rows than that may be drawn
_MIXED = 1.1  # R-hat


def sample_given(
    model: object,
    x_partial: Data,
    n: int,
    *,
    method: Method = "importance",
    num_samples: int | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    r"""Rows drawn from p(other cells | given cells): n for each partial row.

    Importance resampling draws \( z_k \sim q(z|x_o) \), keeps n of K draws with probabilities proportional to
    \( w_k = p(x_o|z_k) p(z_k) / q(z_k|x_o) \), and draws the other cells from \( p(x_h|z) \). Where a condition is
    rare, or far from what q has learned, few draws of z carry all weight: a warning says how many there should be.
    Hamiltonian Monte Carlo owes nothing to q, and takes longer: some 300 transitions of four chains for each row.

    References:
        Rubin, "The calculation of posterior distributions by data augmentation: comment", 1987,
        https://doi.org/10.2307/2289460 (sampling importance resampling).
        Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`, whose likelihood leaves out NaN
            (missing="observed-only"); its `transform` is applied where it has one.
        x_partial: rows in the units of the data, shape (N, *X), NaN in the cells that are to be drawn.
        n: rows for each of them.
        method: "importance", or "hmc" for latents that are real numbers.
        num_samples: K, draws of z per row of importance resampling; None takes 20 n, and 1,000 at least.
        generator: source of the noise; None is torch's own stream.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        Shape (N, n, *X), the given cells bit for bit. A partial row without holes is repeated; one of nothing but holes
        has draws from p(x).

    Raises:
        DataError: if the model gives the given cells of a row no mass, with row and column; or its likelihood counts
            each element.
        ShapeError, SupportError: if the rows do not fit the model.
        ConfigError: if a count is below 1, the method is another one, or p(x|z) is no product over cells.

    Warns:
        UnreliableEstimateWarning: where the draws of a row rest on few draws of z, or chains have not mixed.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> partial = torch.tensor([[0.5, 1.0, -1.0]])
        >>> sample_given(model, partial, 2, generator=torch.Generator().manual_seed(0))
        tensor([[[ 0.5000,  1.0000, -1.0000],
                 [ 0.5000,  1.0000, -1.0000]]])
    """
    check_count(n, "n")
    if method not in ("importance", "hmc"):
        raise ConfigError(f'method is "importance" or "hmc"; got {method!r}')
    if num_samples is not None:
        check_count(num_samples, "num_samples")
    how: dict[str, Any] = {"method": method, "num_samples": num_samples, "progress": progress}
    parts = under_contexts(
        model, x_partial, generator, lambda one, rows, noise: sample_given(one, rows, n, generator=noise, **how)
    )
    if parts is not None:
        return merged(parts)
    names = told(RowTraits, x_partial).columns
    view = view_of(model, x_partial, "sample_given")
    seed = engine.draw_seed(generator)
    cells = Cells(view, seed)
    rows = as_tensor(view.rows).cpu()
    hole = rows.isnan() if rows.is_floating_point() else torch.zeros(rows.shape, dtype=torch.bool)
    holed = hole.flatten(1).any(1).nonzero().flatten()
    result = rows.unsqueeze(1).repeat(1, n, *[1] * (rows.ndim - 1))
    if not len(holed):
        return result
    some, keys = view.take(holed), keys_of(rows[holed], apart=True)
    num_draws = num_samples or max(1000, 20 * n)
    if method == "hmc":
        found = _from_chains(some, n, seed, keys, progress)
    else:
        found = _weighed(cells, some, latents(some, num_draws, seed, keys, progress=progress), n, holed, names)
    for part in found:
        at = holed[part.rows]
        with engine.evaluating(cells.model):
            values = cells.rows(part, hole[at].flatten(1), n).transpose(0, 1)
        drawn = values.reshape(len(at), n, *rows.shape[1:]).to(rows.dtype)
        result[at] = torch.where(hole[at].unsqueeze(1), drawn, result[at])
    return result


def _from_chains(view: View, n: int, seed: int, keys: Tensor, progress: bool) -> Iterator[Latents]:
    """Draws of chains that have equal weights.

    Warns:
        UnreliableEstimateWarning: The chains of a row have not mixed.
    """
    noise = torch.Generator().manual_seed(seed)
    found = hmc_posterior(
        view.model, view, num_samples=max(100, n // 2), num_warmup=200, generator=noise, progress=progress
    )
    r_hat = found.r_hat.flatten(1).amax(1)
    apart = int((~(r_hat < _MIXED)).sum())
    if apart:
        warnings.warn(
            f"the chains of {apart} of {len(r_hat)} partial rows have not mixed (R-hat {float(r_hat.max()):.2f}): "
            'their draws may miss a part of p(z | given cells). Compare with method="importance".',
            UnreliableEstimateWarning,
            stacklevel=3,
        )
    z = found.z.flatten(0, 1)
    weights = torch.full(z.shape[:2], 1 / len(z), dtype=torch.float64)
    for rows in slices(len(keys), BLOCK_ROWS):
        numbers = torch.arange(rows.start, rows.stop)
        own = z[:, rows].to(view.device), weights[:, rows], keys[rows], ~(r_hat[rows] < torch.inf)
        yield Latents(numbers, *own, view.batch(numbers, by_row=True).x)


def _weighed(
    cells: Cells, view: View, found: Iterator[Latents], n: int, places: Tensor, names: Any
) -> Iterator[Latents]:
    """Weighted draws, once it is sure that each row has some weight.

    Args:
        cells: the cells of the model.
        view: the partial rows.
        found: draws of z for them.
        n: draws of each row that are wanted.
        places: their numbers among all rows, for messages.
        names: of the columns, or None.

    Raises:
        DataError: No draw gives a row any mass.

    Warns:
        UnreliableEstimateWarning: The draws of a row rest on few draws of z.
    """
    enough, fewest, num_few, num_draws = min(n, _ENOUGH), math.inf, 0, 0
    for part in found:
        massless = (part.weights.sum(0) == 0).nonzero().flatten()
        if len(massless):
            row = int(part.rows[massless[0]])
            raise DataError(_impossible(cells, view, part, int(massless[0]), int(places[row]), names))
        few = part.ess < enough
        num_few, num_draws = num_few + int(few.sum()), len(part.z)
        fewest = min(fewest, float(part.ess.min()))
        yield part
    if num_few:
        needed = math.ceil(num_draws * enough / fewest)
        warnings.warn(
            f"the condition of {num_few} of {len(places)} partial rows is rare under q(z|x): their draws rest on as "
            f"few as {fewest:.1f} effective draws of z out of K = {num_draws:,}. Take num_samples={needed:,}, or "
            'method="hmc".',
            UnreliableEstimateWarning,
            stacklevel=3,
        )


def _impossible(cells: Cells, view: View, part: Latents, i: int, row: int, names: Any) -> str:
    """Why a row has no mass: the columns whose value no draw of z allows."""
    with engine.evaluating(cells.model):
        y = view.batch(part.rows[i : i + 1], by_row=True).x
        lost = (cells.log_prob(part.z[:, i : i + 1], y) == -torch.inf).all(0)[0].nonzero().flatten().tolist()
    values = view.rows[part.rows[i : i + 1]].flatten().tolist()
    named = [f"{names[j]!r}" if names is not None else f"{j}" for j in lost]
    said = ", ".join(f"column {name} is {values[j]:g}" for name, j in zip(named, lost, strict=True))
    what = f"{said}, which no draw of z allows" if lost else "no draw of z allows the given cells together"
    return f"the model gives the condition of row {row} no mass: {what}. Give another value, or leave the column open."
