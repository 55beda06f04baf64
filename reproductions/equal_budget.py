r"""equal-budget: every preset for MNIST bits with the same networks and the same number of updates.

Protocol: the 60,000 training images with fresh Bernoulli bits at every use; 784-[300-300 ReLU]-40, mirrored, wherever
the preset lets its networks and dimensions be chosen (the table says what z was); 30 epochs in batches of 128 by Adam
at 1e-3, float32, the last weights. Judged on every fifth test image (2,000) with bits drawn once for all: log p(x) by
1,000 importance samples per image, the ELBO by 100. Differences from `vae` are taken image by image, between models of
the same seed, so that most of the spread over images cancels. A seed gives initial weights, order of rows and noise.

Commands (each (preset, seed) is one record, written when it is measured and never measured twice; processes started
side by side share the work, since each takes the next one that nobody holds):

    python -m reproductions.equal_budget --threads 1                      measure what is missing, seeds 0, 1 and 2
    python -m reproductions.equal_budget --only iwae vamp --seeds 0       those alone
    python -m reproductions.equal_budget --epochs 128 --only vae vae-iaf  longer: 60,032 updates, a table of its own
    python -m reproductions.equal_budget --table                          write equal-budget.md and the gates' record
    python -m reproductions equal-budget                                  all of it, and the gates

Gates, over the seeds that are there: VampPrior is ahead of the standard prior by more than 3 paired standard errors
(Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120); IWAE with k = 5 is ahead of k = 1 by 0.8 to 3.5 nats
(published after 3,280 epochs: 1.22, Burda et al. 2016, https://arxiv.org/abs/1509.00519); after 60,032 updates the
inverse autoregressive flow is ahead of the diagonal posterior (Kingma et al. 2016, https://arxiv.org/abs/1606.04934).
"""

import argparse
import fcntl
import inspect
import json
import statistics
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vaekit as vk
from reproductions import budget_table
from reproductions.result import Result

HERE = Path(__file__).parent
FOLDER = HERE / "records" / "equal-budget"
PAGE = HERE / "equal-budget.md"
LOCKS = Path("runs/equal-budget")  # locks end with their process; nothing has to be cleared away
SEEDS = (0, 1, 2)

OWN_NETWORKS = {"conv-mnist", "conv-vae", "pixel-vae"}  # convolutions have no 300-300 MLP

# Where a preset cannot take the common arguments as they are: what it gets instead, and nothing else.
INSTEAD: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Budget:
    """What every preset gets, and how it is judged."""

    epochs: int = 30
    hidden: tuple[int, ...] = (300, 300)
    latent_dim: int = 40
    batch_size: int = 128
    learning_rate: float = 1e-3
    num_samples: int = 1_000
    num_samples_elbo: int = 100


def suitable() -> list[str]:
    """The presets that take the MLP: `vae` first, since all others are compared with it.

    Left out are those with networks of their own, and those made for one data set, whose shape is their default: they
    are `vae` and `conv_vae` at other sizes.
    """

    def is_for_one_data_set(preset: Callable[..., Any]) -> bool:
        return inspect.signature(preset).parameters["event_shape"].default is not inspect.Parameter.empty

    available = vk.presets.available().items()
    names = [name for name, preset in available if name not in OWN_NETWORKS and not is_for_one_data_set(preset)]
    return sorted(names, key=lambda name: (name != "vae", name))


def build(name: str, event_shape: Sequence[int], seed: int, budget: Budget) -> tuple[vk.VAE, vk.objectives.Objective]:
    """The preset with its initial weights."""
    common = {"latent_dim": budget.latent_dim, "hidden": budget.hidden}
    with vk.engine.seeded(seed):
        preset, bits = vk.presets.available()[name], vk.transforms.Binarize("fresh")
        return preset(tuple(event_shape), transform=bits, **{**common, **INSTEAD.get(name, {})})


