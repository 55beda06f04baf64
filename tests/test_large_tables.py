"""Tables with words, dates and levels that stay on disk: the schema, the rows and the runs of those in memory."""

import datetime as dt
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vaekit import runs
from vaekit.data import StoredDataset, columns_seen, disk_cache, large_tables
from vaekit.data.by_schema import load_by_schema
from vaekit.data.reading import Reading
from vaekit.data.schema import Schema
from vaekit.errors import DataError
from vaekit.runs.asking import Question
from vaekit.runs.by_part import answer_by_part

pytestmark = pytest.mark.filterwarnings("ignore:.*free text is no data")
SETTINGS = {"max_epochs": 2, "hidden": "8", "latent_dim": 2, "compile": "off"}
NUM_ROWS = 6_000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def on_disk(monkeypatch):
    """All that may stays on disk, and pieces are small."""
    monkeypatch.setattr(disk_cache, "MEMORY_SHARE", 0)
    monkeypatch.setattr(large_tables, "_PIECE_VALUES", 9_000)


def _table(num_rows=NUM_ROWS, seed=0):
    rng = np.random.default_rng(seed)
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=int(day)) for day in rng.integers(0, 300, num_rows)]
    income = np.exp(rng.normal(7, 1, num_rows))
    size = rng.normal(170, 9, num_rows)
    towns = np.array([f"town {i}" for i in range(40)])[rng.geometric(0.1, num_rows).clip(1, 40) - 1]
    return pa.table(
        {
            "customer_id": rng.permutation(num_rows) + 17,
            "town": pa.array(towns, mask=rng.uniform(size=num_rows) < 0.1),
            "member": rng.uniform(size=num_rows) < 0.3,
            "since": days,
            "visits": rng.negative_binomial(2, 0.3, num_rows),
            "income": pa.array(income, mask=rng.uniform(size=num_rows) < 0.05),
            "size": pa.array(size, mask=np.isin(np.arange(num_rows) % 11, (3, 4))),
            "grade": rng.integers(1, 7, num_rows),
            "share": rng.uniform(size=num_rows).round(3),
            "remark": [f"remark {i} of {i * 7 % 1000}" for i in range(num_rows)],
            "country": ["CH"] * num_rows,
        }
    )


def _parts(folder, table, num=5):
    folder.mkdir()
    edges = np.linspace(0, len(table), num + 1).astype(int)
    for i, (start, stop) in enumerate(pairwise(edges)):
        pq.write_table(table.slice(start, stop - start), folder / f"part-{i}.parquet")
    return folder


def _plain(schema):
    return [column.model_dump(exclude={"why"}) for column in schema.columns]


def test_a_schema_of_few_rows_is_that_in_memory_word_for_word():
    table = _table()
    seen, _ = columns_seen.schema_seen(_pieces(table), len(table), "t", str, lambda: None)
    assert seen.table() == Schema.found(table).table()
    assert columns_seen.from_bytes(columns_seen.as_bytes(seen, [["a"]])) == (seen, [["a"]])


def _pieces(table, size=700):
    return [table.slice(start, size) for start in range(0, len(table), size)]


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_by_a_sample_has_the_kinds_levels_and_ranges_of_all_rows(monkeypatch, seed):
    monkeypatch.setattr(columns_seen, "SAMPLE", 2_000)
    monkeypatch.setattr(columns_seen, "MOST_COUNTED", 1_500)
    table = _table(8_000, seed)
    seen, _ = columns_seen.schema_seen(_pieces(table), len(table), "t", str, lambda: None)
    assert _plain(seen) == _plain(Schema.found(table))
    told, own = {c.name: c.why for c in Schema.found(table).columns}, {c.name: c.why for c in seen.columns}
    for exact in ("customer_id", "town", "member", "since", "visits", "grade", "country"):
        assert own[exact] == told[exact]
    assert own["income"].split(";")[0] == told["income"].split(";")[0], "the least and the greatest"
    assert own["size"].endswith(told["size"].rpartition(";")[2]), "how many are empty"


@pytest.mark.parametrize("change", ["fraction", "negative", "gap"])
def test_one_cell_outside_of_the_sample_tells(monkeypatch, change):
    monkeypatch.setattr(columns_seen, "SAMPLE", 1_500)
    monkeypatch.setattr(columns_seen, "MOST_COUNTED", 1_000)
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(10, 1, 5_000)).round() if change != "gap" else rng.permutation(5_000)
    values = values.astype(float if change == "fraction" else int)
    row = int(np.setdiff1d(np.arange(5_000), columns_seen.sampled(5_000))[7])
    before = _seen_alone(values)
    assert before.kind == ("identifier" if change == "gap" else "positive")
    assert before.whole == (change != "gap")
    values[row] = {"fraction": values[row] + 0.5, "negative": -3, "gap": values[row - 1]}[change]
    after = _seen_alone(values)
    assert after.kind != "identifier"
    assert after.whole == (change != "fraction")
    assert (after.kind == "positive") == (change == "fraction")


def _seen_alone(values):
    table = pa.table({"value": values})
    return columns_seen.schema_seen(_pieces(table), len(table), "t", str, lambda: None)[0].columns[0]


def test_an_infinity_and_a_date_that_is_none_are_named_with_their_rows(monkeypatch):
    x = np.arange(3_000.0) / 7
    x[2_500] = np.inf
    with pytest.raises(DataError, match=r"Column 'x' is inf in row 2500"):
        columns_seen.schema_seen(_pieces(pa.table({"x": x})), 3_000, "t", "row {}".format, lambda: None)
    days = ["2026-01-31"] * 2_000
    days[1_234] = "2026-02-31"
    with pytest.raises(DataError, match=r"'2026-02-31' in row 1234"):
        columns_seen.schema_seen(_pieces(pa.table({"d": days})), 2_000, "t", "row {}".format, lambda: None)


