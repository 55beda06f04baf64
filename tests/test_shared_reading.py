"""Data that several processes read together: decoded once on a machine, and each process has the rows of one."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch.distributed as dist
from PIL import Image
from processes import together

from vaekit import runs
from vaekit.data import disk_cache, load, once_here
from vaekit.engine import world
from vaekit.errors import DataError, GroupError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="files without a name are reached through /proc"),
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"),
]
RNG = np.random.default_rng(0)
SETTINGS = {"max_epochs": 2, "hidden": "8", "latent_dim": 2, "compile": "off", "row_noise": True}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def _read_bytes():
    """Bytes that this process has asked the system for, from files or the cache of files."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def _loaded(sources):
    """Of each source, mapped and not: bytes read, the file of the rows, some of them and the sum of all."""
    for source in sources:
        load(source, in_memory=False)  # what it takes to import the readers does not count
    found = {}
    for source in sources:
        for mapped in (0, 2**28):
            disk_cache._MAPPED = mapped
            before = _read_bytes()
            with once_here.shared():
                rows = load(source, in_memory=False)
            num_read, own = _read_bytes() - before, rows.rows.source
            inode = os.fstat(own._descriptor).st_ino if own._rows is None else None
            found[source, mapped] = num_read, inode, rows[np.array([5, 3, 3, 60])], rows.x.astype(float).sum()
    return found


def _images(folder):
    folder.mkdir()
    for i, pixels in enumerate(RNG.integers(0, 256, (90, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return folder


def _parts(folder, num_rows=100_000, num_columns=5):
    folder.mkdir()
    x = RNG.normal(size=(num_rows, num_columns))
    for k, piece in enumerate(np.array_split(x, 4)):
        columns = {f"c{i}": piece[:, i] for i in range(num_columns)}
        pq.write_table(pa.table(columns), folder / f"part-{k}.parquet", row_group_size=5_000)
    return folder


def test_one_process_decodes_and_the_other_opens_its_file(tmp_path):
    images, parts = _images(tmp_path / "images"), _parts(tmp_path / "parts")
    first, second = together(_loaded, 2, (images, parts))
    for (source, mapped), (read, inode, rows, total) in first.items():
        read_other, inode_other, rows_other, total_other = second[source, mapped]
        alone, size = load(source), sum(path.stat().st_size for path in source.iterdir())
        assert inode == inode_other
        assert (inode is None) == (mapped > 0)
        np.testing.assert_array_equal(rows, alone.x[[5, 3, 3, 60]])
        np.testing.assert_array_equal(rows_other, rows)
        assert total == total_other == pytest.approx(alone.x.astype(float).sum())
        if source == parts:
            assert read > size
            assert read_other < 0.5 * size, "the head of each part, and two rows"
    assert list(Path(os.environ["VAEKIT_CACHE"]).rglob("*.*")) == [], "nothing has a name"


def _computed():
    """What the first process computes while the second one waits, and what becomes of an error."""
    calls = []

    def compute(beat):
        calls.append(1)
        for _ in range(3):
            once_here.time.sleep(0.02)
            beat()
        return b"found"

    once_here._SECONDS = 0.01
    with once_here.shared():
        found = [once_here.computed_once(compute), once_here.num_here(), once_here.any_here(world.rank() == 1)]

        def refuse(beat):
            raise DataError("it cannot be read")

        try:
            once_here.computed_once(refuse)
        except (DataError, GroupError) as error:
            found.append(f"{type(error).__name__}: {error}")
        own, once_here._opened = once_here._opened, lambda *about: None
        found.append(once_here.computed_once(lambda beat: str(world.rank()).encode()))  # may not open the file
        once_here._opened = own
        if world.rank():
            once_here._MACHINE = Path("/proc/sys/kernel/ostype")  # taken for another machine
        found += [once_here.computed_once(lambda beat: str(world.rank()).encode()), once_here.num_here()]
    return [*found, len(calls), once_here.num_here()]


def test_what_one_process_computes_all_have_and_an_error_is_told_once():
    first, second = together(_computed, 2)
    assert first == [b"found", 2, True, "DataError: it cannot be read", b"0", b"0", 1, 1, 1]
    says = "GroupError: process 0, which reads the data for all of its machine, gave up; it says why"
    assert second == [b"found", 2, True, says, b"1", b"1", 1, 0, 1]


def _fitted(sources, folder):
    disk_cache.MEMORY_SHARE = 0
    for source in sources:
        runs.fit(str(source), folder / f"two-{source.name}", SETTINGS, progress=False)


def _bounds(run):
    return [json.loads(line)["valid_elbo"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_runs_of_two_processes_on_data_on_disk_are_those_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "MEMORY_SHARE", 0)
    array = tmp_path / "x.npy"
    np.save(array, RNG.normal(size=(2_000, 6)).astype(np.float32))
    sources = [_images(tmp_path / "images"), _parts(tmp_path / "parts", 2_000), array]
    together(_fitted, 2, sources, tmp_path)
    for source in sources:
        one, two = tmp_path / "one", tmp_path / f"two-{source.name}"
        runs.fit(str(source), one, SETTINGS, overwrite=True, progress=False)
        np.testing.assert_allclose(_bounds(two), _bounds(one), atol=1e-3)
        assert runs.open(two).data.crc32 == runs.open(one).data.crc32


def _batches(sources):
    """Bytes that a process reads for an epoch of its share of each batch."""
    import vaekit as vk
    from vaekit.models.view import View
    from vaekit.training.together import Part

    disk_cache._MAPPED, found = 0, []
    for source in sources:
        with once_here.shared():
            rows = load(source, in_memory=False)
        model, _ = vk.presets.vae(rows.event_shape, latent_dim=2, hidden=(4,), likelihood="normal")
        view = View.of(model, rows)
        parts = [Part.of(slice(start, start + 100)) for start in range(0, len(rows), 100)]
        before = _read_bytes()
        num_rows = sum(len(batch) for batch in view.batches(part.rows for part in parts))
        found.append((num_rows, (_read_bytes() - before) / rows.rows.num_bytes))
    return found


def test_a_process_reads_the_rows_of_its_share_alone(tmp_path):
    np.save(tmp_path / "x.npy", RNG.normal(size=(100_000, 5)))
    for found in together(_batches, 2, [tmp_path / "x.npy", _parts(tmp_path / "parts")]):
        for num_rows, share in found:
            assert num_rows == 50_000
            assert share == pytest.approx(0.5, abs=0.02)
