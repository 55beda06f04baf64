"""Drift of new rows from those of a fit: no false alarms, and what is said of rows that differ."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaekit import cli, runs
from vaekit.columns import LEVELS, Column, described
from vaekit.data import Dataset
from vaekit.errors import DriftWarning
from vaekit.evaluation.health import drift
from vaekit.evaluation.health.drift import ALPHA, drifted
from vaekit.serve.drift import DriftWatch

FAST = ["max_epochs=2", "hidden=8", "latent_dim=2", "compile=off", "--quiet"]
NAMES = ("normal", "skewed", "count", "bit", "level", "many", "rounded", "spiky")


def rows_of(rng, n):
    """Columns of many kinds, some with holes; numbers that repeat, levels that are rare."""
    x = np.column_stack(
        [
            rng.normal(size=n),
            np.exp(rng.normal(size=n)),
            rng.poisson(3, n),
            rng.random(n) < 0.1,
            rng.choice(5, n, p=[0.5, 0.3, 0.15, 0.04, 0.01]),
            rng.integers(0, 60, n),
            np.round(rng.normal(size=n), 1),
            np.where(rng.random(n) < 0.7, 0, rng.gamma(2, 3, n)),
        ]
    ).astype(float)
    x[rng.random(n) < 0.1, 1] = np.nan
    x[rng.random(n) < 0.5, 4] = np.nan
    x[rng.random(n) < 0.002, 0] = np.nan
    return x


def about(x):
    return described([x], len(x), (8,), names=NAMES, levels=("bit", "level", "many"))


def found(x, new):
    return drifted(about(x), [new], len(new), 8)


@pytest.mark.parametrize(("num_before", "num_new"), [(30, 20), (30, 300), (300, 30), (300, 300), (2000, 100)])
def test_fresh_rows_of_the_same_table_raise_no_alarm(num_before, num_new):
    """In 1,500 pairs of tables at most 1%; ALPHA is a bound on it, and no pair is expected to be beyond it by much."""
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng([num_before, num_new, seed])
        alarms += bool(found(rows_of(rng, num_before), rows_of(rng, num_new)))
    assert alarms <= stats.binom.ppf(0.999, 300, ALPHA)
    assert alarms < 3  # 1%


@pytest.mark.parametrize("values", [lambda r, n: r.normal(size=n), lambda r, n: r.poisson(2, n).astype(float)])
def test_p_values_of_numbers_are_those_of_two_samples_or_larger(values):
    """The bound is beside the exact p-value of the two-sample Kolmogorov-Smirnov test, which sees every value."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = values(rng, 200), values(rng, 150) + seed / 60
        levels = (float(a.min()), *np.quantile(a, LEVELS[1:-1]).tolist(), float(a.max()))
        shift = drift._of_numbers(Column("a", levels, None, 0.0, False, 0.0), 200, b, 0, lambda _, v: str(v))
        exact = stats.ks_2samp(a, b)
        assert shift.size <= exact.statistic + 1 / 200
        assert shift.p_value >= exact.pvalue * 0.5 - 1e-12


def test_holes_are_counted_exactly():
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, m = rng.integers(20, 200, 2)
        a, b = rng.integers(0, n + 1), rng.integers(0, m + 1)
        ours = drift._of_holes(int(a), int(n), int(b), int(m)).p_value
        law = stats.hypergeom(n + m, a + b, m)
        assert ours == pytest.approx(min(1, 2 * min(law.cdf(b), law.sf(b - 1))), rel=1e-6, abs=1e-12)


def test_levels_are_held_by_the_chi_square_test():
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, now = rng.multinomial(400, [0.5, 0.3, 0.2]), rng.multinomial(150, [0.4, 0.4, 0.2])
        column = Column("a", (0.0,) * 9, 3, 0.0, True, 0.0, None, (0.0, 1.0, 2.0), tuple(before / 400))
        there = np.repeat([0.0, 1.0, 2.0], now)
        shift = drift._of_levels(column, 400, there, 0, lambda _, v: str(v))
        assert shift.p_value == pytest.approx(stats.chi2_contingency([before, now], correction=False).pvalue, rel=1e-9)
        assert shift.size == pytest.approx(np.abs(before / 400 - now / 150).sum() / 2)
    pooled = drift._pooled(np.array([[300.0, 60, 3, 1], [100, 25, 0, 1]]))
    assert pooled.tolist() == [[300, 64], [100, 26]]  # the rare ones are too few for a group of their own


def test_what_has_drifted_is_said_with_numbers():
    rng = np.random.default_rng(0)
    before, new = rows_of(rng, 2000), rows_of(rng, 500)
    shifted = new.copy()
    shifted[:, 1] *= 1000
    shifted[:, 4] = np.where(rng.random(500) < 0.6, 7, new[:, 4])
    shifted[::2, 0] = np.nan
    shifted[:, 6] *= 4
    said = found(before, shifted)
    assert said[0].startswith("skewed: median ")
    assert said[0].endswith(f"was {np.nanmedian(before[:, 1]):.4g}")
    assert any(line.startswith("level: 7 in ") and line.endswith("of the rows, was 0%") for line in said)
    assert "normal: empty in 50% of the rows, was 0%" in said
    assert any(line.startswith("rounded: 90% of the rows from -") for line in said)
    assert len(said) == 4


