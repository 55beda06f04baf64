"""Random streams: the one place that touches global random state, and puts it back.

torch keeps one global stream per device, and `rsample`, initialisers and dropout draw from it whatever one passes.
`seeded`, `fork_rng` and `Stream` let another stream stand in its place for a while and restore it afterwards, so no
other module ever seeds anything. The place is one for all threads of a process: a thread that borrows it has it alone,
and the others wait for their turn. A thread that draws from torch's stream by itself (`torch.randn` without a
generator, a new layer's weights) while others borrow it does so within `fork_rng(None)`.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import ArgumentTypeError


class _Turns:
    """A re-entrant lock that goes to a waiting thread before its last owner gets it again.

    Python's own locks do not promise this: a loop that borrows the stream for each of its steps would keep it.
    """

    def __init__(self) -> None:
        self._queue, self._lock = threading.Lock(), threading.RLock()
        self._owner, self._depth = 0, 0

    def __enter__(self) -> None:
        here = threading.get_ident()
        if self._owner == here:
            self._depth += 1
            return
        try:
            with self._queue:  # a thread that waits for the lock is in here, and its last owner cannot pass
                self._lock.acquire()
                self._owner, self._depth = here, 1
        except BaseException:  # an interrupt: there will be no __exit__
            if self._owner == here:
                self._owner = 0
            with suppress(RuntimeError):  # the interrupt came first, and this thread does not hold the lock
                self._lock.release()
            raise

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._lock.release()

    def after_fork(self) -> None:
        """In a new process, forget the other threads of the old one: they are not there to give the lock back."""
        if self._owner == threading.get_ident():
            self._queue = threading.Lock()
        else:
            self.__init__()  # type: ignore[misc]


_turns = _Turns()
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_turns.after_fork)


@cache
def _global_streams() -> dict[str, torch.Generator]:
    """torch's own stream of each device."""
    streams = {"cpu": torch.default_generator}
    if torch.cuda.is_available():
        torch.cuda.init()
        streams |= {f"cuda:{i}": stream for i, stream in enumerate(torch.cuda.default_generators)}
    return streams


class Stream:
    """A random stream of its own, on which the body of a `with` runs: torch's own stands aside meanwhile.

    The next `with` goes on where the last one ended. Other threads that draw noise through vaekit wait for the end of
    the body, so a long computation enters for each of its steps anew. Bodies on the same stream are not nested.

    Args:
        seed: where the stream starts, as `torch.manual_seed` would.
    """

    def __init__(self, seed: int) -> None:
        self._seed = int(seed)
        self._state: dict[str, Tensor] = {}
        self._aside: list[tuple[torch.Generator, Tensor]] = []

    def __enter__(self) -> None:
        _turns.__enter__()
        try:
            streams = _global_streams()
            self._aside = [(stream, stream.get_state()) for stream in streams.values()]
            for name, stream in streams.items():
                if name in self._state:
                    stream.set_state(self._state[name])
                else:
                    stream.manual_seed(self._seed)
        except BaseException:  # an interrupt: there will be no __exit__
            self._put_back()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            self._state = {name: stream.get_state() for name, stream in _global_streams().items()}
        finally:
            self._put_back()

    def _put_back(self) -> None:
        try:
            for stream, state in self._aside:
                stream.set_state(state)
        finally:
            self._aside = []
            _turns.__exit__()

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream of each device stands; empty before the first use."""
        return self._state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what `state_dict` returned; streams of devices that are not here are left alone."""
        self._state = state


def draw_seed(generator: torch.Generator | None) -> int:
    """A fresh 63-bit seed from `generator`, or from torch's own stream where it is None.

    Raises:
        ArgumentTypeError: if it is anything else, such as a seed.
    """
    if generator is None:
        with _turns:
            return int(torch.randint(2**63 - 1, (), device="cpu"))
    if not isinstance(generator, torch.Generator):
        raise ArgumentTypeError(
            f"generator is a torch.Generator or None; got {generator!r} ({type(generator).__name__}). For a seed: "
            f"generator=torch.Generator().manual_seed({generator if type(generator) is int else 0})."
        )
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def block_seed(seed: int, *index: int) -> int:
    """The seed of one block of noise: a hash of the base seed and the block's place, in any order."""
    return int(np.random.SeedSequence((seed, *index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seeded(seed: int) -> Stream:
    """Run the body with torch's global streams seeded by `seed`; restore the streams afterwards."""
    return Stream(seed)


@contextmanager
def fork_rng(generator: torch.Generator | None) -> Iterator[None]:
    """Run the body on noise drawn from `generator`; with None the body uses torch's own stream as it is.

    Either way no other thread draws noise through vaekit while the body runs.
    """
    if generator is None:
        with _turns:
            yield
        return
    with seeded(draw_seed(generator)):
        yield
