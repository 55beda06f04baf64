"""Workbooks, JSON, JSON lines and feather: the same table in each, and what cannot be a table is named."""

import gzip
import json
import sys

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest

from vaekit import cli, runs
from vaekit.data import Reading, load
from vaekit.data.readers.frames import frame
from vaekit.data.schema import Schema
from vaekit.errors import DataError, ReadingWarning, WordsError

FAST = ["max_epochs=2", "hidden=8", "latent_dim=2", "compile=off", "--quiet"]
SUFFIXES = [".csv", ".xlsx", ".json", ".columns.json", ".jsonl", ".ndjson.gz", ".json.gz", ".feather", ".parquet"]


def people(n=60, seed=0):
    """Words, codes with leading zeros, whole numbers and reals with holes, bools, days and instants."""
    rng = np.random.default_rng(seed)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    return pd.DataFrame(
        {
            "town": rng.choice(["Bern", "Zürich", "None"], n),
            "code": rng.choice(["007", "012", "110"], n),
            "visits": pd.array(np.where(rng.random(n) < 0.1, None, rng.integers(0, 40, n)), "Int64"),
            "height": np.where(rng.random(n) < 0.1, np.nan, rng.normal(170, 10, n).round(1)),
            "member": rng.random(n) < 0.4,
            "since": days + pd.to_timedelta(rng.integers(1, 80_000, n), unit="s"),
        }
    )


