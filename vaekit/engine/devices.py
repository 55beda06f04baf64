"""Where numbers are computed, and how precisely inside networks."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from vaekit.errors import ConfigError

Precision = Literal["auto", "float32", "bf16"]
_PRECISIONS = ("auto", "float32", "bf16")


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
