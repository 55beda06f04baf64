"""Which cells make a row odd: -log p(x_j | the others), beside what was to be expected there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaekit import engine
from vaekit.errors import ConfigError, DataError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.progress import track
from vaekit.queries.cells import Cells, Statistic, Summary, parts_of
from vaekit.queries.latents import FEWEST, keys_of, latents, takes_holes, view_of
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
        num_samples: K, draws of z per cell.
        method: "masked", where z was inferred from the other cells, or "leave-one-out", from weights of the whole row.
    """

    surprisal: Tensor
    expected: Tensor
    lower: Tensor
    upper: Tensor
    ess: Tensor
    is_mass: Tensor
    num_samples: int
    method: str

    @property
    def unreliable(self) -> Tensor:
        """Cells whose numbers rest on fewer than 10 effective draws of z, shape (N, *X), bool."""
        return self.ess < min(FEWEST, self.num_samples / 2)

    def __repr__(self) -> str:
        shape, bad = tuple(self.surprisal.shape), int(self.unreliable.sum())
        return f"ElementScores({shape}, K={self.num_samples}, method={self.method!r}, {bad} cells unreliable)"


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
    sum to 1. That takes D passes of K draws over the rows. Elsewhere one pass serves all cells: draws from the
    posterior of the whole row, weighed by \( w_k / p(x_j|z_k) \), with
    \( p(x_j|x_{-j}) = 1 / \sum_k w_k / p(x_j|z_k) \).
    Where x_j alone decides on z those weights are spread widely; `ess` shows it, and `unreliable`.

    Use it to say which columns made a row odd. A cell is judged by itself: two cells that are odd together but explain
    each other both look ordinary.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`; its `transform` is applied where it has one.
        x: rows in the units of the data, shape (N, *X); NaN in holes, where the likelihood leaves them out.
        num_samples: K, draws of z per cell.
        method: "masked" or "leave-one-out"; None takes the former where the model bears it.
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
        ElementScores((2, 3), K=100, method='leave-one-out', 0 cells unreliable)
    """
    check_count(num_samples, "num_samples")
    view = view_of(model, x, "score_elements")
    seed = engine.draw_seed(generator)
    cells = Cells(view, seed, statistic, level)
    rows = as_tensor(view.rows).cpu()
    numbers = torch.full((len(rows), cells.size, 5), torch.nan, dtype=torch.float64)
    bears_masks = method != "leave-one-out" and _bears_masks(view, rows)
    if method not in (None, "masked", "leave-one-out") or (method == "masked" and not bears_masks):
        raise ConfigError(
            'method is "leave-one-out", or "masked" for a model whose likelihood and encoder leave NaN out; got '
            f"{method!r}"
        )
    columns = range(cells.size if bears_masks else 1)
    for j in track(list(columns), "scoring") if progress else columns:
        found = _masked(cells, rows, j, num_samples, seed) if bears_masks else _left_out(cells, rows, num_samples, seed)
        for at, place, values in found:
            numbers[at.unsqueeze(1), place] = values
    numbers[rows.flatten(1).isnan()] = torch.nan
    surprisal, expected, lower, upper, ess = (part.reshape(rows.shape) for part in numbers.unbind(-1))
    method = "masked" if bears_masks else "leave-one-out"
    is_mass = _is_mass(view).reshape(rows.shape)
    return ElementScores(surprisal, expected, lower, upper, ess, is_mass, num_samples, method)


Answers = Iterator[tuple[Tensor, Tensor, Tensor]]
"""Numbers of rows, shape (B,), of columns, shape (c,), and what is said of these cells, shape (B, c, 5)."""


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


def _masked(cells: Cells, rows: Tensor, j: int, num_samples: int, seed: int) -> Answers:
    """Element j from draws of z given the other cells."""
    observed = (~rows.flatten(1)[:, j].isnan()).nonzero().flatten()
    if not len(observed):
        return
    hidden, column = _without(rows[observed], j), torch.tensor([j])
    wanted = torch.zeros(1, cells.size, dtype=torch.bool)
    wanted[0, j] = True
    for part in latents(cells.view.beside(hidden), num_samples, seed, keys_of(hidden)):
        at = observed[part.rows]
        with engine.evaluating(cells.model):
            y = cells.view.batch(at, by_row=True).x
            log_p = cells.log_prob(part.z, y, column)[..., j].cpu()
            log_p = torch.logsumexp(or_equal(part.weights).cpu().log() + log_p, 0)
            summary = cells.summary(part, wanted.expand(len(at), -1))
        surprisal = -(log_p + _log_det(cells, rows, at, j))
        yield at, column, _joined(surprisal.unsqueeze(1), summary, part.ess.cpu().unsqueeze(1), column)


def _left_out(cells: Cells, rows: Tensor, num_samples: int, seed: int) -> Answers:
    """All elements from draws of z given the whole row."""
    everything = torch.arange(cells.size)
    for whole in latents(cells.view, num_samples, seed, keys_of(rows)):
        for place in cells.passes(whole, cells.size):
            part = whole.part(place)
            with engine.evaluating(cells.model):
                y = cells.view.batch(part.rows, by_row=True).x
                log_p = cells.log_prob(part.z, y).cpu()
                log_w = or_equal(part.weights).cpu().log().unsqueeze(-1) - log_p
                weights = normalized(log_w)
                summary = cells.summary(part, torch.ones(y.flatten(1).shape, dtype=torch.bool), weights)
            surprisal = torch.logsumexp(log_w, 0)
            log_det = torch.stack([_log_det(cells, rows, part.rows, j) for j in range(cells.size)], 1)
            yield part.rows, everything, _joined(surprisal - log_det, summary, effective_size(weights), everything)


def _joined(surprisal: Tensor, summary: Summary, ess: Tensor, columns: Tensor) -> Tensor:
    return torch.stack([surprisal, *(part[:, columns] for part in summary), ess], -1)


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
