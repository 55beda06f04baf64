"""What computes here, for reports: the choices that are made per machine, and per run."""

import torch

from vaekit.engine.devices import has_fast_bf16, memory_format, resolve_device
from vaekit.engine.speed.compilation import can_compile, compile_cache, compiler
from vaekit.engine.speed.threads import flushes_denormals, is_flushing

About = dict[str, str | int | bool | None]


def describe() -> About:
    """The machine: what `auto` has to choose from, and where compiled code is kept."""
    device = resolve_device()
    fast = has_fast_bf16(device)
    return {
        "torch": torch.__version__,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "fast_bf16": fast,
        "precision": "auto: bf16 inside large networks" if fast else "auto: float32",
        "compile": "auto: where it pays" if can_compile() else "off: no C++ compiler",
        "compiler": compiler(),
        "compile_cache": str(compile_cache()),
        "memory_format": "channels_last for convolutions, else contiguous",
        "flush_denormals": flushes_denormals(),
    }


def describe_run(model: object, dtype: torch.dtype, compile: str, compiled_at: int | None) -> About:
    """One run: what was chosen for it.

    Args:
        model: the model.
        dtype: of matrix products inside its networks.
        compile: "auto", "on" or "off", as asked for.
        compiled_at: with "auto", the step from which on it ran compiled.
    """
    return {
        "precision": str(dtype).removeprefix("torch."),
        "compile": compile,
        "compiled_at": compiled_at,
        "threads": torch.get_num_threads(),
        "memory_format": memory_format(model),
        "flush_denormals": is_flushing(),
    }
