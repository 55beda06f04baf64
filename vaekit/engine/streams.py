"""Random streams: the one place that touches global random state, and puts it back.

torch keeps one global stream, and `rsample`, initialisers and dropout draw from it whatever one passes. `fork_rng` and
`seeded` borrow that stream for a while and restore it, so no other module ever seeds anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def draw_seed(generator: torch.Generator | None) -> int:
    """A fresh 63-bit seed from `generator`, or from torch's own stream where it is None."""
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))


def block_seed(seed: int, *index: int) -> int:
    """The seed of one block of noise: a hash of the base seed and the block's place, in any order."""
    return int(np.random.SeedSequence((seed, *index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the body with torch's global streams seeded by `seed`; restore the streams afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(int(seed))
        if devices:  # torch.manual_seed asks for it in vain where there is no CUDA, and keeps a stack trace each time
            torch.cuda.manual_seed_all(seed)
        yield


@contextmanager
def fork_rng(generator: torch.Generator | None) -> Iterator[None]:
    """Run the body on noise drawn from `generator`; with None the body uses torch's own stream as it is."""
    if generator is None:
        yield
        return
    with seeded(draw_seed(generator)):
        yield


def rng_state() -> dict[str, Tensor]:
    """The state of every global torch stream, for a checkpoint."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda:{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    """Put back what `rng_state` returned; streams of devices that are not here are left alone."""
    torch.set_rng_state(state["cpu"])
    for name, value in state.items():
        if name.startswith("cuda:") and int(name[5:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(value, int(name[5:]))
