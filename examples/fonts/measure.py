"""What a model of fonts knows of a glyph when 0, 1 or 5 others are given, on fonts that are held out."""

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vaekit as vk
from examples.fonts.glyphs import Fonts

GIVEN = (0, 1, 5)
_SAMPLES = 200  # draws of z for log p
_DRAWS = 16  # z that are decoded for a mean


def order(num_characters: int, num_fonts: int, seed: int) -> Tensor:
    """For each font an order of the characters, shape (N, L): the first are given, the others are to be told."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_fonts, num_characters, generator=generator).argsort(1)


def given(rows: Tensor, places: Tensor) -> Tensor:
    """Rows of which all glyphs but those at `places`, shape (N, m), are holes."""
    result = torch.full_like(rows, torch.nan)
    index = torch.arange(len(rows)).unsqueeze(1)
    result[index, places] = rows[index, places]
    return result


def log_p(
    model: vk.VAE, rows: Tensor, orders: Tensor, num_targets: int, seed: int
) -> tuple[dict[int, Tensor], dict[int, float]]:
    r"""log p(glyph | m given), nats, for m in `GIVEN`: a mean over some glyphs of each font, shape (N,).

    \( \log p(x_t | x_1 \dots x_m) = \log p(x_1 \dots x_m, x_t) - \log p(x_1 \dots x_m) \), each a bound of the group
    with holes by importance sampling. Beside it the share of the bounds that are not to be believed to their error: of
    these the one with more glyphs is the looser, and the difference too low.
    """
    first = max(GIVEN)
    result, doubtful = {}, {}
    for m in GIVEN:
        groups = [given(rows, orders[:, :m])] if m else []
        for t in range(first, first + num_targets):
            groups.append(given(rows, torch.cat([orders[:, :m], orders[:, t : t + 1]], 1)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", vk.errors.UnreliableEstimateWarning)  # counted instead
            estimate = vk.evaluation.log_marginal(
                model,
                torch.cat(groups),
                num_samples=_SAMPLES,
                generator=torch.Generator().manual_seed(seed),
                chunk_size=256,
                compile="off",
            )
        doubtful[m] = float(estimate.unreliable.double().mean())
        values = estimate.value.reshape(len(groups), len(rows))
        result[m] = values[1:].mean(0) - values[0] if m else values.mean(0)
    return result, doubtful


@torch.no_grad()
def told(model: vk.VAE, rows: Tensor, seed: int) -> Tensor:
    """E[x | what of it is given], shape (N, L, SIDE, SIDE): p(x|z)'s mean over draws of z, chosen by their weights."""
    means = []
    with vk.engine.seeded(seed), vk.engine.evaluating(model):
        for part in rows.split(32):
            draw = vk.bounds.draw(model, part, _SAMPLES)
            chosen = torch.multinomial(draw.log_weights.T.softmax(1), _DRAWS, replacement=True).T
            z = draw.z.gather(0, chosen.unsqueeze(-1).expand(-1, -1, draw.z.shape[-1]))
            means.append(torch.stack([model.likelihood(some).mean for some in z]).mean(0))
    return torch.cat(means)


def nearest(rows: Tensor, places: Tensor, training: Tensor) -> Tensor:
    """The training font with the fewest differing bits in the glyphs at `places`, for each row: shape (N, L, ...)."""
    found = []
    for row, at in zip(rows, places, strict=True):
        differing = (training[:, at] - row[at]).abs().nan_to_num(nan=1.0)
        found.append(training[differing.flatten(1).sum(1).argmin()])
    return torch.stack(found)


def error(told_of: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Mean squared error per pixel over the glyphs at `places` that there are, shape (N,)."""
    index = torch.arange(len(rows)).unsqueeze(1)
    return (told_of[index, places] - rows[index, places]).square().flatten(1).nanmean(1)


def stderr_over(values: Tensor, families: list[str]) -> tuple[float, float]:
    """Standard errors of the mean of values, shape (N,): over fonts, and over families as clusters."""
    centred = (values - values.mean()).double().numpy()
    names, number = np.unique(families, return_inverse=True)
    sums = np.bincount(number, centred)
    fonts = float(centred.std(ddof=1) / len(centred) ** 0.5)
    clusters = float((np.square(sums).sum() * len(names) / max(1, len(names) - 1)) ** 0.5 / len(centred))
    return fonts, clusters


def _row(values: Tensor, families: list[str]) -> dict[str, float]:
    of_fonts, of_families = stderr_over(values, families)
    return {"value": float(values.mean()), "stderr": of_fonts, "stderr_over_families": of_families}


def measure(model: vk.VAE, fonts: Fonts, num_targets: int = 2, seed: int = 0, at_most: int = 64) -> dict[str, Any]:
    """Log p in nats per glyph, its rises, and errors of the mean beside those of the nearest training font."""
    numbers = np.flatnonzero(fonts.held_out)
    numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(at_most, len(numbers))).round().astype(int))]
    rows, families = torch.from_numpy(fonts.bits[numbers]), [fonts.families[i] for i in numbers]
    training = torch.from_numpy(fonts.bits[~fonts.held_out])
    orders = order(rows.shape[1], len(rows), seed)
    values, doubtful = log_p(model, rows, orders, num_targets, seed)
    result: dict[str, Any] = {
        "num_measured": len(rows),
        "num_measured_families": len(set(families)),
        "log_p": {str(m): _row(v, families) for m, v in values.items()},
        "rise": {f"{a} to {b}": _row(values[b] - values[a], families) for a, b in pairwise(GIVEN)},
        "share_of_doubtful_bounds": {str(m): share for m, share in doubtful.items()},
        "squared_error": {},
    }
    others = orders[:, max(GIVEN) :]
    for m in GIVEN:
        mean = error(told(model, given(rows, orders[:, :m]), seed), rows, others)
        beside: dict[str, Any] = {"mean": _row(mean, families)}
        if m:
            of_nearest = error(nearest(rows, orders[:, :m], training), rows, others)
            beside |= {"nearest": _row(of_nearest, families), "gain": _row(of_nearest - mean, families)}
        result["squared_error"][str(m)] = beside
    return result
