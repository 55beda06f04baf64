"""What stood in the holes of a row: a fill for each, with an interval, or several draws of the whole row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.models.rows import as_tensor
from vaekit.queries.apart import merged, under_contexts
from vaekit.queries.cells import Cells, Statistic
from vaekit.queries.latents import enough, keys_of, latents, view_of
from vaekit.shapes import check_count
from vaekit.traits import Data


@dataclass(frozen=True)
class Imputation:
    """Rows whose holes are filled, in the units of the data.

    Attributes:
        filled: the rows, shape (N, *X), in their dtype: observed cells bit for bit, in holes the mean or median of
            numbers and the most probable level of levels.
        lower: lower ends of the intervals of filled cells, shape (N, *X), float64; NaN in observed cells. Of levels the
            interval is one of their codes, which means something where the levels have an order.
        upper: upper ends, likewise.
        ess: effective number of draws of z behind each row, shape (N,), float64; NaN in rows without holes.
        draws: several imputations, shape (M, N, *X): draws from p(hidden cells | observed cells), each row's hidden
            cells together; None unless they were asked for.
        num_samples: K, draws of z per row.
    """

    filled: Tensor
    lower: Tensor
    upper: Tensor
    ess: Tensor
    draws: Tensor | None
    num_samples: int

    @property
    def num_filled(self) -> int:
        """How many cells were filled."""
        return int((~self.lower.isnan()).sum())

    @property
    def unreliable(self) -> Tensor:
        """Rows whose fills rest on fewer than 10 effective draws of z, shape (N,), bool."""
        return self.ess < enough(self.num_samples)

    def __repr__(self) -> str:
        num_draws = 0 if self.draws is None else len(self.draws)
        return (
            f"Imputation({self.num_filled} cells of {len(self.filled)} rows, K={self.num_samples}, {num_draws} draws, "
            f"{int(self.unreliable.sum())} rows unreliable)"
        )


def impute(
    model: object,
    x: Data,
    num_samples: int = 100,
    num_draws: int | None = None,
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    level_values: Mapping[int, Sequence[float]] | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Imputation:
    r"""Fill the holes of rows (NaN) by what the model makes of their observed cells.

    Draws \( z_k \sim q(z|x_o) \) with importance weights \( w_k \propto p(x_o|z_k) p(z_k) / q(z_k|x_o) \) that sum to 1
    stand for \( p(z|x_o) \). The mean of a number is \( \sum_k w_k E[x_j|z_k] \), in the units of the data: the mean of
    a log-normal is not the exponential of the mean of its logarithm. The median is that of the mixture
    \( \sum_k w_k p(x_j|z_k) \), and so are the ends of the interval; the level is the one with the largest
    \( \sum_k w_k P(x_j|z_k) \).

    Use the fills where one table is wanted, and draws (`num_draws`) where a statistic of the filled table is: fills
    have too little spread, and columns of fills are too much alike. `pool` combines the statistics of several draws.
    Missing at random is assumed: given what was observed, it must not depend on a hidden value whether it is hidden;
    a likelihood such as `SelfMasked` says how it does.

    A row is filled alike alone and among others: its noise is a function of its content and the generator. Draws of
    equal rows differ, by the order of these rows among themselves. A row of nothing but holes is filled from p(x).

    References:
        Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        https://arxiv.org/abs/1812.02633, equations 12 and 13.
        Rubin, "Multiple imputation for nonresponse in surveys", 1987, https://doi.org/10.1002/9780470316696.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`, whose likelihood leaves out NaN
            (missing="observed-only"); its `transform` is applied where it has one.
        x: rows in the units of the data, shape (N, *X), NaN in holes.
        num_samples: K, draws of z per row.
        num_draws: M, imputations that are draws; None makes none.
        statistic: "mean" or "median" of numbers.
        level: mass of an interval, which leaves out as much on either side.
        level_values: by the place of an element what its levels stand for, where these are numbers in an order, such as
            grades 1 to 5: the fill is then the level nearest to the statistic of these, and not the most probable one.
        generator: source of the noise; None is torch's own stream.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        See `Imputation`.

    Raises:
        DataError: if there are holes and the likelihood counts each element, or the encoder bears none.
        ShapeError, SupportError: if the rows do not fit the model.
        ConfigError: if a count is below 1, another statistic is asked for, or p(x|z) is no product over cells.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        ...     model.decoder.head.missing = "observed-only"
        >>> impute(model, torch.zeros(2, 3), generator=torch.Generator().manual_seed(0))
        Imputation(0 cells of 2 rows, K=100, 0 draws, 0 rows unreliable)
    """
    check_count(num_samples, "num_samples")
    if num_draws is not None:
        check_count(num_draws, "num_draws")
    how: dict[str, Any] = {"statistic": statistic, "level": level, "level_values": level_values, "progress": progress}
    parts = under_contexts(
        model, x, generator, lambda one, rows, noise: impute(one, rows, num_samples, num_draws, generator=noise, **how)
    )
    if parts is not None:
        return merged(parts, draws=1)
    view = view_of(model, x, "impute")
    seed = engine.draw_seed(generator)
    cells = Cells(view, seed, statistic, level, level_values)
    rows = as_tensor(view.rows).cpu()
    hole = rows.isnan() if rows.is_floating_point() else torch.zeros(rows.shape, dtype=torch.bool)
    holed = hole.flatten(1).any(1).nonzero().flatten()
    result = Imputation(
        filled=rows.clone(),
        lower=torch.full(rows.shape, torch.nan, dtype=torch.float64),
        upper=torch.full(rows.shape, torch.nan, dtype=torch.float64),
        ess=torch.full((len(rows),), torch.nan, dtype=torch.float64),
        draws=None if num_draws is None else rows.repeat(num_draws, *[1] * rows.ndim),
        num_samples=num_samples,
    )
    if not len(holed):
        return result
    some = view.take(holed)
    for part in latents(some, num_samples, seed, keys_of(rows[holed]), progress=progress):
        at = holed[part.rows]
        wanted = hole[at].flatten(1)
        with engine.evaluating(cells.model):
            summary = cells.summary(part, wanted)
        result.filled[at] = _filled(rows[at], summary.value)
        for ends, values in ((result.lower, summary.lower), (result.upper, summary.upper)):
            ends[at] = torch.where(hole[at], values.reshape(hole[at].shape), torch.nan)
        result.ess[at] = part.ess.cpu()
    if result.draws is not None:
        for part in latents(some, num_samples, seed, keys_of(rows[holed], apart=True), progress=progress):
            at = holed[part.rows]
            with engine.evaluating(cells.model):
                values = cells.rows(part, hole[at].flatten(1), len(result.draws))
            result.draws[:, at] = _filled(rows[at], values)
    return result


def _filled(rows: Tensor, values: Tensor) -> Tensor:
    """Rows whose holes hold values of shape (..., B, D), in the dtype of the rows."""
    values = values.reshape(*values.shape[:-1], *rows.shape[1:]).to(rows.dtype)
    return torch.where(rows.isnan(), values, rows)
