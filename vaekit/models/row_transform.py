"""A random transform at noise that is a function of each row: evaluation meets a row at one place in model space.

Bits and dequantisation noise depend on the values of the row and on the transform seed, and on nothing else: not on
the seed of other noise, on the row's place or neighbours, on batches, devices, or the type of the numbers. Two
quantities of one row, a bound and a diagnostic, AIS and importance sampling, so speak of the same bits. Training draws
fresh noise from torch's stream instead.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vaekit import engine
from vaekit.transforms import Transform
from vaekit.transforms.base import as_floating, steps_of, through
from vaekit.transforms.noise import content_noise, row_hashes

Mapped = Callable[[Tensor], tuple[Tensor, Tensor]]


class RowTransform:
    """The way of some rows through a transform, each at its own noise.

    The first random step of a chain takes the noise `content_noise(rows, seed)`; further ones take noise of their own.

    Args:
        rows: the rows as they were handed in, shape (N, *X).
        seed: the transform seed.
        has_jacobian: whether log|det| is asked for.
    """

    def __init__(self, rows: Tensor, seed: int, has_jacobian: bool) -> None:
        self.rows, self.seed, self.has_jacobian = rows, seed, has_jacobian
        self._num_random = 0  # random steps so far

    def __call__(self, transform: Transform) -> tuple[Tensor, Tensor]:
        """y of shape (N, *X), and log|det dy/dx| of shape (N,), zeros where it was not asked for."""
        self._num_random = 0
        return through(steps_of(transform), self.rows, self._step)

    def _step(self, transform: Transform, x: Tensor) -> tuple[Tensor, Tensor]:
        if transform.is_fixed:
            return self._mapped(transform, x)
        seed = self.seed if self._num_random == 0 else engine.block_seed(self.seed % 2**64, self._num_random)
        self._num_random += 1
        if not transform.takes_noise:
            return _drawn_alone(partial(self._mapped, transform), x, row_hashes(self.rows, seed))
        y = transform.from_noise(x, content_noise(self.rows, seed, tuple(x.shape[1:]), as_floating(x[:0]).dtype))
        return y, transform.log_abs_det_jacobian(x, y) if self.has_jacobian else _zeros(y)

    def _mapped(self, transform: Transform, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.has_jacobian:
            return transform.with_log_det(x)
        y = transform(x)
        return y, _zeros(y)


def _zeros(y: Tensor) -> Tensor:
    return torch.zeros(len(y), device=y.device)


def _drawn_alone(mapped: Mapped, x: Tensor, hashes: Tensor) -> tuple[Tensor, Tensor]:
    """One row after the other, each under its own seed; all at once where nothing comes from torch's stream."""
    stream = engine.Stream(0)
    with stream:
        pass
    start = stream.state_dict()
    with stream:
        whole = mapped(x)
    if all(torch.equal(state, start[name]) for name, state in stream.state_dict().items()):
        return whole
    parts = []
    for i, number in enumerate(hashes.tolist()):
        with engine.seeded(engine.block_seed(number % 2**64)):
            parts.append(mapped(x[i : i + 1]))
    y, log_det = zip(*parts, strict=True)
    return torch.cat(y), torch.cat(log_det)


def noise_in_words(transform: Transform | None, seed: int, num_draws: int = 1, errors: bool = True) -> str | None:
    """How the noise of a transform was drawn and whether errors hold it; None where nothing is drawn.

    Args:
        transform: the transform, or None.
        seed: the first transform seed.
        num_draws: T, draws that were averaged.
        errors: whether there are errors to speak of.
    """
    names = list(dict.fromkeys(step.noise_name for step in steps_of(transform) if not step.is_fixed))
    if not names:
        return None
    noise = " and ".join(names)
    if num_draws > 1:
        drawn = f"means over {num_draws} draws of the {noise} of each row, under transform seeds {seed} to"
        return f"{drawn} {seed + num_draws - 1}; errors hold how much draws differ"
    are = "are" if len(names) > 1 or noise.endswith("s") else "is"
    drawn = f"{noise} of each row {are} drawn once, under transform seed {seed}"
    return f"{drawn}; errors leave out how much other draws would differ (transform_draws)" if errors else drawn
