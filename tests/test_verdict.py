"""Each finding on a state that must cause it, and on one that must not: made by hand, or by models of known state."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal

import vaekit as vk
from vaekit import cli, engine
from vaekit.columns import described
from vaekit.distributions import Product
from vaekit.evaluation import Score, diagnostics, evaluate
from vaekit.evaluation.health.aggregate import Aggregate
from vaekit.evaluation.health.inference_gap import InferenceGap
from vaekit.evaluation.health.runaway import Runaway, runaway
from vaekit.evaluation.health.verdict import _interval, chains, too_low, verdict
from vaekit.evaluation.results import Result, nats, plain, result, written
from vaekit.report.figures import Gallery

pytestmark = pytest.mark.usefixtures("coarse")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def code(information=5.0, stderr=0.05, means=0.9, std=1.0, width=0.3, num_units=16):
    every = torch.ones(num_units, dtype=torch.float64)
    score, limit = Score(information, stderr), math.log(2000)
    return Aggregate(means * every, 0 * every, std * every, width * every, score, Score(0.5, 0.05), limit)


def gap(value, stderr=0.1, agreement=0.99, rate=10.0, best_rate=10.5):
    nothing = Score(0.0, 0.0)
    scores = (nothing, nothing, nothing, nothing, Score(value, stderr), Score(rate, 0.1), Score(best_rate, 0.1))
    return InferenceGap(*scores, agreement, 64)


def names(*arguments, rate=10.0, **options):
    return [finding.name for finding in verdict(Score(rate, 0.1), *arguments, **options)]


def test_a_large_gap_that_nothing_else_explains_is_a_finding():
    assert names(code(), gap(2.54, 0.57)) == ["amortisation gap"]
    (found,) = verdict(Score(10.0, 0.1), code(), gap(2.54, 0.57))
    assert "2.54 +- 0.57" in found.evidence
    assert names(code(), gap(0.9, 0.1)) == ["healthy"]  # below a nat
    assert names(code(), gap(2.5, 1.0)) == ["healthy"]  # within the noise
    assert names(code(), gap(2.54, 0.57, agreement=0.5)) == ["lagging inference"]
    assert names(code(), gap(2.54, 0.57, best_rate=13.0)) == ["over-regularisation"]
    assert names(code(std=4.0, width=0.01), gap(170.0, 5.0)) == ["decay to an autoencoder"]


def test_codes_that_are_points_are_a_decay_although_together_they_look_like_the_prior():
    """More nats a unit than float32 numbers near 1 have digits; the gap, and any rate, then follow from that."""
    points = code(std=0.82, width=4e-4)
    assert names(points, gap(1e7, 2e5, agreement=0.16, best_rate=40.0), rate=1e7) == ["decay to an autoencoder"]
    assert names(points, gap(170.0, 5.0, agreement=0.16), rate=257.0) == ["decay to an autoencoder"]
    assert names(points, gap(0.1), rate=255.0) == ["healthy"]  # 16 nats for each of 16 units
    assert names(points, gap(0.1), rate=1e13) == ["numbers beyond arithmetic"]
    assert names(points, gap(math.nan), rate=1e7) == ["numbers beyond arithmetic"]
    assert names(code(std=1e3, width=1e-3), rate=1e7) == ["numbers beyond arithmetic"]  # of rows far away
    (found,) = verdict(Score(1e7, 1.0), points)
    assert "625000.00 for each of 16 active units" in found.evidence


@pytest.mark.parametrize(("num_rows", "expected"), [(2, "healthy"), (5, "healthy"), (60, "decay to an autoencoder")])
def test_a_handful_of_rows_cannot_say_that_codes_do_not_look_like_the_prior(num_rows, expected):
    few = dataclasses.replace(code(std=0.5, width=0.02), limit=math.log(num_rows))
    assert names(few) == [expected]


def test_the_spread_of_few_rows_lies_between_those_of_the_chi_squared_law():
    least, most = _interval(0.5, 5)
    assert stats.chi2.sf(4 * 0.5**2 / least**2, 4) == pytest.approx(0.005)
    assert stats.chi2.cdf(4 * 0.5**2 / most**2, 4) == pytest.approx(0.005)
    assert _interval(0.5, 1) == (0.0, math.inf)


def test_active_units_without_information_are_a_finding():
    assert names(code(information=0.14, stderr=0.03, means=0.02)) == ["next to no information"]
    assert names(code(information=0.39, stderr=0.04, means=0.05)) == ["healthy"]
    assert names(code(information=0.24, stderr=0.1)) == ["healthy"]  # within the noise
    assert names(code(information=0.0, stderr=0.01, means=0.0), rate=0.0) == ["posterior collapse"]


def test_units_that_all_vary_by_a_little_carry_next_to_nothing():
    """16 independent units, each of which tells 0.01 nats: var E[z|x] = 0.02, and all of them are active."""
    shrink = 1 - math.sqrt(1 / 1.02)

    class Faint:
        def posterior(self, x):
            scale = torch.full_like(x, math.sqrt(1 - 0.02))
            return Product(Normal(x * math.sqrt(0.02), scale), 1)

        def prior(self):
            return Product(Normal(torch.zeros(16), torch.ones(16)), 1)

        def likelihood(self, z):
            return Product(Normal(z * shrink, torch.ones_like(z)), 1)

    found = diagnostics(Faint(), torch.randn(600, 16, generator=seeded()), num_gap_rows=0, generator=seeded())
    assert found.aggregate.active_units == 16
    # -16/2 log(1 - 0.02): a closed form for x from N(0, I)
    assert found.aggregate.mutual_information.value == pytest.approx(-8 * math.log(0.98), abs=0.08)
    assert [finding.name for finding in found.findings] == ["next to no information"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.6e24])
def test_numbers_that_arithmetic_does_not_support_are_the_only_finding(value):
    (found,) = verdict(Score(value, 1.0), code(), gap(2.5))
    assert found.name == "numbers beyond arithmetic"
    assert names(code(), gap(-value)) == ["numbers beyond arithmetic"]
    assert len(found.evidence) < 200
    assert names(code(), distortion=Score(value, 1.0)) == ["numbers beyond arithmetic"]
    lost = dataclasses.replace(gap(0.1), approximation=Score(-math.inf, math.nan))
    assert names(code(), lost) == ["numbers beyond arithmetic"]
    assert names(code(), gap(0.1), distortion=Score(3e7, 1.0)) == ["healthy"]  # of a large picture
    assert names(code(), gap(0.1), rate=9e5) == ["healthy"]
    assert names(code(num_units=10_000), gap(0.1), rate=5e6) == ["healthy"]  # 500 nats a unit


def test_without_a_description_absurd_rows_are_not_called_healthy(small):
    model, x = small
    found = evaluate(model, 1e12 * (x + 1), num_samples=3, generator=seeded())
    assert [row.name for row in found.findings] == ["diagnostics.findings.numbers_beyond_arithmetic"]
    assert "healthy" not in str(found.to_dicts())


def test_no_text_has_a_number_that_nobody_can_read():
    assert (nats(12.345), nats(2.6e27), nats(-4.5e22)) == ("12.35", "2.6e+27", "-4.5e+22")
    assert (plain(0.7), plain(12345.678), plain(2.6e27)) == ("0.7", "12350", "2.6e+27")
    row = Result("a", "a", 2.575551891601791e21)
    assert written(row, row.value) == "2.576e+21"
    assert written(row, -183421.25) == "-183421.2500"


def test_chains_that_disagree_are_a_finding():
    assert chains(1.63, "x").name == "chains that disagree"
    assert chains(math.nan, "x") is not None
    assert chains(1.05, "x") is None


@pytest.mark.parametrize(("r_hat", "is_found"), [(1.63, True), (math.nan, True), (1.02, False)])
def test_a_full_evaluation_with_such_chains_is_not_healthy(monkeypatch, small, r_hat, is_found):
    import sys

    module = sys.modules["vaekit.evaluation.evaluate"]
    metric = module.Metric(lambda view, how: [result("r_hat_max", "R-hat", r_hat, unit="")])
    monkeypatch.setattr(module, "METRICS", {"diagnostics": module.METRICS["diagnostics"], "hmc": metric})
    found = [row.name.removeprefix("diagnostics.findings.") for row in evaluate(*small, generator=seeded()).findings]
    assert ("chains_that_disagree" in found) == is_found
    assert ("healthy" in found) != is_found
    model, x = small
    about = described([x.numpy()], len(x), (3,))
    other = evaluate(model, x + 100, described=about, generator=seeded()).findings
    assert [row.name for row in other] == ["diagnostics.findings.rows_unlike_the_training_data"]


def test_one_draw_says_why_it_has_no_error(small):
    single = evaluate(*small, num_samples=1, generator=seeded())
    several = evaluate(*small, num_samples=2, generator=seeded())
    for name in ("elbo", "iwae"):
        assert single[name].stderr is None
        assert "one draw does not tell it" in single[name].label
        assert several[name].stderr is not None
        assert "draw does" not in several[name].label


# --- Rows that are unlike the training data --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A model of three columns that a latent explains, and its training rows."""
    x = torch.randn(300, 1, generator=seeded()) * torch.tensor([1.0, 2.0, -1.0])
    x = x + 0.5 * torch.randn(300, 3, generator=seeded(1))
    with engine.seeded(0):
        model, objective = vk.presets.vae((3,), latent_dim=1, hidden=(16,), likelihood="normal")
    vk.Trainer(max_epochs=60, batch_size=50, learning_rate=5e-3, seed=0, progress=False).fit(model, objective, x)
    return model, x


