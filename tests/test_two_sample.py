"""Samples against data: direct sums, closed forms, scipy, brute force, and tests that reject as often as they say."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import binom, wasserstein_distance
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch.distributions import Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation import (
    classifier_two_sample_test,
    frechet_distance,
    mmd,
    precision_recall_density_coverage,
    sliced_wasserstein,
    two_sample,
)
from vaekit.evaluation.rows import squared_distances

LINEAR = LogisticRegression()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, shift=0.0):
    return np.random.default_rng(seed).normal(size=shape) + shift


# --- MMD -------------------------------------------------------------------------------------------------------------


def double_sum(x, y, h):
    def k(a, b):
        return math.exp(-float(np.square(a - b).sum()) / (2 * h**2))

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


def test_mmd_is_the_double_sum_and_its_error_the_jackknife():
    x, y = normal(0, 9, 3), normal(1, 13, 3, shift=0.4)
    score = mmd(x, y, bandwidth=1.3, num_permutations=3, generator=seeded())
    assert score.value == pytest.approx(double_sum(x, y, 1.3), abs=1e-13)
    without_x = [double_sum(np.delete(x, i, 0), y, 1.3) for i in range(9)]
    without_y = [double_sum(x, np.delete(y, i, 0), 1.3) for i in range(13)]
    assert score.stderr == pytest.approx(math.sqrt(8 * np.var(without_x) + 12 * np.var(without_y)), rel=1e-9)
    pooled = np.concatenate([x, y])
    distances = [np.linalg.norm(pooled[i] - pooled[j]) for i in range(22) for j in range(i)]
    assert mmd(x, y, generator=seeded()).details["bandwidth"] == pytest.approx(np.median(distances))


def gaussian_mmd(shift, scale, h, dims):
    """MMD^2 between N(0, I) and N(shift, scale^2 I): a Gaussian kernel is a Gaussian convolved twice."""

    def expected(variance, distance=0.0):
        return (h**2 / (h**2 + variance)) ** (dims / 2) * math.exp(-(distance**2) / (2 * (h**2 + variance)))

    return expected(2) + expected(2 * scale**2) - 2 * expected(1 + scale**2, shift * math.sqrt(dims))


def test_mmd_is_unbiased_for_the_closed_form_between_gaussians():
    truth = gaussian_mmd(0.5, 1.5, 1.2, 2)
    scores = [
        mmd(normal(s, 40, 2), 1.5 * normal(1_000 + s, 60, 2) + 0.5, bandwidth=1.2, num_permutations=1)
        for s in range(300)
    ]
    values, errors = np.array([s.value for s in scores]), np.array([s.stderr for s in scores])
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(300)
    assert values.std() == pytest.approx(math.sqrt(np.square(errors).mean()), rel=0.15)
    assert values.std() / math.sqrt(300) < 0.05 * truth, "or the test could not see a bias"


def test_mmd_p_values_are_uniform_under_the_null_and_small_under_a_shift():
    p = np.array(
        [
            mmd(normal(s, 15, 2), normal(500 + s, 20, 2), num_permutations=99, generator=seeded(s)).details["p_value"]
            for s in range(200)
        ]
    )
    for level in (0.05, 0.5):
        low, high = binom.interval(0.999, 200, level)
        assert low <= (p <= level).sum() <= high
    apart = mmd(normal(0, 20, 2), normal(1, 20, 2, shift=5), num_permutations=19, generator=seeded())
    assert apart.details["p_value"] == 1 / 20, "the observed labelling counts: never 0"
    shifted = [
        mmd(normal(s, 30, 2), normal(500 + s, 30, 2, shift=1), num_permutations=99, generator=seeded(s))
        for s in range(30)
    ]
    assert sum(s.details["p_value"] <= 0.05 for s in shifted) >= 27
    assert all(s.value > s.details["null_95"] for s in shifted if s.details["p_value"] <= 0.04)


def test_mmd_of_bits_and_of_constants():
    bits = torch.bernoulli(torch.full((30, 1), 0.1), generator=seeded())
    score = mmd(bits, 1 - bits, generator=seeded())
    assert score.details["bandwidth"] == 1.0, "half of the distances are 0: the median of the others"
    same = mmd(np.ones((5, 2)), np.ones((6, 2)), generator=seeded())
    assert (same.value, same.stderr, same.details["p_value"]) == (0.0, 0.0, 1.0)


def test_distances_are_exact_for_integers_and_safe_far_from_zero():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 256, (20, 30)).astype(float)
    direct = np.square(counts[:, None] - counts[None]).sum(-1)
    assert np.array_equal(squared_distances(counts, counts), direct)
    far = rng.normal(size=(20, 3)) * 1e-3 + 1e6 + 0.3
    direct = np.square(far[:, None] - far[None]).sum(-1)
    np.testing.assert_allclose(squared_distances(far, far), direct, atol=1e-13)


# --- Transport -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(7, 7), (7, 12), (100, 33), (2, 2)])
def test_sliced_wasserstein_in_one_dimension_is_the_exact_distance(m, n):
    x, y = normal(0, m), normal(1, n, shift=0.7) ** 2
    first = sliced_wasserstein(x, y, order=1, num_projections=3, generator=seeded())
    assert first.value == pytest.approx(wasserstein_distance(x, y), rel=1e-12)
    assert first.stderr == pytest.approx(0, abs=1e-12), "both directions of a line see the same"
    second = sliced_wasserstein(x, y, num_projections=3, generator=seeded())
    pairs = np.sort(np.repeat(x, n)) - np.sort(np.repeat(y, m))  # the common refinement of both samples
    assert second.value == pytest.approx(math.sqrt(np.square(pairs).mean()), rel=1e-12)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    """E (theta . s)^2 = |s|^2 / D; in 3 dimensions |theta . s| is uniform on [0, |s|], with mean |s| / 2."""
    x, shift = normal(0, 50, 3), np.array([2.0, -1.0, 2.0])
    square = sliced_wasserstein(x, x + shift, num_projections=4_000, generator=seeded())
    assert abs(square.value - 3 / math.sqrt(3)) < 4 * square.stderr
    absolute = sliced_wasserstein(x, x + shift, order=1, num_projections=4_000, generator=seeded())
    assert abs(absolute.value - 1.5) < 4 * absolute.stderr
    assert absolute.stderr == pytest.approx(3 / math.sqrt(12) / math.sqrt(4_000), rel=0.05)
    assert square.stderr < 0.05
    repeats = [sliced_wasserstein(x, x + shift, num_projections=100, generator=seeded(s)) for s in range(100)]
    spread = np.std([s.value for s in repeats])
    assert spread == pytest.approx(np.mean([s.stderr for s in repeats]), rel=0.25)


def test_sliced_wasserstein_baseline_is_what_equal_distributions_give():
    x, same, other = normal(0, 400, 4), normal(1, 300, 4), normal(2, 300, 4, shift=0.5)
    null, apart = (sliced_wasserstein(x, y, generator=seeded()).details for y in (same, other))
    assert null["baseline_rows"] == 200
    assert null["at_baseline_size"] == pytest.approx(null["baseline"], rel=0.5)
    assert apart["at_baseline_size"] > 2 * apart["baseline"]
    assert sliced_wasserstein(x, x, generator=seeded()).value == 0
    assert math.isnan(sliced_wasserstein(x, same, num_projections=1).stderr)


def test_frechet_against_sqrtm_and_the_analytic_value():
    x, y = normal(0, 200, 5) @ normal(1, 5, 5), normal(2, 150, 5) @ normal(3, 5, 5) + 1
    a, b = np.cov(x.T), np.cov(y.T)
    oracle = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    score = frechet_distance(x, y)
    assert score.value == pytest.approx(oracle, rel=1e-9)
    assert score.details["mean_term"] + score.details["covariance_term"] == pytest.approx(score.value)
    scaled = frechet_distance(x, 3 * x)  # commuting covariances: tr (A - 3A)^2 of the roots
    assert scaled.value == pytest.approx(4 * (np.trace(a) + np.square(x.mean(0)).sum()), rel=1e-9)


def test_frechet_of_singular_covariances():
    x = normal(0, 40, 3) @ normal(1, 3, 10)  # rank 3 in 10 dimensions
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-12 * np.square(x).sum())
    assert frechet_distance(x, x + 2).value == pytest.approx(40, rel=1e-9)
    few = frechet_distance(normal(2, 4, 30), normal(3, 5, 30))
    assert math.isfinite(few.value)
    assert math.isnan(few.stderr)
    assert "20 rows" in few.details["stderr_reason"]
    wide = frechet_distance(normal(2, 20, 600), normal(3, 20, 600))
    assert "512 features" in wide.details["stderr_reason"]


def test_frechet_error_is_the_spread_of_repeated_values():
    scores = [frechet_distance(normal(s, 200, 3), 1.3 * normal(900 + s, 300, 3) + 0.5) for s in range(150)]
    spread = np.std([s.value for s in scores])
    assert math.sqrt(np.mean([s.stderr**2 for s in scores])) == pytest.approx(spread, rel=0.25)


# --- Classifier ------------------------------------------------------------------------------------------------------


def test_classifier_is_at_chance_under_the_null_and_rejects_no_more_than_it_says():
    scores = [
        classifier_two_sample_test(
            normal(s, 40, 3), normal(500 + s, 40, 3), classifier=LINEAR, num_folds=3, generator=seeded(s)
        )
        for s in range(100)
    ]
    accuracy = np.array([s.value for s in scores])
    assert abs(accuracy.mean() - 0.5) < 4 * accuracy.std() / 10
    assert abs(np.mean([s.details["auc"] for s in scores]) - 0.5) < 0.05
    assert sum(s.details["p_value"] <= 0.05 for s in scores) <= binom.ppf(0.999, 100, 0.05)


def test_folds_are_correlated_so_that_counting_all_hits_would_reject_too_often():
    """Why the p-values of the folds are combined without assuming that they are independent."""
    rows = [(normal(s, 6, 40), normal(900 + s, 6, 40)) for s in range(120)]
    hits = [
        round(12 * classifier_two_sample_test(x, y, classifier=LINEAR, num_folds=3, generator=seeded()).value)
        for x, y in rows
    ]
    assert np.var(hits) > 1.15 * 12 / 4


def test_classifier_sees_what_there_is_to_see():
    x, y = normal(0, 100, 3), normal(1, 140, 3, shift=3)
    score = classifier_two_sample_test(x, y, generator=seeded())
    assert score.value > 0.97
    assert score.details["auc"] > 0.99
    assert score.details["p_value"] < 1e-6
    assert score.details["num_rows"] == 100, "the larger sample is cut: chance is 1/2"
    assert score.stderr == pytest.approx(math.sqrt(score.value * (1 - score.value) / 200))
    assert np.mean(score.details["fold_accuracies"]) == pytest.approx(score.value)
    ring = normal(2, 150, 2)
    ring = 2 * ring / np.linalg.norm(ring, axis=1, keepdims=True)  # equal mean and covariance, another shape
    blob = math.sqrt(2) * normal(3, 150, 2)
    assert classifier_two_sample_test(ring, blob, generator=seeded()).value > 0.75
    linear = classifier_two_sample_test(ring, blob, classifier=LinearSVC(), generator=seeded())
    assert linear.value < 0.65


def test_classifier_p_value_is_fishers_exact_test():
    from scipy.stats import fisher_exact

    from vaekit.evaluation.samples.classifier import _exact_p_value

    rng = np.random.default_rng(0)
    predicted, labels = rng.random(40) < 0.4, rng.random(40) < 0.5
    table = [[int((predicted == a)[labels == b].sum()) for b in (True, False)] for a in (True, False)]
    assert _exact_p_value(predicted, labels) == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


# --- Neighbours ------------------------------------------------------------------------------------------------------


def brute_force(x, y, k):
    def distance(a, b):
        return float(np.sqrt(np.square(a - b).sum()))

    def radius(rows, i):
        return sorted(distance(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    real, fake = [radius(x, i) for i in range(len(x))], [radius(y, j) for j in range(len(y))]
    inside = [[distance(x[i], y[j]) <= real[i] for i in range(len(x))] for j in range(len(y))]
    return {
        "precision": np.mean([any(row) for row in inside]),
        "recall": np.mean([any(distance(x[i], y[j]) <= fake[j] for j in range(len(y))) for i in range(len(x))]),
        "density": np.sum(inside) / (k * len(y)),
        "coverage": np.mean([any(inside[j][i] for j in range(len(y))) for i in range(len(x))]),
    }


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("values", ["reals", "bits"])
def test_shares_are_their_definitions(k, values, monkeypatch):
    x, y = normal(0, 40, 4), normal(1, 30, 4, shift=0.8)
    if values == "bits":  # ties everywhere
        x, y = (x > 0).astype(float), (y > 0.5).astype(float)
    oracle = brute_force(x, y, k)
    whole = precision_recall_density_coverage(x, y, num_neighbors=k)
    monkeypatch.setattr("vaekit.evaluation.rows._VALUES", 70)  # two or three rows per chunk
    chunked = precision_recall_density_coverage(x, y, num_neighbors=k)
    for scores in (whole, chunked):
        assert {name: s.value for name, s in scores.items()} == pytest.approx(oracle)
    p = whole["recall"].value
    assert whole["recall"].stderr == pytest.approx(math.sqrt(p * (1 - p) / 39))


def test_identical_sets_and_repeated_rows_are_precise():
    x = normal(0, 50, 20) / 255
    scores = precision_recall_density_coverage(x, x[::-1])
    assert [scores[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    repeated = np.repeat(x[:5], 10, axis=0)  # radii of exactly 0
    scores = precision_recall_density_coverage(repeated, repeated)
    assert [scores[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]


def test_ties_stay_ties_in_any_units():
    x, y = (np.random.default_rng(s).integers(0, 2, (60, 9)).astype(float) for s in (0, 1))
    exact, scaled = (precision_recall_density_coverage(a, b) for a, b in ((x, y), (x / 10 + 0.3, y / 10 + 0.3)))
    assert [s.value for s in scaled.values()] == [s.value for s in exact.values()]


def test_dropped_modes_and_noise_show_where_they_should():
    modes = 10 * np.random.default_rng(5).integers(0, 2, (600, 1))
    real, held_out = normal(0, 300, 2) + modes[:300], normal(1, 300, 2) + modes[300:]
    good = precision_recall_density_coverage(real, held_out)
    dropped = precision_recall_density_coverage(real, normal(2, 300, 2))
    assert dropped["precision"].value > good["precision"].value - 0.1
    assert dropped["recall"].value < 0.6 < 0.9 < good["recall"].value
    assert dropped["coverage"].value < 0.6 < 0.9 < good["coverage"].value
    noisy = precision_recall_density_coverage(real, 8 * normal(3, 300, 2) + 5)
    assert noisy["precision"].value < 0.5
    assert noisy["density"].value < 0.5 < good["density"].value
    far = precision_recall_density_coverage(real, held_out + 1_000)
    assert [s.value for s in far.values()] == [0, 0, 0, 0]


# --- Models ----------------------------------------------------------------------------------------------------------


class Foreign:
    """No module, no transform, no `sample`: z ~ N(0, 1), x ~ N((z, z) + shift, 1)."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def prior(self):
        return Product(Normal(torch.zeros(1), torch.ones(1)), 1)

    def posterior(self, x):
        return Product(Normal((x - self.shift).mean(1, keepdim=True), torch.ones(len(x), 1)), 1)

    def likelihood(self, z):
        return Product(Normal(z.expand(*z.shape[:-1], 2) + self.shift, torch.ones(2)), 1)


