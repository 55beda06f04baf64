"""(d) Wall time from the start of a process to a test ELBO of -105 nats on MNIST with grey pixels as targets.

784-512-20, batch 128, Adam with learning rate 1e-3, all 60,000 training images; after each epoch the ELBO of the
10,000 test images is looked at. Starting Python, importing, reading the images (one .npy file for all), compiling,
training and validation all count. vaekit runs eagerly, with its defaults (`auto`), and compiled (with bf16 where the
hardware is fast at it): once with an empty compile cache (cold) and once with what the first run left there (warm).
Value: seconds; the bar for the warm run is half of pythae's time, for the cold one 0.8 of it, and `auto` is to be no
worse than `eager` but for noise.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vaekit as vk
from benchmarks import venv
from benchmarks.common import MLP, Options, save_rows, scratch
from benchmarks.race import Turn, Unavailable
from benchmarks.report import Result, Row, rows_of_race

TARGET, BATCH, MAX_EPOCHS = -105.0, 128, 40
LOW = "bf16" if vk.engine.has_fast_bf16(torch.device("cpu")) else "float32"
CASE = "to a test ELBO of -105, grey MNIST"
BARS = {
    f"vaekit compiled {LOW} cold": {"pythae": 1 / 0.8},
    f"vaekit compiled {LOW} warm": {"pythae": 2.0},
    "vaekit auto cold": {"vaekit eager float32": 0.97},
    "vaekit auto warm": {"vaekit eager float32": 0.97},
}
# Name: worker, further arguments of the job, and the compile cache that it uses.
RUNS: dict[str, tuple[str, dict[str, str], str]] = {
    "pythae": ("pythae_peer", {}, ""),
    "bare": ("bare", {}, ""),
    "vaekit eager float32": ("library", {"compile": "off", "precision": "float32"}, "none"),
    "vaekit auto cold": ("library", {"compile": "auto", "precision": "auto"}, "auto"),
    "vaekit auto warm": ("library", {"compile": "auto", "precision": "auto"}, "auto"),
    f"vaekit compiled {LOW} cold": ("library", {"compile": "on", "precision": LOW}, "on"),
    f"vaekit compiled {LOW} warm": ("library", {"compile": "on", "precision": LOW}, "on"),
}


def run(options: Options) -> Result:
    """Each contestant from a fresh process, one after the other, as many rounds as there is time for."""
    rounds, target, max_epochs = options.num_rounds(1), TARGET, options.size(MAX_EPOCHS, 1)
    with scratch() as folder:
        data = grey_files(folder, options)
        if data is None:
            row = Row(CASE, "all", None, "s", note="needs MNIST: set $VAEKIT_DATA or --data-dir")
            return Result("d", [row], {"target": target})
        job = {"task": "reach", "net": MLP, "batch": BATCH, "target": target, "max_epochs": max_epochs, **data}
        runs = {name: run for name, run in RUNS.items() if options.peers or not run[0].endswith("_peer")}
        if options.quick:
            runs = {name: run for name, run in runs.items() if "auto" not in name and "compiled" not in name}
        turns: dict[str, list[Turn]] = {name: [] for name in runs}
        missing: dict[str, str] = {}
        for i in range(rounds):
            for name, (worker, more, cache) in runs.items():
                if name not in missing:
                    place = folder / f"cache-{i}-{cache}"
                    try:
                        turns[name].append(timed(options, name, worker, {**job, **more}, place))
                    except Unavailable as error:
                        missing[name] = str(error)
    done = {name: results for name, results in turns.items() if name not in missing}
    references = ("pythae", "bare", "vaekit eager float32")
    show = ("epochs", "elbo")
    rows = rows_of_race(CASE, done, missing, per="runs", unit="s", references=references, bars=BARS, show=show)
    settings = {"target": target, "batch": BATCH, "max_epochs": max_epochs, "rounds": rounds}
    return Result("d", rows, {**settings, "threads": torch.get_num_threads()})


def grey_files(folder: Path, options: Options) -> dict[str, str] | None:
    """Files with the training and test images, in uint8; None where there is no MNIST."""
    if options.folder() is None:
        return None
    train, test = (vk.data.load(f"mnist:{part}", data_dir=options.data_dir).x for part in ("train", "test"))
    count = options.size(len(train), 1024)
    names = {"train": np.asarray(train[:count]), "test": np.asarray(test[:count])}
    return {name: save_rows(folder / f"{name}.npy", rows) for name, rows in names.items()}


def timed(options: Options, name: str, worker: str, job: dict[str, Any], cache: Path) -> Turn:
    """One process from start to answer; whatever it compiles is kept in `cache`."""
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "XDG_CACHE_HOME": str(cache / "home"),
    }
    python = {"python": venv.python()} if worker.endswith("_peer") else {}
    started = time.perf_counter()
    process = options.start(name, worker, job, environment=environment, **python)
    try:
        turn = process.turn()
        return {**turn, "seconds": time.perf_counter() - started, "runs": 1}
    finally:
        process.close()
