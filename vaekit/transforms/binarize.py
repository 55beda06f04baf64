"""Binarisation: grey values in [0, 1] to bits."""

from typing import Literal

import torch
from torch import Tensor

from vaekit.errors import ConfigError, SupportError
from vaekit.transforms.base import Transform, as_floating
from vaekit.transforms.noise import content_noise

_MODES = ("fresh", "fixed", "threshold")


class Binarize(Transform):
    """Grey values in [0, 1] to bits: the model then describes the bits, and log p is their mass, not a density of grey.

    Use it where a number is compared with the literature on binary MNIST.

    `fresh` draws each bit from Bernoulli(x) at every use in training, while in evaluation the draw is a function of the
    row and of `transform_seed`; `fixed` draws it once for all (a function of the row's values and the seed);
    `threshold` sets it where x > threshold. Numbers from different modes cannot be
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
    takes_noise = True
    noise_name = "bits"

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
        if self.mode == "fixed":
            return self.from_noise(x, content_noise(x, self.seed))
        return (torch.rand_like(x) < x).to(x.dtype)

    def from_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        """1 where the noise lies below the grey value, both in float32: the same bits for numbers in any precision."""
        x = as_floating(x)
        return (noise.float() < x.float()).to(x.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        """The bits themselves, or probabilities as grey values: what was lost cannot be recovered."""
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """0: a mass has no Jacobian."""
        return y.new_zeros(y.shape[0])