@pytest.fixture(scope="module")
def about(small):
    return described([small[1].numpy()], 300, (3,), names=("a", "b", "c"))


def test_rows_far_from_the_training_data_get_no_verdict_on_the_model(small, about):
    model, x = small
    far = x[:60] + torch.tensor([0.0, 50.0, 0.0])
    found = evaluate(model, far, num_samples=3, described=about, generator=seeded())
    (finding,) = found.findings
    assert finding.name == "diagnostics.findings.rows_unlike_the_training_data"
    assert "60 of 60 rows are unlike the training data: b in 60 rows" in finding.label
    assert found["diagnostics.unlike_rows"].value == 60


def test_rows_like_the_training_data_get_one(small, about):
    model, x = small
    found = evaluate(model, x, num_samples=3, described=about, generator=seeded())
    assert [row.name for row in found.findings] == ["diagnostics.findings.healthy"]
    assert found["diagnostics.unlike_rows"].value == 0
    without = evaluate(model, x, num_samples=3, generator=seeded())
    assert "diagnostics.unlike_rows" not in without
    same = [(r.name, r.value) for r in found if r.name != "diagnostics.unlike_rows"]
    assert same == [(r.name, r.value) for r in without]


def test_a_few_such_rows_are_counted_and_left_out(small, about):
    model, x = small
    mixed = x[:100].clone()
    mixed[:5, 2] += 1000.0
    found = diagnostics(model, mixed, described=about, num_gap_rows=0, generator=seeded())
    assert [finding.name for finding in found.findings] == ["healthy"]
    assert "Left out: 5 of 100 rows are unlike the training data: c in 5 rows" in found.findings[0].evidence
    assert found.num_points == 95
    assert found.rate.value < 10
    mixed[:15, 2] += 1000.0
    many = diagnostics(model, mixed, described=about, num_gap_rows=0, generator=seeded())
    assert [finding.name for finding in many.findings] == ["rows unlike the training data"]
    assert many.num_points == 100


