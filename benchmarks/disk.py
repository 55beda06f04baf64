"""Training from disk beside training from memory: the same rows, the same network, in turns.

Run as `python -m benchmarks.disk`. Prints the seconds per epoch of each turn, and the ratio of the medians by the clock
and by processor time (without that of worker processes), for rows that were decoded once and for images that are
decoded again in each epoch.
"""

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.training import Callback

TURNS, EPOCHS, ROWS = 5, 3, 12_800  # rows of an epoch, drawn from all over the file


def make_images(folder: Path, num_images: int = 20_000) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    grey = 255 / (1 + np.exp(-rng.normal(size=(num_images, 4)) @ rng.normal(size=(4, 784))))
    grey[grey < 60] = 0
    for i, pixels in enumerate(grey.astype(np.uint8).reshape(-1, 28, 28)):
        Image.fromarray(pixels).save(folder / f"{i:05d}.png")
    return folder


def make_table(path: Path, num_rows: int = 200_000) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 4)) @ rng.normal(size=(4, 20)) + 0.3 * rng.normal(size=(num_rows, 20))
    parquet.write_table(pa.table({f"c{i}": x[:, i] for i in range(20)}), path, row_group_size=20_000)
    return path


class Watch(Callback):
    """Processor time of the last epoch; on a busy machine the clock says more of the others."""

    def __init__(self) -> None:
        self.last, self.seconds = 0.0, 0.0

    def on_epoch_end(self, loop: Any, record: dict[str, float]) -> None:
        now = time.process_time()
        self.seconds, self.last = now - self.last, now


def seconds_per_epoch(data: Any) -> tuple[float, float]:
    """Seconds of the last epoch of a short run of the default MLP: on the clock, and of processor time."""
    from vaekit import Trainer, recipes

    data = data.take(np.random.default_rng(1).permutation(len(data))[:ROWS])
    plan = recipes.plan(recipes.settings({}), data)
    watch = Watch()
    trainer = Trainer(max_epochs=EPOCHS, compile="off", progress=False, callbacks=[watch])
    return trainer.fit(plan.model, plan.objective, data)["seconds"][-1], watch.seconds


def race(name: str, variants: dict[str, Any]) -> None:
    times: dict[str, list[tuple[float, float]]] = {key: [] for key in variants}
    for _ in range(TURNS):
        for key, data in variants.items():
            times[key].append(seconds_per_epoch(data))
    memory = np.median(times["memory"], axis=0)
    for key, values in times.items():
        clock, processor = memory / np.median(values, axis=0)
        shown = " ".join(f"{seconds:.2f}" for seconds, _ in values)
        ratios = f"{clock:.2f} of memory ({processor:.2f} by processor time)"
        print(f"{name:7} {key:17} {shown} s per epoch; throughput {ratios}", flush=True)


def load_timed(path: Path, **options: Any) -> Any:
    from vaekit.data import load

    started = time.perf_counter()
    data = load(path, **options)
    print(f"load {path.name} {options}: {time.perf_counter() - started:.1f} s", flush=True)
    return data


def main() -> None:
    from vaekit.data import disk_cache

    with tempfile.TemporaryDirectory() as folder:
        table = make_table(Path(folder, "table.parquet"))
        race("table", {"memory": load_timed(table, in_memory=True), "disk": load_timed(table, in_memory=False)})
        images = make_images(Path(tempfile.mkdtemp(dir=folder)))
        variants = {"memory": load_timed(images, in_memory=True), "disk": load_timed(images, in_memory=False)}
        share, disk_cache.DISK_SHARE = disk_cache.DISK_SHARE, 0  # as if the disk had no room for decoded rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            variants["decoded each time"] = load_timed(images, in_memory=False)
        disk_cache.DISK_SHARE = share
        race("images", variants)


if __name__ == "__main__":
    main()
