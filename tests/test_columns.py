"""What a set of rows is like: quantiles, repeated values, copies, and rows that are unlike others."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn import datasets

from vaekit.columns import LEVELS, MAX_COLUMNS, columns_of, described, misfits

RNG = np.random.default_rng


def about(x, **options):
    return described([x], len(x), x.shape[1:], **options)


def strange(x, y, **options):
    """Share of the rows of y that are strange to x."""
    found = about(x, **options)
    return misfits(found, columns_of(y, per_element=found.per_element))[0].mean()


def test_a_description_has_the_quantiles_of_each_column_and_survives_json():
    x = RNG(0).normal(size=(1001, 3))
    x[:100, 2] = np.nan
    found = about(x, names=("a", "b", "c"))
    for i, column in enumerate(found.columns):
        np.testing.assert_allclose(column.quantiles, np.nanquantile(x[:, i], LEVELS), rtol=1e-12)
    assert [c.missing for c in found.columns] == pytest.approx([0, 0, 100 / 1001])
    assert (found.num_rows, found.num_chosen, found.names) == (1001, 1001, ("a", "b", "c"))
    assert found.repeated == {}
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    empty = about(np.full((5, 2), np.nan))
    assert empty.columns[0].quantiles == ()
    json.dumps(dataclasses.asdict(empty), allow_nan=False)


def test_pieces_of_any_size_make_one_description_and_many_rows_keep_their_extremes():
    x = RNG(0).normal(size=(25_000, 4))
    x[12_345, 1] = 99.0
    whole = about(x)
    assert described(np.array_split(x, 7), len(x), (4,)) == whole
    assert whole.num_chosen == 10_000
    assert whole.columns[1].quantiles[-1] == 99.0


def test_columns_without_a_bound_on_their_density_are_named():
    r = RNG(0).normal(size=(500, 4))
    rounded = np.round(RNG(1).normal(size=500), 1)
    x = np.column_stack(
        [
            r,
            np.full(500, 0.7),
            RNG(2).integers(0, 2, 500),
            np.float32(r[:, 0]) * 1.8 + 32,
            np.where(r[:, 1] < 0, 0.0, r[:, 1]),
            rounded,
            r[:, 2] + 0.05 * r[:, 3],
        ]
    )
    assert about(x, names=tuple("abcdefghij")).repeated == {
        4: "is constant",
        5: "has 2 values",
        6: "is a copy of a",
        7: f"has one value in {100 * np.mean(r[:, 1] < 0):.0f}% of the rows",
    }


@pytest.mark.parametrize("num_rows", [25, 40, 60, 400])
def test_a_spike_of_a_continuous_column_is_no_few_values_however_few_the_rows(num_rows):
    rest = RNG(4).gamma(2, size=num_rows)
    values = np.where(np.arange(num_rows) % 10 == 0, rest, 0.0)
    share = 100 * np.mean(values == 0)
    assert about(values[:, None], names=("z",)).repeated == {0: f"has one value in {share:.0f}% of the rows"}


@pytest.mark.parametrize("load", [datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer])
def test_measurements_are_not_taken_for_repeated_values(load):
    assert about(load().data).repeated == {}


def test_of_images_and_long_rows_four_numbers_are_described():
    x = RNG(0).integers(0, 256, (50, 3, 8, 8)).astype(np.uint8)
    found = about(x, is_image=True)
    assert [c.name for c in found.columns][:2] == ["least element", "greatest element"]
    assert (found.per_element, found.names, found.repeated) == (False, None, {})
    assert found.columns[2].quantiles[4] == pytest.approx(np.median(x.reshape(50, -1).mean(1)))
    assert len(about(np.zeros((30, MAX_COLUMNS + 1))).columns) == 4
    assert strange(x, x // 8, is_image=True) == 1.0  # pictures that are far too dark
    assert strange(x, x[:, :, ::-1], is_image=True) == 0.0
    holes = x.reshape(50, -1).astype(float)
    holes[:, ::3] = np.nan
    holes[7] = np.nan
    made = columns_of(holes, per_element=False)
    kept = np.delete(x.reshape(50, -1), np.s_[::3], 1)
    np.testing.assert_allclose(made[0], [kept[0].min(), kept[0].max(), kept[0].mean(), kept[0].std()])
    assert np.isnan(made[7, :3]).all()


DRAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "log-normal": lambda rng, shape: np.exp(rng.normal(size=shape)),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "counts": lambda rng, shape: rng.poisson(0.4, shape).astype(float),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("num_rows", "num_columns"), [(30, 3), (200, 3), (315, 34), (100, 300)])
def test_rows_of_the_same_kind_are_not_strange(name, num_rows, num_columns):
    """On average over data sets fewer than 5% are, whatever the tails, and however many columns there are."""
    draw = DRAWS[name]
    shares = [
        strange(draw(RNG(seed), (num_rows, num_columns)), draw(RNG(1000 + seed), (200, num_columns)))
        for seed in range(10)
    ]
    assert np.mean(shares) < 0.05


@pytest.mark.parametrize("num_rows", [30, 200, 5000])
def test_rows_elsewhere_are_strange(num_rows):
    draw = DRAWS["normal"]
    x, y = draw(RNG(0), (num_rows, 3)), draw(RNG(1), (100, 3))
    assert strange(x, y + 5) > 0.75
    assert strange(x, y + 20) == 1.0
    assert strange(x, y + 1) < 0.05
    y[:, 1] *= 1000  # one column in another unit
    assert strange(x, y) > 0.9


def test_fractions_among_whole_numbers_are_strange_and_holes_are_not():
    x = RNG(0).poisson(30, (200, 2)).astype(float)
    y = x[:50].copy()
    assert strange(x, y) == 0
    y[:, 0] = np.nan
    assert strange(x, y) == 0
    assert strange(x, x[:50] + 0.5) == 1
    assert strange(x[:50], x[:50] + 0.5) == 0  # too few to say that all are whole