@pytest.mark.parametrize("model_holes", [False, True])
def test_rows_on_disk_are_those_in_memory(tmp_path, on_disk, monkeypatch, model_holes):
    source = _parts(tmp_path / "parts", _table())
    options = {"key": "customer_id", "label": "member", "model_holes": model_holes}
    how = Reading(drop=("share",), missing=("town 3",), weight="grade")
    disk = load_by_schema(source, reading=how, **options)
    assert isinstance(disk, StoredDataset)
    monkeypatch.setattr(disk_cache, "MEMORY_SHARE", 1)
    memory = load_by_schema(source, reading=how, **options)
    assert not isinstance(memory, StoredDataset)
    assert disk.schema == memory.schema
    np.testing.assert_array_equal(disk.x, memory.x)
    for name in ("labels", "keys", "weights"):
        np.testing.assert_array_equal(getattr(disk, name), getattr(memory, name))
    assert (disk.columns, disk.key, disk.name, disk.kind) == (memory.columns, memory.key, memory.name, memory.kind)
    if model_holes:
        assert [column.of for column in disk.schema.modelled if column.of] == ["town", "income", "size"]


def test_a_run_on_disk_is_that_in_memory_and_answers_are_too(tmp_path, on_disk, monkeypatch):
    source = _parts(tmp_path / "parts", _table(2_000))
    runs.fit(str(source), tmp_path / "disk", SETTINGS, progress=False)
    disk = runs.open(tmp_path / "disk")
    rows = disk.rows(source)
    assert isinstance(rows, StoredDataset)
    scores = disk.score(rows, num_samples=10).values
    monkeypatch.setattr(disk_cache, "MEMORY_SHARE", 1)
    runs.fit(str(source), tmp_path / "memory", SETTINGS, progress=False)
    memory = runs.open(tmp_path / "memory")
    assert disk.data.crc32 == memory.data.crc32
    assert disk.data.columns_schema == memory.data.columns_schema
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("disk", "memory")]
    assert weights[0] == weights[1]
    np.testing.assert_array_equal(scores, memory.score(memory.rows(source), num_samples=10).values)


def test_new_rows_on_disk_may_hold_cells_that_the_fit_never_met(tmp_path, on_disk, monkeypatch):
    source = _parts(tmp_path / "parts", _table(2_000))
    runs.fit(str(source), tmp_path / "run", SETTINGS, progress=False)
    run, table = runs.open(tmp_path / "run"), _table(3_000, seed=4)
    grades = table["grade"].to_numpy().copy()
    grades[2_345] = 99
    new = _parts(tmp_path / "new", table.set_column(7, "grade", pa.array(grades)))
    with pytest.raises(DataError, match=r"row 545 of part-3\.parquet holds"):
        run.rows(new)
    rows = run.rows(new, lenient=True)
    assert isinstance(rows, StoredDataset)
    assert np.argwhere(rows.excluded)[:, 0].tolist() == [2_345]
    question = Question("score", {"num_samples": 10})
    disk = answer_by_part(run, sorted(new.iterdir()), tmp_path / "out", question, _lenient(run))
    assert disk.num_rows == 3_000
    answers = pa.concat_tables([pq.read_table(path) for path in disk.answers])
    whole = run.score(rows, num_samples=10)
    np.testing.assert_allclose(answers["log_p"].to_numpy(), whole.values[:, 0], atol=1e-5)


def _lenient(run):
    return lambda path: run.rows(path, lenient=True)


def test_a_part_with_other_words_is_named(tmp_path, on_disk):
    source = _parts(tmp_path / "parts", _table(2_000))
    path = source / "part-2.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["town"]), path)
    with pytest.raises(DataError, match=r"part-2\.parquet lacks the column 'town'"):
        load_by_schema(source)


_PEAK = """
    import re, sys
    from vaekit.data import disk_cache
    from vaekit.data.by_schema import load_by_schema
    disk_cache.MEMORY_SHARE, disk_cache._MAPPED = float(sys.argv[2]), 0
    rows = load_by_schema(sys.argv[1], model_holes=True)
    total = sum(float(block[:, 0].sum()) for block in rows.blocks())
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # ru_maxrss begins with the parent's
    print(int(peak) * 1024, len(rows) * len(rows.columns) * 8)
"""


def _peak(source, share):
    """Bytes of memory at the peak of a process that reads a table, and those of its cells."""
    code = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(_PEAK), str(source), str(share)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), float)


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_rows(tmp_path):
    for num_rows in (60_000, 240_000):
        folder = tmp_path / f"{num_rows}"
        folder.mkdir()
        for i in range(num_rows // 20_000):
            rng = np.random.default_rng(i)
            columns = {f"c{j}": rng.normal(size=20_000) for j in range(30)}
            columns |= {"town": np.array(["Bern", "Ulm", "Graz"])[rng.integers(0, 3, 20_000)]}
            pq.write_table(pa.table(columns), folder / f"part-{i:02d}.parquet")
    on_disk, in_memory = (_peak(tmp_path / "240000", share) - _peak(tmp_path / "60000", share) for share in (0, 1))
    (growth, cells), (growth_in_memory, _) = on_disk, in_memory
    assert cells == 180_000 * 31 * 8
    assert growth < 0.2 * cells
    assert growth_in_memory > cells, "this test can fail"
