"""Binarisation: grey values in [0, 1] to bits."""

from typing import Literal

import torch
from torch import Tensor

from vaekit.errors import ConfigError, SupportError
from vaekit.transforms.base import Transform, as_floating

_MODES = ("fresh", "fixed", "threshold")


def _mix(value: Tensor) -> Tensor:
    """A bijective scrambling of int64 (the finaliser of SplitMix64), elementwise; products wrap around."""
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


def content_noise(x: Tensor, seed: int) -> Tensor:
    """Uniform noise in [0, 1) that depends on a row's own values and the seed, not on where the row stands.

    Args:
        x: data of shape (N, *X).
        seed: any integer; another seed gives another draw.

    Returns:
        Noise of the shape and dtype of x. Equal rows get equal noise.
    """
    bits = x.to(torch.float32).contiguous().view(torch.int32).to(torch.int64).flatten(1)
    place = _mix(torch.arange(1, bits.shape[1] + 1, device=x.device) * -7046029254386353131 + seed)
    row = _mix((bits * (place | 1)).sum(1) + seed)
    noise = _mix(row.unsqueeze(1) + place)
    return (
        ((noise >> 11) & 0x1FFFFFFFFFFFFF).to(torch.float64).mul(2.0**-53).to(x.dtype).view_as(x).clamp(max=1 - 2**-24)
    )


class Binarize(Transform):
    """Grey values in [0, 1] to bits: the model then describes the bits, and log p is their mass, not a density of grey.

    Use it where a number is compared with the literature on binary MNIST.

    `fresh` draws each bit from Bernoulli(x) at every use; `fixed` draws it once for all (the draw is a function of the
    row's values and the seed); `threshold` sets it where x > threshold. Numbers from different modes cannot be
    compared: thresholded digits are several nats easier than drawn ones.

    References:
        Salakhutdinov & Murray, "On the quantitative analysis of deep belief networks", 2008,
        https://doi.org/10.1145/1390156.1390266 (drawn bits).

    Args:
        mode: "fresh", "fixed" or "threshold".
        threshold: for mode "threshold".
        seed: for mode "fixed".
    """

    discretizes = True

    def __init__(
        self, mode: Literal["fresh", "fixed", "threshold"] = "fresh", threshold: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        if mode not in _MODES:
            raise ConfigError(f"Binarize expects mode in {', '.join(_MODES)}; got {mode!r}")
        self.mode, self.threshold, self.seed = mode, float(threshold), int(seed)

    @property
    def is_fixed(self) -> bool:  # type: ignore[override]
        """Whether a row always gets the same bits."""
        return self.mode != "fresh"

    def check(self, x: Tensor) -> None:
        """Raise a `SupportError` if x leaves [0, 1]."""
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise SupportError(
                f"Binarize expects values in [0, 1]; got [{x.min():g}, {x.max():g}]. Put Scale before it."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Bits, as floats."""
        x = as_floating(x)
        if self.mode == "threshold":
            return (x > self.threshold).to(x.dtype)
        noise = torch.rand_like(x) if self.mode == "fresh" else content_noise(x, self.seed)
        return (noise < x).to(x.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        """The bits themselves, or probabilities as grey values: what was lost cannot be recovered."""
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """0: a mass has no Jacobian."""
        return y.new_zeros(len(y))
