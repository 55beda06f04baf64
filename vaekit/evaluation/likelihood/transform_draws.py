r"""The noise of a random transform in the errors: means over several draws of a row's bits, or of its dequantisation.

A row's bits are one draw of many. Under one draw log p is that of these bits, and its error is that of Monte Carlo
alone. Over T draws, each with draws of z of its own, the mean estimates \( E_b[\log p(b)] \) over the transform's
noise, and its error follows from the scatter between the draws, which the Monte Carlo error is part of.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaekit import engine
from vaekit.evaluation.estimate import Estimate
from vaekit.models.view import View
from vaekit.shapes import check_count

Ask = Callable[[View, torch.Generator], tuple[Estimate, ...]]


def is_averaged(view: View, num_draws: int) -> bool:
    """Whether there are several draws to average: more than one is asked for, and the transform draws noise.

    Raises:
        ConfigError: if T < 1.
    """
    check_count(num_draws, "transform_draws")
    return num_draws > 1 and view.transform_noise() is not None


def over_draws(view: View, num_draws: int, generator: torch.Generator | None, ask: Ask) -> tuple[Estimate, ...]:
    """Each of the estimates that `ask` returns, averaged over the transform seeds s, s + 1, ..., s + T - 1.

    Args:
        view: the rows, under the first transform seed s.
        num_draws: T, at least 2.
        generator: source of all other noise.
        ask: of the rows under one transform seed, and a generator of its own.
    """
    seed, found = engine.draw_seed(generator), []
    for t in range(num_draws):
        noise = torch.Generator().manual_seed(engine.block_seed(seed, t))
        found.append(ask(view.under(view.transform_seed + t), noise))
    words = view.transform_noise(num_draws)
    return tuple(_averaged(estimates, words) for estimates in zip(*found, strict=True))


def _averaged(draws: tuple[Estimate, ...], words: str | None) -> Estimate:
    """One estimate of several, of which each is one of the same rows under other noise.

    A row is doubtful for a reason that more than half of the draws give.
    """
    count, first = len(draws), draws[0]
    values = torch.stack([draw.value for draw in draws])
    texts = dict.fromkeys(text for draw in draws for text in draw.reasons)
    nowhere = torch.zeros(len(first), dtype=torch.bool)
    shares = {text: _mean([draw.reasons.get(text, nowhere) for draw in draws]) for text in texts}
    widened = widening(count)
    return Estimate(
        value=values.mean(0),
        stderr=widened * values.std(0) / math.sqrt(count),
        ess=_mean([draw.ess for draw in draws]),
        max_weight=_mean([draw.max_weight for draw in draws]),
        num_samples=first.num_samples,
        method=first.method,
        quantity=first.quantity,
        terms={name: _mean([draw.terms[name] for draw in draws]) for name in first.terms},
        doubts={text: share > 0.5 for text, share in shares.items()},
        transform_draws=count,
        transform_noise=words,
        widened=widened,
    )


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).double().mean(0)


def widening(num_draws: int) -> float:
    """The 97.5% quantile of Student's t for T - 1 degrees of freedom over that of the normal, for T of at least 2.

    Times the standard error of a mean of T draws it makes value +- 1.96 stderr cover 95% for T as small as 2.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # on use: not needed for one draw

    return float(stdtrit(num_draws - 1, 0.975)) / 1.959964
