"""Where numbers are computed: device, precision, compilation, threads, and the one place that touches random state.

torch keeps one global random stream, and `rsample`, initialisers and dropout draw from it whatever one passes.
`fork_rng` and `seeded` borrow that stream for a while and put it back, so no other module ever seeds anything.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError

Precision = Literal["auto", "float32", "bf16"]
Compile = Literal["auto", "on", "off"]
T = TypeVar("T")

_PRECISIONS = ("auto", "float32", "bf16")
_COMPILE = ("auto", "on", "off")


# --- Randomness ------------------------------------------------------------------------------------------------------


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
        torch.manual_seed(seed)
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


# --- Models ----------------------------------------------------------------------------------------------------------


def _first_parameter(model: object) -> Tensor | None:
    if not isinstance(model, nn.Module):
        return None
    tensors = (t for source in (model.parameters(), model.buffers()) for t in source)
    return next((t for t in tensors if t.is_floating_point()), None)


def model_dtype(model: object) -> torch.dtype | None:
    """The floating dtype that `model` computes in; None where it has neither parameters nor buffers."""
    parameter = _first_parameter(model)
    return None if parameter is None else parameter.dtype


def model_device(model: object) -> torch.device:
    """The device that `model` lives on; the CPU where it has neither parameters nor buffers."""
    parameter = _first_parameter(model)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Run the body in eval mode (dropout off, batch statistics fixed) without gradients; restore each module's mode."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


# --- Device, precision, compilation ----------------------------------------------------------------------------------


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        ConfigError: if the device does not exist here.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return resolved


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a `ConfigError` that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise ConfigError(f"{name} is one of {', '.join(choices)}; got {value!r}")


def autocast_dtype(precision: Precision) -> torch.dtype | None:
    """The dtype of matrix products inside networks: bfloat16 for `bf16`, None (no autocast) otherwise."""
    check_choice("precision", precision, _PRECISIONS)
    return torch.bfloat16 if precision == "bf16" else None


@contextmanager
def network_precision(model: object, precision: Precision) -> Iterator[None]:
    """Let every part of `model` that owns a network run it in `precision` while the body runs.

    The parts are the modules with an attribute `autocast_dtype` (`Conditional` has one). Densities, KL and weights stay
    outside and keep the model's dtype.
    """
    dtype = autocast_dtype(precision)
    modules: list[Any] = list(model.modules()) if isinstance(model, nn.Module) else []
    parts = [module for module in modules if hasattr(module, "autocast_dtype")]
    before = [m.autocast_dtype for m in parts]
    for part in parts:
        part.autocast_dtype = dtype
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            part.autocast_dtype = value


def autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    """A context in which matrix products run in `dtype`; a context that does nothing where dtype is None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def describe() -> dict[str, str | int]:
    """What computes here, for reports."""
    return {"torch": torch.__version__, "device": str(resolve_device()), "threads": torch.get_num_threads()}


def compiled(function: Callable[..., T], compile: Compile) -> Callable[..., T]:
    """`function` compiled by torch where `compile` is `on`; as it is for `off` and `auto`.

    Each new shape gets a graph of its own (`dynamic=False`): which graph a batch meets then depends on its shape alone,
    never on what came before, so that a resumed run computes the same bits.
    """
    check_choice("compile", compile, _COMPILE)
    return torch.compile(function, dynamic=False) if compile == "on" else function


# --- Threads ---------------------------------------------------------------------------------------------------------


def run_flushing_denormals(function: Callable[[], T]) -> T:
    """Run `function` in a fresh thread in which denormal numbers are flushed to zero; return its result.

    Pixels that never change drive Adam's moments into the denormal range, where a CPU is many times slower. The flag
    reaches only a thread and the pool that it starts, so the caller's own threads keep their arithmetic. Signal
    handlers go on running in the caller's thread while it waits.
    """
    outcome: dict[str, Any] = {}
    done = threading.Event()
    num_threads = torch.get_num_threads()

    def body() -> None:
        try:
            torch.set_flush_denormal(True)
            torch.set_num_threads(num_threads)
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error
        finally:
            done.set()

    thread = threading.Thread(target=body, name="vaekit", daemon=True)
    thread.start()
    done.wait()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def in_notebook() -> bool:
    """Whether a person sits at an interactive prompt (Python's or IPython's), where an exit is a loss."""
    ipython = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)
