"""Compilation by torch.compile: on, off, or where it pays."""

import functools
import os
import re
import shutil
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from vaekit.engine.caches import cache_dir
from vaekit.engine.devices import check_choice
from vaekit.engine.streams import fork_rng

Compile = Literal["auto", "on", "off"]
_COMPILE = ("auto", "on", "off")

_SETTLE, _WINDOW = 10, 50  # calls that are not timed after a start, and calls that are
_SAVING = 0.15  # share of a training step that compilation saves at least
_COMPILE_SECONDS = 20.0  # what it costs at most
_MARGIN = 2.0  # how many times its cost it is to save: training may end early, by patience or by a callback
_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
# A name in the module of the compiled function, which is ours, or in a module of torch's or ours that it led to.
_OWN_NAME = re.compile(r"""G\['(?!__import_)|G\['__import_(?:torch|vaekit)(?:_dot_|'\])""")
_NO_COMPILER = "no C++ compiler was found (g++, or what CXX names); everything goes on without compilation"

P = ParamSpec("P")
R = TypeVar("R")

_LOCK = threading.Lock()
_KEPT: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Callable[..., object]]] = WeakKeyDictionary()


class _Guard(Protocol):
    """What torch tells of one of its guards."""

    is_global: bool
    name: str


def compiler() -> str | None:
    """Path of the C++ compiler that torch.compile would use on this machine, or None."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))


def can_compile() -> bool:
    """Whether torch.compile has what it needs: CUDA, or a C++ compiler."""
    return torch.cuda.is_available() or compiler() is not None


def check_compile(compile: str) -> None:
    """Raise a `ConfigError` unless `compile` is "auto", "on" or "off"."""
    check_choice("compile", compile, _COMPILE)


def compiled(
    function: Callable[P, R], compile: bool, options: dict[str, Any] | None = None, whole: bool = False
) -> Callable[P, R]:
    """`function` compiled by torch, or as it is; `options` are those of torch.compile.

    What torch cannot take is run between two graphs, or makes the first call fail where the graph is to be `whole`.

    Each new shape gets a graph of its own (`dynamic=False`): which graph a batch meets then depends on its shape alone,
    never on what came before, so that a resumed run computes the same bits. What was compiled is kept on disk for the
    next process; see `compile_cache`. Without a C++ compiler one warning says so, and the function stays as it is.

    Each call of `compiled` has graphs of its own: torch counts them by the code of a function, and would leave the
    ninth model of a process, with the same function, as it is.
    """
    if not compile:
        return function
    if not can_compile():
        warnings.warn(_NO_COMPILER, stacklevel=2)
        return function
    os.environ[_CACHE_VARIABLE] = str(compile_cache())
    if hasattr(torch.compiler, "skip_guard_on_globals_unsafe"):  # since then torch takes a filter and such passes
        from vaekit.engine.speed.graph_passes import ConvertBeforeTransposing

        options = {"post_grad_custom_pre_pass": ConvertBeforeTransposing(), **(options or {})}
        options["guard_filter_fn"] = _guards_that_can_fail
    return torch.compile(_with_code_of_its_own(function), dynamic=False, options=options, fullgraph=whole)


def compiled_once(owner: object, function: Callable[P, R], *key: object) -> Callable[P, R]:
    """`compiled(function, True)`, made once for each `owner` and key, and kept for as long as the owner lives.

    A second call of a function that is compiled anew spends some tenths of a second on tracing it again, even where
    all that follows lies on disk. Changes of the owner are noticed, as they are within one function. Of several threads
    one calls it at a time.

    Args:
        owner: the model that `function` is given; for what is no module, nothing is kept.
        function: what is compiled.
        key: whatever graphs are to be apart for, such as a shape: torch makes at most eight of one function.
    """
    if not isinstance(owner, nn.Module):
        return _in_turn(compiled(function, True))
    with _LOCK:
        kept = _KEPT.setdefault(owner, {})
        if (function, *key) not in kept:
            kept[function, *key] = _in_turn(compiled(function, True))
        return cast(Callable[P, R], kept[function, *key])


def _in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, called while no other thread borrows torch's stream.

    Any call may compile anew, and torch's compiler puts the stream back to where it stood when it began: in the middle
    of another thread's noise.
    """

    def call(*arguments: P.args, **options: P.kwargs) -> R:
        with fork_rng(None):
            return function(*arguments, **options)

    return call


def _guards_that_can_fail(guards: Sequence[_Guard]) -> list[bool]:
    """All but those on names in torch's and our own modules, which nobody binds anew while a model trains.

    Those are hundreds of checks before each call, a tenth of a small training step. Guards on what is handed in stay
    (modules with their attributes and modes, tensors), on torch's own state, and on names in a user's modules.
    """
    return [not (guard.is_global and _OWN_NAME.match(guard.name)) for guard in guards]


