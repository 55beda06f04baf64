"""The runner of an export where there is neither torch nor vaekit, and rows of tables in it."""

import datetime as dt
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from vaekit.data.schema import Schema
from vaekit.export.bundle import _columns, runner_source
from vaekit.export.runner.tables import Columns
from vaekit.runs import open as open_run

pa = pytest.importorskip("pyarrow")

ROWS = 200


def table():
    stream = np.random.default_rng(0)
    t = stream.normal(size=ROWS)
    day = dt.datetime(2024, 1, 1)
    columns = {
        "size": list(t + 0.5),
        "price": list(np.exp(1.5 * t).round(2) + 0.01),
        "visits": [int(v) for v in stream.poisson(np.exp(0.5 * t) * 3)],
        "flag": [bool(v) for v in t > 0],
        "kind": [("a", "b", "c")[i] for i in stream.integers(0, 3, ROWS)],
        "grade": [int(v) for v in stream.integers(1, 5, ROWS)],
        "when": [day + dt.timedelta(days=int(30 * v)) for v in t],
        "date": [(day + dt.timedelta(days=int(9 * v))).date() for v in t],
        "always": ["x"] * ROWS,
    }
    for i, name in enumerate(("size", "kind", "flag", "when", "visits")):
        columns[name] = [None if k % 11 == i else cell for k, cell in enumerate(columns[name])]
    return columns


@pytest.fixture(scope="module")
def columns():
    frame = pa.table(table())
    schema = Schema.found(frame, orders={"grade": [1, 2, 3, 4]})
    schema, _ = schema.with_holes(schema.encode(frame))
    return frame, schema, Columns(json.loads(json.dumps(_columns(schema))))


def test_rows_of_a_table_become_the_same_numbers(columns):
    frame, schema, own = columns
    expected = schema.encode(frame)
    assert expected.shape[1] > len(table())
    np.testing.assert_array_equal(own.encoded(frame.to_pylist()), expected)
    np.testing.assert_array_equal(own.encoded(table()), expected)


def test_a_structured_array_is_a_table(columns):
    _, schema, own = columns
    plain = {c.name: c.dtype for c in schema.columns if c.kind not in ("hole", "constant")}
    rows = np.zeros(3, [(name, "M8[us]" if t.startswith("Date") else "O") for name, t in plain.items()])
    for i, row in enumerate(pa.table(table()).to_pylist()[20:23]):
        for name in plain:
            rows[name][i] = np.datetime64("NaT") if plain[name].startswith("Date") and row[name] is None else row[name]
    np.testing.assert_array_equal(own.encoded(rows), schema.encode(pa.table(table()).slice(20, 3)))


def test_numbers_become_the_same_cells(columns):
    frame, schema, own = columns
    x = schema.encode(frame)
    x[:, : x.shape[1] - 5] += np.where(np.arange(ROWS) % 2 == 0, 0.0, 0.0)[:, None]
    x[:, 0] += 0.123456
    expected = schema.decode(x, "pyarrow").to_pylist()
    assert own.decoded(x) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "z"}, "no level 'z'"),
        ({"size": "tall"}, "holds numbers"),
        ({"visits": 1.5}, "whole"),
        ({"price": -1.0}, "above 0"),
        ({"when": "yesterday"}, "holds dates"),
        ({"when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}, "no time zone"),
    ],
)
def test_a_cell_that_its_column_cannot_hold_is_named(columns, change, words):
    frame, _, own = columns
    row = {**frame.to_pylist()[30], **change}
    with pytest.raises(ValueError, match=f"row 1: .*{words}"):
        own.encoded([frame.to_pylist()[30], row])


def test_a_missing_column_is_named(columns):
    _, _, own = columns
    with pytest.raises(ValueError, match="'size'"):
        own.encoded([{"kind": "a"}])


def test_the_runner_is_one_file_of_its_own():
    source = runner_source()
    compile(source, "runner.py", "exec")
    assert "import vaekit" not in source
    assert "from vaekit" not in source
    assert "torch" not in source
    assert all(len(line) <= 120 for line in source.splitlines())


_ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "vaekit", "pandas", "scipy", "pyarrow", "pydantic"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import numpy as np
from runner import Model

