"""What the saved runs in `tests/net/runs` answer, as one JSON document, by the command line alone.

python tests/net/ask.py answers FILE           score, encode, sample and evaluate of every run, help and list texts
python tests/net/ask.py save                   the same, in seven digits, into tests/net/answers.json
python tests/net/ask.py runs FOLDER            fit the runs anew (one epoch each) and print a digest of their weights
python tests/net/ask.py compare OLD NEW        both, in two Python environments, and every difference of a single bit

Only files and texts that users see are read, so that one script serves an old environment and a new one.
"""

import contextlib
import hashlib
import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RUNS, ROWS, TABLE = HERE / "runs", HERE / "rows.npy", HERE / "table.csv"
COMMANDS = [
    "fit",
    "evaluate",
    "compare",
    "score",
    "sample",
    "reconstruct",
    "encode",
    "plot",
    "report",
    "info",
    "cite",
    "list",
]
TINY = ["max_epochs=1", "batch_size=300", "latent_dim=2", "compile=off", "precision=float32", "seed=3"]
# Presets whose size no key sets: arguments that make them small.
SMALL = {
    "conv-mnist": {"channels": (3, 5)},
    "conv-vae": {"channels": (3, 5)},
    "pixel-vae": {"channels": 3, "num_layers": 1, "blocks": (3, 5)},
}


def call(*arguments):
    """The exit code and the standard output of one command."""
    from vaekit import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = cli.run([str(argument) for argument in arguments])
    return code, out.getvalue()


def must(*arguments):
    """The standard output of a command that succeeds."""
    code, text = call(*arguments)
    if code != 0:
        raise SystemExit(f"vaekit {' '.join(map(str, arguments))} ended with {code}")
    return text


def fit(folder):
    """Fit a tiny run of every preset to digits, and one to a table."""
    from vaekit.presets import available

    for name, preset in available().items():
        if name == "table":  # the name of the run of a table
            must("fit", "digits", "-o", folder / "table-preset", "--preset", name, "--quiet", *TINY, "hidden=6")
        elif name in SMALL:
            fit_by_hand(folder / name, preset, SMALL[name])
        else:
            must("fit", "digits", "-o", folder / name, "--preset", name, "--quiet", *TINY, "hidden=6")
    with contextlib.chdir(HERE):  # a run remembers the path that it was given
        table = ["fit", TABLE.name, "-o", Path(folder).absolute() / "table", "--label", "kind", "--quiet"]
        must(*table, *TINY, "hidden=6", "batch_size=20")


def fit_by_hand(folder, preset, sizes):
    """What `vaekit fit` does, for sizes that it has no keys for."""
    import vaekit as vk

    digits = vk.data.load("digits:train")
    with vk.engine.seeded(3):
        transform = vk.transforms.Compose([vk.transforms.Scale(0, 16), vk.transforms.Binarize()])
        model, objective = preset((1, 8, 8), latent_dim=2, transform=transform, **sizes)
    settings = {"max_epochs": 1, "batch_size": 300, "compile": "off", "precision": "float32", "seed": 3}
    vk.Trainer(progress=False, **settings).fit(model, objective, digits)
    about = {"source": "digits", "name": "digits", "value_range": [0, 16]}
    vk.save(model, folder, metadata={"data": about})


def data_of(run):
    """The rows that a run is asked about."""
    return TABLE if run.name == "table" else ROWS


def numbers_of(document):
    """Name to value and errors of what `evaluate --json` prints, in either of its forms."""
    if "results" in document:
        rows = document["results"]
        found = {r["name"]: [r["value"], r["stderr"], r["sampling_stderr"]] for r in rows}
        return {name: row for name, row in found.items() if row[0] is not None and ".findings." not in name}
    return dict(_flat({k: v for k, v in document.items() if k not in ("run", "data")}))


def _flat(tree, prefix=""):
    for key, value in tree.items():
        name = prefix + key
        if isinstance(value, dict) and "mean" in value:
            yield name, [value["mean"], value.get("mean_stderr"), value.get("sampling_stderr")]
        elif isinstance(value, dict):
            yield from _flat(value, name + ".")
        elif isinstance(value, int | float):
            yield name, [value, None, None]


def answers_of(run, folder, evaluate=True):
    """Score, codes, samples and evaluation of one run."""
    import numpy as np

    def array(*arguments):
        file = folder / "out.npy"
        must(*arguments, "-o", file)
        return np.load(file).astype(float).tolist()

    data = data_of(run)
    return {
        "score": array("score", run, data, "--num-samples", "8"),
        "encode": array("encode", run, data),
        "draw": array("encode", run, data, "--draw", "--seed", "1"),
        "reconstruct": array("reconstruct", run, data),
        "sample": array("sample", run, "-n", "3"),
        "mean": array("sample", run, "-n", "3", "--mean"),
        "evaluate": evaluation_of(run) if evaluate else {},
    }


def evaluation_of(run):
    """Name to value and errors of what `evaluate` says of one run."""
    return numbers_of(json.loads(must("evaluate", run, data_of(run), "--json", "--num-samples", "8")))


def texts():
    """Help of every command, and the list of everything there is."""
    found = {"help": must("--help"), "list": must("list")}
    found |= {f"{command} --help": must(command, "--help") for command in COMMANDS}
    return {name: " ".join(text.split()) for name, text in found.items()}


def answers():
    """What every run answers, and the texts."""
    runs = sorted(RUNS.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        return {"runs": {run.name: answers_of(run, Path(folder)) for run in runs}, "texts": texts()}


def digests():
    """A digest of the weights of every run, fitted anew."""
    with tempfile.TemporaryDirectory() as folder:
        fit(Path(folder))
        files = sorted(Path(folder).glob("*/model.safetensors"))
        return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def differences(old, new, tolerance=0.0, where=""):
    """Places where two documents differ: numbers by more than `tolerance`, relative to 1 or to the larger one."""
    if isinstance(old, dict) and isinstance(new, dict):
        lost = [f"{where}{key}: {'missing' if key in old else 'new'}" for key in sorted(set(old) ^ set(new))]
        both = [key for key in old if key in new]
        return lost + [d for key in both for d in differences(old[key], new[key], tolerance, f"{where}{key} ")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, tolerance, f"{where}{i} ")]
    if isinstance(old, int | float) and isinstance(new, int | float):
        near = abs(old - new) <= tolerance * max(1.0, abs(old), abs(new)) or (math.isnan(old) and math.isnan(new))
        return [] if near else [f"{where}: {old!r} became {new!r}"]
    return [] if old == new else [f"{where}: {str(old)[:200]!r} became {str(new)[:200]!r}"]


def compare(old, new):
    """Ask two environments and print what differs; returns the number of differences."""
    documents = []
    with tempfile.TemporaryDirectory() as folder:
        for python in (old, new):
            file = Path(folder) / "answers.json"
            subprocess.run([python, __file__, "answers", file], check=True)
            document = json.loads(file.read_text())
            subprocess.run([python, __file__, "runs", file], check=True)
            documents.append(document | {"weights": json.loads(file.read_text())})
    found = differences(*documents)
    print("\n".join(found) or "every answer is the same, bit for bit")
    return len(found)


def main(what, *arguments):
    """One of the commands."""
    import warnings

    warnings.simplefilter("ignore")
    if what == "compare":
        return min(1, compare(*arguments))
    import torch

    torch.set_num_threads(1)
    document = digests() if what == "runs" else answers()
    if what == "save":
        document = json.loads(json.dumps(document), parse_float=lambda text: float(f"{float(text):.7g}"))
    file = HERE / "answers.json" if what == "save" else Path(arguments[0])
    file.write_text(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
