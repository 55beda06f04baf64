"""How a raw parameter v of a posterior becomes a scale."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.errors import ConfigError


def check_scale(family: str, scale: str, kinds: Sequence[str]) -> None:
    """Raise a `ConfigError` unless `scale` is one of `kinds`."""
    if scale not in kinds:
        raise ConfigError(f"{family} expects scale in {', '.join(kinds)}; got {scale!r}")


def to_scale(raw: Tensor, kind: str) -> Tensor:
    r"""The scale of v: "log-variance" \( e^{v/2} \), "exp" \( e^v \), "softplus" \( \log(1 + e^v) \), or
    "softplus-variance" \( \sqrt{\log(1 + e^v)} \).
    """
    if kind == "log-variance":
        return torch.exp(0.5 * raw)
    if kind == "exp":
        return torch.exp(raw)
    # Below this floor softplus rounds to 0, whose logarithm is no number.
    scale = F.softplus(raw).clamp(min=torch.finfo(raw.dtype).tiny ** 0.5)
    return scale.sqrt() if kind == "softplus-variance" else scale
