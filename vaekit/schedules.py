"""Schedules: functions of the update count, such as KL warm-up. They take and return 0-d tensors.

Tensors in and out keep a compiled training step free of recompilation while the value changes.
"""

import math

import torch
from torch import Tensor

from vaekit.errors import ConfigError

__all__ = ["Constant", "Cyclical", "Linear"]


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{name} is at least 1; got {value}")
    return value


class Constant:
    """The same value at every step."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, step: Tensor) -> Tensor:
        """The value at `step`, shape ()."""
        return torch.full((), self.value, device=step.device)


class Linear:
    r"""A straight line from `start` to `end` over `num_steps` updates, then `end`: KL warm-up is `Linear(0, 1, n)`.

    Formula: \( s + (e - s) \min(t / n, 1) \).

    References:
        Bowman et al., "Generating sentences from a continuous space", 2016, https://arxiv.org/abs/1511.06349.

    Args:
        start: value at step 0.
        end: value from step `num_steps` on.
        num_steps: length of the ramp in updates.

    Example:
        >>> import torch
        >>> [float(Linear(0.0, 1.0, 4)(torch.tensor(t))) for t in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(self, start: float, end: float, num_steps: int) -> None:
        self.start, self.end, self.num_steps = start, end, _positive("num_steps", num_steps)

    def __call__(self, step: Tensor) -> Tensor:
        """The value at `step`, shape ()."""
        return self.start + (self.end - self.start) * (step / self.num_steps).clamp(max=1.0)


class Cyclical:
    r"""`num_cycles` ramps from `start` to `end` over `num_steps` updates, each ramp taking `ratio` of its cycle.

    References:
        Fu et al., "Cyclical annealing schedule", 2019, https://arxiv.org/abs/1903.10145, equation 6.

    Args:
        start: value at the beginning of each cycle.
        end: value at the end of each ramp, and for ever after the last cycle.
        num_steps: length of all cycles together, in updates.
        num_cycles: number of cycles.
        ratio: part of a cycle that is spent on the ramp, in (0, 1].
    """

    def __init__(self, start: float, end: float, num_steps: int, num_cycles: int = 4, ratio: float = 0.5) -> None:
        if not 0 < ratio <= 1:
            raise ConfigError(f"ratio lies in (0, 1]; got {ratio}")
        self.start, self.end, self.ratio = start, end, ratio
        self.num_steps, self.num_cycles = _positive("num_steps", num_steps), _positive("num_cycles", num_cycles)

    def __call__(self, step: Tensor) -> Tensor:
        """The value at `step`, shape ()."""
        period = math.ceil(self.num_steps / self.num_cycles)
        ramp = (step % period) / (period * self.ratio)
        ramp = torch.where(step >= self.num_steps, torch.ones_like(ramp), ramp.clamp(max=1.0))
        return self.start + (self.end - self.start) * ramp
