"""What the machine can do: matrix products and memory traffic at the best."""

import time
from typing import Any

import torch

from benchmarks.workers.turns import Turns, serve

Shape = tuple[int, int, int]


def matmul(turns: Turns, shape: Shape, dtype: str, seconds: float = 0.3) -> None:
    """(M, K) times (K, N) over and over for `seconds` per turn; `work` counts floating-point operations."""
    m, k, n = shape
    a, b = torch.randn(m, k).to(getattr(torch, dtype)), torch.randn(k, n).to(getattr(torch, dtype))
    out = torch.empty(m, n, dtype=a.dtype)
    for _ in turns:
        repeats, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            torch.mm(a, b, out=out)
            repeats += 1
        turns.report(work=2 * m * k * n * repeats)


def copy(turns: Turns, mib: int = 256, seconds: float = 0.3) -> None:
    """Copies of a large array; `work` counts bytes read and written."""
    source = torch.zeros(mib * 2**18)
    target: Any = torch.empty_like(source)
    for _ in turns:
        repeats, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            target.copy_(source)
            repeats += 1
        turns.report(work=2 * mib * 2**20 * repeats)


if __name__ == "__main__":
    serve(matmul=matmul, copy=copy)
