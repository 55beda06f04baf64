"""One equation that planar and Sylvester flows are inverted by."""

import torch
from torch import Tensor

_STEPS = 60


def solve_tanh(target: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    r"""The t with \( t + g \tanh(s t + c) = \text{target} \), for \( g s > -1 \), where the left side rises.

    t lies within |g| of the target. Newton's steps within that bracket, which each step narrows, and its middle where
    a step leaves it or gains too little; no gradients are kept. One more step at the solution then carries the
    gradients of the implicit function to all arguments.

    Args:
        target: the right side, shape (...).
        gain: g, broadcastable.
        slope: s, broadcastable.
        offset: c, broadcastable.

    Returns:
        t, shape (...), with first derivatives.
    """
    with torch.no_grad():
        t = _solution(*torch.broadcast_tensors(target, gain, slope, offset))
    value, rise = _left(t, gain, slope, offset)
    return t - (value - target) / rise.detach()


def _left(t: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """The left side and its derivative, kept away from zero."""
    h = torch.tanh(slope * t + offset)
    rise = 1 + gain * slope * (1 - h * h)
    return t + gain * h, rise.clamp(min=torch.finfo(t.dtype).eps)


def _solution(target: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    low, high = target - gain.abs(), target + gain.abs()
    rounding = 4 * torch.finfo(target.dtype).eps * (target.abs() + gain.abs())
    t, before = target, torch.full_like(target, torch.inf)
    for _ in range(_STEPS):
        value, rise = _left(t, gain, slope, offset)
        error = value - target
        solved = error.abs() <= rounding
        if not torch.compiler.is_compiling() and bool(solved.all()):
            break
        low, high = torch.where(error < 0, t, low), torch.where(error > 0, t, high)
        step = t - error / rise
        slow = (step <= low) | (step >= high) | (error.abs() > 0.5 * before)
        t = torch.where(solved, t, torch.where(slow, 0.5 * (low + high), step))
        before = error.abs()
    return t
