"""Bounds of a table in parts: of each row, and their means over the rows of all parts in the memory of one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaekit import evaluation
from vaekit.data.cells import naming_cells
from vaekit.evaluation.results import Result, Results, in_bits, left_out, of_none, result, with_article
from vaekit.models.view import View
from vaekit.runs.table import Table, check_key

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.runs.run import Run

_COLUMNS = ("elbo", "elbo_stderr", "log_likelihood", "kl", "iwae", "stderr", "ess", "unreliable")
_MEANS = {  # name to label, and the column of its Monte Carlo error
    "elbo": ("ELBO", "elbo_stderr"),
    "log_likelihood": ("log-likelihood, E[log p(x|z)]", None),
    "kl": ("KL(q(z|x), p(z))", None),
    "iwae": ("IWAE", "stderr"),
}
_DIAGNOSED = 2000


def bounds_by_row(
    run: "Run",
    rows: "Dataset",
    *,
    num_samples: int = 100,
    seed: int = 0,
    transform_draws: int = 1,
    transform_seed: int = 0,
    progress: bool = False,
) -> Table:
    """The bounds of `evaluate` for each row, in nats: the columns `elbo`, `log_likelihood`, `kl`, `iwae`, with errors.

    The noise of a row is a function of its content and the seed, so that parts have the numbers
    of the whole table.

    Args:
        run: the run.
        rows: a data set, as `Run.rows` gives it.
        num_samples: K, draws of z per row.
        seed: source of all noise but that of a random transform.
        transform_draws: T, draws of a random transform's noise for each row.
        transform_seed: the first transform seed.
        progress: whether to report on stderr.

    Returns:
        The columns named above, `elbo_stderr` and `stderr` (Monte Carlo errors of the ELBO and the IWAE bound), `ess`,
        and `unreliable`, 1 where the weights of a row are not to be believed.
    """
    check_key(rows.key, _COLUMNS)
    with naming_cells(rows):
        view = View.of(run.model, rows)
    lower, tighter = evaluation.elbo_and_iwae(
        run.model,
        view,
        num_samples=num_samples,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
        key="content",
        transform_draws=transform_draws,
        transform_seed=transform_seed,
    )
    columns = [lower.value, lower.stderr, lower.terms["log_likelihood"], lower.terms["kl"]]
    columns += [tighter.value, tighter.stderr, tighter.ess, tighter.unreliable]
    values = torch.stack([column.double() for column in columns], dim=1).numpy()
    said = (f"log p is {with_article(view.quantity)}", f"K = {num_samples} draws of z per row", tighter.transform_noise)
    notes = tuple(sentence for sentence in said if sentence is not None)
    return Table(values, _COLUMNS, rows.key, rows.row_keys, notes=notes, quantity=view.quantity)


@dataclass
class _Sum:
    """Sums over the rows that have a number, of one column and of the squares of its Monte Carlo errors."""

    num: int = 0
    lost: int = 0
    massless: int = 0
    mean: float = 0.0
    squares: float = 0.0  # of distances to the mean
    variance: float = 0.0  # of the sum, by the Monte Carlo errors

    def add(self, values: np.ndarray, errors: np.ndarray | None) -> None:
        """Take in the rows of a part, by the pairwise rule of Chan, Golub and LeVeque (1979)."""
        kept = np.isfinite(values)
        self.lost += int((~kept).sum())
        self.massless += int((values == -np.inf).sum())
        numbers, num = values[kept], int(kept.sum())
        if num == 0:
            return
        shift, total = float(numbers.mean()) - self.mean, self.num + num
        self.squares += float(numbers.var()) * num + shift**2 * self.num * num / total
        self.mean += shift * num / total
        self.num = total
        self.variance += math.nan if errors is None else float(np.square(errors[kept]).sum())

    def result(self, name: str, label: str) -> Result:
        """The mean as a row of results."""
        if self.num == 0:
            values = torch.full((self.lost,), -math.inf if self.massless == self.lost else math.nan)
            return Result(name, label, None, reason=of_none(values))
        label += left_out(self.num + self.lost, self.lost, self.massless)
        sampling = math.sqrt(self.squares / (self.num - 1) / self.num) if self.num > 1 else math.nan
        return result(name, label, self.mean, math.sqrt(self.variance) / self.num, sampling)


def pooled(run: "Run", answers: Sequence[Path], num_samples: int) -> Results:
    """The means of `evaluate` over the rows of all parts, from the files that the question `bounds` left.

    Args:
        run: the run that was asked.
        answers: the files, one for each part.
        num_samples: K of the bounds.

    Returns:
        `elbo`, `log_likelihood`, `kl` and `iwae` with both errors, `bits_per_dimension` of a mass, `num_points`,
        `num_samples`, `ess_mean`, `unreliable_fraction`, and `without_number` where rows have none.
    """
    from pyarrow import parquet

    sums, ess, unreliable, num = {name: _Sum() for name in _MEANS}, 0.0, 0.0, 0
    for path in answers:
        table = parquet.read_table(path, columns=list(_COLUMNS))
        part = {name: table[name].to_numpy() for name in _COLUMNS}
        part["log_likelihood"], part["kl"] = (
            np.where(np.isfinite(part["elbo"]), part[name], np.nan) for name in ("log_likelihood", "kl")
        )  # whose difference the ELBO is: means over the same rows
        for name, (_, error) in _MEANS.items():
            sums[name].add(part[name], None if error is None else part[error])
        num += table.num_rows
        ess += float(np.nansum(part["ess"]))
        unreliable += float(part["unreliable"].sum())
    view = View.of(run.model)
    labels = {name: label for name, (label, _) in _MEANS.items()}
    labels["iwae"] += f", K = {num_samples:,}"
    bounds = ("elbo", "iwae")
    found = [sums[n].result(n, labels[n] + (f" ({view.quantity})" if n in bounds else "")) for n in _MEANS]
    tightest = found[-1]
    if view.quantity in ("mass", "bound on a mass") and tightest.value is not None:
        errors = (tightest.stderr, tightest.sampling_stderr)
        found.append(in_bits(tightest.value, *errors, math.prod(view.event_shape)))
    found.append(result("num_points", "rows", num, unit="rows", detail=True))
    found.append(result("num_samples", "draws of z per row, K", num_samples, unit="draws"))
    if sums["iwae"].lost:
        found.append(result("without_number", "rows without a number (IWAE)", sums["iwae"].lost, unit="rows"))
    found.append(result("ess_mean", f"mean effective sample size of {num_samples:,}", ess / max(num, 1), unit="draws"))
    share = unreliable / max(num, 1)
    found.append(result("unreliable_fraction", "share of rows with unreliable weights", share, unit=""))
    return Results(tuple(found), view.quantity)


def diagnosed(run: "Run", rows: "Dataset", seed: int) -> list[Result]:
    """The diagnostics of `evaluate` and its verdict, of at most 2,000 rows of a part."""
    found = run.evaluate(rows, num_samples=100, max_rows=_DIAGNOSED, seed=seed)
    return [row for row in found if row.name.startswith("diagnostics.")]
