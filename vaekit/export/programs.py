"""A module of tensors as an ONNX graph and as a program of torch.export, held against torch."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx

from vaekit.errors import ConfigError
from vaekit.export.decompositions import table
from vaekit.models.refined import Hamiltonian, SemiAmortized

OPSET = 20
BATCHES = (1, 7, 64)
"""Rows at which a graph is held against torch."""
TOLERANCE = 1e-4
DRAWS = 11
"""Draws of each row there."""
_LARGEST = 3000  # operations of a graph that is translated
_MOST_NODES = 1000  # of a graph that is made smaller on the way, which takes long: onnxruntime does the same
_PRIMES = (53, 47, 43, 41, 37, 59, 61)  # sizes at which a program is traced: two that it has not otherwise
Values = Callable[[int, int], Sequence[Tensor]]
"""What to put into a graph, for a number of rows and one of draws of each."""


class ExportError(ConfigError):
    """A part of a model cannot be exported; the message says why in one line."""


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Attributes:
        name: its name.
        axes: names of its leading axes of any size, "samples" and "batch".
        shape: the sizes of the others.
        dtype: of torch.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def about(self) -> dict[str, Any]:
        """What `export.json` says of it."""
        return {"name": self.name, "shape": [*self.axes, *self.shape], "dtype": str(self.dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class Exported:
    """A graph that was exported and agrees with torch.

    Attributes:
        onnx: the bytes of the ONNX file.
        program: those of the torch.export program.
        inputs: its inputs, in their order.
        output: name, shape and dtype of what it returns.
        difference: the largest relative difference from torch that was met.
    """

    onnx: bytes
    program: bytes
    inputs: tuple[Input, ...]
    output: dict[str, Any]
    difference: float

    def about(self) -> dict[str, Any]:
        """What `export.json` says of the graph."""
        given = [each.about() for each in self.inputs]
        return {"inputs": given, "output": self.output, "difference": self.difference}


def exported(
    graph: nn.Module,
    inputs: Sequence[Input],
    output: str,
    values: Values,
    may_flip: bool = False,
) -> Exported:
    """Export a graph and hold what onnxruntime makes of it against torch, at 1, 7 and 64 rows.

    Args:
        graph: the module.
        inputs: its inputs.
        output: name of what it returns.
        values: what to put in, for a number of rows and of draws.
        may_flip: whether one in a thousand values may be another one, as where noise decides between two levels and
            a last bit may tip it.

    Raises:
        ExportError: if it cannot be exported, or differs by more than 1e-4.
    """
    with quiet():
        program = _program(graph, inputs, values)
        if len(program.graph.nodes) > _LARGEST:
            raise ExportError(
                f"its graph has {len(program.graph.nodes):,} operations, and torch.onnx takes many minutes for more "
                f"than {_LARGEST:,}"
            )
        content = _onnx(program, [each.name for each in inputs], output)
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    difference, shape, dtype = _compared(graph, content, inputs, values, may_flip)
    about = {"name": output, "shape": shape, "dtype": dtype}
    return Exported(content, buffer.getvalue(), tuple(inputs), about, difference)


def _program(graph: nn.Module, inputs: Sequence[Input], values: Values) -> Any:
    """The graph as a program of torch.export, whose rows and draws may be of any number."""
    own = {size for tensor in graph.state_dict().values() for size in tensor.shape}
    batch, samples = [prime for prime in _PRIMES if prime not in own][:2]
    given = tuple(values(batch, samples))
    dims = {"batch": torch.export.Dim("batch"), "samples": torch.export.Dim("samples")}
    shapes = tuple({i: dims[axis] for i, axis in enumerate(each.axes)} for each in inputs)
    try:
        with torch.no_grad():
            if has_derivatives(graph):
                # What a derivative inside becomes is traced first: torch.export takes none.
                flat: Any = make_fx(graph, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*given)
                program = torch.export.export(flat, given, dynamic_shapes=shapes)
            else:
                program = torch.export.export(graph, given, dynamic_shapes=(shapes,))
            return program.run_decompositions(table())
    except Exception as error:
        raise ExportError(f"torch.export does not follow it: {_one_line(error)}") from error


def has_derivatives(graph: nn.Module) -> bool:
    """Whether the graph takes a derivative on its way."""
    return any(isinstance(module, Hamiltonian | SemiAmortized) for module in graph.modules())


def _onnx(program: Any, names: list[str], output: str) -> bytes:
    try:
        is_small = len(program.graph.nodes) <= _MOST_NODES
        how: dict[str, Any] = {"opset_version": OPSET, "verbose": False, "optimize": is_small}
        made = torch.onnx.export(program, dynamo=True, input_names=names, output_names=[output], **how)
        assert made is not None
        return bytes(made.model_proto.SerializeToString())
    except Exception as error:
        raise ExportError(f"torch.onnx has no form for it: {_one_line(error)}") from error


def _compared(
    graph: nn.Module,
    content: bytes,
    inputs: Sequence[Input],
    values: Values,
    may_flip: bool,
) -> tuple[float, list[Any], str]:
    """The largest relative difference, and shape and dtype of the output."""
    worst = 0.0
    try:
        session = opened(content)
    except Exception as error:  # of onnxruntime's own kinds
        raise ExportError(f"onnxruntime does not take it: {_one_line(error)}") from error
    for num_rows in BATCHES:
        given = values(num_rows, DRAWS)
        with torch.no_grad(), quiet():
            own = graph(*given).numpy()
        fed = {each.name: value.numpy() for each, value in zip(inputs, given, strict=True)}
        found = session.run(None, fed)[0]
        worst = max(worst, _difference(own, found, may_flip))
    if not worst <= TOLERANCE:
        raise ExportError(f"what onnxruntime makes of it differs from torch by {worst:.1e} relative, above {TOLERANCE}")
    axes = ["samples", "batch"] if inputs and own.ndim == 2 and output_is_draws(inputs, own.shape) else ["batch"]
    return worst, [*axes, *own.shape[len(axes) :]], str(own.dtype)


def output_is_draws(inputs: Sequence[Input], shape: tuple[int, ...]) -> bool:
    """Whether an output has K draws of each row."""
    return any(each.axes[:1] == ("samples",) for each in inputs) and len(shape) == 2 and shape[1] == BATCHES[-1]


def _difference(own: np.ndarray, found: np.ndarray, may_flip: bool) -> float:
    """The largest difference, relative to the size of each value, or to that of the usual value where it is larger."""
    if own.shape != found.shape:
        return float("inf")
    if not own.size:
        return 0.0
    same = (own == found) | (np.isnan(own) & np.isnan(found))
    finite = np.where(np.isfinite(own), own, 0).astype(np.float64)
    # Of each column of a table; pixels are in one unit.
    usual = np.sqrt(np.mean(finite**2, axis=0 if own.ndim == 2 else None))
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(own.astype(np.float64)), usual)
        ratio = np.where(same, 0.0, np.abs(own.astype(np.float64) - found) / np.where(size == 0, 1.0, size))
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    if may_flip and np.mean(ratio > TOLERANCE) <= 1e-3:
        ratio = np.where(ratio > TOLERANCE, 0.0, ratio)
    return float(ratio.max())


def opened(content: bytes) -> Any:
    """A session of onnxruntime on one thread, as torch computes in comparisons."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _one_line(error: Exception) -> str:
    """The first line that says something, of the innermost error."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {(lines or ['without words'])[0][:300]}"


@contextmanager
def quiet() -> Iterator[None]:
    """No words of torch's exporters on the way, and distributions that check no values, which graphs cannot."""
    names = ("torch", "torch.onnx", "torch.export", "torch._export", "onnxscript")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    checks = Distribution._validate_args
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        Distribution.set_default_validate_args(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Distribution.set_default_validate_args(checks)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
