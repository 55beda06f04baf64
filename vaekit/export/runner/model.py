"""An exported model: scores, codes, means, samples and fills, by onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.export.runner.noise import content_noise, drawn, row_hashes, stream
from vaekit.export.runner.tables import Columns
from vaekit.export.runner.weights import summary

_VALUES = 2**20  # numbers of p(x|z) per pass: bounds memory, whatever the number of rows and draws
_BLOCK = 1024  # draws from p(x) that have one stream of noise
_FORMAT = 1
_NODES = 32  # of a quadrature inside the graph of fills


class Model:
    """A model in a folder that `vaekit export` wrote. It needs numpy and onnxruntime.

    Rows come and go in the units of the data: arrays of shape (N, *X); of a table with named columns a list of
    dictionaries, a structured array or a dictionary of columns, where None or NaN is an empty cell.

    Args:
        folder: the folder.
        threads: of onnxruntime for one pass; 0 takes as many as there are cores.

    Raises:
        ValueError: The folder holds no exported model.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        self.folder, self.threads = Path(folder), threads
        try:
            self.about: dict[str, Any] = json.loads((self.folder / "export.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} holds no exported model: {error}") from error
        if self.about.get("format_version") != _FORMAT:
            raise ValueError(f"{folder}: format {self.about.get('format_version')}; this runner reads {_FORMAT}")
        columns = self.about["columns"]
        self.columns = None if columns is None else Columns(columns)
        contexts = self.about["contexts"]
        self.contexts = None if contexts is None else Columns(contexts)
        self._sessions: dict[str, Any] = {}

    # --- Questions ---------------------------------------------------------------------------------------------------

    def score(
        self, rows: Any, num_samples: int = 100, seed: int = 0, *, context: Any = None, transform_seed: int = 0
    ) -> dict[str, np.ndarray]:
        """log p(x) of each row, nats: `log_p`, `stderr` (Monte Carlo) and `ess`, float64, shape (N,) each.

        A row scores the same alone and among others, up to rounding: its noise depends on its content and the seed.

        Args:
            rows: the rows.
            num_samples: K, draws of z per row.
            seed: source of the noise of z.
            context: what the model is conditioned on: a dictionary of columns, a list of dictionaries, or one for all
                rows; or codes of shape (N, C) or (C,); of a model without contexts None.
            transform_seed: with a row's values decides which bits or dequantisation noise it gets.

        Raises:
            ValueError: The rows do not fit, or the graph was left out.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples is at least 1; got {num_samples}")
        found = []
        for part, fed in self._fed("score", rows, context, transform_seed, num_samples):
            keys = row_hashes(part)
            draws = _Draws(self._noise("score"), keys, seed)
            step = max(1, min(num_samples, _VALUES // (self.about["num_values"] * len(part))))
            log_weights = [
                self._run("score", {**fed, **draws.next(min(step, num_samples - first))})
                for first in range(0, num_samples, step)
            ]
            found.append(summary(np.concatenate(log_weights)))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def encode(self, rows: Any, *, context: Any = None, seed: int = 0, transform_seed: int = 0) -> np.ndarray:
        """E[z|x] of each row, shape (N, *Z)."""
        found = []
        for part, fed in self._fed("encoder", rows, context, transform_seed, 1):
            draws = _Draws(self._noise("encoder"), row_hashes(part), seed)
            found.append(self._run("encoder", {**fed, **draws.next(1)}))
        return np.concatenate(found)

    def decode(self, z: Any, *, context: Any = None) -> Any:
        """E[x|z] for z of shape (N, *Z), in the units of the data: (N, *X), or rows of cells."""
        z = np.asarray(z, self._dtype("decoder", "z"))
        if z.shape[1:] != tuple(self.about["latent_shape"]):
            raise ValueError(f"z has shape (N, {_words(self.about['latent_shape'])}); got {z.shape}")
        contexts, found = self._contexts(context, len(z)), []
        for rows in _slices(len(z), self._rows_per_pass(1)):
            found.append(self._run("decoder", {"z": z[rows], **_cut(contexts, rows)}))
        return self._answer(np.concatenate(found) if found else np.zeros((0, *self.about["event_shape"])))

    def sample(self, n: int, seed: int = 0, *, context: Any = None) -> Any:
        """Draws from p(x), in the units of the data: shape (n, *X), or rows of cells."""
        if n < 0:
            raise ValueError(f"the number of samples is not negative; got {n}")
        contexts, found, noise = self._contexts(context, n), [], self._noise("sample")
        for number, block in enumerate(_slices(n, _BLOCK)):  # the first draws are the same, however many there are
            drawn_here = _noise_of_block(noise, seed, number)
            for rows in _slices(block.stop - block.start, self._rows_per_pass(1)):
                whole = slice(block.start + rows.start, block.start + rows.stop)
                found.append(self._run("sample", {**_cut(contexts, whole), **_cut(drawn_here, rows)}))
        return self._answer(np.concatenate(found) if found else np.zeros((0, *self.about["event_shape"])))

    def impute(self, rows: Any, num_samples: int = 100, seed: int = 0) -> Any:
        """The rows of a table with their holes filled, in the form of rows; observed cells stay as they are.

        Of numbers the mean, of levels the most probable one, given the observed cells of the row.

        Raises:
            ValueError: The rows do not fit, or the model takes no holes.
        """
        x = self._numbers(rows)
        filled = x.copy()
        for part, fed in self._fed("impute", x, None, 0, _NODES * num_samples, encoded=True):
            draws = _Draws(self._noise("impute"), row_hashes(part), seed)
            start = fed.pop("start")
            found = self._run("impute", {**fed, **draws.next(num_samples)}).reshape(len(part), -1)
            filled[start : start + len(part)] = np.where(np.isnan(part), found[:, :-1].reshape(part.shape), part)
        if self.columns is None or (isinstance(rows, np.ndarray) and rows.dtype.names is None):
            return filled
        return self._with_cells(rows, self.columns.decoded(filled), np.isnan(x))

    # --- Rows -------------------------------------------------------------------------------------------------------

    def _numbers(self, rows: Any) -> np.ndarray:
        """Rows as numbers, shape (N, *X), in the dtype of the graphs."""
        is_plain = isinstance(rows, np.ndarray) and rows.dtype.names is None
        if self.columns is not None and not is_plain:
            found = self.columns.encoded(rows)
        else:
            found = np.asarray(rows)
            if found.dtype.kind not in "buif":
                raise ValueError(f"the rows are numbers of shape (N, {_words(self.about['event_shape'])})")
        event = tuple(self.about["event_shape"])
        if found.ndim == 0 or found.shape[1:] != event:
            raise ValueError(f"the rows have shape (N, {_words(event)}); got {found.shape}")
        if not len(found):
            raise ValueError("there are 0 rows; hand over at least one")
        found = np.ascontiguousarray(found, np.dtype(self.about["dtype"]))
        self._check(found)
        return found

    def _check(self, x: np.ndarray) -> None:
        """Raise where a value is none that the model describes."""
        allowed = self.about["values"]
        bad = np.isinf(x) | (np.isnan(x) & (not self.about["takes_holes"]))
        with np.errstate(invalid="ignore"):
            if allowed["low"] is not None:
                bad |= x < allowed["low"]
            if allowed["high"] is not None:
                bad |= x > allowed["high"]
            if allowed["whole"]:
                bad |= (x != np.round(x)) & ~np.isnan(x)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"{int(bad.sum())} values are none of {allowed['words']}, the first {x[at]} at {at}")

    def _fed(self, graph: str, rows: Any, context: Any, seed: int, num_samples: int, encoded: bool = False) -> Any:
        """A few rows after the other, and what a graph takes of them beside noise of draws."""
        x = rows if encoded else self._numbers(rows)
        contexts = self._contexts(context, len(x))
        names = [each["name"] for each in self._graph(graph)["inputs"] if each["name"].startswith("transform_noise")]
        if seed and len(names) > 1:
            raise ValueError("this model has several random transforms; their noise is that of transform_seed=0 alone")
        for index in _slices(len(x), self._rows_per_pass(num_samples)):
            part = x[index]
            fed = {"x": part, **_cut(contexts, index)}
            for i, name in enumerate(names):
                own = seed if i == 0 else self.about["transform_seeds"][i]
                fed[name] = content_noise(part, own, part.shape[1:], part.dtype)
            if encoded:
                fed["start"] = index.start
            yield part, fed

    def _contexts(self, context: Any, num_rows: int) -> dict[str, np.ndarray]:
        size = self.about["context_size"]
        if not size:
            if context is not None:
                raise ValueError("this model is conditioned on nothing; leave context out")
            return {}
        found = self._codes(context, num_rows)
        found = np.broadcast_to(found, (num_rows, size)) if found.shape == (size,) else found
        if found.shape != (num_rows, size):
            raise ValueError(f"this model is asked under contexts of shape ({num_rows}, {size}); got {found.shape}")
        return {"context": np.ascontiguousarray(found)}

    def _codes(self, context: Any, num_rows: int) -> np.ndarray:
        """A context as numbers: cells by column, one for all rows or one for each, or codes as they are."""
        if context is None:
            return np.zeros(0)
        if isinstance(context, Mapping):
            context = {n: c if isinstance(c, list | tuple | np.ndarray) else [c] * num_rows for n, c in context.items()}
        has_cells = isinstance(context, Mapping) or (isinstance(context, list) and isinstance(context[0], Mapping))
        if has_cells and self.contexts is not None:
            context = self.contexts.encoded(context)
        return np.asarray(context, np.dtype(self.about["model_dtype"]))

    def _answer(self, x: np.ndarray) -> Any:
        return x if self.columns is None else self.columns.decoded(x)

    def _with_cells(self, rows: Any, filled: list[dict[str, Any]], hole: np.ndarray) -> list[dict[str, Any]]:
        """Filled cells in the holes of rows, all others as they came."""
        assert self.columns is not None
        names = [column["name"] for column in self.columns.modelled]
        answers = []
        for i, cells in enumerate(filled):
            if isinstance(rows, np.ndarray):
                own = {name: rows[name][i].item() for name in rows.dtype.names}
            elif isinstance(rows, Mapping):
                own = {name: column[i] for name, column in rows.items()}
            else:
                own = dict(rows[i])
            own.update({name: cells[name] for j, name in enumerate(names) if hole[i, j] and name in cells})
            answers.append(own)
        return answers

    # --- Graphs ------------------------------------------------------------------------------------------------------

    def _graph(self, name: str) -> Mapping[str, Any]:
        graph: Mapping[str, Any] = self.about["graphs"].get(name, {})
        if "inputs" not in graph:
            raise ValueError(f"this model has no graph {name!r}: {graph.get('reason', 'it was not exported')}")
        return graph

    def _noise(self, name: str) -> list[Mapping[str, Any]]:
        """The inputs of a graph that are noise of draws."""
        return [each for each in self._graph(name)["inputs"] if each["name"].startswith(("normal", "uniform"))]

    def _dtype(self, graph: str, name: str) -> np.dtype:
        found: np.dtype = np.dtype(next(each["dtype"] for each in self._graph(graph)["inputs"] if each["name"] == name))
        return found

    def _rows_per_pass(self, num_samples: int) -> int:
        num_values: int = self.about["num_values"]
        return max(1, min(64 if num_samples > 1 else 1024, _VALUES // (num_values * num_samples)))

    def _run(self, name: str, fed: dict[str, np.ndarray]) -> np.ndarray:
        if name not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = self.threads
            path = self.folder / self._graph(name)["file"]
            try:
                self._sessions[name] = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            except Exception as error:  # of onnxruntime's own kinds
                raise ValueError(f"{path} cannot be opened: {error}") from error
        found: np.ndarray = self._sessions[name].run(None, fed)[0]
        return found


class _Draws:
    """Noise of draws, a stream for each row and input.

    Args:
        inputs: what `export.json` says of the inputs that are noise.
        keys: what the noise of each row depends on beside the seed, shape (B,), uint64.
        seed: the seed.
    """

    def __init__(self, inputs: Sequence[Mapping[str, Any]], keys: np.ndarray, seed: int) -> None:
        self.inputs, self.keys, self.seed = inputs, keys, seed
        self._streams: dict[tuple[int, int], np.random.Generator] = {}
        self._per_row: dict[tuple[int, int], np.ndarray] = {}

    def next(self, count: int) -> dict[str, np.ndarray]:
        """The noise of the next draws, `count` of each row, by the name of the input."""
        found = {}
        numbers = range(len(self.keys))
        for place, about in enumerate(self.inputs):
            axes, size, dtype = about["shape"][:-1], about["shape"][-1], np.dtype(about["dtype"])
            kind = about["name"].split("_")[0]
            if not axes:
                found[about["name"]] = drawn(kind, stream(self.seed, 0, place), (size,), dtype)
            elif axes == ["batch"]:
                found[about["name"]] = np.stack([self._once(i, place, kind, size, dtype) for i in numbers])
            else:
                each = [drawn(kind, self._stream(i, place), (count, size), dtype) for i in numbers]
                found[about["name"]] = np.stack(each, 1)
        return found

    def _stream(self, row: int, place: int) -> np.random.Generator:
        if (row, place) not in self._streams:
            self._streams[row, place] = stream(self.seed, int(self.keys[row]), place)
        return self._streams[row, place]

    def _once(self, row: int, place: int, kind: str, size: int, dtype: np.dtype) -> np.ndarray:
        """Noise of a row that all its draws share."""
        if (row, place) not in self._per_row:
            self._per_row[row, place] = drawn(kind, self._stream(row, place), (size,), dtype)
        return self._per_row[row, place]


def _noise_of_block(inputs: Sequence[Mapping[str, Any]], seed: int, number: int) -> dict[str, np.ndarray]:
    """Noise of a block of draws from p(x), each of which has its own."""
    found = {}
    for place, about in enumerate(inputs):
        shape, kind = (_BLOCK, about["shape"][-1]), about["name"].split("_")[0]
        found[about["name"]] = drawn(kind, stream(seed, number, place), shape, np.dtype(about["dtype"]))
    return found


def _slices(num: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, num)) for start in range(0, num, size)]


def _cut(values: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
    return {name: value[rows] for name, value in values.items()}


def _words(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
