"""Which cells make a row odd: -log p(x_j | the others), beside what was to be expected there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vaekit import engine
from vaekit.errors import ConfigError, DataError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.progress import track
from vaekit.queries.apart import merged, under_contexts
from vaekit.queries.cells import Cells, Statistic, parts_of
from vaekit.queries.latents import doubtful, enough, keys_of, latents, takes_holes, view_of
from vaekit.queries.weighted import effective_size, normalized, or_equal
from vaekit.shapes import check_count
from vaekit.traits import Data

Method = Literal["masked", "leave-one-out"]


@dataclass(frozen=True)
class ElementScores:
    """How odd each cell is beside the other cells of its row, and what was to be expected there.

    Attributes:
        surprisal: -log p(x_j | the other observed cells) in nats, in the units of the data, shape (N, *X), float64; NaN
            in holes.
        expected: the mean or median of a number given the others, the most probable level of levels, likewise.
        lower: lower ends of intervals that hold the given mass of p(x_j | the others), likewise.
        upper: upper ends, likewise.
        ess: effective number of draws of z behind each cell, likewise.
        is_mass: where the surprisal is that of a mass, as of levels and counts, and not of a density, shape (N, *X),
            bool. Densities have units: those of two columns say little beside each other.
        is_masked: where z was inferred from the other cells, and not from the whole row with weights that leave the
            cell out, shape (N, *X), bool.
        num_samples: K, draws of z per cell.
    """

    surprisal: Tensor
    expected: Tensor
    lower: Tensor
    upper: Tensor
    ess: Tensor
    is_mass: Tensor
    is_masked: Tensor
    num_samples: int

    @property
    def unreliable(self) -> Tensor:
        """Cells whose numbers rest on fewer than 10 effective draws of z, shape (N, *X), bool."""
        return self.ess < enough(self.num_samples)

    def __repr__(self) -> str:
        shape, bad = tuple(self.surprisal.shape), int(self.unreliable.sum())
        return f"ElementScores({shape}, K={self.num_samples}, {bad} cells unreliable)"


def score_elements(
    model: object,
    x: Data,
    num_samples: int = 100,
    *,
    method: Method | None = None,
    statistic: Statistic = "mean",
    level: float = 0.95,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> ElementScores:
    r"""-log p(x_j | the other cells of its row) of each cell, with its expected value and an interval.

    Where the likelihood leaves out NaN and the encoder bears it, cell j is masked and z inferred from the others:
    \( p(x_j|x_{-j}) = \sum_k w_k p(x_j|z_k) \) with weights \( w_k \propto p(x_{-j}|z_k) p(z_k) / q(z_k|x_{-j}) \) that
    sum to 1. That takes D passes of K draws over the rows.

    Elsewhere, and for cells whose weights rest on few draws as the encoder has seen no masks, one more pass serves all
    cells: draws from the posterior of the whole row, weighed by \( w_k / p(x_j|z_k) \), with
    \( p(x_j|x_{-j}) = 1 / \sum_k w_k / p(x_j|z_k) \). Where x_j alone decides on z those weights are spread widely, as
    `ess` shows. Cells that rest on few draws either way get draws of z that are searched for.

    Use it to say which columns made a row odd. A cell is judged by itself: two cells that are odd together but explain
    each other both look ordinary.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`; its `transform` is applied where it has one.
        x: rows in the units of the data, shape (N, *X); NaN in holes, where the likelihood leaves them out.
        num_samples: K, draws of z per cell.
        method: "masked" or "leave-one-out" alone; None takes what serves each cell.
        statistic: "mean" or "median" as the expected value of numbers.
        level: mass of an interval, which leaves out as much on either side.
        generator: source of the noise; None is torch's own stream.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        See `ElementScores`. A row has the same answer alone and among others.

    Raises:
        ShapeError, DataError, SupportError: if the rows do not fit the model.
        ConfigError: if K < 1, another statistic or method is asked for, or the model does not bear "masked", or p(x|z)
            is no product over cells.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> score_elements(model, torch.zeros(2, 3), generator=torch.Generator().manual_seed(0))
        ElementScores((2, 3), K=100, 0 cells unreliable)
    """
    check_count(num_samples, "num_samples")
    how: dict[str, Any] = {"method": method, "statistic": statistic, "level": level, "progress": progress}
    parts = under_contexts(
        model, x, generator, lambda one, rows, noise: score_elements(one, rows, num_samples, generator=noise, **how)
    )
    if parts is not None:
        return merged(parts)
    view = view_of(model, x, "score_elements")
    seed = engine.draw_seed(generator)
    cells = Cells(view, seed, statistic, level)
    rows = as_tensor(view.rows).cpu()
    bears_masks = method != "leave-one-out" and _bears_masks(view, rows)
    if method not in (None, "masked", "leave-one-out") or (method == "masked" and not bears_masks):
        raise ConfigError(
            'method is "leave-one-out", or "masked" for a model whose likelihood and encoder leave NaN out; got '
            f"{method!r}"
        )
    table = _Table(cells, rows, num_samples, seed)
    if bears_masks:
        table.fill_masked(progress)
    if method != "masked":
        table.fill_left_out()
    if bears_masks:
        table.fill_masked(progress, search=True)
    return table.scores()


class _Table:
    """What is known of all cells so far; a cell is asked again, in another way, where it rests on few draws.

    Args:
        cells: those of the model.
        rows: as they were handed in, shape (N, *X).
        num_samples: K.
        seed: of all noise.
    """

    def __init__(self, cells: Cells, rows: Tensor, num_samples: int, seed: int) -> None:
        self.cells, self.rows, self.num_samples, self.seed = cells, rows, num_samples, seed
        self.observed = ~rows.flatten(1).isnan()
        self.numbers = torch.full((*self.observed.shape, 5), torch.nan, dtype=torch.float64)
        self.is_masked = torch.zeros_like(self.observed)

    @property
    def open(self) -> Tensor:
        """Cells that have no number yet, or one that rests on few draws, shape (N, D), bool."""
        return self.observed & ~(self.numbers[..., 4] >= doubtful(self.num_samples))

    def fill_masked(self, progress: bool, search: bool = False) -> None:
        """Each cell that is open from draws of z given the other cells of its row, in D passes."""
        wanted = self.open
        columns = wanted.any(0).nonzero().flatten().tolist()
        for j in track(columns, "scoring") if progress else columns:
            for at, values in _masked(self, wanted[:, j].nonzero().flatten(), j, search):
                better = ~(values[:, 4] <= self.numbers[at, j, 4])
                self.numbers[at[better], j] = values[better]
                self.is_masked[at[better], j] = True

    def fill_left_out(self) -> None:
        """Each cell that is open from draws of z given the whole row, in one pass."""
        wanted = self.open
        for at, values in _left_out(self, wanted.any(1).nonzero().flatten()):
            better = wanted[at] & ~(values[..., 4] <= self.numbers[at, :, 4])
            self.numbers[at] = torch.where(better.unsqueeze(-1), values, self.numbers[at])
            self.is_masked[at] &= ~better

    def scores(self) -> ElementScores:
        """The answer."""
        shape = self.rows.shape
        surprisal, expected, lower, upper, ess = (part.reshape(shape) for part in self.numbers.unbind(-1))
        is_mass, is_masked = _is_mass(self.cells.view).reshape(shape), self.is_masked.reshape(shape)
        return ElementScores(surprisal, expected, lower, upper, ess, is_mass, is_masked, self.num_samples)


Answers = Iterator[tuple[Tensor, Tensor]]
"""Numbers of rows, shape (B,), and what is said of one of their cells, shape (B, 5), or all, shape (B, D, 5)."""


def _bears_masks(view: View, rows: Tensor) -> bool:
    """Whether the model takes a row without one of its cells."""
    if not takes_holes(view):
        return False
    try:
        view.beside(_without(rows[:1], 0))
    except DataError:  # q(z|x) is not finite there
        return False
    return True


def _without(rows: Tensor, j: int) -> Tensor:
    """The rows with element j as a hole."""
    flat = (rows if rows.is_floating_point() else rows.double()).flatten(1).clone()
    flat[:, j] = torch.nan
    return flat.reshape(rows.shape)


def _log_det(cells: Cells, rows: Tensor, at: Tensor, j: int) -> Tensor:
    """log|det| that belongs to element j alone, shape (B,): what is lost with it."""
    view = cells.view
    part = rows[at].to(view.device)
    both = [view.space(x, view.dtype, view.transform_seed)[1] for x in (part, _without(part, j))]
    return (both[0] - both[1]).cpu()


def _masked(table: _Table, rows: Tensor, j: int, search: bool) -> Answers:
    """Element j of some rows from draws of z given the other cells."""
    cells, hidden = table.cells, _without(table.rows[rows], j)
    wanted = torch.zeros(1, cells.size, dtype=torch.bool)
    wanted[0, j] = True
    view = cells.view.beside(hidden)
    for part in latents(view, table.num_samples, table.seed, keys_of(hidden), search=search):
        at = rows[part.rows]
        with engine.evaluating(cells.model):
            y = cells.view.batch(at, by_row=True).x
            log_p = cells.log_prob(part.z, y, torch.tensor([j]))[..., j].cpu()
            log_p = torch.logsumexp(or_equal(part.weights).cpu().log() + log_p, 0)
            summary = cells.summary(part, wanted.expand(len(at), -1))
        surprisal = -(log_p + _log_det(cells, table.rows, at, j))
        yield at, torch.stack([surprisal, *(values[:, j] for values in summary), part.ess.cpu()], -1)


def _left_out(table: _Table, rows: Tensor) -> Answers:
    """All elements of some rows from draws of z given the whole row."""
    cells = table.cells
    if not len(rows):
        return
    for whole in latents(cells.view.take(rows), table.num_samples, table.seed, keys_of(table.rows[rows])):
        for place in cells.passes(whole, cells.size):
            part = whole.part(place)
            at = rows[part.rows]
            with engine.evaluating(cells.model):
                y = cells.view.batch(at, by_row=True).x
                log_w = or_equal(part.weights).cpu().log().unsqueeze(-1) - cells.log_prob(part.z, y).cpu()
                weights = normalized(log_w)
                summary = cells.summary(part, torch.ones(y.flatten(1).shape, dtype=torch.bool), weights)
            log_det = torch.stack([_log_det(cells, table.rows, at, j) for j in range(cells.size)], 1)
            surprisal = torch.logsumexp(log_w, 0) - log_det
            yield at, torch.stack([surprisal, *summary, part.believed(effective_size(weights))], -1)


def _is_mass(view: View) -> Tensor:
    """Where log p of a cell is that of a mass, shape (N, D), bool."""
    pieces = []
    for place in torch.arange(len(view)).split(4096):
        y = view.batch(place, by_row=True).x.flatten(1).cpu()
        piece = torch.zeros(y.shape, dtype=torch.bool)
        for part in parts_of(view.at_prior):
            piece[:, part.columns] = part.is_mass(y[:, part.columns])
        pieces.append(piece)
    return torch.cat(pieces)
