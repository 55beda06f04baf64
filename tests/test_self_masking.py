"""Cells that are empty because of what they hold: masses and fills against quadrature, and a table that says so."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad, trapezoid
from scipy.stats import norm

import vaekit as vk
from vaekit import cli, engine, likelihoods, queries, runs
from vaekit.data.schema import Schema
from vaekit.distributions import Columns, Normal, Product, SelectedNormal, SelfMasked
from vaekit.errors import ConfigError
from vaekit.estimators import VAEImputer
from vaekit.models.view import View

F64 = torch.float64
NAN = torch.nan
LOC, SCALE = torch.tensor([0.3, -0.5], dtype=F64), torch.tensor([0.8, 1.5], dtype=F64)
A, B = torch.tensor([-0.4, 0.7], dtype=F64), torch.tensor([1.2, -2.0], dtype=F64)


def both():
    return SelfMasked(Product(Normal(LOC, SCALE, False), 1, missing="observed-only"), A, B)


def density(x, j):
    return norm.pdf(x, LOC[j], SCALE[j])


def hidden(x, j):
    return norm.cdf(A[j] + B[j] * x)


def integral(of, j):
    middle, width = float(LOC[j]), 12 * float(SCALE[j])
    return quad(of, middle - width, middle + width, limit=200)[0]


def test_log_p_of_what_is_seen_and_hidden_is_that_of_quadrature():
    x = torch.tensor(
        [[NAN, 0.4, 1.0, 0.0], [NAN, NAN, 0.0, 1.0], [0.9, -2.0, 0.0, 1.0], [0.9, NAN, NAN, NAN]], dtype=F64
    )
    first = [
        integral(lambda v: density(v, 0) * hidden(v, 0), 0),
        integral(lambda v: density(v, 0) * (1 - hidden(v, 0)), 0),
    ]
    second = integral(lambda v: density(v, 1) * hidden(v, 1), 1)
    expected = [
        first[0] * density(0.4, 1) * (1 - hidden(0.4, 1)),
        first[1] * second,
        density(0.9, 0) * (1 - hidden(0.9, 0)) * density(-2.0, 1) * hidden(-2.0, 1),
        density(0.9, 0),
    ]
    np.testing.assert_allclose(both().log_prob(x), np.log(expected), rtol=1e-9)
    assert both().quantity == "density and mass"
    assert both().is_mass.tolist() == [False, False, True, True]


def test_numbers_and_bits_given_each_other_are_those_of_bayes():
    rows = torch.tensor([[NAN, 0.4, 1.0, 0.0], [0.2, NAN, NAN, 1.0]], dtype=F64)
    cells = both().expand((2,)).of_cells(rows)
    grid = torch.tensor([[0.1, 0.4, 1.0, 0.0], [0.2, 0.6, 1.0, 1.0]], dtype=F64)
    found = cells.log_prob_per_element(grid).exp()
    shown = integral(lambda v: density(v, 1) * (1 - hidden(v, 1)), 1)
    expected = [
        [density(0.1, 0) * hidden(0.1, 0) / integral(lambda v: density(v, 0) * hidden(v, 0), 0), density(0.4, 1)],
        [density(0.2, 0), density(0.6, 1) * hidden(0.6, 1) / integral(lambda v: density(v, 1) * hidden(v, 1), 1)],
    ]
    expected[0][1] *= (1 - hidden(0.4, 1)) / shown
    np.testing.assert_allclose(found[:, :2], expected, rtol=1e-8)
    np.testing.assert_allclose(found[0, 3], 1 - hidden(0.4, 1), rtol=1e-8)
    np.testing.assert_allclose(found[1, 2], hidden(0.2, 0), rtol=1e-8)
    np.testing.assert_allclose(found[1, 3], integral(lambda v: density(v, 1) * hidden(v, 1), 1), rtol=1e-8)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (-0.4, 1.2), (0.7, -2.0), (-6.0, 1.0), (1.0, 10.0)])
def test_a_chosen_normal_has_the_moments_of_quadrature(a, b):
    d = SelectedNormal(*(torch.tensor(v, dtype=F64) for v in (0.3, 0.8, a, b)))

    def mass(v):
        return float(d.log_prob(torch.tensor(v, dtype=F64)).exp())

    of = [quad(lambda v, k=k: v**k * mass(v), -8, 9, limit=400)[0] for k in range(3)]
    np.testing.assert_allclose(of[0], 1, rtol=1e-7)
    np.testing.assert_allclose(d.mean, of[1], rtol=1e-6)
    np.testing.assert_allclose(d.variance, of[2] - of[1] ** 2, rtol=1e-5)
    with engine.seeded(0):
        x = d.sample((40_000,))
    assert abs(x.mean() - d.mean) < 4 * (d.variance / 40_000) ** 0.5
    assert abs(x.var() / d.variance - 1) < 0.05
    single = SelectedNormal(*(torch.tensor(v) for v in (0.3, 0.8, a, b)))
    np.testing.assert_allclose(single.mean, d.mean, rtol=1e-3)


def test_draws_hide_what_they_hold():
    with engine.seeded(0):
        x = both().sample((50_000,))
    for j in (0, 1):
        share = integral(lambda v, j=j: density(v, j) * hidden(v, j), j)
        mean = integral(lambda v, j=j: v * density(v, j) * hidden(v, j), j) / share
        bit = x[:, 2 + j] == 1
        assert abs(bit.double().mean() - share) < 4 * 0.5 / 50_000**0.5
        assert abs(x[bit, j].mean() - mean) < 5 * float(SCALE[j]) / float(bit.sum()) ** 0.5
        np.testing.assert_allclose(both().mean[2 + j], share, rtol=1e-9)
    with pytest.raises(NotImplementedError, match="no closed form"):
        both().entropy()


def test_gradients_are_finite_beside_holes():
    head = likelihoods.SelfMasked(4, likelihoods.Normal(2, scale="network", missing="observed-only"))
    params = torch.zeros(3, 2, 2, requires_grad=True)
    x = torch.tensor([[NAN, 0.5, 1.0, 0.0], [NAN, NAN, 1.0, 0.0], [40.0, -40.0, 1.0, NAN]])
    head(params).log_prob(x).sum().backward()
    for gradient in (params.grad, head.intercept.grad, head.raw_slope.grad):
        assert gradient.isfinite().all()
    assert head.intercept.grad.abs().min() > 0


def test_only_normal_numbers_have_such_bits():
    for density_head, size in ((likelihoods.Laplace(1), 2), (likelihoods.Normal(2), 2)):
        with pytest.raises(ConfigError, match="SelfMasked takes a Normal of half of its"):
            likelihoods.SelfMasked(size, density_head)


class Linear(torch.nn.Module):
    """z ~ N(0, 1), two numbers that are linear in z, one of which is hidden by what it is; q is p(z), wider."""

    def __init__(self, loadings=(0.9, 0.8)):
        super().__init__()
        normal = likelihoods.Normal(1, scale=0.6, missing="observed-only")
        masked = likelihoods.SelfMasked(2, likelihoods.Normal(1, scale=0.5, missing="observed-only"))
        self.head = likelihoods.Columns(3, [normal, masked], [(1,), (0, 2)]).double()
        with torch.no_grad():
            masked.intercept.fill_(-0.3)
            masked.raw_slope.fill_(1.5)
        self.loadings = torch.nn.Parameter(torch.tensor(loadings[::-1], dtype=F64))

    def prior(self):
        return Product(Normal(torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64), False), 1)

    def posterior(self, x):
        return Product(Normal(torch.zeros(len(x), 1, dtype=F64), torch.full((len(x), 1), 1.5, dtype=F64), False), 1)

    def likelihood(self, z):
        return self.head(z * self.loadings)


def test_log_p_of_two_columns_is_that_of_quadrature():
    """A hidden and an observed cell: over z and over what is hidden."""
    model = Linear()
    slope, intercept = float(model.head.heads[1].slope.detach()), -0.3

    z, x0 = (
        grid.reshape(shape) for grid, shape in ((np.linspace(-8, 8, 801), (-1, 1)), (np.linspace(-9, 9, 1801), (1, -1)))
    )

    def joint(x0):
        return norm.pdf(z) * norm.pdf(x0, 0.9 * z, 0.5) * norm.pdf(0.7, 0.8 * z, 0.6)

    over_both = trapezoid(trapezoid(joint(x0) * norm.cdf(intercept + slope * x0), x0[0]), z[:, 0])
    over_z = trapezoid((joint(-0.4) * norm.cdf(-intercept + slope * 0.4))[:, 0], z[:, 0])
    x = torch.tensor([[NAN, 0.7, 1.0], [-0.4, 0.7, 0.0]], dtype=F64)
    noise = torch.Generator().manual_seed(0)
    found = vk.evaluation.log_marginal(model, x, num_samples=5_000, generator=noise)
    error = np.abs(found.value.numpy() - np.log([over_both, over_z]))
    assert (error < 4 * found.stderr.numpy() + 1e-6).all()
    assert found.stderr.max() < 0.03


def test_fills_and_draws_are_those_of_hidden_cells():
    """Where z says nothing, all is closed: the mean of hidden numbers, and what is expected of seen ones."""
    model = Linear(loadings=(0.0, 0.0))
    slope = float(model.head.heads[1].slope.detach())
    x = torch.tensor([[NAN, 0.7, 1.0], [NAN, 0.7, 0.0], [NAN, 0.7, NAN], [0.8, 0.7, 0.0]], dtype=F64)
    noise = torch.Generator().manual_seed(0)
    found = queries.impute(model, x, 4000, num_draws=2000, generator=noise)
    signs = (1.0, -1.0, 0.0)
    zero, scale = torch.tensor(0.0, dtype=F64), torch.tensor(0.5, dtype=F64)
    for i, sign in enumerate(signs):
        d = SelectedNormal(zero, scale, torch.tensor(-0.3 * sign, dtype=F64), torch.tensor(slope * sign, dtype=F64))
        np.testing.assert_allclose(found.filled[i, 0], d.mean, rtol=1e-6, atol=1e-9)
        drawn = found.draws[:, i, 0]
        assert abs(drawn.mean() - d.mean) < 5 * (d.variance / 2000) ** 0.5
        ends = [float(v[i, 0]) for v in (found.lower, found.upper)]
        inside = quad(lambda v, d=d: float(d.log_prob(torch.tensor(v, dtype=F64)).exp()), *ends)[0]
        assert inside == pytest.approx(0.95, abs=0.02)
    odd = queries.score_elements(model, x[3:], generator=noise)
    seen = SelectedNormal(zero, scale, torch.tensor(0.3, dtype=F64), torch.tensor(-slope, dtype=F64))
    np.testing.assert_allclose(odd.surprisal[0, 0], -seen.log_prob(torch.tensor(0.8, dtype=F64)), rtol=1e-6)
    np.testing.assert_allclose(odd.expected[0, 0], seen.mean, rtol=1e-6)
    np.testing.assert_allclose(odd.surprisal[0, 2], -norm.logcdf(0.3 - slope * 0.8), rtol=1e-6)


def table(n=700, seed=0):
    """A factor analysis of five columns, two of which hide what is large in them; and the truth."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(2, 5))
    truth = 0.85 * rng.normal(size=(n, 2)) @ (loadings / np.linalg.norm(loadings, axis=0)) + 0.5 * rng.normal(
        size=(n, 5)
    )
    x = truth.copy()
    for j in (0, 1):
        x[rng.random(n) < 1 / (1 + np.exp(-4 * (truth[:, j] / truth[:, j].std() - 0.5))), j] = np.nan
    return x, truth


