"""What the engine asks of a model: its dtype, its device, its mode."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