def foreign_data(n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 1)) + rng.normal(size=(n, 2))).astype(np.float32)


def test_the_true_model_passes_and_a_wrong_one_fails():
    x = foreign_data(250)
    right, wrong = (
        two_sample(
            Foreign(shift),
            x,
            num_samples=200,
            features=lambda rows: rows * 2,
            classifier=LINEAR,
            generator=seeded(),
        )
        for shift in (0.0, 2.0)
    )
    assert list(right) == [
        "mmd",
        "sliced_wasserstein",
        "classifier_two_sample_test",
        "precision",
        "recall",
        "density",
        "coverage",
        "frechet_distance",
    ]
    for name in ("mmd", "classifier_two_sample_test"):
        assert right[name].details["p_value"] > 0.05
        assert wrong[name].details["p_value"] < 0.01
    for name in ("sliced_wasserstein", "frechet_distance"):
        assert right[name].details["baseline_rows"] == 125
        assert wrong[name].details["at_baseline_size"] > 4 * wrong[name].details["baseline"]
    assert right["coverage"].value > 0.85 > 0.7 > wrong["coverage"].value
    assert right["precision"].details["baseline"] == pytest.approx(right["precision"].value, abs=0.1)
    assert all(s.details["space"] == "data" for s in right.values())
    assert "frechet_distance" not in two_sample(Foreign(), x[:20], classifier=LINEAR, generator=seeded())