m = Model(sys.argv[1])
rows = np.arange(30, dtype=np.float64).reshape(10, 3) / 10
found = m.score(rows, num_samples=20)
assert np.isfinite(found["log_p"]).all(), found
print(m.encode(rows).shape, m.decode(m.encode(rows)).shape, m.sample(4).shape, "torch" in sys.modules)
"""


@pytest.mark.slow
def test_the_runner_works_without_torch(tmp_path):
    import vaekit as vk
    from vaekit import engine
    from vaekit.export import export

    with engine.seeded(0):
        model, _ = vk.presets.vae(3, latent_dim=2, hidden=(8,), likelihood="normal")
    vk.save(model, tmp_path / "run")
    export(open_run(tmp_path / "run"), tmp_path / "out")
    command = [sys.executable, "-I", "-c", _ALONE, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["(10,", "2)", "(10,", "3)", "(4,", "3)", "False"], done.stderr


@pytest.mark.slow
def test_a_table_in_the_runner_and_in_the_run(tmp_path):
    from vaekit import cli
    from vaekit.export import export

    cells = table()
    rows = [{name: cells[name][i] for name in ("size", "price", "kind", "grade")} for i in range(ROWS)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    assert cli.run(["fit", str(path), "-o", str(tmp_path / "run"), "max_epochs=30", "--quiet"]) == 0
    run = open_run(tmp_path / "run")
    assert not export(run, tmp_path / "out").left_out
    spec = importlib.util.spec_from_file_location("table_runner", tmp_path / "out" / "runner.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, some = module.Model(tmp_path / "out"), rows[:40]
    read = run.rows(some)
    np.testing.assert_allclose(model.encode(some), run.model.encode(read), rtol=1e-3, atol=1e-4)
    own, expected = model.score(some, num_samples=300), run.score(read, num_samples=300).to_frame()
    error = np.hypot(own["stderr"], expected["stderr"].to_numpy())
    assert (np.abs(own["log_p"] - expected["log_p"].to_numpy()) <= 4 * error + 1e-4).mean() >= 0.95
    filled, others = model.impute(some, num_samples=2000), run.impute(read, num_samples=2000).to_frame()
    for i, row in enumerate(some):
        assert {name: filled[i][name] for name, cell in row.items() if cell is not None} == {
            name: cell for name, cell in row.items() if cell is not None
        }
        if row["size"] is None:
            assert abs(filled[i]["size"] - others["size"][i].as_py()) < 0.3
    assert set(model.sample(3)[0]) == {"size", "price", "kind", "grade"}


@pytest.mark.slow
def test_a_model_under_contexts_is_asked_by_their_words(tmp_path):
    """Scores and codes under labels and days are those of the run, up to the noise of z."""
    import pandas as pd

    from vaekit.data import Reading
    from vaekit.data.by_schema import load_by_schema
    from vaekit.export import export
    from vaekit.runs import fit_rows

    stream = np.random.default_rng(0)
    days, ages = stream.choice(["mon", "tue"], 80), stream.integers(20, 60, 80)
    frame = pd.DataFrame({"a": stream.normal(size=80) + (days == "mon"), "b": stream.normal(size=80) + ages / 40})
    frame = frame.assign(day=days, age=ages)
    rows = load_by_schema(frame, reading=Reading(context=("day", "age")))
    given = {"max_epochs": 2, "latent_dim": 1, "hidden": (4,), "compile": "off", "preset": "conditional-vae"}
    run = fit_rows(rows, given)
    run.save(tmp_path / "run")
    found = export(open_run(tmp_path / "run"), tmp_path / "out")
    assert set(found.graphs) >= {"encoder", "score"}
    spec = importlib.util.spec_from_file_location("runner_of_contexts", tmp_path / "out" / "runner.py")
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    model = runner.Model(tmp_path / "out")
    some = frame.iloc[:6]
    cells, context = some[["a", "b"]].to_dict("records"), some[["day", "age"]].to_dict("records")
    expected = run.score(run.rows(some), num_samples=500).values
    answers = [
        model.score(cells, num_samples=500, context=words) for words in (context, some[["day", "age"]].to_dict("list"))
    ]
    np.testing.assert_array_equal(answers[0]["log_p"], answers[1]["log_p"])
    error = np.hypot(answers[0]["stderr"], expected[:, 1])
    assert (np.abs(answers[0]["log_p"] - expected[:, 0]) <= 4 * error + 1e-4).all()
    codes = model.encode(cells, context=context)
    np.testing.assert_allclose(codes, run.encode(run.rows(some)).values, rtol=1e-4, atol=1e-5)
    one = model.encode(cells, context={"day": "mon", "age": 30})
    other = run.encode(run.rows(some.assign(day="mon", age=30))).values
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"column 'day' has no level 'sun'"):
        model.encode(cells, context={"day": "sun", "age": 30})
    with pytest.raises(ValueError, match="asked under contexts"):
        model.encode(cells)