def test_large_values_that_are_hidden_are_found_again():
    """Errors of fills, and of the mean of a column, beside those of a model to which cells are missing at random."""
    x, truth = table()
    hole = np.isnan(x)
    how = {"random_state": 0, "hidden": 16, "compile": "off", "max_epochs": 30}
    error, shift = {}, {}
    for name in (False, "self"):
        filled = VAEImputer(model_holes=name, **how).fit(x).transform(x)
        error[name] = np.sqrt(((filled - truth)[hole] ** 2).mean())
        shift[name] = np.abs(filled[:, :2].mean(0) - truth[:, :2].mean(0)).max()
    assert error["self"] < 0.7 * error[False]
    assert shift["self"] < 0.4 * shift[False]


def test_the_schema_says_which_holes_depend_on_their_value():
    frame = pd.DataFrame(table(200)[0], columns=list("abcde"))
    frame["level"] = np.where(np.arange(200) % 5 == 0, None, ["x", "y", "z"] * 66 + ["x", "y"])
    schema, x = Schema.found(frame).with_holes(Schema.found(frame).encode(frame), by_value=True)
    holes = [column for column in schema.columns if column.of is not None]
    assert [(hole.of, hole.by_value) for hole in holes] == [("a", True), ("b", True), ("level", False)]
    assert Schema.model_validate_json(schema.model_dump_json()) == schema
    with pytest.raises(ValueError, match="by_value belongs to a hole"):
        Schema(columns=({"name": "a", "kind": "continuous", "dtype": "Float64", "by_value": True},))
    with pytest.raises(ConfigError, match="model_holes is True, False"):
        VAEImputer(model_holes="selfish").fit(x[:, :5])


