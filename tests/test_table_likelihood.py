"""The likelihood of a table's row: groups of columns, each with a family of its own."""

import math

import pytest
import torch
from scipy import stats

from vaekit import likelihoods, transforms
from vaekit.distributions import Columns, check_support
from vaekit.distributions.support import num_values
from vaekit.errors import ConfigError, ShapeError, SupportError
from vaekit.models.checks import quantity
from vaekit.saving import spec

F64 = torch.float64


def mixed(missing="error"):
    """Two numbers, a bit, levels of 3 and 4, a grade of 3, and a count; in an order of their own."""
    heads = [
        likelihoods.Normal(2, scale="network", missing=missing),
        likelihoods.Bernoulli(1, missing=missing),
        likelihoods.Categorical(2, num_classes=(3, 4), missing=missing),
        likelihoods.Ordinal(1, num_classes=3, missing=missing),
        likelihoods.NegativeBinomial(1, missing=missing),
    ]
    return likelihoods.Columns(7, heads, [(5, 1), (0,), (2, 6), (4,), (3,)]).double()


def test_log_p_is_the_sum_of_the_columns_by_scipy():
    head = mixed()
    params = torch.randn(6, *head.param_shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    row = head(params)
    x = row.sample()
    parts = params.split([4, 1, 7, 1, 1], -1)
    means, raw = parts[0].unflatten(-1, (2, 2)).unbind(-2)
    scales = head.heads[0].scale_parameter(means, raw)
    expected = torch.zeros(6, 7, dtype=F64)
    for n in range(6):
        for place, d in ((5, 0), (1, 1)):
            expected[n, place] = stats.norm.logpdf(x[n, place], means[n, d].item(), scales[n, d].item())
        expected[n, 0] = stats.bernoulli.logpmf(int(x[n, 0]), torch.sigmoid(parts[1][n, 0]).item())
        for place, logits in ((2, parts[2][n, :3]), (6, parts[2][n, 3:])):
            expected[n, place] = torch.log_softmax(logits, 0)[int(x[n, place])]
        edges = [-math.inf, *(head.heads[3].thresholds()[0].tolist()), math.inf]
        k, score = int(x[n, 4]), parts[3][n, 0].item()
        mass = stats.logistic.cdf(edges[k + 1] - score) - stats.logistic.cdf(edges[k] - score)
        expected[n, 4] = math.log(mass)
        alpha, mean = 1 / head.heads[4].dispersion_parameter(parts[4][n], None).item(), math.exp(parts[4][n, 0].item())
        expected[n, 3] = stats.nbinom.logpmf(int(x[n, 3]), alpha, alpha / (alpha + mean))
    torch.testing.assert_close(row.log_prob_per_element(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(row.log_prob(x), expected.sum(1), rtol=1e-9, atol=1e-9)
    assert row.is_mass.tolist() == [True, False, True, True, True, False, True]
    assert row.quantity == quantity(row, None) == "density and mass"
    assert num_values(row) >= 4 + 1 + 8 + 3 + 1


def test_holes_count_for_nothing_and_gradients_stay_finite():
    head = mixed("observed-only")
    params = torch.randn(5, *head.param_shape, dtype=F64, requires_grad=True)
    x = head(params).sample().detach()
    observed = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    observed[0] = False
    row = head(params)
    value = row.log_prob(torch.where(observed, x, torch.nan))
    torch.testing.assert_close(value, (row.log_prob_per_element(x) * observed).sum(1), rtol=1e-12, atol=0)
    assert value[0] == 0
    (gradient,) = torch.autograd.grad(value.sum(), params)
    assert gradient.isfinite().all()
    assert bool((gradient[0] == 0).all())
    check_support(row, torch.where(observed, x, torch.nan))
    with pytest.raises(ConfigError, match="none does"):
        likelihoods.Columns(2, [likelihoods.Normal(1), likelihoods.Bernoulli(1, missing="observed-only")], [(0,), (1,)])


def test_a_value_outside_its_columns_set_names_the_columns():
    head = mixed()
    row = head(torch.zeros(2, *head.param_shape, dtype=F64))
    x = torch.tensor([[1, 0.5, 2, 7, 2, -3.5, 3], [0, 1e6, 0, 0, 0, 0, 0]], dtype=F64)
    check_support(row, x)
    for place, value, match in (
        (0, 2.0, r"x\[:, \[0\]\] in \{0, 1\}"),
        (2, 3.0, r"x\[:, \[2, 6\]\] in the numbers of its levels"),
        (6, 0.5, "numbers of its levels"),
        (4, 3.0, r"x\[:, \[4\]\] in the integers 0..2"),
        (3, -1.0, "non-negative integers"),
        (1, math.inf, "real numbers"),
        (1, math.nan, "real numbers"),
    ):
        bad = x.clone()
        bad[1, place] = value
        with pytest.raises(SupportError, match=match):
            check_support(row, bad)


def test_draws_have_the_frequencies_of_rare_levels():
    """Levels of 3.5% come up as often as they should: nothing is taken by argmax."""
    p = torch.tensor([0.59, 0.31, 0.065, 0.035], dtype=F64)
    head = likelihoods.Columns(
        2, [likelihoods.Categorical(1, num_classes=(4,)), likelihoods.Bernoulli(1)], [(1,), (0,)]
    ).double()
    torch.manual_seed(0)
    n = 40_000
    x = head(torch.cat([p.log(), torch.logit(torch.tensor([0.9], dtype=F64))])).sample((n,))
    found = x[:, 1].long().bincount(minlength=4) / n
    assert bool(((found - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all())
    assert abs(float(x[:, 0].mean()) - 0.9) < 4 * math.sqrt(0.09 / n)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_grades_have_masses_that_sum_to_one_far_out(size):
    head = likelihoods.Ordinal(1, num_classes=size).double()
    levels = torch.arange(size, dtype=F64).reshape(-1, 1, 1)
    for score in (-700.0, -30.0, 0.0, 30.0, 700.0):
        log_p = head(torch.full((1, 1, 1), score, dtype=F64)).log_prob(levels).detach()
        assert log_p.isfinite().all()
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    if size > 2:  # a score far below every threshold is the lowest level, one far above the highest
        assert head(torch.full((1, 1, 1), -30.0, dtype=F64)).mode.item() == 0
        assert head(torch.full((1, 1, 1), 30.0, dtype=F64)).mode.item() == size - 1


def test_columns_with_fewer_levels_are_as_if_alone():
    """Padding to the largest number of levels changes nothing, thresholds that are not there included."""
    both = likelihoods.Ordinal(2, num_classes=(3, 6)).double()
    alone = likelihoods.Ordinal(1, num_classes=3).double()
    with torch.no_grad():
        both.first[0] = alone.first[0] = -0.7
        both.steps[0, :1] = alone.steps[0] = 0.4
    score = torch.linspace(-3, 3, 9, dtype=F64).reshape(-1, 1, 1)
    found = both(score.expand(-1, 1, 2))
    for level in range(3):
        x = torch.tensor([level, 5.0], dtype=F64)
        single = alone(score).log_prob(x[:1])
        torch.testing.assert_close(
            found.log_prob_per_element(x)[..., 0].squeeze(), single.squeeze(), rtol=1e-12, atol=0
        )
    assert int(found.sample((500,))[..., 0].max()) <= 2


def test_what_is_no_likelihood_of_a_row_is_refused():
    normal, bits = likelihoods.Normal(2), likelihoods.Bernoulli(1)
    for heads, places, error in (
        ([normal, bits], [(0, 1), (1,)], ShapeError),
        ([normal, bits], [(0, 1)], ShapeError),
        ([normal, bits], [(0,), (1, 2)], ShapeError),
    ):
        with pytest.raises(error):
            likelihoods.Columns(3, heads, places)
    with pytest.raises(ConfigError, match="for each of the elements"):
        likelihoods.Categorical(2, num_classes=(3, 4, 5))
    with pytest.raises(ConfigError, match="at least 2"):
        likelihoods.Ordinal(2, num_classes=(3, 1))


def test_a_row_of_a_table_is_written_down_and_built_again():
    head = mixed("observed-only")
    again = spec.build(spec.describe(head)).double()
    again.load_state_dict(head.state_dict())
    params = torch.randn(3, *head.param_shape, dtype=F64)
    x = head(params).sample()
    assert torch.equal(head(params).log_prob(x), again(params).log_prob(x))
    row = head(params)
    wide = row.expand(torch.Size((4, 3)))
    assert isinstance(wide, Columns)
    torch.testing.assert_close(wide.log_prob(x), row.log_prob(x).expand(4, 3))
    assert wide.sample((2,)).shape == (2, 4, 3, 7)


# --- Numbers with point masses ---------------------------------------------------------------------------------------


def test_point_masses_and_density_sum_to_one():
    head = likelihoods.Spiked(2, likelihoods.Normal(2, scale=0.5), [[0.0, 1.5], [-1.0]]).double()
    params = torch.tensor([0.3, -0.2, 0.1, 0.4, -1.0, 0.7, 0.2], dtype=F64)
    row = head(params)
    spikes = torch.tensor([[0.0, -1.0], [1.5, 7.0]], dtype=F64)
    masses = row.log_prob_per_element(spikes).exp()
    expected = torch.softmax(params[2:5], 0), torch.softmax(params[5:], 0)
    torch.testing.assert_close(masses[:, 0], expected[0][1:], rtol=1e-12, atol=0)
    torch.testing.assert_close(masses[0, 1], expected[1][1], rtol=1e-12, atol=0)
    x = torch.linspace(-6, 6, 40_001, dtype=F64) + 1e-4
    density = row.log_prob_per_element(torch.stack([x, x], 1)).exp()
    total = torch.trapezoid(density, x, dim=0)
    torch.testing.assert_close(total, torch.stack([expected[0][0], expected[1][0]]), rtol=1e-6, atol=0)
    assert row.quantity == "density and mass"
    torch.manual_seed(0)
    drawn = row.sample((40_000,))
    share = (drawn == torch.tensor([0.0, -1.0], dtype=F64)).double().mean(0)
    for d, mass in enumerate((float(expected[0][1]), float(expected[1][1]))):
        assert abs(float(share[d]) - mass) < 4 * math.sqrt(mass * (1 - mass) / 40_000)
    torch.testing.assert_close(drawn.mean(0), row.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.var(0), row.variance, rtol=0.05, atol=0)


def test_a_mass_has_no_jacobian_and_a_density_does():
    """Debts in cents and in millions: the probability of none is the same, whatever the unit."""
    x = torch.tensor([[0.0], [250.0], [40.0], [0.0], [torch.nan], [75.0]], dtype=F64)
    log_ps = []
    for unit in (1.0, 1e-6):
        transform = transforms.Spiked(transforms.Standardize(1), [[0.0]]).fit(x * unit)
        head = likelihoods.Spiked(1, likelihoods.Normal(1, scale=1.0, missing="observed-only"), [[0.0]]).double()
        head.place(transform.spikes_of())
        y, log_det = transform.with_log_det(x * unit)
        log_ps.append(head(torch.zeros(6, 3, dtype=F64)).log_prob(y) + log_det)
        torch.testing.assert_close(transform.inverse(y), x * unit, rtol=1e-6, atol=1e-12, equal_nan=True)
    change = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0], dtype=F64) * math.log(1e6)
    torch.testing.assert_close(log_ps[1] - log_ps[0], change, rtol=1e-6, atol=1e-6)
    assert float(log_ps[0][0]) == pytest.approx(math.log(0.5))
    drawn = transform.inverse(head(torch.zeros(500, 3, dtype=F64)).sample().float())
    assert 150 < int((drawn == 0).sum()) < 350  # a draw of the mass is the value itself, not one beside it


def test_a_mixture_of_one_is_a_normal():
    mixture, normal = likelihoods.NormalMixture(3, 1), likelihoods.Normal(3, scale="network")
    params = torch.randn(5, 3, 3)
    x = torch.randn(5, 3)
    torch.testing.assert_close(mixture(params).log_prob(x), normal(params[:, 1:]).log_prob(x))
