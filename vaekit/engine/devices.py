"""Where numbers are computed, and how precisely inside networks."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from vaekit.engine.modes import evaluating, model_device, model_dtype, modules_of
from vaekit.errors import ConfigError
from vaekit.traits import NetworkTraits, all_told

R = TypeVar("R")

Precision = Literal["auto", "float32", "bf16"]
_PRECISIONS = ("auto", "float32", "bf16")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
_LARGE_STEP = 5 * 10**7
_RESIDENT_SHARE = 0.5  # of a device's free memory: the other half is left to the model and its steps


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


def free_device_memory(device: torch.device) -> int:
    """Bytes that are free on `device`; a CPU has none apart from those in which data lie already."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def resident(rows: R, device: torch.device) -> R | Tensor:
    """`rows` on the device where they fit into half of its free memory; otherwise, and on disk, as they are.

    A step then gathers its batch on the device instead of waiting for it to be copied there.
    """
    if not isinstance(rows, Tensor) or rows.device == device:
        return rows
    fits = rows.numel() * rows.element_size() <= _RESIDENT_SHARE * free_device_memory(device)
    return rows.to(device) if fits else rows


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a `ConfigError` that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise ConfigError(f"{name} is one of {', '.join(choices)}; got {value!r}")


def check_precision(precision: str) -> None:
    """Raise a `ConfigError` unless `precision` is "auto", "float32" or "bf16"."""
    check_choice("precision", precision, _PRECISIONS)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are much faster than in float32: AMX on a CPU, any CUDA that has them."""
    if device.type == "cuda":
        result: bool = torch.cuda.is_bf16_supported()
        return result
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


def autocast_dtype(model: object, precision: Precision, batch_size: int = 0) -> torch.dtype | None:
    """The dtype of matrix products inside the networks of `model`, or None where they keep that of the model.

    `auto` takes bfloat16 where the hardware is fast at it and the products are large enough to pay for the conversions:
    convolutions of networks that say `bears_low_precision`, or at least 5e7 products of a row and a weight per step. It
    does not depend on measured time.

    Args:
        model: the model.
        precision: "auto", "float32" or "bf16".
        batch_size: rows per step, for "auto".
    """
    check_precision(precision)
    if precision != "auto" or not isinstance(model, nn.Module) or model_dtype(model) != torch.float32:
        return torch.bfloat16 if precision == "bf16" else None
    if not has_fast_bf16(model_device(model)):
        return None
    parts = list(_network_dtypes(model))
    convolutional = [part for part in parts if any(isinstance(m, _CONVOLUTIONS) for m in part.modules())]
    if convolutional:
        networks = [dict(part.named_children()).get("network") for part in convolutional]
        bear = all(known.bears_low_precision for known in all_told(NetworkTraits, networks))
        return torch.bfloat16 if bear else None
    num_weights = sum(p.numel() for part in parts for p in part.parameters())
    is_large = batch_size >= 64 and batch_size * num_weights >= _LARGE_STEP
    return torch.bfloat16 if is_large else None


def memory_format(model: object) -> str:
    """How the networks of `model` lay out images: channels innermost where there are convolutions."""
    parts = model.modules() if isinstance(model, nn.Module) else []
    return "channels_last" if any(isinstance(part, _CONVOLUTIONS) for part in parts) else "contiguous"


class NetworkDtype(threading.local):
    """In which dtype the matrix products of one network run: for each thread its own choice, or None for the model's.

    A module that runs a network (`Conditional` does) keeps one as an attribute, and `network_precision` finds it there.
    torch.compile reads it while it traces, and its graphs ask for it at each call.

    Attributes:
        here: the choice of the calling thread.
    """

    here: torch.dtype | None = None  # what a thread that has never chosen finds

    def __reduce__(self) -> tuple[type["NetworkDtype"], tuple[()]]:  # copies and files hold nobody's choice
        return NetworkDtype, ()


def _network_dtypes(model: object) -> dict[nn.Module, NetworkDtype]:
    """The modules that run a network, and in which dtype they do."""
    modules = modules_of(model) if isinstance(model, nn.Module) else []
    return {m: value for m in modules for value in vars(m).values() if isinstance(value, NetworkDtype)}


@contextmanager
def network_precision(model: object, precision: Precision, batch_size: int = 0) -> Iterator[torch.dtype | None]:
    """Let every network of `model` run in `precision` in this thread while the body runs; yields `autocast_dtype`.

    Densities, KL and weights stay outside and keep the model's dtype. Other threads may run the model in another one.
    """
    dtype, networks = autocast_dtype(model, precision, batch_size), _network_dtypes(model).values()
    before = [network.here for network in networks]
    for network in networks:
        network.here = dtype
    try:
        yield dtype
    finally:
        for network, value in zip(networks, before, strict=True):
            network.here = value


@contextmanager
def evaluating_in(model: object, precision: Precision) -> Iterator[None]:
    """`evaluating` for a long computation: with networks in `precision`."""
    with evaluating(model), network_precision(model, precision):
        yield


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """A context in which matrix products run in `dtype`; a context that does nothing where dtype is None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