# --- Densities that run away -----------------------------------------------------------------------------------------


class Narrow:
    """x = z to within `width` in the last column, and its own marginal in the first."""

    def __init__(self, width):
        self.width = width

    def posterior(self, x):
        return Product(Normal(x[:, 1:], torch.full_like(x[:, 1:], 1e-4)), 1)

    def prior(self):
        return Product(Normal(torch.zeros(1), torch.ones(1)), 1)

    def likelihood(self, z):
        loc = torch.cat([torch.zeros_like(z), z], -1)
        return Product(Normal(loc, torch.tensor([1.0, self.width]).expand_as(loc)), 1)


def columns_with(last):
    return torch.stack([torch.randn(len(last), generator=seeded()), last], 1)


def test_a_density_runs_away_on_bits_constants_and_copies_and_not_on_reals():
    bits = columns_with(torch.bernoulli(torch.full((400,), 0.5), generator=seeded()))
    reals = columns_with(torch.randn(400, generator=seeded(3)))
    constant = columns_with(torch.full((400,), 0.7))
    copied = torch.cat([reals, reals[:, :1] * 2 + 1], 1)[:, ::2]
    with engine.seeded(0):
        for x, why in ((bits, "b has 2 values"), (constant, "b is constant"), (copied, "b is a copy of a")):
            assert runaway(Narrow(0.001), x, ("a", "b")).columns == (why,)
        # log p of a bit at 0.001 beside that of a normal column of its spread, which is some 0.5
        assert runaway(Narrow(0.001), bits).nats == pytest.approx(math.log(0.5 / 0.001) + 0.5, abs=0.4)
        assert runaway(Narrow(0.3), bits) is None
        assert runaway(Narrow(0.001), reals) is None
    assert names(code(), runaway=Runaway(("b has 2 values",), 6.5)) == ["runaway density"]


