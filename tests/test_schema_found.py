"""The kinds that are found: of drawn columns, and of real tables beside what their keepers say of them."""

import gzip
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vaekit.data.readers.frames import frame
from vaekit.data.schema import Schema
from vaekit.errors import DataError, ReadingWarning

NUM = 2000
TABLES = Path(os.environ.get("VAEKIT_DATA", "none"), "tables")


def drawn(draw, num=NUM, seed=0):
    values = draw(np.random.default_rng(seed), num)
    return Schema.found(pd.DataFrame({"a": values})).columns[0]


def mixed(rng, num, *parts):
    """Rows of several distributions, each with its share."""
    which = rng.choice(len(parts), num, p=[share for share, _ in parts])
    return np.choose(which, [values for _, values in parts])


@pytest.mark.parametrize(
    ("kind", "draw"),
    [
        ("continuous", lambda r, n: r.normal(3, 2, n)),
        ("continuous", lambda r, n: r.uniform(-7, 12, n)),
        ("continuous", lambda r, n: np.round(r.normal(170, 10, n))),
        ("continuous", lambda r, n: r.laplace(size=n)),
        ("heavy-tailed", lambda r, n: r.standard_t(2, n)),
        ("heavy-tailed", lambda r, n: np.round(100 * r.standard_t(1.5, n))),
        ("multi-modal", lambda r, n: mixed(r, n, (0.6, r.normal(0, 1, n)), (0.4, r.normal(6, 1, n)))),
        ("multi-modal", lambda r, n: np.round(mixed(r, n, (0.5, r.normal(20, 3, n)), (0.5, r.normal(60, 5, n))))),
        ("spiky", lambda r, n: mixed(r, n, (0.3, 0), (0.7, r.normal(0, 5, n)))),
        ("spiky", lambda r, n: mixed(r, n, (0.4, 0), (0.6, r.lognormal(5, 1, n)))),
        ("spiky", lambda r, n: mixed(r, n, (0.01, 0), (0.99, np.round(r.lognormal(5, 1, n), 2)))),
        ("positive", lambda r, n: r.lognormal(0, 1, n)),
        ("positive", lambda r, n: np.round(r.lognormal(8, 1, n))),
        ("bounded", lambda r, n: r.beta(2, 2, n)),
        ("bounded", lambda r, n: np.tanh(r.normal(0, 1, n))),
        ("count", lambda r, n: r.poisson(4, n)),
        ("count", lambda r, n: r.negative_binomial(1, 0.1, n)),
        ("zero-inflated count", lambda r, n: r.poisson(8, n) * (r.random(n) < 0.7)),
        ("binary", lambda r, n: (r.random(n) < 0.01).astype(int)),
        ("binary", lambda r, n: np.where(r.random(n) < 0.3, "yes", "no")),
        ("categorical", lambda r, n: r.choice(list("abcd"), n)),
        ("ordinal", lambda r, n: r.integers(1, 8, n)),
        ("ordinal", lambda r, n: r.choice([0.5, 1.0, 2.0, 5.0], n)),
        ("identifier", lambda r, n: r.permutation(n) + 1000),
        ("identifier", lambda r, n: [f"C{i:05d}" for i in range(n)]),
        ("datetime", lambda r, n: np.datetime64("2020-01-01", "s") + r.integers(0, 10**7, n)),
        ("constant", lambda r, n: np.full(n, 7)),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_drawn_columns_are_found(kind, draw, seed):
    assert drawn(draw, seed=seed).kind == kind


def test_facts_beside_the_kind():
    spiky = drawn(lambda r, n: mixed(r, n, (0.4, 0), (0.6, r.lognormal(5, 1, n))))
    assert spiky.spikes == (0,)
    assert spiky.low == 0
    assert drawn(lambda r, n: r.beta(2, 2, n)).high == 1
    assert drawn(lambda r, n: np.round(r.lognormal(0, 1, n), 2)).decimals == 2
    assert drawn(lambda r, n: r.integers(1, 8, n)).levels == (1, 2, 3, 4, 5, 6, 7)
    days = drawn(lambda r, n: np.datetime64("2020-01-01", "s") + 86400 * r.integers(0, 99, n))
    assert days.step == 86400
    assert days.why == "from 2020-01-01 to 2020-04-08, in days"


def test_few_rows_are_read_plainly():
    frame = pd.DataFrame({"n": np.random.default_rng(0).lognormal(size=30), "w": list("abc") * 10, "k": [0, 1, 2] * 10})
    assert [c.kind for c in Schema.found(frame).columns] == ["continuous", "categorical", "ordinal"]
    assert [c.kind for c in Schema.found(frame[:2]).columns] == ["continuous", "binary", "binary"]


def test_identifiers_and_text_are_told_from_levels():
    rng = np.random.default_rng(0)
    notes = [" ".join(rng.choice(["red", "old", "new", "big", "far"], 6)) + f" {i}" for i in range(300)]
    table = pa.table(
        {
            "customer_id": rng.integers(0, 10**6, 300),
            "note": notes,
            "city": rng.choice([f"city{i}" for i in range(30)], 300).tolist(),
            "income": rng.permutation(10**6)[:300],
        }
    )
    with pytest.warns(ReadingWarning, match="'note'"):
        schema = Schema.found(table)
    assert [c.kind for c in schema.columns][:3] == ["identifier", "text", "categorical"]
    assert schema["income"].kind == "continuous"


def test_a_million_rows_are_found_in_seconds():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{i}": rng.lognormal(size=10**5).round(2) for i in range(20)})
    frame["w"] = rng.choice(["a", "b", "c"], 10**5)
    start = time.perf_counter()
    Schema.found(frame)
    assert time.perf_counter() - start < 3  # a tenth of the rows; .2 s on two cores that do nothing else


# What a column called so by the keepers of the tables may be found to be: whole numbers in few levels may be ordinal.
MAY_BE = {
    "continuous": {"continuous", "heavy-tailed", "multi-modal", "spiky", "positive", "bounded"},
    "integer": {"continuous", "heavy-tailed", "multi-modal", "spiky", "positive", "count", "zero-inflated count"},
    "categorical": {"categorical", "binary", "ordinal"},
    "ordinal": {"ordinal", "binary"},
    "binary": {"binary"},
}
EXCEPT = {
    ("ionosphere", "V2"): "constant",  # 0 in all rows
    ("loans_full_schema", "num_accounts_120d_past_due"): "constant",
    ("breastcancer", "Id"): "identifier",
    ("loans_full_schema", "emp_title"): "text",
    ("ozone", "V2"): "continuous",  # days of a month, 12 cells each
    ("ozone", "V6"): "ordinal",  # wind speeds from 0 to 11
    ("loans_full_schema", "emp_length"): "ordinal",  # years from 0 to 10
    ("loans_full_schema", "num_collections_last_12m"): "ordinal",  # 0 to 3
    ("loans_full_schema", "public_record_bankrupt"): "ordinal",
}


@pytest.mark.skipif(not TABLES.is_dir(), reason="needs the tables ($VAEKIT_DATA)")
def test_kinds_of_real_tables():
    about = json.loads((TABLES / "tables.json").read_text())
    wrong = []
    for name, table in about.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReadingWarning)
            schema = Schema.found(frame(TABLES / f"{name}.csv.gz"))
        for column in schema.columns:
            truth = table["schema"][column.name]
            allowed = {EXCEPT[name, column.name]} if (name, column.name) in EXCEPT else MAY_BE[truth["type"]]
            if column.kind not in allowed:
                wrong.append((name, column.name, truth["type"], column.kind, column.why))
            if column.kind in ("categorical", "binary") and "levels" in truth:
                kept = {str(level) for level in column.levels}
                assert kept <= set(truth["levels"]), (name, column.name)
                assert len(kept) >= len(truth["levels"]) - 2 * column.other, (name, column.name)
    assert not wrong


@pytest.mark.skipif(not TABLES.is_dir(), reason="needs the tables ($VAEKIT_DATA)")
@pytest.mark.parametrize("name", ["credit_data", "nmes1988", "diamonds", "soybean", "shuttle"])
def test_real_tables_come_back(name):
    table = frame(TABLES / f"{name}.csv.gz")
    schema = Schema.found(table)
    again = schema.decode(schema.encode(table))
    rare = {column.name for column in schema.columns if column.other}
    for column in table.column_names:
        before, after = table[column].to_pylist(), again[column].to_pylist()
        assert before == after or column in rare, column


# --- Files -----------------------------------------------------------------------------------------------------------


def test_words_and_holes_of_text_files(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n;w;q;d;s\n1,5;None;?;-;-\n;NA;2,5;3;a\n2;;-;4;?\n")
    with pytest.warns(ReadingWarning) as told:
        table = frame(path)
    assert table.to_pydict() == {
        "n": [1.5, None, 2.0],
        "w": ["None", None, None],
        "q": [None, 2.5, None],
        "d": [None, 3, 4],
        "s": ["-", "a", "?"],
    }
    said = " ".join(str(warning.message) for warning in told)
    assert "column 'q' holds numbers, so its 2 cell(s) '?' and '-' are taken for empty ones" in said
    assert "column 'd' holds numbers, so its 1 cell(s) '-'" in said
    assert "'s'" not in said


def test_marks_that_are_told_are_holes_in_all_columns(tmp_path):
    from vaekit.data import Reading

    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"n,w,k\n-999,none,1\n2.5,a,-999\n3,b,2\n"))
    how = Reading(missing=("none", "-999"), drop=("k",))
    assert frame(path, how).to_pydict() == {"n": [None, 2.5, 3.0], "w": [None, "a", "b"]}
    assert frame(path, Reading(columns=("w", "n"))).column_names == ["w", "n"]
    assert frame(path, Reading(columns=("w",)), label="n").column_names == ["w", "n"]


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_frames_of_pandas_come_back_from_files(tmp_path, suffix):
    before = pd.DataFrame({"w": pd.Categorical(["a", "b", "?"]), "n": [1.0, None, -1.0], "t": ["None", "x", "y"]})
    path = tmp_path / f"t.{suffix}"
    getattr(before, f"to_{suffix}")(path)
    from vaekit.data import Reading

    table = frame(path, Reading(missing=("?", "-1")))
    assert table.to_pydict() == {"w": ["a", "b", None], "n": [1.0, None, None], "t": ["None", "x", "y"]}
    path.write_bytes(b"no such thing")
    with pytest.raises(DataError, match="not a readable"):
        frame(path)


