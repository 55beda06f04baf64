"""Scores of disentanglement: perfect, useless and rotated codes, hand-made matrices, and direct definitions."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from torch.distributions import Categorical, Independent, Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation import (
    beta_vae_score,
    dci,
    dci_scores,
    disentanglement,
    factor_vae_score,
    mig,
    modularity,
    sap,
)
from vaekit.evaluation.factors.codes import as_table, binned, bootstrap_stderr, mutual_information
from vaekit.evaluation.factors.interventions import _Groups
from vaekit.evaluation.factors.prediction import above_chance, over_factors

SCORES = [mig, sap, dci, factor_vae_score, beta_vae_score, modularity]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def grid(repeats=8):
    """All combinations of factors with 3, 4 and 5 values, each several times: independent by construction."""
    values = np.stack(np.meshgrid(range(3), range(4), range(5), indexing="ij"), -1).reshape(-1, 3)
    return np.tile(values, (repeats, 1))


def rotated(codes, degrees=45):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    scaled = codes / codes.std(0)
    return scaled @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


# --- Oracles for all scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", ["exact", "scaled and permuted", "with constants"])
def test_a_code_per_factor_scores_1(score, kind):
    factors = grid()
    codes = factors.astype(float)
    if kind == "scaled and permuted":
        codes = codes[:, [2, 0, 1]] * [1e3, -1e-3, 1.0] + 5
    if kind == "with constants":
        codes = np.concatenate([np.full((len(codes), 2), 0.1), codes], axis=1)
    # Modularity is a mean over codes: one that knows nothing counts 0.
    expected = 3 / 5 if kind == "with constants" and score is modularity else 1
    assert score(codes, factors, generator=seeded()).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("score", SCORES)
def test_a_little_noise_takes_little(score):
    factors = grid(40)
    codes = factors + 1e-3 * np.random.default_rng(0).normal(size=factors.shape)
    assert 0.97 < score(codes, factors, generator=seeded()).value <= 1


@pytest.mark.parametrize("score", SCORES)
def test_constant_codes_score_0_or_chance(score):
    factors = grid(2)
    for codes in (np.zeros((len(factors), 4)), np.full((len(factors), 2), 0.1)):
        value = score(codes, factors, generator=seeded()).value
        assert value == pytest.approx(1 / 3 if score is beta_vae_score else 0, abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_values_and_errors_lie_where_they_must(score):
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 3, (120, 2))
    for codes in (rng.normal(size=(120, 1)), rng.normal(size=(120, 2, 3)), factors + rng.normal(size=(120, 2))):
        found = score(codes, factors, generator=seeded())
        assert 0 <= found.value <= 1
        assert found.stderr >= 0 or "stderr_reason" in found.details


@pytest.mark.parametrize("score", SCORES)
def test_repeats_with_a_seed_and_leaves_torchs_stream_alone(score):
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 3, (100, 2))
    codes, state = factors + rng.normal(size=(100, 2)), torch.get_rng_state()
    first = score(codes, factors, generator=seeded())
    again = score(torch.as_tensor(codes), torch.as_tensor(factors).float(), generator=seeded())
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_equal(again.stderr, first.stderr)
    np.testing.assert_equal(again.details, first.details)
    other = score(codes, factors, generator=seeded(1))
    assert (other.value, other.stderr) != (first.value, first.stderr)


@pytest.mark.parametrize("score", [mig, sap, dci, modularity])
def test_rotation_lowers_every_score_of_axes(score):
    codes, factors = grid(20).astype(float), grid(20)
    straight = score(codes, factors, generator=seeded()).value
    assert score(rotated(codes), factors, generator=seeded()).value < straight - 0.2


def test_a_rotation_hides_factors_from_the_vote_of_one_code():
    codes, factors = grid(20).astype(float), grid(20)
    assert factor_vae_score(rotated(codes), factors, generator=seeded()).value < 0.95
    assert beta_vae_score(rotated(codes, 30), factors, generator=seeded()).value > 0.95, "lenient, as documented"


# --- Nothing to know, and nothing to know it from --------------------------------------------------------------------


def balanced(num_rows, values=7):
    """Two factors, the first of them balanced but for what does not divide; the second drawn beside it."""
    rng = np.random.default_rng(num_rows)
    return np.stack([np.arange(num_rows) % values, rng.integers(0, values, num_rows)], axis=1)


@pytest.mark.parametrize("num_rows", [20, 49, 50, 99, 100, 333, 500, 998, 999, 1000, 1001, 2048])
@pytest.mark.parametrize("values", [2, 3, 5, 7, 10])
def test_dead_codes_know_nothing_at_any_number_of_rows(num_rows, values):
    factors = balanced(num_rows, values)
    for constant in (0.0, 0.1, -3.3, 1e9):
        dead = np.full((num_rows, 2), constant)
        found = modularity(np.hstack([factors[:, :1], dead]), factors, num_bootstrap=2, generator=seeded())
        information = found.details["mutual_information"]
        assert information[1:].tolist() == [[0, 0], [0, 0]]
        share = information[0, 1] / information[0, 0]
        assert found.value == pytest.approx((1 - share**2) / 3, rel=1e-12)


@pytest.mark.parametrize("num_rows", [60 * n for n in (1, 2, 3, 7, 11, 13)])
def test_one_perfect_code_and_two_dead_ones_have_modularity_a_third(num_rows):
    factors = grid(num_rows // 60)
    codes = np.hstack([factors[:, :1], np.full((num_rows, 1), 0.1), np.zeros((num_rows, 1))])
    assert modularity(codes, factors, num_bootstrap=2).value == pytest.approx(1 / 3, abs=1e-15)


def test_counts_that_factorise_have_no_information_at_all():
    for repeats in (1, 3, 7):
        factors = grid(repeats)
        information, entropies = mutual_information(binned(factors.astype(float), 20), factors)
        assert (information[~np.eye(3, dtype=bool)] == 0).all()
        np.testing.assert_allclose(np.diag(information), entropies, rtol=1e-13)
        np.testing.assert_allclose(entropies, np.log([3, 4, 5]), rtol=1e-13)
    same = mutual_information(np.zeros((49, 1), int), np.zeros((49, 1), int))
    assert (same[0].tolist(), same[1].tolist()) == ([[0]], [0])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_does_not_make_a_dead_code_informative(score, dtype):
    """A code of 0.1 whose last bits follow a factor, beside one perfect code: as if it were a plain constant."""
    factors = grid(4)
    rounded = (np.float32(0.1) + factors[:, 1].astype(np.float32) * np.finfo(np.float32).eps / 8).astype(dtype)
    assert len(np.unique(rounded)) > 1
    codes = np.stack([factors[:, 0].astype(dtype), rounded, np.zeros(len(factors), dtype)], axis=1)
    plain = codes.copy()
    plain[:, 1] = 0.1
    assert codes.dtype == dtype
    found, expected = (score(part, factors, generator=seeded()) for part in (codes, plain))
    assert found.value == expected.value
    if score is modularity:
        assert found.value == pytest.approx(1 / 3, abs=1e-15)


def test_constant_codes_have_no_importance_for_a_linear_classifier():
    """Beside an intercept a constant column is one more intercept, whose coefficient is not 0."""
    factors = grid(4)
    codes = np.hstack([factors, np.full((len(factors), 1), 7.0)])
    score = dci(codes, factors, classifier=LogisticRegression(), generator=seeded())
    assert score.details["importance"][3].tolist() == [0, 0, 0]
    assert score.details["disentanglement_of_codes"][3] == 0


def test_importances_of_any_size_and_rounding_in_place_of_none():
    rows = np.array([[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    expected = dci_scores(rows)
    for scale in (1e-300, 1e-5, 1e300):
        found = dci_scores(rows * scale)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12)
    noisy = dci_scores(rows + np.array([[0, 0], [0, 0], [1e-17, 0]]))
    assert noisy["disentanglement_of_codes"][2] == 0
    assert noisy["disentanglement"] == pytest.approx(expected["disentanglement"])
    assert noisy["completeness"] == pytest.approx(expected["completeness"])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e200])
def test_the_size_of_codes_means_nothing(score, size):
    factors = grid(4)
    found = score(factors * size, factors, generator=seeded())
    assert found.value == pytest.approx(1, abs=1e-9)


def test_a_predictor_of_one_value_is_at_chance_exactly():
    for num_rows in range(20, 120, 7):
        labels = np.arange(num_rows) % 7
        for value in range(7):
            assert above_chance((labels == value)[:, None], labels, np.ones(num_rows)).tolist() == [0]
        assert above_chance(np.ones((num_rows, 1), bool), labels, np.ones(num_rows)).tolist() == [1]


def test_a_resample_without_the_rare_value_of_a_factor_says_nothing_of_it():
    """A perfect code scores 1 in every resample that holds the rare value, and so has no error."""
    factors = np.zeros((60, 1), int)
    factors[:3] = 1
    resamples = [np.random.default_rng(seed).integers(60, size=60) for seed in range(20)]
    assert any((rows >= 3).all() for rows in resamples), "some resamples of so many have none"
    for seed in range(4):
        found = mig(factors.astype(float), factors, num_bootstrap=60, generator=seeded(seed))
        assert (found.value, found.stderr) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    both = np.array([0.25, 1.0])
    labels = np.stack([np.zeros(6, int), np.arange(6)], axis=1)
    assert over_factors(both, labels, np.ones(6)) == 1
    assert over_factors(both, np.arange(12).reshape(6, 2), np.ones(6)) == 0.625
    assert math.isnan(over_factors(both, labels, np.arange(6) == 2))


def test_a_factor_that_does_not_vary_among_the_rows_to_judge_by_is_refused():
    factors = np.zeros((40, 1), int)
    factors[0] = 1
    for seed in range(4):
        with pytest.raises(DataError, match="one value only among half of the rows"):
            sap(factors.astype(float), factors, generator=seeded(seed))


# --- Information -----------------------------------------------------------------------------------------------------


def test_information_is_that_of_counts():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 4, (300, 2))
    codes = factors @ rng.normal(size=(2, 3)) + rng.normal(size=(300, 3))
    bins = binned(codes, 7)
    edges = [np.linspace(c.min(), c.max(), 8) for c in codes.T]
    assert np.array_equal(bins, np.stack([np.digitize(c, e[1:-1]) for c, e in zip(codes.T, edges, strict=True)], 1))
    information, entropies = mutual_information(bins, factors)
    for i in range(3):
        for j in range(2):
            assert information[i, j] == pytest.approx(mutual_info_score(bins[:, i], factors[:, j]), abs=1e-12)
    p = np.bincount(factors[:, 0]) / 300
    assert entropies[0] == pytest.approx(-(p * np.log(p)).sum())
    weights = rng.integers(0, 4, 300)
    repeated = mutual_information(np.repeat(bins, weights, 0), np.repeat(factors, weights, 0))
    np.testing.assert_allclose(mutual_information(bins, factors, weights.astype(float))[0], repeated[0], atol=1e-12)


def test_mig_and_modularity_are_their_formulas():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 4, (300, 3))
    codes = factors @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(300, 4))
    information, entropies = mutual_information(binned(codes, 20), factors)
    gaps = [(sorted(information[:, f])[-1] - sorted(information[:, f])[-2]) / entropies[f] for f in range(3)]
    assert mig(codes, factors).value == pytest.approx(np.mean(gaps))
    shares = []
    for row in information:
        template = np.where(row == row.max(), row.max(), 0)
        shares.append(1 - np.square(row - template).sum() / (row.max() ** 2 * 2))
    assert modularity(codes, factors).value == pytest.approx(np.mean(shares))


def test_mig_sees_duplicates_and_modularity_sees_mixtures():
    factors = grid()
    twice = np.repeat(factors, 2, axis=1).astype(float)
    assert mig(twice, factors).value == pytest.approx(0, abs=1e-12)
    assert modularity(twice, factors).value == pytest.approx(1)
    single = factors[:, :1] + 3.0 * factors[:, 1:2]  # two factors of 3 and 4 values in one code, the third nowhere
    expected = 1 - (math.log(3) / math.log(4)) ** 2 / 2
    assert modularity(single, factors).value == pytest.approx(expected)


def test_bootstrap_error_is_the_spread_of_repeated_values():
    x = np.random.default_rng(0).normal(size=400)
    mean = bootstrap_stderr(lambda w: float(w @ x / w.sum()), 400, 400, np.random.default_rng(1))
    assert mean == pytest.approx(x.std() / 20, rel=0.15)

    def draw(seed):
        rng = np.random.default_rng(seed)
        factors = rng.integers(0, 3, (1_000, 2))
        return mig(factors + 0.8 * rng.normal(size=(1_000, 2)), factors, generator=seeded(seed))

    scores = [draw(s) for s in range(40)]
    assert np.mean([s.stderr for s in scores]) == pytest.approx(np.std([s.value for s in scores]), rel=0.3)


# --- Prediction ------------------------------------------------------------------------------------------------------


def test_accuracy_above_chance_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    guess = np.where(rng.random(200) < 0.5, truth, guess)
    ours = above_chance((guess == truth)[:, None], truth, np.ones(200))
    assert ours[0] == pytest.approx(balanced_accuracy_score(truth, guess, adjusted=True))
    assert above_chance(np.ones((5, 2)), np.zeros(5, int), np.ones(5)).tolist() == [0, 0]


def test_sap_is_the_gap_between_the_two_best_codes():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 2, (4_000, 1))
    codes = factors + np.array([0.5, 1.0, 3.0]) * rng.normal(size=(4_000, 3))
    score = sap(codes, factors, generator=seeded())
    # Thresholding at 1/2 is right with probability Phi(1 / 2 sigma): on the scale from chance erf(1 / sqrt(8) sigma).
    exact = [math.erf(1 / (math.sqrt(8) * sigma)) for sigma in (0.5, 1.0, 3.0)]
    np.testing.assert_allclose(score.details["scores"][:, 0], exact, atol=0.05)
    assert abs(score.value - (exact[0] - exact[1])) < 4 * score.stderr
    assert 0.005 < score.stderr < 0.03


def test_dci_of_matrices_made_by_hand():
    spread = dci_scores(np.repeat(np.eye(5), 2, axis=0) / 2)
    assert spread["disentanglement"] == pytest.approx(1)
    assert spread["completeness"] == pytest.approx(1 - math.log(2) / math.log(10))
    assert spread["completeness"] == pytest.approx(0.699, abs=5e-4)
    shared = dci_scores(np.kron(np.eye(2), np.ones((1, 2))))  # two codes, each for two of four factors
    assert shared["disentanglement"] == pytest.approx(0.5)
    assert shared["completeness"] == pytest.approx(1)
    uniform = dci_scores(np.ones((4, 3)))
    assert (uniform["disentanglement"], uniform["completeness"]) == pytest.approx((0, 0))
    dead = dci_scores(np.concatenate([np.eye(3), np.zeros((2, 3))]))
    assert (dead["disentanglement"], dead["completeness"]) == pytest.approx((1, 1))
    assert dead["disentanglement_of_codes"].tolist() == [1, 1, 1, 0, 0]
    weighted = dci_scores(np.array([[3.0, 0.0], [0.5, 0.5]]))
    assert weighted["disentanglement"] == pytest.approx(3 / 4)
    none = dci_scores(np.zeros((3, 2)))
    assert (none["disentanglement"], none["completeness"]) == (0, 0)
    assert dci_scores(np.ones((1, 1)))["completeness"] == 1


def test_predictions_are_judged_by_rows_held_out():
    rng = np.random.default_rng(0)
    noise, factors = rng.normal(size=(300, 6)), rng.integers(0, 3, (300, 2))
    assert sap(noise, factors, generator=seeded()).details["scores"].max() < 0.2
    assert dci(noise, factors, generator=seeded()).details["informativeness"] < 0.2


def test_dci_tells_its_three_questions_apart():
    factors = grid(10)
    halves = np.repeat(factors, 2, axis=1) + 0.6 * np.random.default_rng(0).normal(size=(len(factors), 6))
    score = dci(halves, factors, generator=seeded())
    assert score.value > 0.6
    assert score.details["completeness"] < 0.7
    assert 0.4 < score.details["informativeness"] < 0.95
    assert math.isnan(score.stderr)
    assert "anew" in score.details["stderr_reason"]
    np.testing.assert_allclose(score.details["importance"].sum(0), 1)
    linear = dci(factors.astype(float), factors, classifier=LogisticRegression(), generator=seeded())
    assert linear.value > 0.8
    with pytest.raises(ConfigError, match="KNeighborsClassifier has neither"):
        dci(factors.astype(float), factors, classifier=KNeighborsClassifier())


# --- Groups ----------------------------------------------------------------------------------------------------------


def test_groups_hold_one_value_and_leave_single_rows_out():
    factors = np.array([[3], [7], [3], [9], [7], [3]] * 1 + [[11]] * 20)
    table = as_table(np.arange(26.0)[:, None], factors)
    groups, rng = _Groups.of(table, 0), np.random.default_rng(0)
    batches = groups.batches(300, 5, rng)
    values = factors[batches, 0]
    assert bool((values == values[:, :1]).all())
    assert set(values[:, 0]) == {3, 7, 11}, "9 occurs once"
    counts = [int((values[:, 0] == v).sum()) for v in (3, 7, 11)]
    assert min(counts) > 70, "values are drawn alike, whatever their frequency"
    assert set(batches[values == 3]) == {0, 2, 5}
    first, second = groups.pairs(100, 4, rng)
    assert bool((factors[first] == factors[second]).all())
    assert bool((first != second).all())
    with pytest.raises(DataError, match="no value of factor 0 occurs twice"):
        _Groups.of(as_table(np.arange(20.0), np.arange(20)[:, None]), 0)


def test_votes_and_differences_point_to_the_fixed_factor():
    factors = grid()
    codes = np.concatenate([np.zeros((len(factors), 1)), factors[:, ::-1] * [1.0, 10.0, 0.1]], axis=1)
    score = factor_vae_score(codes, factors, num_points=60, generator=seeded())
    assert score.details["votes"].tolist() == [[0, 0, 0], [0, 0, 20], [0, 20, 0], [20, 0, 0]]
    assert (score.details["num_varying"], score.details["chance"], score.stderr) == (3, 1 / 3, 0)
    differences = beta_vae_score(codes, factors, generator=seeded()).details["mean_differences"]
    assert np.argwhere(differences == 0).tolist() == [[0, 0], [0, 3], [1, 0], [1, 2], [2, 0], [2, 1]]
    noise = np.random.default_rng(0).normal(size=(2_000, 4))
    factors = np.random.default_rng(1).integers(0, 3, (2_000, 2))
    for function in (factor_vae_score, beta_vae_score):
        found = function(noise, factors, num_points=2_000, generator=seeded())
        assert abs(found.value - 0.5) < 0.1, "chance, but for what the rows at hand happen to share"
        few = [function(noise, factors, num_points=4, generator=seeded(s)).value for s in range(40)]
        assert abs(np.mean(few) - 0.5) < 0.15, "judged by fresh points, not by those it learnt from"


# --- Models ----------------------------------------------------------------------------------------------------------


class Reader:
    """A foreign model that reads the codes off x exactly; without a transform of its own."""

    def __init__(self, family=Normal):
        self.family = family

    def posterior(self, x):
        if self.family is Categorical:
            return Categorical(logits=x)
        return Product(Normal(x.reshape(-1, 3, 1) / 7, torch.ones(len(x), 3, 1)), 2)

    def prior(self):
        if self.family is Categorical:
            return Categorical(logits=torch.zeros(3))
        return Independent(Normal(torch.zeros(3, 1), torch.ones(3, 1)), 2)

    def likelihood(self, z):
        if self.family is Categorical:
            return Product(Normal(torch.zeros(*z.shape, 3), torch.ones(3)), 1)
        return Product(Normal(z.flatten(-2) * 7, torch.ones(3)), 1)


def test_any_model_that_reads_the_factors_scores_1():
    factors = grid(6)
    x, state = factors.astype(np.float32), torch.get_rng_state()
    scores = disentanglement(Reader(), x, factors, generator=seeded())
    assert list(scores) == [f.__name__ for f in SCORES]
    for name, score in scores.items():
        assert score.value == pytest.approx(1, abs=1e-6), name
    assert torch.equal(state, torch.get_rng_state())
    fewer = disentanglement(Reader(), x, factors, max_rows=200, generator=seeded())
    assert fewer["mig"].value < 0.999, "200 of 360 rows are no grid any more"


def test_a_vae_goes_through_its_transform_and_repeats():
    factors = grid(2)
    x = torch.as_tensor(factors).float() * 50
    with engine.seeded(0):
        transform = vk.transforms.Standardize(3).fit(x)
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal", transform=transform)
    first, again = (disentanglement(model, x, factors, generator=seeded()) for _ in range(2))
    codes = model.encode(x)
    assert {k: s.value for k, s in first.items()} == {k: s.value for k, s in again.items()}
    direct = mutual_information(binned(codes.numpy().astype(float), 20), factors)[0]
    np.testing.assert_allclose(first["mig"].details["mutual_information"], direct, atol=1e-9)


# --- Misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", SCORES)
def test_bad_codes_and_factors_are_refused(score):
    codes, factors = grid(1).astype(float), grid(1)
    with pytest.raises(ShapeError, match=r"expected factors of shape \(60, F\), a row per code; got \(59, 3\)"):
        score(codes, factors[1:])
    with pytest.raises(ShapeError, match=r"factors\[:, None\]"):
        score(codes, factors[:, 0])
    with pytest.raises(DataError, match="got fractions or NaN"):
        score(codes, factors + 0.5)
    with pytest.raises(DataError, match="got fractions or NaN"):
        score(codes, np.where(factors == 1, np.nan, factors))
    with pytest.raises(DataError, match="codes has 20 values that are NaN"):
        score(np.where(factors[:, :1] == 1, np.nan, codes[:, :1]), factors)
    with pytest.raises(DataError, match="at least 20 rows"):
        score(codes[:19], factors[:19])
    with pytest.raises(DataError, match="factor 1 has one value only"):
        score(codes, factors * [1, 0, 1])


def test_bad_settings_are_refused():
    codes, factors = grid(1).astype(float), grid(1)
    for function in (factor_vae_score, beta_vae_score, modularity):
        with pytest.raises(DataError, match="needs at least 2"):
            function(codes, factors[:, :1])
    for function in (factor_vae_score, beta_vae_score):
        with pytest.raises(ConfigError, match="num_points is at least the number of factors, 3"):
            function(codes, factors, num_points=2)
        with pytest.raises(ConfigError, match="at least 2 rows"):
            function(codes, factors, batch_size=1)
    for function in (mig, sap, dci, modularity):
        with pytest.raises(ConfigError, match="num_bootstrap is at least 2"):
            function(codes, factors, num_bootstrap=1)
    with pytest.raises(ConfigError, match="num_bins is at least 2"):
        mig(codes, factors, num_bins=1)
    with pytest.raises(ShapeError, match=r"expected importance of shape \(D, F\)"):
        dci_scores(np.ones(3))
    with pytest.raises(DataError, match="not negative"):
        dci_scores(-np.ones((3, 2)))
    rare = np.concatenate([np.zeros((39, 1), int), np.ones((1, 1), int)])
    with pytest.raises(DataError, match="among half of the rows"):  # for about half of the seeds
        [sap(np.arange(40.0), rare, generator=seeded(seed)) for seed in range(20)]
    x = codes.astype(np.float32)
    with pytest.raises(ShapeError, match="a row per code"):
        disentanglement(Reader(), x, factors[1:])
    with pytest.raises(ConfigError, match="Categorical, has no mean"):
        disentanglement(Reader(Categorical), x, factors)