@pytest.mark.parametrize(("value", "error", "fires"), [(-67.2, 1.5, True), (-46.0, 1.5, False), (-67.2, 9.0, False)])
def test_a_log_p_of_the_gap_below_another_bound_is_said(value, error, fires):
    gap = result("log_marginal", "log p(x) for the gaps, 64 rows", value, None, error)
    annealed = result("ais.annealed", "AIS, 32 rows", -44.8, 0.1, 1.5)
    nothing = result("iwae", "IWAE", math.nan)
    found = too_low(gap, [nothing, annealed])
    assert (found is not None) == fires
    assert found is None or "22.4 nats below -44.80 (AIS, 32 rows)" in found.evidence


def test_a_fixed_scale_and_a_mass_cannot_run_away():
    x = torch.bernoulli(torch.full((200, 3), 0.5), generator=seeded())
    for head in (vk.likelihoods.Normal(3, scale=0.001), vk.likelihoods.Bernoulli(3)):
        with engine.seeded(0):
            encoder = vk.Conditional(vk.networks.MLP(3, (8,)), vk.posteriors.DiagonalNormal(2))
            model = vk.VAE(encoder, vk.Conditional(vk.networks.MLP(2, (8,)), head), vk.priors.StandardNormal(2))
        assert diagnostics(model, x, num_gap_rows=0, generator=seeded()).runaway is None


# --- On the command line ---------------------------------------------------------------------------------------------


def vaekit(*arguments):
    return cli.run([str(a) for a in arguments])


@pytest.fixture
def table(tmp_path):
    """A table whose third column is made of bits, and its file."""

    def write(name, x, header="a,b,c"):
        np.savetxt(tmp_path / name, x, delimiter=",", header=header, comments="")
        return tmp_path / name

    return write


