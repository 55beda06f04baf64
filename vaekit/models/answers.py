"""Codes, means and draws of many rows, a pass at a time, on noise that other threads may borrow in between."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import centre
from vaekit.models import checks
from vaekit.models.rows import Batch, given
from vaekit.transforms import Transform
from vaekit.transforms.base import is_foreign

Item = TypeVar("Item")
Noise = Callable[[], AbstractContextManager[object]]
"""Gives what is entered around each pass; the noise of a pass goes on where that of the last one ended."""


def noise(generator: torch.Generator | None, is_fixed: bool = False, draws: bool = True) -> Noise:
    """Noise drawn from a generator, one stream for all passes of a question.

    Args:
        generator: source of the seed of the stream; None is torch's own stream.
        is_fixed: whether None is a fixed seed, for a mean that is asked for twice.
        draws: whether anything is drawn; otherwise nobody waits for the stream.
    """
    if generator is None and is_fixed:
        generator = torch.Generator().manual_seed(0)
    if generator is None:
        return partial(engine.fork_rng, None) if draws else nullcontext
    stream = engine.Stream(engine.draw_seed(generator))  # the generator moves on, whether or not anything is drawn
    return (lambda: stream) if draws else nullcontext


def each(items: Iterator[Item], answer: Callable[[Item], Tensor], noise: Noise) -> Tensor:
    """The answers for all items, one after the other, shape (N, ...).

    Args:
        items: batches, or which rows; what is drawn on the way to an item counts to the noise of its answer.
        answer: of an item, shape (B, ...).
        noise: entered around each item.
    """
    parts: list[Tensor] = []
    while True:
        with noise():
            item = next(items, None)
            if item is None:
                return torch.cat(parts)
            parts.append(answer(item))


def code(model: LatentVariableModel, batch: Batch, mean: bool) -> Tensor:
    """E[z|x], or a draw from q(z|x), for each row: shape (B, *Z)."""
    q = given(model, batch.context).posterior(batch.x)
    return checks.code_of(q) if mean else q.sample()


def decoded(model: LatentVariableModel, z: Tensor, mean: bool) -> Tensor:
    """E[y|z], or a draw of y, in model space: shape (B, *X).

    Args:
        model: the model, conditioned where it is conditioned.
        z: latents, shape (B, *Z).
        mean: a mean or a draw.
    """
    p = model.likelihood(z)
    y: Tensor = centre(p) if mean else p.sample()
    return y


def in_float64(transform: Transform | None) -> Callable[[Tensor], Tensor]:
    """The way from model space to the units of the data in float64, whatever the dtype of the model.

    A transform that vaekit knows nothing of goes back in its own dtype.
    """
    if transform is None:
        return Tensor.double
    if is_foreign(transform):
        return lambda y: transform.inverse(y).double()
    inverse = copy.deepcopy(transform).double().inverse
    return lambda y: inverse(y.double())
