"""The networks of all contestants in plain torch, by name: MLPs, and convolutions of the size of pythae's for MNIST.

An encoder returns (B, 2 z): the mean and the log-variance. A decoder returns raw parameters, such as logits.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

IMAGE, CONV_LATENT = (1, 28, 28), 16


def mlp(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU (and dropout) between them."""
    layers: list[nn.Module] = []
    for i, (incoming, outgoing) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        layers += [nn.Linear(incoming, outgoing), *([] if last else [nn.ReLU()])]
        layers += [nn.Dropout(dropout)] if dropout and not last else []
    return nn.Sequential(*layers)


def mlp_pair(width: int, hidden: Sequence[int], latent: int, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """Encoder and mirrored decoder for rows of `width` numbers."""
    return mlp([width, *hidden, 2 * latent], dropout), mlp([latent, *hidden[::-1], width], dropout)


def _block(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


def conv_features(width: int = 128) -> nn.Sequential:
    """(B, 1, 28, 28) to (B, 8 width): four 4 x 4 convolutions of stride 2 with batch norm and ReLU."""
    layers: list[nn.Module] = []
    incoming = 1
    for outgoing in (width, 2 * width, 4 * width, 8 * width):
        layers += _block(nn.Conv2d(incoming, outgoing, 4, stride=2, padding=1), outgoing)
        incoming = outgoing
    return nn.Sequential(*layers, nn.Flatten())


def conv_logits(latent: int = CONV_LATENT, width: int = 128) -> nn.Sequential:
    """(B, z) to (B, 1, 28, 28): a linear layer to 8 width x 4 x 4, then three 3 x 3 transposed ones of stride 2."""
    top = 8 * width
    return nn.Sequential(
        nn.Linear(latent, top * 16),
        nn.Unflatten(1, (top, 4, 4)),
        *_block(nn.ConvTranspose2d(top, top // 2, 3, stride=2, padding=1), top // 2),
        *_block(nn.ConvTranspose2d(top // 2, top // 4, 3, stride=2, padding=1, output_padding=1), top // 4),
        nn.ConvTranspose2d(top // 4, 1, 3, stride=2, padding=1, output_padding=1),
    )


def conv_pair(latent: int = CONV_LATENT, width: int = 128) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of convolutions; the last layer of the encoder is linear."""
    return nn.Sequential(conv_features(width), nn.Linear(8 * width, 2 * latent)), conv_logits(latent, width)


def pair(net: dict) -> tuple[nn.Module, nn.Module]:
    """The pair that a job describes: `kind` ("mlp" or "conv") and its arguments."""
    arguments = {key: value for key, value in net.items() if key != "kind"}
    return conv_pair(**arguments) if net["kind"] == "conv" else mlp_pair(**arguments)


def load_weights(modules: Sequence[nn.Module], path: str | None) -> None:
    """Fill the parameters, in order, with the arrays of an .npz file; None leaves them as they are."""
    if path is None:
        return
    with np.load(path) as arrays:
        values = [arrays[name] for name in sorted(arrays.files)]
    parameters = [parameter for module in modules for parameter in module.parameters()]
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(torch.from_numpy(value))
