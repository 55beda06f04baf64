"""Transforms between the data as handed in and the space in which the model sees them, with their Jacobians."""

from vaekit.transforms.affine import Scale, Standardize
from vaekit.transforms.base import Compose, Transform
from vaekit.transforms.binarize import Binarize
from vaekit.transforms.columns import Columns
from vaekit.transforms.dequantize import Dequantize
from vaekit.transforms.log import Log
from vaekit.transforms.logit import Logit
from vaekit.transforms.spikes import Spiked

__all__ = [
    "Binarize",
    "Columns",
    "Compose",
    "Dequantize",
    "Log",
    "Logit",
    "Scale",
    "Spiked",
    "Standardize",
    "Transform",
]
