"""Networks: Tensor to Tensor. They know nothing of probability and have no output layer of their own."""

from vaekit.networks.conv import ConvDecoder, ConvEncoder
from vaekit.networks.gru import GRUEncoder
from vaekit.networks.masked import MaskedMLP
from vaekit.networks.mlp import MLP
from vaekit.networks.parts import Parts
from vaekit.networks.pyramid import ConvPyramid, ConvTopDown
from vaekit.networks.rescale import LogInput, RescaleInput

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "ConvPyramid",
    "ConvTopDown",
    "GRUEncoder",
    "LogInput",
    "MLP",
    "MaskedMLP",
    "Parts",
    "RescaleInput",
]
