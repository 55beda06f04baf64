"""Logits of a discrete prior: learned, or those of the uniform distribution."""

from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError

Probs = Literal["learned", "uniform"]


class Logits(nn.Module):
    """Logits that start at 0, the uniform distribution, and are learned from there or stay.

    Args:
        shape: shape of the logits.
        probs: "learned" or "uniform".

    Raises:
        ConfigError: for another word.
    """

    raw: Tensor

    def __init__(self, shape: tuple[int, ...], probs: Probs) -> None:
        super().__init__()
        if probs not in ("learned", "uniform"):
            raise ConfigError(f'probs is "learned" or "uniform"; got {probs!r}')
        if probs == "learned":
            self.raw = nn.Parameter(torch.zeros(shape))
        else:  # a buffer, so that it follows the model's dtype and device; it is no state worth saving
            self.register_buffer("raw", torch.zeros(shape), persistent=False)

    def forward(self) -> Tensor:
        """The logits."""
        return self.raw