def write(table, path):
    """As pandas writes a table in the format of the suffix."""
    suffix, how = "".join(path.suffixes), {"date_format": "iso", "force_ascii": False}
    if suffix.startswith((".jsonl", ".ndjson")):
        table.to_json(path, orient="records", lines=True, **how)
    elif "json" in suffix:
        table.to_json(path, orient="columns" if "columns" in suffix else "records", **how)
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        getattr(table, f"to_{suffix[1:]}")(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_table_is_the_same_in_each_format(tmp_path, suffix):
    table = people()
    expected = frame(write(table, tmp_path / "t.csv"))
    found = frame(write(table, tmp_path / f"t{suffix}"))
    schema, like = Schema.found(found), Schema.found(expected)
    assert [column.kind for column in schema.columns] == [column.kind for column in like.columns]
    np.testing.assert_array_equal(schema.encode(found), like.encode(expected))
    np.testing.assert_array_equal(like.encode(found), like.encode(expected))  # a run of the one reads the other
    assert schema["code"].levels == ("007", "012", "110")
    assert set(schema["town"].levels) == {"Bern", "Zürich", "None"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_of_numbers_are_loaded(tmp_path, suffix):
    table = pd.DataFrame({"a": [1.5, np.nan, 3.25], "b": [4, 5, 6], "y": ["u", "v", "u"]})
    data = load(write(table, tmp_path / f"t{suffix}"), label="y")
    np.testing.assert_array_equal(data.x, [[1.5, 4], [np.nan, 5], [3.25, 6]])
    assert (data.columns, data.labels.tolist(), data.kind) == (("a", "b"), ["u", "v", "u"], "table")
    with pytest.raises(WordsError, match="'y' of 't' holds .*not numbers"):
        load(tmp_path / f"t{suffix}")
    assert load(tmp_path / f"t{suffix}", reading=Reading(columns=("b",))).x.tolist() == [[4], [5], [6]]
    assert load(tmp_path / f"t{suffix}", reading=Reading(drop=("y", "a"))).columns == ("b",)


def test_everything_that_takes_data_takes_them(tmp_path, capsys):
    table = people().assign(id=[f"p{i}" for i in range(60)])
    paths = [write(table, tmp_path / f"t{suffix}") for suffix in (".csv", ".xlsx", ".json", ".jsonl", ".feather")]
    assert cli.run(["fit", str(paths[1]), "-o", str(tmp_path / "r"), "--key", "id", *FAST]) == 0
    run = runs.open(tmp_path / "r")
    scores = [run.score(run.rows(path), num_samples=5) for path in (None, *paths)]
    for other in scores[1:]:
        np.testing.assert_array_equal(other.values, scores[0].values)
        assert other.keys.tolist() == table["id"].tolist()
    capsys.readouterr()
    for path in paths:
        assert cli.run(["schema", str(path), "--json"]) == 0
        kinds = [column["kind"] for column in json.loads(capsys.readouterr().out)["columns"]]
        assert kinds == [column.kind for column in Schema.found(table).columns]


# --- Cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".xlsx", ".json", ".jsonl"])
def test_words_that_mean_not_observed_are_those_of_text_files(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    cells = {"n": ["NA", 1, 2], "w": ["None", "NA", ""], "q": ["?", 2.5, "-"], "s": ["-", "a", "?"], "m": [-999, 1, 2]}
    write(pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in cells.items()}), path)
    with pytest.warns(ReadingWarning, match="column 'q' holds numbers, so its 2 cell.s. '\\?' and '-' are taken"):
        table = frame(path, Reading(missing=("-999",)))
    assert table.to_pydict() == {
        "n": [None, 1, 2],
        "w": ["None", None, None],
        "q": [None, 2.5, None],
        "s": ["-", "a", "?"],
        "m": [None, 1, 2],
    }


def test_text_of_numbers_is_numbers_with_a_notice_and_codes_stay(tmp_path):
    (tmp_path / "t.json").write_text('[{"a": "1.5", "b": "07", "c": "12"}, {"a": "2", "b": "11", "c": null}]')
    with pytest.warns(ReadingWarning) as told:
        table = frame(tmp_path / "t.json")
    assert table.to_pydict() == {"a": [1.5, 2.0], "b": ["07", "11"], "c": [12, None]}
    assert [str(w.message).split("'")[1] for w in told] == ["a", "c"]


def test_dates_of_other_zones_and_of_all_years(tmp_path):
    (tmp_path / "t.json").write_text(
        '[{"d": "0001-01-01", "z": "2024-01-01T00:00:00+02:00", "n": "2024-01-01 10:00"},'
        ' {"d": "9999-12-31", "z": "2024-01-01T00:00:00Z", "n": "2024-01-02T10:00:00.5"}]'
    )
    table = frame(tmp_path / "t.json")
    assert [str(kind) for kind in table.schema.types] == ["date32[day]", "timestamp[us, tz=UTC]", "timestamp[us]"]
    schema = Schema.found(table)
    assert schema.decode(schema.encode(table)).to_pylist() == table.to_pylist()
    assert np.diff(schema.encode(table)[:, 1]).tolist() == [7200]


NO_TABLES = {
    "empty": (b" \n", "is empty. It should hold a list of records"),
    "no rows": (b"[]", "at least one row; got none"),
    "no object": (b"[1, 2]", "row 0 holds a int; a row is a record"),
    "a number": (b"3", "holds a int. It should hold a list"),
    "damaged": (b'[{"a": 1},', r"is no JSON: .* at line 1, column"),
    "lines": (b'{"a": 1}\n{"a": 2}', "A record in each line makes a .jsonl file"),
    "latin-1": ('[{"a": "ü"}]'.encode("latin-1"), "is not utf-8, which JSON is: .*--encoding"),
    "nested": (b'[{"a": 1}, {"a": {"b": 2}}]', r"column 'a' holds \{'b': 2\} in row 1, which is no cell"),
    "vector": (b'[{"a": [1, 2]}]', r"column 'a' holds \[1, 2\] in row 0"),
    "kinds": (b'[{"a": 1}, {"a": "x"}]', "column 'a' holds values of several kinds: 1 in row 0, 'x' in row 1"),
    "bools": (b'[{"a": true}, {"a": 2}]', "several kinds: True in row 0, 2 in row 1"),
    "twice": (b'[{"a": 1, "a": 2}]', "row 0 has 'a' twice"),
    "columns twice": (b'{"a": [1], "a": [2]}', "several columns 'a'"),
    "index twice": (b'{"a": {"0": 1, "0": 2}}', "column 'a' has the row '0' twice"),
    "ragged columns": (b'{"a": [1, 2], "b": [1]}', "'a' has 2 cells and 'b' has 1"),
    "ragged index": (b'{"a": {"0": 1}, "b": {"0": 1, "1": 2}}', "column 'a' has no row '1'"),
    "by index": (b'{"0": {"a": 1}, "1": {"a": 2}}', "holds rows by their index, and not columns"),
    "split": (b'{"columns": ["a"], "index": [0], "data": [[1]]}', "way of pandas that is not read"),
    "scalar": (b'{"a": 1}', "column 'a' is a int"),
    "beyond": (b'[{"a": 123456789012345678901}]', "in row 0, a whole number beyond 64 bits"),
    "deep": (b"[" * 100_000, "cannot be read|is no JSON"),
    "no unicode": (rb'[{"a": "\ud800"}]', "text that is no Unicode"),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_what_is_no_table_of_json_is_named(tmp_path, name):
    content, message = NO_TABLES[name]
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        frame(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": }\n', r"line 3: it is no JSON: Expecting value"),
        (b'{"a": 1}\n[1]\n', "line 2 holds a list; a row is a record"),
        (b'{"a": 1}\n\n{"a": "x"}\n', r"1 in row 0 \(line 1\), 'x' in row 1 \(line 3\)"),
        (b'{"a": 1, "a": 2}\n', "line 1 has 'a' twice"),
        (b"\n", "is empty"),
    ],
)
def test_what_is_no_record_is_named_by_its_line(tmp_path, content, message):
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        frame(tmp_path / "t.jsonl")


def test_records_of_several_names_have_holes(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n\r\n{"b": NaN, "a": 2}\r\n{"c": "x"}')
    assert frame(tmp_path / "t.jsonl").to_pydict() == {"a": [1, 2, None], "b": [None] * 3, "c": [None, None, "x"]}
    (tmp_path / "u.json").write_bytes('[{"a": "ü"}]'.encode("utf-16"))
    assert frame(tmp_path / "u.json").to_pydict() == {"a": ["ü"]}
    (tmp_path / "l.json").write_bytes('[{"a": "ü"}]'.encode("latin-1"))
    assert frame(tmp_path / "l.json", Reading(encoding="latin-1")).to_pydict() == {"a": ["ü"]}


def test_infinities_of_json_are_errors_with_their_place(tmp_path, capsys):
    lines = [json.dumps({"a": i / 7, "b": i % 3}) for i in range(40)]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, '{"a": Infinity, "b": 1}']))
    assert cli.run(["fit", str(tmp_path / "t.jsonl"), "-o", str(tmp_path / "r"), *FAST]) == 1
    assert "row 40 (line 41)" in capsys.readouterr().err


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(b'[{"a": 1}]')[:-9])
    with pytest.raises(DataError, match="truncated or damaged"):
        frame(tmp_path / "t.json.gz")