def test_repeats_and_leaves_torchs_stream_alone():
    x, state = foreign_data(60), torch.get_rng_state()
    first, again, other = (
        two_sample(Foreign(), x, max_rows=40, classifier=LINEAR, generator=seeded(s)) for s in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert first == again
    assert first != other
    assert first["precision"].details["num_real"] == first["precision"].details["num_generated"] == 40


def collapsed(likelihood, transform, probability):
    """A VAE whose decoder ignores z and gives every element the same Bernoulli probability."""
    with engine.seeded(0):
        model, _ = vk.presets.vae((6,), latent_dim=2, hidden=(4,), likelihood=likelihood, transform=transform)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
        list(model.decoder.parameters())[-1].fill_(math.log(probability / (1 - probability)))
    return model


@pytest.mark.parametrize("way", ["fresh", "fixed", "grey", "bits"])
def test_bits_are_compared_with_bits(way):
    """Grey values of 0.3 x 16 everywhere, or bits of that probability: a model of bits with p = 0.3 describes both."""
    grey = torch.full((200, 6), 0.3 * 16) + 0.01 * torch.rand(200, 6, generator=seeded())
    scale = vk.transforms.Scale(0, 16)
    if way == "grey":
        model = collapsed(vk.likelihoods.Bernoulli(6, grey=True), scale, 0.3)
    elif way == "bits":
        grey = torch.bernoulli(torch.full((200, 6), 0.3), generator=seeded())
        model = collapsed("bernoulli", None, 0.3)
    else:
        model = collapsed("bernoulli", vk.transforms.Compose([scale, vk.transforms.Binarize(way)]), 0.3)
    seen = []
    scores = two_sample(
        model, grey, features=lambda rows: seen.append(rows) or rows, classifier=LINEAR, generator=seeded()
    )
    assert scores["mmd"].details["space"] == "bits of model space"
    assert scores["mmd"].details["p_value"] > 0.01
    assert scores["classifier_two_sample_test"].details["p_value"] > 0.05
    assert all(bool(((rows == 0) | (rows == 1)).all()) for rows in seen)
    assert all(float(rows.mean()) == pytest.approx(0.3, abs=0.06) for rows in seen)


def test_dequantised_and_scaled_models_are_compared_in_the_units_of_the_data():
    integers = torch.randint(0, 4, (60, 6), generator=seeded(), dtype=torch.uint8)
    with engine.seeded(0):
        model, _ = vk.presets.vae(
            (6,), latent_dim=2, hidden=(4,), likelihood="normal", transform=vk.transforms.Dequantize(4)
        )
    seen = []
    scores = two_sample(
        model, integers, features=lambda rows: seen.append(rows) or rows, classifier=LINEAR, generator=seeded()
    )
    assert scores["mmd"].details["space"] == "data"
    assert all(bool((rows == rows.round()).all()) and float(rows.max()) == 3 for rows in seen)


# --- Misuse ----------------------------------------------------------------------------------------------------------

PAIRWISE = [mmd, sliced_wasserstein, classifier_two_sample_test, precision_recall_density_coverage, frechet_distance]


@pytest.mark.parametrize("function", PAIRWISE)
def test_bad_rows_are_refused(function):
    x = normal(0, 20, 2, 3)
    with pytest.raises(ShapeError, match=r"rows of the same shape; got \(2, 3\) and \(3, 2\)"):
        function(x, x.reshape(20, 3, 2))
    with pytest.raises(DataError, match="1 values that are NaN or infinite"):
        function(x, np.where(np.arange(120).reshape(20, 2, 3) == 7, np.nan, x))
    with pytest.raises(DataError, match="at least"):
        function(x, x[:1])
    with pytest.raises(ShapeError, match="single number"):
        function(torch.tensor(1.0), x)
    with pytest.raises(ShapeError, match="at least one element"):
        function(x[:, :0], x[:, :0])


def test_bad_settings_are_refused():
    x = foreign_data(20)
    for call, message in [
        (lambda: mmd(x, x, num_permutations=0), "num_permutations is at least 1"),
        (lambda: mmd(x, x, bandwidth=0.0), "bandwidth is a positive number"),
        (lambda: sliced_wasserstein(x, x, order=3), "order is 1 or 2; got 3"),
        (lambda: sliced_wasserstein(x, x, num_projections=0), "num_projections is at least 1"),
        (lambda: classifier_two_sample_test(x, x, num_folds=1), "num_folds is at least 2"),
        (lambda: precision_recall_density_coverage(x, x, num_neighbors=0), "num_neighbors is at least 1"),
        (lambda: two_sample(Foreign(), x, max_rows=5), "max_rows is at least 12"),
        (lambda: two_sample(Foreign(), x, num_samples=5), "num_samples is at least 12"),
    ]:
        with pytest.raises(ConfigError, match=message):
            call()
    with pytest.raises(DataError, match="at least 12 rows"):
        two_sample(Foreign(), x[:11])
    with pytest.raises(ShapeError, match=r"expected x of shape \(N, 2\)"):
        two_sample(Foreign(), normal(0, 20, 3))
    conditioned = Foreign()
    conditioned.prior = lambda: Product(Normal(torch.zeros(4, 1), torch.ones(4, 1)), 1)
    with pytest.raises(ConfigError, match="conditioned on 4 rows"):
        two_sample(conditioned, x)


def test_importing_evaluation_stays_light():
    import subprocess
    import sys

    code = "import sys, vaekit.evaluation; print(*[m for m in ('sklearn', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""
