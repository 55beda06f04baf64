"""Networks: Tensor to Tensor. They know nothing of probability and have no output layer of their own."""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

if TYPE_CHECKING:
    from vaekit.networks.conv import ConvDecoder, ConvEncoder
    from vaekit.networks.gru import GRUEncoder
    from vaekit.networks.masked import MaskedMLP
    from vaekit.networks.mlp import MLP
    from vaekit.networks.parts import Parts
    from vaekit.networks.pyramid import ConvPyramid, ConvTopDown
    from vaekit.networks.rescale import LogInput, RescaleInput

_WHERE = {
    "ConvDecoder": "conv",
    "ConvEncoder": "conv",
    "ConvPyramid": "pyramid",
    "ConvTopDown": "pyramid",
    "GRUEncoder": "gru",
    "LogInput": "rescale",
    "MLP": "mlp",
    "MaskedMLP": "masked",
    "Parts": "parts",
    "RescaleInput": "rescale",
}

__getattr__, __dir__ = attributes(__name__, _WHERE)

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
