"""Schemas: encode and decode give rows back, bad input is named, and files say where they are wrong."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from generated import given
from hypothesis import strategies as st

from vaekit.data.by_schema import load_by_schema
from vaekit.data.column import Column
from vaekit.data.schema import Schema
from vaekit.errors import DataError, ReadingWarning

NUM = 12
WORDS = ["None", "NA", "", "1", "2.5", "ä b", "nan", "x,y"]


def holes(cells):
    """Lists of NUM cells, some of them None, of which two differ."""
    return st.lists(st.none() | cells, min_size=NUM, max_size=NUM).filter(lambda c: len({*c} - {None}) > 1)


CELLS = {
    "whole": holes(st.integers(-(10**6), 10**6)),
    "level": holes(st.sampled_from([0, 1, 2])),
    "real": holes(st.floats(-1e9, 1e9)),
    "cents": holes(st.integers(0, 10**6).map(lambda i: i / 100)),
    "bool": holes(st.booleans()),
    "word": holes(st.sampled_from(WORDS)),
    "instant": holes(
        st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1)).map(lambda t: t.replace(microsecond=1000))
    ),
    "day": holes(st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))),
}
GENERATED = st.fixed_dictionaries(CELLS)


def as_pandas(cells):
    instants = pd.Series(pd.to_datetime(cells["instant"]))
    return pd.DataFrame(
        {
            "Int64": pd.array(cells["whole"], "Int64"),
            "float": pd.Series(cells["whole"], dtype="float64"),
            "level": pd.array(cells["level"], "Int8"),
            "real": pd.Series(cells["real"], dtype="float64"),
            "Float64": pd.array(cells["cents"], "Float64"),
            "float32": pd.Series(cells["cents"], dtype="float32"),
            "boolean": pd.array(cells["bool"], "boolean"),
            "bool": [bool(cell) for cell in cells["bool"][:-2]] + [True, False],
            "object": pd.Series(cells["bool"], dtype=object),
            "str": cells["word"],
            "string": pd.array(cells["word"], "string"),
            "category": pd.Categorical(cells["word"], categories=[*WORDS, "never"]),
            "ordered": pd.Categorical(cells["word"], categories=WORDS[::-1], ordered=True),
            "numbered": pd.Categorical(cells["level"], categories=[2, 1, 0]),
            **{unit: instants.astype(f"datetime64[{unit}]") for unit in ("ms", "us", "ns")},
            "zone": instants.astype("datetime64[us]").dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"),
            "arrow": pd.array(cells["whole"], "int64[pyarrow]"),
        }
    )


def as_polars(cells):
    return pl.DataFrame(
        {
            "whole": pl.Series(cells["whole"], dtype=pl.Int32),
            "real": pl.Series(cells["real"], dtype=pl.Float64),
            "cents": pl.Series(cells["cents"], dtype=pl.Float32),
            "bool": cells["bool"],
            "word": cells["word"],
            "category": pl.Series(cells["word"], dtype=pl.Categorical),
            "enum": pl.Series(cells["word"], dtype=pl.Enum(WORDS)),
            "day": cells["day"],
            "ms": pl.Series(cells["instant"], dtype=pl.Datetime("ms")),
            "zone": pl.Series(cells["instant"], dtype=pl.Datetime("us")).dt.replace_time_zone("Asia/Tokyo"),
        }
    )


def as_arrow(cells):
    instants = pa.array(cells["instant"], pa.timestamp("us"))
    return pa.table(
        {
            "whole": pa.array(cells["whole"], pa.int64()),
            "level": pa.array(cells["level"], pa.uint8()),
            "real": pa.array(cells["real"], pa.float64()),
            "bool": pa.array(cells["bool"]),
            "word": pa.array(cells["word"], pa.string()),
            "large": pa.array(cells["word"], pa.large_string()),
            "category": pa.array(cells["word"], pa.string()).dictionary_encode(),
            "day": pa.array(cells["day"]),
            **{unit: instants.cast(pa.timestamp(unit), safe=False) for unit in ("s", "ms", "ns")},
            "zone": pa.array(cells["instant"], pa.timestamp("us", "America/New_York")),
        }
    )


@given(cells=GENERATED)
def test_encode_then_decode_is_the_identity_for_pandas(cells):
    frame = as_pandas(cells)
    schema = Schema.found(frame)
    assert len(schema.modelled) == len(frame.columns)
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)), frame)


@given(cells=GENERATED)
def test_encode_then_decode_is_the_identity_for_polars(cells):
    frame = as_polars(cells)
    schema = Schema.found(frame)
    again = schema.decode(schema.encode(frame))
    assert again.schema == frame.schema
    assert again.equals(frame)


@given(cells=GENERATED)
def test_encode_then_decode_is_the_identity_for_pyarrow(cells):
    frame = as_arrow(cells)
    schema = Schema.found(frame)
    again = schema.decode(schema.encode(frame))
    assert again.schema.equals(frame.schema)
    assert again.to_pylist() == frame.to_pylist()


@given(cells=GENERATED)
def test_a_file_gives_the_schema_back(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "schema.json"
    schema = Schema.found(as_polars(cells))
    schema.save(path)
    again = Schema.load(path)
    assert again == schema
    kinds = [[type(level) for level in column.levels] for column in schema.columns]
    assert [[type(level) for level in column.levels] for column in again.columns] == kinds


def test_x_is_float64_with_codes_seconds_and_nan():
    frame = pd.DataFrame(
        {
            "n": [1.5, None, 2.0],
            "w": ["b", "a", None],
            "t": pd.to_datetime(["1970-01-02", None, "1970-01-01 00:00:01"], format="ISO8601"),
            "one": [7, 7, 7],
        }
    )
    schema = Schema.found(frame)
    x = schema.encode(frame)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, [[1.5, 1, 86400], [np.nan, 0, np.nan], [2, np.nan, 1]])
    assert [c.kind for c in schema.columns] == ["continuous", "binary", "datetime", "constant"]
    assert schema.table()[3] == ("one", "constant", "one value: 7")


def test_columns_go_by_name_and_new_ones_are_said():
    frame = pd.DataFrame({"a": [1.0, 2.5, 3.0], "b": ["u", "v", "u"]})
    schema = Schema.found(frame)
    np.testing.assert_array_equal(schema.encode(frame[["b", "a"]]), schema.encode(frame))
    with pytest.warns(ReadingWarning, match="left out 'c', which the schema does not have"):
        schema.encode(frame.assign(c=1))
    with pytest.raises(DataError, match="has no column 'a'.*Nearest"):
        schema.encode(frame[["b"]])
    with pytest.raises(DataError, match="can be read: Expected unique"):
        schema.encode(pd.concat([frame, frame], axis=1))


def test_unseen_levels_are_other_or_an_error():
    levels = ["a"] * 600 + ["b"] * 597 + ["c"] * 3
    schema = Schema.found(pa.table({"w": levels}))
    assert schema["w"].other
    assert schema["w"].levels == ("a", "b")
    np.testing.assert_array_equal(schema.encode(pa.table({"w": ["b", "c", "new", None]})), [[1], [2], [2], [np.nan]])
    assert schema.decode(np.array([[0.0], [2.0]])).to_pylist() == [{"w": "a"}, {"w": "other"}]
    plain = Schema.found(pa.table({"w": ["a", "b", "c"] * 20}))
    with pytest.raises(DataError, match="Column 'w' has no level 'new', which row 1 holds"):
        plain.encode(pa.table({"w": ["a", "new"]}))


def test_words_that_look_like_numbers_or_bools_are_still_levels():
    schema = Schema.found(pa.table({"w": ["True", "7", "x"] * 5}))
    levels = schema["w"].levels
    for cells, code in [([True], levels.index("True")), ([7], levels.index("7"))]:
        assert schema.encode(pa.table({"w": cells})).tolist() == [[code]]


def test_levels_of_three_percent_stay():
    rng = np.random.default_rng(0)
    words = rng.choice(["a", "b", "c", "d"], 2000, p=[0.59, 0.31, 0.065, 0.035])
    assert Schema.found(pa.table({"w": words.tolist()}))["w"].levels == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("n", ["x", "2", "3"], "Column 'n' is continuous and holds numbers; row 0 holds 'x'"),
        ("n", ["1", "2.5", "x"], "Column 'n' is continuous and holds numbers; row 2 holds 'x'"),
        ("n", [1.0, float("inf"), 3.0], "Column 'n' is continuous.*finite number.*row 1 holds"),
        ("k", [1.0, 2.5, 3.0], "Column 'k' is count.*must be whole; row 1 holds"),
        ("k", [1.0, 2.0, -3.0], "Column 'k' is count.*must be 0 or more; row 2 holds"),
        ("p", [1.0, 0.0, 2.0], "Column 'p' is positive.*must be above 0; row 1 holds"),
        ("b", [0.5, 0.5, 1.5], "Column 'b' is bounded.*must be 1 or less; row 2 holds"),
        ("t", ["x", "y", "z"], "Column 't' holds Datetime.*row 0 holds 'x'"),
        ("w", ["a", "b", "q"], "Column 'w' has no level 'q', which row 2 holds"),
        ("w", [1, 2, 3], "Column 'w' has no level 1, which row 0 holds"),
    ],
)
def test_a_cell_that_cannot_be_is_named(column, cells, message):
    frame = pd.DataFrame(
        {
            "n": [1.5, 2.0, 3.0],
            "k": [1, 2, 0],
            "p": [1.0, 2.5, 3.0],
            "b": [0.1, 0.5, 0.9],
            "t": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-04"]),
            "w": ["a", "b", "a"],
        }
    )
    kinds = {"k": "count", "p": "positive"}
    schema = Schema.found(frame, kinds=kinds)
    bounded = Column(name="b", kind="bounded", dtype="Float64", low=0, high=1)
    schema = Schema(columns=tuple(bounded if c.name == "b" else c for c in schema.columns), backend="pandas")
    with pytest.raises(DataError, match=message):
        schema.encode(frame.assign(**{column: cells}))


def test_zones_are_not_mixed_with_none():
    naive = pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    schema = Schema.found(naive)
    with pytest.raises(DataError, match="has no time zone, the new one has that of UTC"):
        schema.encode(naive.assign(t=naive.t.dt.tz_localize("UTC")))


def test_infinities_and_mixed_cells_are_refused_with_their_row():
    with pytest.raises(DataError, match="Column 'n' is -inf in row 1; 1 more"):
        Schema.found(pd.DataFrame({"n": [0.0, -np.inf, np.inf]}))
    with pytest.raises(DataError, match="several kinds: 'a' in row 0, 3 in row 1"):
        Schema.found(pd.DataFrame({"n": pd.Series(["a", 3], dtype=object)}))
    with pytest.raises(DataError, match="a row and a column at least"):
        Schema.found(pd.DataFrame({"n": []}))
    with pytest.raises(DataError, match="not a data frame"):
        Schema.found([1, 2])
    with pytest.raises(DataError, match="names are no text"):
        Schema.found(pd.DataFrame({0: [1, 2]}))


def test_one_row_and_empty_columns_are_constants():
    schema = Schema.found(pd.DataFrame({"a": [3], "b": [None], "c": ["x"]}))
    assert [(c.kind, c.value) for c in schema.columns] == [("constant", 3), ("constant", None), ("constant", "x")]
    frame = schema.decode(np.empty((2, 0)))
    assert frame.a.tolist() == [3, 3]
    assert frame.b.isna().all()
    assert frame.c.tolist() == ["x", "x"]
    with pytest.warns(ReadingWarning, match="column 'a' was 3 in all rows.*row 1 holds 4"):
        schema.encode(pd.DataFrame({"a": [3, 4]}))


def test_whole_numbers_beyond_float64_are_identifiers():
    frame = pa.table({"big": [2**53 + i for i in range(1, 30)], "x": [i / 7 for i in range(29)]})
    schema = Schema.found(frame)
    assert schema["big"].kind == "identifier"
    assert "2**53" in schema["big"].why
    with pytest.raises(DataError, match=r"2\*\*53"):
        Schema.found(frame, kinds={"big": "continuous"})


def test_columns_beside_x_are_made_anew_or_kept():
    names = [f"key{i}" for i in range(40)]
    notes = [f"a note about {i} of them" for i in range(40)]
    frame = pd.DataFrame({"id": range(100, 140), "key": names, "x": np.linspace(0, 1, 40) ** 3, "note": notes})
    with pytest.warns(ReadingWarning, match="free text is no data, and is dropped: 'note'"):
        schema = Schema.found(frame)
    assert [c.kind for c in schema.columns] == ["identifier", "identifier", "continuous", "text"]
    x = schema.encode(frame)
    made = schema.decode(x)
    assert made.id.tolist() == list(range(1, 41))
    assert made.key.tolist()[:2] == ["1", "2"]
    assert made.note.isna().all()
    pd.testing.assert_frame_equal(schema.decode(x, rows=frame), frame)
    with pytest.raises(DataError, match="as many as those of x"):
        schema.decode(x, rows=frame[:3])


def test_draws_are_rounded_and_clipped():
    columns = (
        Column(name="price", kind="positive", dtype="Float64", decimals=2, low=0),
        Column(name="age", kind="continuous", dtype="UInt8", whole=True),
        Column(name="share", kind="bounded", dtype="Float64", low=0, high=1),
        Column(name="day", kind="datetime", dtype="Date"),
    )
    made = Schema(columns=columns).decode(np.array([[-3.0, 300.4, 1.5, 86400.0 * 3 + 5], [1.006, -2.0, np.nan, 1e30]]))
    assert made.to_pylist() == [
        {"price": 0.01, "age": 255, "share": 1.0, "day": dt.date(1970, 1, 4)},
        {"price": 1.01, "age": 0, "share": None, "day": dt.date(9999, 12, 31)},
    ]
    with pytest.raises(DataError, match=r"shape \(N, 4\)"):
        Schema(columns=columns).decode(np.zeros((2, 3)))
    with pytest.raises(DataError, match="'price' of x is inf in row 0"):
        Schema(columns=columns).decode(np.full((1, 4), np.inf))


def test_whole_numbers_with_holes_stay_whole_in_pandas():
    frame = pd.DataFrame({"n": [1, 200, 3000], "flag": [True, False, True]})
    made = Schema.found(frame).decode(np.array([[np.nan, np.nan], [5.0, 1.0]]))
    assert made.dtypes.astype(str).tolist() == ["Int64", "boolean"]


def test_kinds_and_orders_go_before_what_is_found():
    frame = pa.table({"size": ["S", "M", "L", "S"], "grade": [1, 2, 2, 3], "x": [0.5, 0.25, 3.0, 1.0]})
    schema = Schema.found(
        frame, kinds={"grade": "categorical", "x": "positive"}, orders={"size": ["S", "M", "L", "XL"]}
    )
    assert schema["size"].levels == ("S", "M", "L", "XL")
    assert schema.encode(frame)[:, 0].tolist() == [0, 1, 2, 0]
    assert [c.kind for c in schema.columns] == ["ordinal", "categorical", "positive"]
    for kinds, message in [
        ({"size": "continuous"}, "'size' cannot be continuous"),
        ({"size": "ordinal"}, "say its levels from the lowest up"),
        ({"grade": "binary"}, "'grade' of 'frame' cannot be binary"),
        ({"y": "binary"}, "no column 'y'"),
        ({"x": "count"}, "'x' cannot be count"),
    ]:
        with pytest.raises(DataError, match=message):
            Schema.found(frame, kinds=kinds)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s["columns"][0].update(kind="reel"), r"columns\[0\].kind \(column 'a'\): Input should be"),
        (lambda s: s["columns"][1].update(levels=["u", "u"]), r"columns\[1\] \(column 'b'\): .*two or more levels"),
        (lambda s: s["columns"][0].update(unit="m"), r"columns\[0\].unit.*not permitted"),
        (lambda s: s.update(format_version=2), "format_version: Input should be 1"),
        (lambda s: s["columns"].append(s["columns"][0]), "a column stands twice: 'a'"),
        (lambda s: s["columns"][0].update(low=2, high=1), "low must be below high"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(tmp_path, edit, message):
    path = tmp_path / "schema.json"
    Schema.found(pa.table({"a": [0.5, 1.25, 2.0], "b": ["u", "v", "u"]})).save(path)
    about = json.loads(path.read_text())
    edit(about)
    path.write_text(json.dumps(about))
    with pytest.raises(DataError, match=message):
        Schema.load(path)


def test_a_file_that_is_none_is_refused(tmp_path):
    for content, message in [(b"{", "Invalid JSON"), (b"\xff\xfe", "not UTF-8"), (b"[]", "is no schema")]:
        (tmp_path / "s.json").write_bytes(content)
        with pytest.raises(DataError, match=message):
            Schema.load(tmp_path / "s.json")
    with pytest.raises(DataError, match="cannot read the schema"):
        Schema.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(
            {"a": pd.Series(["x", np.nan, "y"], dtype=object), "b": pd.Series(["x", None, "y"], dtype=object)}
        ),
        pd.DataFrame({"a": pd.Series([dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)], dtype=object)}),
        pd.DataFrame({"a": pd.to_datetime(["2020-10-25 00:30+05:30", "2020-10-25 01:30+05:30"])}),
        pd.DataFrame({"a": pd.to_datetime(["2020-10-25 00:30", "2020-10-25 01:30"]).tz_localize("Europe/Berlin")}),
        pd.DataFrame({"a": pd.Series(["x", "y", "x"]).astype(pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())))}),
        pd.DataFrame({"a": pd.Categorical([1.5, 2.5, 1.5]), "b": np.array([1.5, 2, 3], np.float16)}),
        pd.DataFrame({"a": pd.arrays.SparseArray([0.0, 0, 1.5, 0])}),
        pl.DataFrame({"a": [dt.date(1, 1, 1), dt.date(9999, 12, 31)], "b": pl.Series([None, None])}),
        pa.table({"a": pa.array([0, 86400000], pa.date64()), "b": pa.array(["x", "y"], pa.string_view())}),
        pa.table({"a": pa.chunked_array([pa.array([w]).dictionary_encode() for w in "xyz"])}),
    ],
)
def test_rarer_dtypes_come_back(frame):
    schema = Schema.found(frame)
    again = schema.decode(schema.encode(frame))
    if isinstance(frame, pd.DataFrame):
        pd.testing.assert_frame_equal(again, frame)
    else:
        assert again.schema == frame.schema
        assert again.equals(frame) or again.to_pydict() == frame.to_pydict()


def test_what_no_kind_takes_is_dropped_or_refused():
    odd = pl.DataFrame({"t": [dt.time(1), dt.time(2)], "l": [[1, 2], [3]], "b": [b"x", b"y"]})
    with pytest.warns(ReadingWarning, match="'t' .time64.ns. is none of.*'l'.*'b'"):
        schema = Schema.found(odd)
    assert schema.encode(odd).shape == (2, 0)
    dates = pd.DataFrame({"c": pd.Categorical(pd.to_datetime(["2020-01-01", "2020-01-02"]))})
    with pytest.warns(ReadingWarning, match="levels such as datetime"):
        assert Schema.found(dates)["c"].kind == "text"
    with pytest.raises(DataError, match="Period.*Convert or drop it"):
        Schema.found(pd.DataFrame({"p": pd.period_range("2020-01", periods=4, freq="M")}))


def test_other_has_a_name_of_its_own():
    frame = pa.table({"w": ["other"] * 500 + ["b"] * 500 + ["c"], "n": [1] * 500 + [2] * 500 + [3]})
    schema = Schema.found(frame, kinds={"n": "categorical"})
    assert schema.decode(np.array([[2.0, 2.0]])).to_pylist() == [{"w": "other (rare)", "n": None}]
    listed = Schema.found(frame.to_pandas().astype({"w": "category"}))
    made = listed.decode(np.array([[2.0, 0.0], [0.0, 1.0]]))
    assert made.w.tolist() == ["other (rare)", "b"]


def test_text_of_records_stays_text_where_the_schema_says_so(tmp_path):
    """As in a file: 1e3 is a level of its own, and not the number 1000."""
    (tmp_path / "codes.csv").write_text("code,x\n" + "".join(f"{('1e3', 'b7')[i % 2]},{i}.5\n" for i in range(40)))
    fitted = load_by_schema(tmp_path / "codes.csv")
    assert fitted.schema["code"].levels == ("1e3", "b7")
    found = load_by_schema([{"code": "1e3", "x": 2.5}], fitted.schema)
    np.testing.assert_array_equal(found.x, [[0.0, 2.5]])
