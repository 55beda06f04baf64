"""Networks: Tensor to Tensor. They know nothing of probability and have no output layer of their own."""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

if TYPE_CHECKING:
    from vaekit.networks.autoregressive import MaskedMLP
    from vaekit.networks.columns import ColumnsInput
    from vaekit.networks.context import Concat, ContextInput
    from vaekit.networks.conv import ConvDecoder, ConvEncoder
    from vaekit.networks.factors import FactorEncoder
    from vaekit.networks.inputs import LogInput, Parts, RescaleInput
    from vaekit.networks.members import MemberEncoder
    from vaekit.networks.mlp import MLP, LinearPlus, Readout
    from vaekit.networks.residual import ConvPyramid, ConvTopDown
    from vaekit.networks.sequence import GRUEncoder

__all__ = [
    "ColumnsInput",
    "Concat",
    "ContextInput",
    "ConvDecoder",
    "ConvEncoder",
    "ConvPyramid",
    "ConvTopDown",
    "FactorEncoder",
    "GRUEncoder",
    "LinearPlus",
    "LogInput",
    "MLP",
    "MaskedMLP",
    "MemberEncoder",
    "Parts",
    "Readout",
    "RescaleInput",
]

_FILES = {
    "autoregressive": ["MaskedMLP"],
    "columns": ["ColumnsInput"],
    "context": ["Concat", "ContextInput"],
    "conv": ["ConvDecoder", "ConvEncoder"],
    "factors": ["FactorEncoder"],
    "inputs": ["LogInput", "Parts", "RescaleInput"],
    "members": ["MemberEncoder"],
    "mlp": ["LinearPlus", "MLP", "Readout"],
    "residual": ["ConvPyramid", "ConvTopDown"],
    "sequence": ["GRUEncoder"],
}
if not TYPE_CHECKING:  # a module with `__getattr__` has every name, to type checkers
    __getattr__, __dir__ = attributes(__name__, {name: file for file, names in _FILES.items() for name in names})
