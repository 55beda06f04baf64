"""Batch normalisation over the rows of all processes: torch's own layer of that kind needs a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vaekit.engine import world


def has_batch_norm(model: object) -> bool:
    """Whether a model normalises by statistics of a batch."""
    return isinstance(model, nn.Module) and any(isinstance(module, _BatchNorm) for module in model.modules())


@contextmanager
def batch_norm_together(model: nn.Module) -> Iterator[None]:
    """Let layers of batch normalisation, in train mode, take the moments of the rows of all processes in the body."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        vars(layer)["forward"] = partial(_normalized, layer)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _normalized(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What the layer makes of x, shape (B, C, ...), with the moments of all processes."""
    if not layer.training or world.size() == 1:
        result: Tensor = type(layer).forward(layer, x)
        return result
    over = [i for i in range(x.ndim) if i != 1]
    shape = (1, -1, *[1] * (x.ndim - 2))
    count = world.reduce(x.new_tensor(x.numel() // max(1, x.shape[1])))
    mean = world.total(x.sum(over)) / count
    centred = x - mean.reshape(shape)
    variance = world.total(centred.square().sum(over)) / count
    _remember(layer, mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
    y = centred * torch.rsqrt(variance + layer.eps).reshape(shape)
    if layer.weight is not None:
        y = y * layer.weight.reshape(shape)
    return y if layer.bias is None else y + layer.bias.reshape(shape)


@torch.no_grad()
def _remember(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Let the running statistics follow, as torch's layer does."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return
    share = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        share = 1 / float(layer.num_batches_tracked) if share is None else share
    layer.running_mean.lerp_(mean.to(layer.running_mean), share or 0.0)
    layer.running_var.lerp_(variance.to(layer.running_var), share or 0.0)
