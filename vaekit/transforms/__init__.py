"""Transforms between the data as handed in and the space in which the model sees them, with their Jacobians."""

from vaekit.transforms.affine import Scale, Standardize
from vaekit.transforms.base import Compose, Transform
from vaekit.transforms.binarize import Binarize
from vaekit.transforms.dequantize import Dequantize
from vaekit.transforms.logit import Logit

__all__ = ["Binarize", "Compose", "Dequantize", "Logit", "Scale", "Standardize", "Transform"]
