"""The folder of an exported run: graphs, programs, what they are, and the file that runs them without torch."""

import ast
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import vaekit.export.runner as runner_parts
from vaekit import engine
from vaekit.data.schema import Schema
from vaekit.errors import ArtifactError, ConfigError
from vaekit.export.allowed import allowed_values
from vaekit.export.noise import NoNoiseError
from vaekit.export.programs import BATCHES, OPSET, TOLERANCE, Exported, ExportError
from vaekit.export.subject import Subject
from vaekit.paths import as_text
from vaekit.runs.run import Run
from vaekit.saving.files import write_atomically

FORMAT = 1
ABOUT, RUNNER = "export.json", "runner.py"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_PARTS = ("noise", "weights", "tables", "model")
_OTHER_KINDS = ("identifier", "text")  # columns that are no part of a row to the runner


@dataclass(frozen=True)
class Export:
    """What an export wrote.

    Attributes:
        folder: where.
        graphs: by name, the largest relative difference from torch, or why the graph was left out.
    """

    folder: Path
    graphs: dict[str, float | str]

    @property
    def left_out(self) -> dict[str, str]:
        """By name, why a graph was left out."""
        return {name: found for name, found in self.graphs.items() if isinstance(found, str)}


def check_packages() -> None:
    """Raise a `ConfigError` where a package that exports lacks."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"exports need {', '.join(missing)}: pip install 'vaekit[export]'")


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise where an export could not be written to a folder, before long work; it is made where there is none.

    Raises:
        ConfigError: if it holds something else, or an export that is not to be replaced.
        ArtifactError: if it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(os.listdir(folder))
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise ArtifactError(f"cannot write {as_text(folder)}: {error.strerror or error}") from error
    if not writable:
        raise ArtifactError(f"cannot write {as_text(folder)}: Permission denied")
    if there and ABOUT not in there:
        raise ConfigError(f"{as_text(folder)} holds other files, such as {as_text(there[0])}; name a new folder")
    if there and not overwrite:
        raise ConfigError(f"{as_text(folder)} holds an export already; add --overwrite, or name a new folder")


def export(
    run: Run, folder: str | Path, *, overwrite: bool = False, say: Callable[[str], object] | None = None
) -> Export:
    """Write a run as ONNX graphs and torch.export programs, with a file that runs them by numpy and onnxruntime.

    Each graph is held against torch at 1, 7 and 64 rows. One that differs by more than 1e-4 relative, or that cannot be
    exported, is left out, and `export.json` says why. Encoder and decoder have to be possible.

    Args:
        run: the run.
        folder: where; made where there is none.
        overwrite: whether an export there is replaced.
        say: told which graph is being made.

    Raises:
        ConfigError: if a package is missing, or neither encoder nor decoder can be exported.
        ArtifactError: if the folder cannot be written, or the run is damaged.
    """
    check_packages()
    folder, model = Path(folder), run.model  # a damaged run leaves no folder behind
    check_folder(folder, overwrite)
    schema = run.data.columns_schema
    subject = Subject(model, run.data.dtype)
    makers: dict[str, Callable[[], Exported]] = {
        "encoder": subject.encoder,
        "decoder": subject.decoder,
        "score": subject.score,
        "sample": subject.sample,
    }
    if run.data.kind == "table" or schema is not None:
        makers["impute"] = lambda: subject.fill({} if schema is None else schema.level_values)
    made: dict[str, Exported | str] = {}
    for name, make in makers.items():
        if say is not None:
            say(name)
        try:
            made[name] = make()
        except (ExportError, NoNoiseError, ConfigError) as error:
            made[name] = " ".join(str(error).split())
    lost = [made[name] for name in ("encoder", "decoder") if isinstance(made[name], str)]
    if len(lost) == 2:
        raise ConfigError(f"{run.called} cannot be exported: {lost[0]}")
    _write(folder, subject, run, made)
    return Export(folder, {name: found if isinstance(found, str) else found.difference for name, found in made.items()})


def _write(folder: Path, subject: Subject, run: Run, made: dict[str, Exported | str]) -> None:
    """All files, `export.json` last: a folder with one is whole."""
    graphs: dict[str, Any] = {}
    for name, found in made.items():
        if isinstance(found, str):
            graphs[name] = {"reason": found}
            continue
        write_atomically(folder / f"{name}.onnx", found.onnx)
        write_atomically(folder / f"{name}.pt2", found.program)
        graphs[name] = {"file": f"{name}.onnx", "program": f"{name}.pt2", **found.about()}
    write_atomically(folder / RUNNER, runner_source().encode())
    content = json.dumps(_about(subject, run, graphs), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / ABOUT, content.encode())


def _about(subject: Subject, run: Run, graphs: dict[str, Any]) -> dict[str, Any]:
    """What `export.json` holds."""
    schema, contexts, view = run.data.columns_schema, run.data.context_schema, subject.view
    names = None if run.data.columns is None else list(run.data.columns)
    return {
        "format_version": FORMAT,
        "opset": OPSET,
        "compared_at": list(BATCHES),
        "tolerance": TOLERANCE,
        "event_shape": list(subject.event_shape),
        "latent_shape": list(view.latent_shape),
        "dtype": str(subject.dtype).removeprefix("torch."),
        "model_dtype": str(view.dtype).removeprefix("torch."),
        "quantity": view.quantity,
        "takes_holes": subject.takes_holes,
        "context_size": subject.context_size,
        "contexts": None if contexts is None else _columns(contexts),
        "num_values": max(view.num_values, 512),
        "transform_seeds": [engine.block_seed(0, i) if i else 0 for i in range(subject.num_transform)],
        "values": allowed_values(view),
        "columns": _plain_columns(names) if schema is None else _columns(schema),
        "graphs": graphs,
    }


def _plain_columns(names: list[str] | None) -> list[dict[str, Any]] | None:
    """Columns of numbers alone."""
    return None if names is None else [{"name": name, "kind": "continuous", "dtype": "Float64"} for name in names]


def _columns(schema: Schema) -> list[dict[str, Any]]:
    """The columns of a schema that the runner reads or fills in."""
    kept = [column for column in schema.columns if column.kind not in _OTHER_KINDS]
    return [column.model_dump(mode="json", exclude_defaults=True, exclude={"why", "native"}) for column in kept]


def runner_source() -> str:
    """The text of `runner.py`: the parts of `vaekit.export.runner`, one after the other."""
    imports: set[str] = set()
    bodies = []
    for name in _PARTS:
        path = Path(str(runner_parts.__file__)).with_name(f"{name}.py")
        source = path.read_text("utf-8")
        lines, cut = source.splitlines(), 0
        for node in ast.parse(source).body:
            is_words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if isinstance(node, ast.Import | ast.ImportFrom):
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                imports |= set() if "vaekit" in text else {text}
            elif not is_words:
                break
            cut = node.end_lineno or 0
        bodies.append("\n".join(lines[cut:]).strip("\n"))
    ordered = sorted(imports, key=lambda text: ("numpy" in text, text.startswith("from"), text))
    head = '"""Runs the exported model beside this file by numpy and onnxruntime: see `Model`. Written by vaekit."""'
    return "\n\n".join([head, "\n".join(ordered), *(f"\n{body}" for body in bodies)]) + "\n"