def _with_code_of_its_own(function: Callable[P, R]) -> Callable[P, R]:
    """The same function or method, whose code object no other shares."""
    if isinstance(function, MethodType):
        return MethodType(_with_code_of_its_own(function.__func__), function.__self__)
    if not isinstance(function, FunctionType):
        return function
    code, name = function.__code__.replace(), function.__name__
    copy = FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    return functools.update_wrapper(copy, function)


def compile_cache() -> Path:
    """The folder in which torch.compile finds what it compiled before, in this process or an earlier one.

    `$TORCHINDUCTOR_CACHE_DIR` where the user set it, or else `compiled` in vaekit's own cache. Left to itself, torch
    sets that variable to a folder among the temporary files, which many systems empty; so does vaekit, for this
    process, when something is compiled for the first time.
    """
    chosen = os.environ.get(_CACHE_VARIABLE)
    return Path(chosen).absolute() if chosen and chosen != _default_cache() else cache_dir("compiled")


def _default_cache() -> str | None:
    """What torch sets the variable to, as soon as it imports its compiler; None before that."""
    default = getattr(sys.modules.get("torch._inductor.runtime.cache_dir_utils"), "default_cache_dir", None)
    return None if default is None else os.path.abspath(default())


class PayingCompilation(Generic[P, R]):
    """A function that runs as it is, and is compiled once the calls that are left are worth it.

    The time from call to call is measured, so that all of a training step counts. Where compilation would save more
    than it costs, the function is compiled; where it then turns out to be slower, it is dropped again. Without a
    compiler, or where compilation fails, one warning says so and everything goes on.

    Args:
        function: called with arguments of one shape.
        num_calls: calls to come.
        make_fast: makes what takes its place; None takes torch.compile of the function itself.
        overhead: seconds per call that it spares, whatever the call's arithmetic takes; at most half of a call.

    Attributes:
        compiled_at: number of the call after which it was known to be faster compiled, or None.
    """

    def __init__(
        self,
        function: Callable[P, R],
        num_calls: int,
        make_fast: Callable[[], Callable[P, R]] | None = None,
        overhead: float = 0.0,
    ) -> None:
        self.function, self.num_calls, self.overhead = function, num_calls, overhead
        self.make_fast = make_fast or (lambda: compiled(function, True))
        self.compiled_at: int | None = None
        self._fast: Callable[P, R] | None = None
        self._count, self._last = 0, 0.0
        self._intervals: list[float] = []
        self._before: float | None = None
        self._undecided = True

    def __call__(self, *arguments: P.args, **options: P.kwargs) -> R:
        """The function's value."""
        if self._undecided:
            self._measure()
        self._count += 1
        return (self._fast or self.function)(*arguments, **options)

    def _measure(self) -> None:
        """Take the time since the last call, and decide when there are enough of them."""
        now = time.perf_counter()
        if self._count:
            self._intervals.append(now - self._last)
        self._last = now
        if len(self._intervals) < _SETTLE + _WINDOW:
            return
        seconds = statistics.median(self._intervals[_SETTLE:])
        self._intervals = []
        if self._before is None:
            self._consider(seconds)
        else:
            self._judge(seconds)

    def _consider(self, seconds: float) -> None:
        saved = max(_SAVING * seconds, min(self.overhead, seconds / 2))
        if (self.num_calls - self._count) * saved < _MARGIN * _COMPILE_SECONDS:
            self._undecided = False
            return
        if not can_compile():
            warnings.warn(_NO_COMPILER, stacklevel=2)
            self._undecided = False
            return
        self._before = seconds
        self._fast = self._guarded(self.make_fast())

    def _guarded(self, fast: Callable[P, R]) -> Callable[P, R]:
        """The compiled function; where its first call fails, a warning and the plain one from then on."""

        def call(*arguments: P.args, **options: P.kwargs) -> R:
            try:
                return fast(*arguments, **options)
            except Exception as error:
                value = self.function(*arguments, **options)  # the function's own errors come out here, as they would
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                warnings.warn(f"torch.compile failed; training goes on without it ({reason})", stacklevel=2)
                self._drop()
                return value

        return call

    def _judge(self, seconds: float) -> None:
        assert self._before is not None
        if seconds > 0.97 * self._before:
            self._drop()
            return
        self._undecided, self.compiled_at = False, self._count

    def _drop(self) -> None:
        self._undecided, self._fast = False, None