def test_a_fit_names_columns_without_bound_and_a_run_remembers_its_rows(table, tmp_path, capsys):
    rng = np.random.default_rng(0)
    reals = rng.normal(size=(200, 3))
    bits = np.column_stack([reals[:, :2], rng.integers(0, 2, 200)])
    plain = ["max_epochs=1", "likelihood=normal"]
    assert vaekit("fit", table("bits.csv", bits), "-o", tmp_path / "bits", *plain, "--quiet") == 0
    said = capsys.readouterr().err
    assert "c has 2 values" in said
    given = {"max_epochs": 1, "likelihood": "normal"}
    with pytest.warns(UserWarning, match="c has 2 values"):
        vk.runs.fit(str(tmp_path / "bits.csv"), tmp_path / "again", given, progress=False)
    assert "up to 6.9 nats a column at the floor of 0.001" in said
    assert "Drop them, dequantise whole numbers" in said
    for name, x, option in (("reals", reals, "max_epochs=1"), ("fixed", bits, "likelihood=normal:scale=0.5")):
        where = table(f"{name}.csv", x)
        assert vaekit("fit", where, "-o", tmp_path / name, "max_epochs=1", "--quiet", option) == 0
        assert "no bound" not in capsys.readouterr().err
    rows = vk.runs.open(tmp_path / "bits").training_rows
    assert (rows.num_rows, rows.names) == (180, ("a", "b", "c"))
    assert rows.repeated == {2: "has 2 values"}
    assert len(rows.log_p) == 9
    assert list(rows.log_p) == sorted(rows.log_p)
    assert "quantiles" not in str(vk.runs.open(tmp_path / "bits").describe())
    assert vaekit("evaluate", tmp_path / "reals", table("far.csv", reals[:60] + 1e6), "--num-samples", 3) == 0
    out = capsys.readouterr().out
    assert "60 of 60 rows are unlike the training data" in out
    assert "healthy" not in out
    assert "decay" not in out
    assert vaekit("report", tmp_path / "reals", tmp_path / "far.csv", "-o", tmp_path / "r.html") == 0
    assert "60 of 60 rows are unlike the training data" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("of", [{"likelihood": "bernoulli"}, {}], ids=["bits", "levels"])
@pytest.mark.parametrize("less", [("max_epochs=100", "hidden=64"), pytest.param((), marks=pytest.mark.slow)])
def test_without_the_kl_a_model_decays_to_an_autoencoder(tmp_path, capsys, monkeypatch, less, of):
    """The experiment of docs/theory.md, and a shorter one; beside it the same fit with the KL.

    Of bits the codes spread beyond the prior; of grey levels, the default, they stay where it is and become points.
    """
    monkeypatch.chdir(tmp_path)
    settings = {"max_epochs": 2000 if of else 300, "keep": "last", **of, **dict(p.split("=") for p in less)}
    with pytest.warns(UserWarning, match="decay to an autoencoder"):
        vk.runs.fit("digits", "RUN", {"beta": 0, **settings}, progress=False)
    assert vaekit("evaluate", "RUN") == 0
    assert "\ndecay to an autoencoder: The codes are " in capsys.readouterr().out
    if less:
        vk.runs.fit("digits", "beside", settings, progress=False)
        assert vaekit("evaluate", "beside") == 0
        assert "decay" not in capsys.readouterr().out


def test_a_saved_model_without_a_description_opens_and_a_damaged_one_says_so(small, tmp_path):
    vk.save(small[0], tmp_path / "old")
    assert vk.runs.open(tmp_path / "old").training_rows is None
    vk.save(small[0], tmp_path / "bad", metadata={"training_rows": {"num_rows": "many"}})
    with pytest.raises(vk.errors.ArtifactError, match="training rows"):
        vk.runs.open(tmp_path / "bad").training_rows  # noqa: B018


def test_the_page_tells_two_ways_of_counting_apart():
    def sentence(kl, active):
        rows = [result(f"diagnostics.kl_per_dimension.{i}", "KL", value) for i, value in enumerate(kl)]
        units = result("diagnostics.active_units", "active units", active, unit="units")
        return Gallery.divergence(vk.evaluation.Results((*rows, units), "mass"))[1]

    assert "active" not in sentence([1.0, 0.5], 2)
    assert "The KL of 2 of 3 latent dimensions" in sentence([1.0, 0.5, 0.0], 1)
    assert "by another rule, by which 1 are" in sentence([1.0, 0.5, 0.0], 1)