# --- Workbooks -------------------------------------------------------------------------------------------------------


def book(path, **sheets):
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for title, rows in sheets.items():
        sheet = workbook.create_sheet(title)
        for row in rows:
            sheet.append(row)
    workbook.save(path)
    return path


def test_a_sheet_is_chosen_and_remembered(tmp_path, capsys):
    rows = [["a", "w"], *[[i / 7, "uv"[i % 2]] for i in range(40)]]
    path = book(tmp_path / "t.xlsx", notes=[["x"], ["y"]], data=rows)
    with pytest.warns(ReadingWarning, match="sheet 'notes' is read, of 'notes', 'data' .--sheet NAME"):
        assert frame(path).to_pydict() == {"x": ["y"]}
    assert frame(path, Reading(sheet="data")).num_rows == 40
    with pytest.raises(DataError, match="no sheet 'dat'; its sheets are 'notes', 'data'"):
        frame(path, Reading(sheet="dat"))
    assert cli.run(["fit", str(path), "-o", str(tmp_path / "n"), *FAST]) == 1
    assert capsys.readouterr().err.count("--sheet NAME picks another") == 1
    assert cli.run(["fit", str(path), "--sheet", "data", "-o", str(tmp_path / "r"), *FAST]) == 0
    run = runs.open(tmp_path / "r")
    assert len(run.rows(path)) == 40
    book(tmp_path / "new.xlsx", data=rows[:5])
    assert len(run.rows(tmp_path / "new.xlsx")) == 4
    with pytest.raises(DataError, match="sheet='data' is for .xlsx"):
        load(write(pd.DataFrame({"a": [1]}), tmp_path / "t.csv"), reading=Reading(sheet="data"))