def test_few_rows_and_small_differences_say_nothing():
    rng = np.random.default_rng(0)
    before = rows_of(rng, 5000)
    assert found(before, rows_of(rng, 19) * 1000) == []
    assert found(before[:19], rows_of(rng, 500) * 1000) == []
    many = rows_of(rng, 200_000)
    many[:, 0] += 0.1  # sure, and small
    assert found(before, many) == []
    many[:, 0] += 0.4
    assert [line.partition(":")[0] for line in found(before, many)] == ["normal"]


def test_empty_columns_then_and_now():
    rng = np.random.default_rng(0)
    before, new = rows_of(rng, 500), rows_of(rng, 200)
    before[:, 0] = np.nan
    new[:, 3] = np.nan
    assert found(before, new) == ["normal: empty in 0% of the rows, was 100%", "bit: empty in 100% of the rows, was 0%"]


# --- Runs ------------------------------------------------------------------------------------------------------------


def people(n, seed, income=8.0, share=0.6, year=2024):
    rng = np.random.default_rng(seed)
    days = pd.Timestamp(f"{year}-01-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    return pd.DataFrame(
        {
            "town": np.where(rng.random(n) < share, "Bern", "Thun"),
            "income": np.round(np.exp(rng.normal(income, 0.6, n))),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(45, 12, n).round(1)),
            "since": days,
            "rare": rng.choice(["a", "b", *[f"c{i}" for i in range(9)]], n, p=[0.5, 0.46, *[0.04 / 9] * 9]),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    people(400, 0).to_csv(folder / "t.csv", index=False)
    assert cli.run(["fit", str(folder / "t.csv"), "-o", str(folder / "r"), *FAST]) == 0
    return runs.open(folder / "r")


def test_fresh_rows_are_read_in_silence(run):
    for seed in range(1, 20):
        run.rows(people(200, seed))  # warnings are errors


def test_a_run_names_three_columns_at_most(run, tmp_path, capsys):
    new = people(200, 1, income=9.5, share=0.1, year=2025).assign(rare="new")
    new.loc[::2, "age"] = None
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(DriftWarning) as told:
        run.rows(tmp_path / "new.csv")
    (said,) = [str(warning.message) for warning in told]
    assert said.startswith(f"{tmp_path / 'new.csv'} has drifted from what {run.folder} was fitted to: ")
    assert "since: median 2025-02-1" in said
    assert said.count(":") - str(tmp_path).count(":") == 4
    assert "(and 2 more columns)" in said
    for command in (["score"], ["encode"], ["evaluate", "--num-samples", "5"]):
        out = tmp_path / ("o.json" if command[0] == "evaluate" else "o.npy")
        words = [command[0], str(run.folder), str(tmp_path / "new.csv"), "-o", str(out), *command[1:]]
        assert cli.run(words) == 0
        assert capsys.readouterr().err.count("vaekit: warning: " + said) == 1
        assert cli.run([command[0], str(run.folder), "-o", str(out), *command[1:]]) == 0
        assert "drifted" not in capsys.readouterr().err


def test_cells_are_named_as_the_table_has_them(run):
    with pytest.warns(DriftWarning, match="'Bern' in 1[0-9]% of the rows, was [56][0-9]%"):
        run.rows(people(300, 2, share=0.15))
    with pytest.warns(DriftWarning, match=r"rare: 'other' in 100% of the rows, was [0-9]%"):
        run.rows(people(300, 3).assign(rare="zz"))
    with pytest.warns(DriftWarning, match=r"income: median \d\d,\d\d\d, was [23],\d\d\d"):
        run.rows(people(300, 4, income=10))


def test_runs_that_remember_no_levels_read_as_before(run, tmp_path):
    import json
    import shutil

    shutil.copytree(run.folder, tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    tree = json.loads(path.read_text())
    for column in tree["metadata"]["training_rows"]["columns"]:
        del column["values"], column["shares"]
    path.write_text(json.dumps(tree))
    runs.open(tmp_path / "old").rows(people(200, 5))
    del tree["metadata"]["training_rows"]
    path.write_text(json.dumps(tree))
    runs.open(tmp_path / "old").rows(people(200, 5, income=12))


def test_runs_in_memory_say_nothing(run):
    assert len(run.in_memory().rows(people(100, 6, income=12))) == 100


def test_rows_of_other_kinds_are_left_alone(run):
    x = run.data.columns_schema.encode(people(100, 6, income=12))
    rows = run.rows(Dataset(x))
    assert len(rows) == 100


def test_the_watch_of_a_service_sees_drift_in_what_came_last():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 2))
    watch = DriftWatch(described([rows], len(rows), (2,), names=("a", "b")))
    assert watch.drift() == {}
    num_rows, num_strange = watch.saw(Dataset(rng.normal(size=(200, 2))))
    assert num_rows == 200
    assert num_strange <= 4
    for _ in range(4):
        watch.saw(Dataset(rng.normal(size=(200, 2))))
    assert max(watch.drift().values()) < 0.08
    # b moves by one standard deviation: the median passes the 84% quantile, and F(0) falls from 0.5 to 0.16.
    for _ in range(10):
        watch.saw(Dataset(rng.normal((0, 1), size=(200, 2))))
    now = watch.drift()
    assert now["a"] < 0.08
    assert now["b"] == pytest.approx(0.38, abs=0.06)
    assert watch.saw(Dataset(np.array([[0.0, 50.0]]))) == (1, 1)