def test_files_that_are_no_tables_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match="several columns 'a'"):
        frame(tmp_path / "t.csv")
    with pytest.raises(DataError, match="No such file"):
        frame(tmp_path / "none.csv")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"")
    for path in (pictures, Path(__file__)):  # a folder of nothing but tables is one in parts
        with pytest.raises(DataError, match="is no table. Known: .csv"):
            frame(path)


# --- Command ---------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(tmp_path, capsys, monkeypatch):
    from vaekit.cli import run

    path, out = tmp_path / "people.csv", tmp_path / "schema.json"
    path.write_text("id,age,job,y\n" + "".join(f"{i},{20 + i % 40},{'ab'[i % 2]},{i % 3}\n" for i in range(100)))
    assert run(["schema", str(path), "-o", str(out), "--label", "y", "--kind", "age=positive"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["column", "kind"],
        ["id", "identifier"],
        ["age", "positive"],
        ["job", "binary"],
    ]
    assert [column.kind for column in Schema.load(out).columns] == ["identifier", "positive", "binary"]
    assert run(["schema", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"][3]["levels"] == [0, 1, 2]
    for arguments, message in [
        ([str(path), "--kind", "age=reel"], "--kind takes COLUMN=KIND; got 'age=reel'"),
        ([str(path), "--kind", "count"], "--kind takes COLUMN=KIND; got 'count'"),
        ([str(path), "-o", str(tmp_path / "s.yaml")], "the suffix picks the format"),
        ([], "needs DATA"),
    ]:
        assert run(["schema", *arguments]) == 2
        assert message in capsys.readouterr().err
    path.write_text("a,b\n1,x\ninf,y\n")
    assert run(["schema", str(path)]) == 1
    assert "Column 'a' is inf in row 1 (line 3)" in capsys.readouterr().err