def test_empty_rows_and_columns_around_a_sheet_are_left_out(tmp_path):
    path = book(tmp_path / "t.xlsx", s=[[], [], [None, "a", "b"], [None, 1, "u"], [None, None, None], [None, 3, "v"]])
    workbook = openpyxl.load_workbook(path)
    workbook.active.cell(30, 2).value = None
    workbook.active.cell(30, 2).font = openpyxl.styles.Font(bold=True)  # a cell without a value
    workbook.save(path)
    assert frame(path).to_pydict() == {"a": [1, None, 3], "b": ["u", None, "v"]}
    with pytest.raises(DataError, match=r"'x' in row 1 \(line 3\)"):
        frame(book(tmp_path / "u.xlsx", s=[["a"], [1], ["x"]]))


def test_headers_of_sheets_go_by_the_rule_of_csv(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(30, 6)).tolist()
    with pytest.warns(ReadingWarning, match="first row of numbers taken for the names of the columns"):
        assert frame(book(tmp_path / "y.xlsx", s=[list(range(2010, 2016)), *numbers])).column_names[0] == "2010"
    assert frame(book(tmp_path / "n.xlsx", s=numbers)).column_names[0] == "f0"
    path = book(tmp_path / "w.xlsx", s=[["a", "b"], ["u", "v"]])
    assert frame(path, Reading(header=False)).to_pydict() == {"f0": ["a", "u"], "f1": ["b", "v"]}
    people(5).to_excel(tmp_path / "i.xlsx")
    with pytest.warns(ReadingWarning, match="left out 'Unnamed: 0', an index"):
        table = frame(tmp_path / "i.xlsx")
    assert table.column_names == list(people(5).columns)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the sheet 's' is empty"),
        ([["a", "b"]], "at least one row below the names"),
        ([["a", "a"], [1, 2]], "several columns 'a'"),
        ([["a"], [1], ["x"]], r"several kinds: 1 in row 0 \(line 2\), 'x' in row 1 \(line 3\)"),
        ([["a"], [1], ["#DIV/0!"]], r"column 'a' holds the error #DIV/0! in row 1 \(line 3\)"),
        ([["a", "b"], [1, 2], [3, "=A3+1"]], r"line 3, column 2 holds the formula =A3\+1 without a value"),
    ],
)
def test_what_is_no_table_of_a_sheet_is_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        frame(book(tmp_path / "t.xlsx", s=rows))


def test_values_that_are_not_available_are_holes(tmp_path):
    assert frame(book(tmp_path / "t.xlsx", s=[["a"], [1], ["#N/A"]])).to_pydict() == {"a": [1, None]}


