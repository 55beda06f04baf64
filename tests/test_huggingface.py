"""Data sets of Hugging Face, and tables in parts that stay on disk."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vaekit as vk
from vaekit import cli, data, runs
from vaekit.errors import ColumnError, DataError, ReadingWarning

datasets = pytest.importorskip("datasets")


@pytest.fixture
def numbers():
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=50),
        "v": list(rng.normal(size=(50, 3))),
        "kind": rng.integers(0, 2, 50),
        "n": range(50),
    }


@pytest.fixture
def table(numbers):
    features = {"a": datasets.Value("float64"), "v": datasets.List(datasets.Value("float64"))}
    features |= {"kind": datasets.ClassLabel(names=["no", "yes"]), "n": datasets.Value("int64")}
    return datasets.Dataset.from_dict(numbers, features=datasets.Features(features))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_table_has_its_numbers_labels_and_keys(table, numbers, tmp_path, in_memory):
    expected = np.column_stack([numbers["a"], np.stack(numbers["v"])])
    turned = table.select(list(range(49, -1, -1)))  # an order of its own, which lies beside the rows
    for source, order in ((table, slice(None)), (turned, slice(None, None, -1))):
        found = data.from_huggingface(source, "kind", key="n", in_memory=in_memory)
        assert found.columns == ("a", "v_0", "v_1", "v_2")
        assert np.array_equal(found.x, expected[order])
        assert found.labels.tolist() == np.array(["no", "yes"])[numbers["kind"]][order].tolist()
        assert found.row_keys.tolist() == np.arange(50)[order].tolist()
    turned.save_to_disk(str(tmp_path / "saved"))
    again = data.load(str(tmp_path / "saved"), label="kind", key="n", in_memory=in_memory)
    assert np.array_equal(again.x, expected[::-1])
    assert isinstance(again, data.StoredDataset) is not in_memory


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_have_their_pixels_and_classes(tmp_path, in_memory):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    rows = {"image": [Image.fromarray(p) for p in pixels], "label": [i % 3 for i in range(12)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    found = datasets.Dataset.from_dict(rows, features=features)
    found.save_to_disk(str(tmp_path / "saved"))
    for read in (data.from_huggingface(found, in_memory=in_memory), data.load(tmp_path / "saved", in_memory=in_memory)):
        assert np.array_equal(read.x, pixels.transpose(0, 3, 1, 2))
        assert read.labels.tolist() == ["x", "y", "z"] * 4
        assert read.kind == "image"
    grey = datasets.Dataset.from_dict({"image": [Image.fromarray(p[..., 0]) for p in pixels]}).cast_column(
        "image", datasets.Image()
    )
    assert np.array_equal(data.from_huggingface(grey).x, pixels[:, None, :, :, 0])


def test_what_cannot_be_read_is_said(table, tmp_path):
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match=r"holds the parts test, train. Name one: .*both/test"):
        data.load(str(tmp_path / "both"))
    assert len(data.load(str(tmp_path / "both" / "train"))) == 50
    with pytest.raises(ColumnError, match="has no column 'name'; it has a, v, kind, n"):
        data.from_huggingface(table, "name")
    with pytest.raises(DataError, match="Column .w. of .huggingface. holds String, not numbers"):
        data.from_huggingface(datasets.Dataset.from_dict({"w": ["one", "two"], "a": [1.0, 2.0]}))
    for path in (tmp_path / "both" / "train").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="train"):
        data.load(str(tmp_path / "both" / "train"))
    sizes = [Image.new("L", (4, 4)), Image.new("L", (5, 4))]
    uneven = datasets.Dataset.from_dict({"image": sizes}).cast_column("image", datasets.Image())
    with pytest.raises(DataError, match=r"row 1 of 'huggingface' is 4 x 5"):
        data.from_huggingface(uneven)


def test_a_saved_set_is_fitted_and_scored(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table.save_to_disk("saved")
    fast = ["max_epochs=2", "latent_dim=1", "hidden=4", "compile=off"]
    assert cli.run(["fit", "saved", "-o", "run", "--label", "kind", "--key", "n", "--quiet", *fast]) == 0
    assert cli.run(["score", "run", "saved", "-o", "scores.csv"]) == 0
    assert pd.read_csv("scores.csv")["n"].tolist() == list(range(50))


@pytest.fixture
def parts(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd")).assign(n=np.arange(300))
    (tmp_path / "parts").mkdir()
    for i, rows in enumerate(np.array_split(np.arange(300), 4)):
        columns = [*"abcdn"[:: 1 if i % 2 else -1]]
        frame.iloc[rows][columns].to_parquet(tmp_path / "parts" / f"{i}.parquet", row_group_size=17, index=False)
    return tmp_path / "parts", frame


def test_parts_of_parquet_on_disk_are_the_rows_in_memory(parts):
    folder, frame = parts
    disk, memory = (data.load(str(folder / "*.parquet"), key="n", in_memory=where) for where in (False, True))
    assert isinstance(disk, data.StoredDataset)
    assert disk.columns == memory.columns
    assert np.array_equal(disk.x, memory.x)
    assert np.array_equal(disk.x, frame[list(disk.columns)].to_numpy())
    assert disk.row_keys.tolist() == list(range(300))
    order = np.random.default_rng(1).permutation(300)
    assert np.array_equal(disk.take(order)[:], memory.x[order])
    frame.to_csv(folder.parent / "x.csv", index=False)
    with pytest.raises(DataError, match="parts stay on disk where they are parquet files"):
        data.load(str(folder.parent / "*.csv"), in_memory=False)
    frame.drop(columns="a").to_parquet(folder / "4.parquet", index=False)
    with pytest.raises(DataError, match=r"4\.parquet lacks the column 'a'"):
        data.load(str(folder), in_memory=False)


def test_training_from_parts_on_disk_is_training_in_memory(parts):
    folder, _ = parts
    losses = []
    for where in (False, True):
        rows = data.load(str(folder), key="n", in_memory=where)
        model, objective = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.copy_(torch.linspace(-0.3, 0.3, parameter.numel()).reshape(parameter.shape) * (1 + i % 3))
        trainer = vk.Trainer(max_epochs=3, batch_size=64, compile="off", progress=False)
        losses.append(trainer.fit(model, objective, rows)["train_elbo"])
    assert losses[0] == losses[1]


def test_large_parts_stay_on_disk_by_themselves(parts, monkeypatch):
    folder, frame = parts
    monkeypatch.setattr("vaekit.data.disk_cache.free_memory", lambda: 8 * 5 * 300 * 2)
    fitted = runs.fit_rows(data.load(str(folder), key="n"), {"max_epochs": 1, "latent_dim": 1, "hidden": (4,)})
    assert isinstance(data.load(str(folder)), data.StoredDataset)
    assert len(fitted.score(fitted.rows(frame[[*"dcban"]], key="n"))) == 300


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_stream_is_kept_once_and_is_the_data_set_itself(table, own_cache, in_memory, shards):
    with pytest.warns(ReadingWarning, match="is a stream: its 50 rows are read once, and kept on disk"):
        found = data.from_huggingface(
            table.to_iterable_dataset(num_shards=shards), "kind", key="n", in_memory=in_memory
        )
    whole = data.from_huggingface(table, "kind", key="n", in_memory=in_memory)
    assert type(found) is type(whole)
    np.testing.assert_array_equal(found.x, whole.x)
    for name in ("labels", "keys"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert found.columns == whole.columns
    assert list(own_cache.rglob("*.arrow")) == []


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_stream_of_images_is_that_of_their_files(tmp_path, own_cache, in_memory):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{i}.png") for i in range(7)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    images = datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image())
    with pytest.warns(ReadingWarning, match="is a stream"):
        found = data.from_huggingface(images.to_iterable_dataset(), in_memory=in_memory)
    np.testing.assert_array_equal(found.x, pixels.transpose(0, 3, 1, 2))


def _records(num, breaks=False):
    for i in range(num):
        yield {"a": float(i), "b": float(i % 7)}
    if breaks:
        raise OSError("the connection is gone")


def test_a_stream_whose_columns_nobody_names_one_that_breaks_off_and_an_empty_one(own_cache):
    make = datasets.IterableDataset.from_generator
    with pytest.warns(ReadingWarning, match="2,500 rows"):
        found = data.from_huggingface(make(_records, gen_kwargs={"num": 2500}))
    assert found.x.sum() == sum(i + i % 7 for i in range(2500))
    with pytest.raises(DataError, match=r"beyond row 2,500: the connection is gone.*take\(n\)"):
        data.from_huggingface(make(_records, gen_kwargs={"num": 2500, "breaks": True}))
    with pytest.raises(DataError, match="has no row"):
        data.from_huggingface(make(_records, gen_kwargs={"num": 0}))
    assert list(own_cache.rglob("*.arrow")) == []
