"""What the benchmarks share: options, data, weights, and how each contestant is started."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import vaekit as vk
from benchmarks import venv
from benchmarks.race import Contestant
from benchmarks.workers.networks import pair

MLP = {"kind": "mlp", "width": 784, "hidden": [512], "latent": 20}
CONV = {"kind": "conv"}
MODES = {
    "vaekit eager float32": ("off", "float32"),
    "vaekit eager bf16": ("off", "bf16"),
    "vaekit compiled float32": ("on", "float32"),
    "vaekit compiled bf16": ("on", "bf16"),
    "vaekit auto": ("auto", "auto"),
}
Start = Callable[[], Any]


@dataclass(frozen=True)
class Options:
    """How to run.

    Args:
        data_dir: folder with the data sets; None looks at $VAEKIT_DATA.
        quick: tiny sizes, a round or two, no compilation: whether everything runs, not how fast.
        peers: whether the peers take part.
        rounds: measured turns of each contestant; None leaves it to the benchmark.
        start: makes a contestant of a name, a worker and a job; tests put their own here.
        device: where everything is computed; what takes another one than the CPU says so.
    """

    data_dir: str | Path | None = None
    quick: bool = False
    peers: bool = True
    rounds: int | None = None
    start: Callable[..., Any] = Contestant
    device: str = "cpu"

    def folder(self) -> Path | None:
        """The folder with data sets, if there is one."""
        given = self.data_dir or os.environ.get("VAEKIT_DATA")
        return Path(given) if given else None

    @property
    def with_bf16(self) -> bool:
        """Whether bf16 is measured: where the hardware is fast at it. Elsewhere one large product takes a minute."""
        return self.quick or vk.engine.has_fast_bf16(torch.device(self.device))

    def num_rounds(self, full: int) -> int:
        """How many turns are measured where nobody asked for another number."""
        return 1 if self.quick else self.rounds or full

    def size(self, full: Any, quick: Any) -> Any:
        """One of the two settings."""
        return quick if self.quick else full


def contestant(options: Options, name: str, worker: str, **job: Any) -> dict[str, Start]:
    """A starter in a dictionary, to be merged with others; a peer's is empty where peers stay out."""
    if not worker.endswith("_peer"):
        return {name: partial(options.start, name, worker, job)}
    return {name: partial(options.start, name, worker, job, python=venv.python())} if options.peers else {}


def library(options: Options, modes: Sequence[str] = tuple(MODES), **job: Any) -> dict[str, Start]:
    """vaekit as it can be told to run, by the names of `MODES`; `quick` takes those that never compile.

    bf16 runs only where the machine has units for it: elsewhere it is emulated, many times slower, and nobody's choice.
    """
    starters: dict[str, Start] = {}
    for name in modes:
        compile, precision = MODES[name]
        if precision == "bf16" and not options.with_bf16:
            continue
        if compile == "off" or not options.quick:
            starters |= contestant(options, name, "library", compile=compile, precision=precision, **job)
    return starters


def step_flops(net: dict[str, Any], batch: int) -> float:
    """Floating-point operations of the matrix products of one forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.workers.bare import loss_of

    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter:  # shapes only
        encoder, decoder = pair(net)
        x = torch.zeros(batch, 1, 28, 28) if net["kind"] == "conv" else torch.zeros(batch, net["width"])
        loss_of(encoder, decoder, x).backward()
    return float(counter.get_total_flops())


# --- Data and weights, handed over in files --------------------------------------------------------------------------


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what contestants read, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def job_of(rows: Any, model: nn.Module | None = None, **settings: Any) -> Iterator[dict[str, Any]]:
    """What contestants are told: `settings`, and the files of the rows and of the weights of `model`, if there is one.

    The files are there until the body is over.
    """
    with scratch() as folder:
        job = {"data": save_rows(folder / "x.npy", rows), **settings}
        if model is not None:
            job["weights"] = save_weights(folder / "weights.npz", model)
        yield job


def bits(num_rows: int, data_dir: str | Path | None = None, part: str = "train") -> tuple[Tensor, str]:
    """Rows of shape (N, 1, 28, 28), 0 or 1 in uint8, and what they are: thresholded MNIST, or random bits.

    Nothing is downloaded: MNIST is used where `data_dir` or $VAEKIT_DATA names its folder; otherwise the bits are drawn
    within MNIST's borders.
    """
    if data_dir or os.environ.get("VAEKIT_DATA"):
        grey = torch.from_numpy(vk.data.load(f"mnist:{part}", data_dir=data_dir).x[:num_rows])
        return (grey > 127).to(torch.uint8), "mnist"
    generator = torch.Generator().manual_seed(0)
    inner = torch.rand(num_rows, 1, 20, 20, generator=generator) < 0.2
    return nn.functional.pad(inner.to(torch.uint8), (4, 4, 4, 4)), "synthetic"


def library_model() -> vk.VAE:
    """784-512-20 and back with ReLU, a diagonal normal posterior and Bernoulli bits."""
    from benchmarks.workers.library import make_model

    return make_model(MLP, (1, 28, 28))


def save_rows(path: Path, rows: Any) -> str:
    """Write rows for contestants; returns the path as text."""
    np.save(path, np.asarray(rows))
    return str(path)


def save_weights(path: Path, model: nn.Module) -> str:
    """Write the parameters of `model` in order, encoder first."""
    arrays = {f"p{i:03d}": parameter.detach().numpy() for i, parameter in enumerate(model.parameters())}
    np.savez(path, **arrays)
    return str(path)