def measure(name: str, seed: int, train: Tensor, test: Tensor, budget: Budget) -> tuple[dict[str, Any], np.ndarray]:
    """Train a preset and judge it.

    Args:
        name: the preset.
        seed: of weights, order and noise.
        train: grey images in [0, 1], shape (N, 1, H, W).
        test: bits of the same shape: a fresh draw of what is 0 or 1 already changes nothing.
        budget: what it gets.

    Returns:
        The record, and log p(x) of each test image in float32.
    """
    model, objective = build(name, train.shape[1:], seed, budget)
    trainer = vk.Trainer(
        max_epochs=budget.epochs,
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        precision="float32",
        compile="off",
        seed=seed,
        progress=False,
    )
    history = trainer.fit(model, objective, train)
    log_p = vk.evaluation.log_marginal(
        model, test, num_samples=budget.num_samples, generator=torch.Generator().manual_seed(1)
    )
    bound = vk.evaluation.elbo(
        model, test, num_samples=budget.num_samples_elbo, generator=torch.Generator().manual_seed(2)
    )
    seconds = history["seconds"]
    return {
        "preset": name,
        "seed": seed,
        "budget": asdict(budget) | {"hidden": list(budget.hidden)},
        "latent_shape": list(model.latent_shape),
        "objective": repr(objective),
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "num_updates": history["step"][-1],
        "num_train": len(train),
        "num_test": len(test),
        "log_p": log_p.summary(),
        "elbo": bound.summary(),
        "kl": float(bound.terms["kl"].double().mean()),
        "seconds_per_epoch": statistics.median(seconds),
        "seconds_of_training": sum(seconds),
        "threads": torch.get_num_threads(),
        "versions": {"vaekit": vk.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }, log_p.value.numpy().astype(np.float32)


def images(data_dir: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """All training images as grey values, and the bits of every fifth test image."""
    train, test = (torch.from_numpy(vk.data.load(f"mnist:{part}", data_dir=data_dir).x) for part in ("train", "test"))
    return train / 255, vk.transforms.Binarize("fixed")(test[::5] / 255)


def folder_of(budget: Budget) -> Path:
    """Where the records of a budget lie: runs of another length have a folder of their own."""
    return FOLDER if budget.epochs == Budget().epochs else FOLDER / f"epochs-{budget.epochs}"


@contextmanager
def _held(name: str) -> Iterator[bool]:
    """Whether this process is the one that works on `name`; the lock goes with the process, however it ends."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def write(folder: Path, record: dict[str, Any], log_p: np.ndarray) -> None:
    """The values first: a record says that they are there."""
    stem = f"{record['preset']}-seed-{record['seed']}"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{stem}.npy", log_p)
    temporary = folder / f".{stem}.json"
    temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.rename(folder / f"{stem}.json")


def work(
    names: Sequence[str],
    seeds: Sequence[int] = SEEDS,
    budget: Budget | None = None,
    load: Callable[[], tuple[Tensor, Tensor]] = images,
) -> list[str]:
    """Measure and record what is missing, one seed after the other.

    Args:
        names: presets.
        seeds: of each preset.
        budget: what each gets; None is that of the protocol.
        load: gives the training and the test images; called once there is something to do.

    Returns:
        What could not be measured; the rest is measured all the same.
    """
    budget, data, failed = budget or Budget(), None, []
    folder = folder_of(budget)
    for name, seed in ((name, seed) for seed in seeds for name in names):
        stem = f"{name}-seed-{seed}"
        with _held(f"{budget.epochs}-{stem}") as mine:
            if not mine or (folder / f"{stem}.json").exists():
                continue
            data = data or load()
            try:
                record, log_p = measure(name, seed, *data, budget)
            except Exception:  # hours of the others are not lost to one of them
                print(f"{stem}: failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                failed.append(stem)
                continue
            write(folder, record, log_p)
            print(
                f"{stem}: log p {record['log_p']['mean']:.2f}, {record['seconds_per_epoch']:.1f} s per epoch",
                file=sys.stderr,
                flush=True,
            )
    return failed


def report() -> Result:
    """Write the page from the records that are there; returns the gates."""
    lengths = sorted((int(path.name.removeprefix("epochs-")), path) for path in FOLDER.glob("epochs-*"))
    parts = [budget_table.read(folder) for folder in (FOLDER, *(path for _, path in lengths))]
    PAGE.write_text(budget_table.page([part for part in parts if part]), encoding="utf-8")
    return budget_table.result(parts[0], parts[1:])


def run(data_dir: str | Path | None = None) -> Result:
    """Measure what is missing and write the table."""
    failed = work(suitable(), load=lambda: images(data_dir))
    if failed:
        raise vk.errors.TrainingError(f"could not be measured: {', '.join(failed)}")
    return report()


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.equal_budget", description="Measure what is missing")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=suitable(), help="presets; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="default: 0 1 2")
    parser.add_argument("--epochs", type=int, default=Budget().epochs, help="default: 30")
    parser.add_argument("--threads", type=int, help="of this process; default: torch's own choice")
    parser.add_argument("--data-dir", help="folder with the named data sets (default: $VAEKIT_DATA)")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table from the records")
    options = parser.parse_args(arguments)
    if options.table:
        from reproductions.__main__ import table, write_record

        result = report()
        if result.checks:
            write_record("equal-budget", result)
        print(table("equal-budget", result))
        return 0 if result.passed else 1
    if options.threads:
        torch.set_num_threads(options.threads)
    failed = work(
        options.only or suitable(), options.seeds, Budget(epochs=options.epochs), lambda: images(options.data_dir)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
