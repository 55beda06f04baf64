"""What the engine asks of a model: its dtype, its device, its mode, and which threads use it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.errors import BusyError


@dataclass
class _Evaluated:
    """A module in eval mode, the mode that it goes back to, and how many bodies it is in eval mode for."""

    mode: bool
    num_bodies: int = 0


# Models may share modules, so uses are counted for each module and not for each model.
_lock = threading.Lock()
_evaluated: dict[nn.Module, _Evaluated] = {}
_trained_by: dict[nn.Module, int] = {}


def _first_parameter(model: object) -> Tensor | None:
    """The first floating parameter or buffer; of an object that is no module, of the modules among its attributes."""
    tensors = (t for module in _held(model) for source in (module.parameters(), module.buffers()) for t in source)
    return next((t for t in tensors if t.is_floating_point()), None)


def _attributes(thing: object) -> list[object]:
    return list(vars(thing).values()) if hasattr(thing, "__dict__") else []


def model_dtype(model: object) -> torch.dtype | None:
    """The floating dtype that `model` computes in; None where it has neither parameters nor buffers."""
    parameter = _first_parameter(model)
    return None if parameter is None else parameter.dtype


def model_device(model: object) -> torch.device:
    """The device that `model` lives on; the CPU where it has neither parameters nor buffers."""
    parameter = _first_parameter(model)
    return torch.device("cpu") if parameter is None else parameter.device


def _held(model: object) -> list[nn.Module]:
    """The model, where it is a module; of an object that is none, the modules among its attributes."""
    return [model] if isinstance(model, nn.Module) else [m for m in _attributes(model) if isinstance(m, nn.Module)]


def modules_of(model: object) -> list[nn.Module]:
    """All modules of a model, each once: torch's own walk gives each a name, which takes ten times as long."""
    found: dict[int, nn.Module] = {}
    left = _held(model)
    while left:
        module = left.pop()
        if id(module) not in found:
            found[id(module)] = module
            left.extend(part for part in module._modules.values() if part is not None)
    return list(found.values())


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Run the body in eval mode (dropout off, batch statistics fixed) without gradients; restore each module's mode.

    Several threads may evaluate one model: the first body switches a module, and the last one that ends restores it.

    Raises:
        BusyError: if another thread trains the model.
    """
    modules, here = modules_of(model), threading.get_ident()
    with _lock:
        if any(_trained_by.get(module, here) != here for module in modules):
            raise BusyError(
                "another thread trains this model, whose modules stand in train mode until it ends. Evaluate it after "
                "training, in a callback of the trainer, or as a copy (copy.deepcopy)."
            )
        for module in modules:
            _evaluated.setdefault(module, _Evaluated(module.training)).num_bodies += 1
    try:
        if any(module.training for module in modules):  # to ask is quick, and to set an attribute of a module is not
            for held in _held(model):
                held.eval()
        with torch.no_grad():
            yield
    finally:
        with _lock:
            for module in modules:
                evaluated = _evaluated[module]
                evaluated.num_bodies -= 1
                if not evaluated.num_bodies:
                    del _evaluated[module]
                    if module.training != evaluated.mode:
                        module.training = evaluated.mode


@contextmanager
def training(model: object, what: str = "model") -> Iterator[None]:
    """Keep a module for this thread while the body trains it; the body sets the modes itself.

    Args:
        model: the module: a model, or the objective that it is trained by.
        what: what to call it in the message.

    Raises:
        BusyError: if it is being evaluated, or trained by another thread.
    """
    modules, here = modules_of(model), threading.get_ident()
    with _lock:
        if any(module in _evaluated or _trained_by.get(module, here) != here for module in modules):
            raise BusyError(
                f"the {what} is in use: it is being evaluated, or another thread trains it. Train it when that has "
                "ended, or train a copy (copy.deepcopy)."
            )
        added = [module for module in modules if module not in _trained_by]
        _trained_by.update(dict.fromkeys(added, here))
    try:
        yield
    finally:
        with _lock:
            for module in added:
                del _trained_by[module]