def test_commands_fit_fill_and_draw(tmp_path, capsys):
    x, _ = table(300)
    pd.DataFrame(x.round(4), columns=list("abcde")).to_csv(tmp_path / "t.csv", index=False)
    fit = ["fit", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r"), "--self-masking", "max_epochs=3", "hidden=8"]
    assert cli.run([*fit, "--quiet"]) == 0
    run = runs.open(tmp_path / "r")
    (masked,) = [part for part in run.model.decoder.head.heads if isinstance(part, likelihoods.SelfMasked)]
    assert masked.slope.min() > 0.3  # of both columns: the large ones are hidden
    stored = json.loads((tmp_path / "r" / "config.json").read_text())["metadata"]["data"]["columns"]
    assert stored[5:] == ["a empty", "b empty"]
    assert isinstance(View.of(run.model).at_prior, Columns)
    of_rows = ["impute", str(tmp_path / "t.csv")]
    for command in (["sample", "-n", "20"], of_rows, [*of_rows, "--draws", "2"]):
        name, *rest = command
        assert cli.run([name, str(tmp_path / "r"), *rest, "-o", str(tmp_path / "out.csv")]) == 0
        found = pd.read_csv(tmp_path / "out.csv")
        assert list(found)[-5:] == list("abcde")
        assert not found.isna().any().any()
    rows = run.rows(tmp_path / "t.csv")
    again = runs.open(tmp_path / "r").score(rows, num_samples=5)
    np.testing.assert_array_equal(run.score(rows, num_samples=5).values, again.values)
    assert set(run.detect(rows, rate=0.1).to_dict()) >= {"log_p", "p_value", "outlier"}
    capsys.readouterr()
