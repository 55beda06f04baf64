"""Data that stay on disk: the same rows, the same results, bounded memory, and processes that end."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import vaekit as vk
from vaekit import recipes, runs
from vaekit.data import StoredDataset, disk_cache, disk_rows, holdout, load
from vaekit.data.disk_rows import ahead
from vaekit.errors import DataError, ReadingWarning
from vaekit.models.rows import as_tensor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers start in seconds elsewhere")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (90, 3, 4, 6), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    """Grey images, one of them on its side."""
    path = tmp_path / "images"
    path.mkdir()
    for i, pixels in enumerate(IMAGES[:, 0]):
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 7 else 1
        upright = np.rot90(pixels) if i == 7 else pixels
        Image.fromarray(np.ascontiguousarray(upright)).save(path / f"{i:03d}.png", exif=exif)
    return path


@pytest.fixture
def table(tmp_path):
    """Three row groups; whole numbers with holes, reals, and a label."""
    whole = [None if i % 11 == 3 else i % 5 for i in range(90)]
    columns = {"whole": whole, "kind": list("uvw" * 30), "real": RNG.normal(size=90), "flag": [True, False] * 45}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet", row_group_size=40)
    return tmp_path / "table.parquet"


@pytest.fixture(params=["decoded once", "decoded each time"])
def keeping(request, monkeypatch):
    """Whether the disk has room for decoded images."""
    if request.param == "decoded each time":
        monkeypatch.setattr(disk_cache, "DISK_SHARE", 0)
    return request.param


def on_disk(path, **options):
    if disk_cache.DISK_SHARE:
        return load(path, in_memory=False, **options)
    with pytest.warns(UserWarning, match=r"images is decoded again in each epoch: .*Set VAEKIT_CACHE to a folder"):
        return load(path, in_memory=False, **options)


def fitted(data, max_epochs=3, **options):
    """Weights after a short fit by way of a plan, and the history."""
    train, valid = holdout(data)
    wanted = recipes.settings({"hidden": (8,), "latent_dim": 2, "batch_size": 16})
    plan = recipes.plan(wanted, train)
    trainer = vk.Trainer(max_epochs=max_epochs, batch_size=16, compile="off", progress=False, **options)
    return plan.model, trainer.fit(plan.model, plan.objective, train, valid)


def test_rows_are_those_in_memory(folder, keeping):
    memory, disk = load(folder), on_disk(folder)
    assert isinstance(disk, StoredDataset)
    assert disk.rows.source.is_decoded == (keeping == "decoded once")
    for name in ("name", "labels", "value_range", "kind", "source", "event_shape", "dtype", "columns"):
        assert getattr(disk, name) == getattr(memory, name), name
    np.testing.assert_array_equal(disk.x, memory.x)
    np.testing.assert_array_equal(disk[5], memory[5])
    np.testing.assert_array_equal(disk[60:20:-7], memory[60:20:-7])
    part = disk.take([40, 3, 77]).take(np.array([True, False, True]))
    np.testing.assert_array_equal(part.x, memory.x[[40, 77]])
    with pytest.raises(DataError, match="which has 90: index 99"):
        disk.take([99])
    with pytest.raises(DataError, match="at least one row"):
        disk.take(np.array([], dtype=int))


def test_one_image_in_colour_makes_three_channels_and_size_resizes(folder, keeping):
    Image.fromarray(np.ascontiguousarray(IMAGES[0].transpose(1, 2, 0))).save(folder / "zz.png")
    np.testing.assert_array_equal(on_disk(folder).x, load(folder).x)
    np.testing.assert_array_equal(on_disk(folder, size=5).x, load(folder, size=5).x)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", ">f4"])
@pytest.mark.parametrize("shape", [(40, 3), (40, 5, 6), (40, 8, 8, 3)])
def test_an_array_is_read_from_its_own_file(tmp_path, dtype, shape, monkeypatch):
    x = RNG.integers(0, 2, shape).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(disk_cache, "_MAPPED", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingWarning)  # channels are last
        disk, memory = load(tmp_path / "x.npy", in_memory=False), load(tmp_path / "x.npy")
    assert isinstance(disk, StoredDataset) == (dtype not in (">f4", "bool"))
    for name in ("kind", "value_range", "dtype", "event_shape", "name"):
        assert getattr(disk, name) == getattr(memory, name), name
    np.testing.assert_array_equal(disk.x, memory.x)
    np.testing.assert_array_equal(disk[np.array([7, 3, 3])], memory.x[[7, 3, 3]])
    assert list(Path(os.environ["VAEKIT_CACHE"]).rglob("*")) == [], "no copy"


def test_a_truncated_array_is_named_and_an_array_of_fortran_is_held_in_memory(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(RNG.normal(size=(9, 4))))
    assert not isinstance(load(tmp_path / "x.npy", in_memory=False), StoredDataset)
    (tmp_path / "y.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    with pytest.raises(DataError, match=r"y\.npy is truncated"):
        load(tmp_path / "y.npy", in_memory=False)


def test_a_table_is_that_in_memory(table, tmp_path):
    memory, disk = load(table, label="kind"), load(table, label="kind", in_memory=False)
    np.testing.assert_array_equal(disk.x, memory.x)
    assert (disk.columns, disk.dtype, disk.kind) == (memory.columns, memory.dtype, "table")
    assert disk.labels.tolist() == memory.labels.tolist()
    assert disk.take([4, 2]).labels.tolist() == memory.labels[[4, 2]].tolist()
    with pytest.raises(DataError, match=r"Column 'kind' of 'table' holds String, not numbers.*--label"):
        load(table, in_memory=False)
    with pytest.raises(DataError, match="no column 'knd'"):
        load(table, label="knd", in_memory=False)
    pq.write_table(pa.table({"a": range(50), "b": [2**60 + i for i in range(50)]}), tmp_path / "w.parquet")
    whole = load(tmp_path / "w.parquet", in_memory=False)
    assert whole.dtype == np.int64
    np.testing.assert_array_equal(whole.x, load(tmp_path / "w.parquet").x)


def test_large_data_stay_on_disk_by_themselves(folder, table, monkeypatch):
    num_bytes = {folder: IMAGES[:, 0].size, table: 8 * 90 * 4}
    for path, label in ((folder, None), (table, "kind")):
        for free, kept in ((4 * 3 * num_bytes[path], False), (3.9 * num_bytes[path], True)):
            monkeypatch.setattr(disk_cache, "free_memory", lambda free=free: free)
            assert isinstance(load(path, label=label), StoredDataset) == kept


def test_no_room_for_a_table_and_none_in_memory(folder, table, monkeypatch):
    disk = load(folder, in_memory=False)
    monkeypatch.setattr(disk_cache, "free_memory", lambda: 100)
    with pytest.raises(DataError, match=r"'images' is on disk, and this needs all of it in memory.*take\(indices\)"):
        as_tensor(disk)
    monkeypatch.setattr(disk_cache, "DISK_SHARE", 0)
    with pytest.raises(DataError, match="too large for memory, and there is no room to keep it.*Set VAEKIT_CACHE"):
        load(table, label="kind")
    with pytest.raises(DataError, match="Only folders of images and npy, parquet files can stay on disk; 'digits'"):
        load("digits", in_memory=False)


def test_free_memory_heeds_the_limit_of_a_container(tmp_path, monkeypatch):
    free = disk_cache.free_memory()
    assert 2**20 < free < 2**46
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(disk_cache, "_CGROUP", tmp_path)
    assert disk_cache.free_memory() == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert disk_cache.free_memory() > 2**20


def test_training_gives_the_same_weights_bit_for_bit(folder, keeping):
    model, history = fitted(load(folder))
    other, again = fitted(on_disk(folder))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert again["valid_elbo"] == history["valid_elbo"]
    assert active_children() == []


def test_a_table_trains_the_same_and_its_scale_is_learned_in_blocks(tmp_path, monkeypatch):
    x = RNG.normal(3, 2, (150, 3))
    x[:, 1] = RNG.integers(0, 9, 150)
    pq.write_table(pa.table({name: x[:, i] for i, name in enumerate("abc")}), tmp_path / "x.parquet")
    monkeypatch.setattr(vk.transforms.affine, "_BLOCK_ROWS", 40)
    model, _ = fitted(load(tmp_path / "x.parquet"))
    other, _ = fitted(load(tmp_path / "x.parquet", in_memory=False))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    train = holdout(load(tmp_path / "x.parquet"))[0].x
    np.testing.assert_allclose(model.transform.loc.numpy(), train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(model.transform.scale.numpy(), train.std(0), rtol=1e-6)


def test_evaluation_takes_rows_from_disk(folder, keeping, monkeypatch):
    model, _ = fitted(load(folder), max_epochs=1)
    values = [
        vk.evaluation.log_marginal(model, x, num_samples=20, generator=torch.Generator().manual_seed(0)).value
        for x in (load(folder), on_disk(folder))
    ]
    assert torch.equal(*values)
    monkeypatch.setattr(disk_rows.StoredRows, "in_memory", lambda self: pytest.fail("all rows at once"))
    for method in (model.encode, model.reconstruct):
        assert torch.equal(method(load(folder)), method(on_disk(folder)))


class Stop(vk.training.Callback):
    """A signal in the middle of an epoch."""

    def on_step_end(self, loop):
        if loop.step == 8:
            loop.signal = "SIGTERM"


def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_weights(folder, keeping, tmp_path):
    whole, _ = fitted(load(folder))
    train, valid = holdout(on_disk(folder))
    wanted = recipes.settings({"hidden": (8,), "latent_dim": 2})
    plan = recipes.plan(wanted, train)
    options = {"max_epochs": 3, "batch_size": 16, "compile": "off", "progress": False}
    with pytest.raises(SystemExit):
        vk.Trainer(callbacks=[Stop()], **options).fit(plan.model, plan.objective, train, valid, run=tmp_path / "run")
    assert active_children() == []
    plan = recipes.plan(wanted, train)
    history = vk.Trainer(**options).fit(plan.model, plan.objective, train, valid, run=tmp_path / "run", resume=True)
    assert history["step"] == [5, 10, 15]
    assert all(
        torch.equal(a, b) for a, b in zip(plan.model.state_dict().values(), whole.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("damage", ["truncated", "other size", "missing"])
def test_a_broken_image_is_named(folder, damage, monkeypatch):
    monkeypatch.setattr(disk_cache, "DISK_SHARE", 0)
    data = on_disk(folder)
    broken = folder / "042.png"
    if damage == "truncated":
        broken.write_bytes(broken.read_bytes()[:60])
    elif damage == "missing":
        broken.unlink()
    else:
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(broken)
    with pytest.raises(DataError, match=r"042\.png"):
        fitted(data)
    assert active_children() == []
    monkeypatch.setattr(disk_cache, "DISK_SHARE", 0.5)
    if damage != "missing":
        with pytest.raises(DataError, match=r"042\.png"):
            load(folder, in_memory=False)


def test_a_killed_worker_is_an_error_and_not_a_hang():
    def die(indices):
        os.kill(os.getpid(), signal.SIGKILL)

    started = time.monotonic()
    with pytest.raises(DataError, match="A process that decodes rows ended unexpectedly"):
        next(ahead(die, [np.arange(3)] * 10))
    assert time.monotonic() - started < 30
    assert active_children() == []


def test_workers_leave_the_random_stream_alone_and_end_with_the_iterator():
    state = torch.get_rng_state()
    batches = ahead(lambda indices: indices * 2, (np.arange(i, i + 3) for i in range(100)))
    assert [next(batches).tolist() for _ in range(2)] == [[0, 2, 4], [2, 4, 6]]
    assert len(active_children()) > 0
    batches.close()
    assert active_children() == []
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    code = """
        import os, signal, numpy as np
        from multiprocessing import active_children
        from vaekit.data.disk_rows import ahead
        batches = ahead(lambda i: i, (np.arange(3) for _ in range(10**9)))
        next(batches)
        print(*(child.pid for child in active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in done.stdout.split()]
    assert workers
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("mapped", [True, False])
def test_kept_rows_in_any_order_and_nothing_left_behind(folder, monkeypatch, mapped):
    monkeypatch.setattr(disk_cache, "_MAPPED", 2**28 if mapped else 0)
    monkeypatch.setattr(disk_rows, "_BLOCK_BYTES", 500)
    data, memory = load(folder, in_memory=False), load(folder)
    assert (data.rows.source._rows is not None) == mapped
    np.testing.assert_array_equal(data.x, memory.x)
    for index in ([5, 6, 7, 3, 3, 89, 0, 1], [0], [], [88, 89], [4, 3, 2]):
        np.testing.assert_array_equal(data[np.array(index, dtype=int)], memory.x[index])
    assert list(Path(os.environ["VAEKIT_CACHE"]).rglob("*.*")) == []


def test_large_files_do_not_count_as_memory_of_the_process():
    source = disk_cache.decoded(
        (600, 2**20), np.dtype(np.uint8), (np.full((20, 2**20), i, np.uint8) for i in range(30))
    )
    before = _resident()
    for i in RNG.permutation(600).reshape(-1, 8):
        np.testing.assert_array_equal(source.read(i)[:, :: 2**18], np.repeat(i[:, None] // 20, 4, axis=1))
        assert _resident() - before < 100 * 2**20


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_full_disk_is_an_error_before_anything_is_written(folder, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache, "_reserve", full)
    with pytest.raises(DataError, match="Cannot keep decoded rows in .*No space left"):
        load(folder, in_memory=False)


def test_a_run_is_the_same_whether_its_data_fit_into_memory(folder, tmp_path, monkeypatch):
    given = {"max_epochs": 2, "hidden": "8", "latent_dim": 2, "compile": "off"}
    runs.fit(str(folder), tmp_path / "a", given, progress=False)
    monkeypatch.setattr(disk_cache, "MEMORY_SHARE", 0)
    runs.fit(str(folder), tmp_path / "b", given, progress=False)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert runs.open(tmp_path / "a").data.crc32 == runs.open(tmp_path / "b").data.crc32
    assert runs.fit(str(folder), tmp_path / "a", given, resume=True, progress=False) is None