def test_workbooks_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "t.xlsx"
    for content in (b"", b"PK", b"\xd0\xcf\x11\xe0 a file with a password"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable .xlsx file.*password"):
            frame(path)
    with pytest.raises(DataError, match="No such file"):
        frame(tmp_path / "none.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"takes openpyxl, which is not installed.*pip install 'vaekit\[excel\]'"):
        frame(path)


# --- Leading zeros ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@pytest.mark.parametrize("zipped", [False, True])
def test_leading_zeros_of_csv_stay_wherever_they_stand(tmp_path, encoding, zipped):
    many = 400_000 if encoding == "utf-8" else 100
    lines = ["size;code;n;é", *["1,5;1200;3;1"] * many, '2,5;"0012";4;2', "0,5;;0;3"]
    content = "\r\n".join(lines).encode(encoding)
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.warns(ReadingWarning, match="delimiter"):
        table = frame(path)
    assert table["code"].to_pylist()[-3:] == ["1200", "0012", None]
    assert [str(kind) for kind in table.schema.types] == ["double", "string", "int64", "int64"]


def test_codes_are_levels_or_identifiers_with_the_reason(tmp_path):
    rng = np.random.default_rng(0)
    codes = [f"{code:04d}" for code in rng.integers(0, 9, 600)]
    table = pd.DataFrame({"level": codes, "seldom": [f"{i // 3:05d}" for i in range(600)], "x": rng.normal(size=600)})
    table["each"] = [f"{i:05d}" for i in rng.permutation(1000)[:600]]
    schema = Schema.found(frame(write(table, tmp_path / "t.csv")))
    assert [column.kind for column in schema.columns] == ["categorical", "identifier", "continuous", "identifier"]
    assert "digits, as leading zeros (0000) would be lost in numbers" in schema["level"].why
    assert "9 levels: 0000, 0001" in schema["level"].why
    back = schema.decode(schema.encode(frame(tmp_path / "t.csv")), "pandas")
    assert back["level"].tolist() == codes
    with pytest.raises(WordsError, match="'level'.*leading zeros as in '000.' would be lost in numbers"):
        load(tmp_path / "t.csv")
    keys = load(tmp_path / "t.csv", key="level", reading=Reading(columns=("x",))).row_keys
    assert keys.tolist() == codes


def test_a_schema_says_what_digits_are(tmp_path, capsys):
    path = write(
        pd.DataFrame({"month": [f"{i % 12 + 1:02d}" for i in range(60)], "w": list("ab") * 30}), tmp_path / "t.csv"
    )
    assert cli.run(["schema", str(path), "--kind", "month=count", "-o", str(tmp_path / "s.json")]) == 0
    schema = Schema.load(tmp_path / "s.json")
    assert (schema["month"].kind, schema["month"].dtype) == ("count", "Int64")
    assert schema.encode(frame_by(path, schema))[:2, 0].tolist() == [1, 2]
    words = Schema.found(frame(path))
    write(pd.DataFrame({"month": [10, 11], "w": ["a", "b"]}), tmp_path / "new.csv")  # no leading zero in sight
    np.testing.assert_array_equal(words.encode(frame_by(tmp_path / "new.csv", words)), [[9, 0], [10, 1]])
    capsys.readouterr()


def frame_by(path, schema):
    from vaekit.data.readers.frames import frame_and_reading

    return frame_and_reading(path, told=schema.told)[0]


def test_text_of_a_schema_is_read_to_the_letter(tmp_path):
    schema = Schema.found(pa.table({"w": ["1.0", "2", "-", "True"] * 10}))
    (tmp_path / "t.csv").write_text("w\n1.0\n-\n2\n")
    assert schema.encode(frame_by(tmp_path / "t.csv", schema)).ravel().tolist() == [
        schema["w"].levels.index(word) for word in ("1.0", "-", "2")
    ]


# --- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".feather"])
def test_answers_are_written_and_read_again(tmp_path, suffix):
    path = write(people().assign(id=[f"p{i}" for i in range(60)]), tmp_path / "t.csv")
    assert cli.run(["fit", str(path), "-o", str(tmp_path / "r"), "--key", "id", *FAST]) == 0
    for command in (["sample", "-n", "7"], ["score", "--num-samples", "5"], ["encode"]):
        name, *rest = command
        out = [tmp_path / f"{name}{end}" for end in (suffix, ".csv")]
        for file in out:
            assert cli.run([name, str(tmp_path / "r"), *rest, "-o", str(file)]) == 0
        found, expected = (frame(file).to_pylist() for file in out)
        assert [list(row) for row in found] == [list(row) for row in expected]
        for row, like in zip(found, expected, strict=True):
            for cell, other in zip(row.values(), like.values(), strict=True):
                assert cell == other or np.isclose(cell, other, rtol=1e-6), (name, row)
    run = runs.open(tmp_path / "r")
    assert np.isfinite(run.score(run.rows(tmp_path / f"sample{suffix}"), num_samples=5).values).all()


def test_answers_without_a_number_are_null(tmp_path):
    table = runs.Table(np.array([[np.nan, np.inf], [1.5, 2.0]]), ("a", "b"), "id", np.array(["ü", "v"]))
    table.write(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text("utf-8")) == [
        {"id": "ü", "a": None, "b": None},
        {"id": "v", "a": 1.5, "b": 2.0},
    ]
