"""A likelihood whose support moves with z: nothing about its bounds is read off one draw of the prior."""

import pytest
import torch
from torch.distributions import Independent, Normal, Uniform, constraints

import vaekit as vk
from vaekit.distributions import check_support, known_support
from vaekit.distributions.support import bounds_of, element_support, is_fixed, unchecked
from vaekit.errors import SupportError
from vaekit.models.view import View


class Window:
    """p(x|z) uniform on (z - 1, z + 1), z normal: p(x) = [Phi(x + 1) - Phi(x - 1)] / 2."""

    def __init__(self, size, validate_args):
        self.size, self.validate_args = size, validate_args

    def posterior(self, x):
        return Independent(Normal(x, 0.5 * torch.ones_like(x)), 1)

    def prior(self):
        return Independent(Normal(torch.zeros(self.size), torch.ones(self.size)), 1)

    def likelihood(self, z):
        return Independent(Uniform(z - 1, z + 1, validate_args=self.validate_args), 1)


@pytest.mark.parametrize("validate_args", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_log_marginal_is_the_closed_form(size, validate_args):
    model = Window(size, validate_args)
    x = torch.tensor([0.0, 0.5, 3.0, -2.0, 1.0, -4.0]).reshape(-1, size)
    found = vk.evaluation.log_marginal(model, x, num_samples=20_000, generator=torch.Generator().manual_seed(0))
    normal = Normal(0.0, 1.0)
    exact = ((normal.cdf(x + 1) - normal.cdf(x - 1)) / 2).log().sum(-1)
    assert bool(((found.value - exact).abs() < 5 * found.stderr).all())
    assert float(found.stderr.max()) < 0.1


def test_what_a_view_knows_does_not_depend_on_its_draw():
    view = View.of(Window(3, True), torch.zeros(4, 3) + 5)
    assert (view.event_shape, view.quantity, view.num_values) == ((3,), "density", 3)
    assert bounds_of(element_support(view.at_prior)) is None
    assert known_support(view.at_prior) is None


def test_what_moves_is_asked_for_numbers_only():
    moving = Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]), validate_args=True)
    check_support(moving, torch.tensor([[7.0, -7.0]]))
    with pytest.raises(SupportError, match="bounds that depend on z; got values in .* NaN or infinite"):
        check_support(moving, torch.tensor([[7.0, torch.nan]]))
    assert unchecked(moving).log_prob(torch.tensor([0.5, 0.5])).tolist() == [0.0, -torch.inf]


def test_what_does_not_move_is_checked_at_the_edge():
    fixed = Uniform(0.0, 1.0)
    normal = Normal(torch.zeros(2), torch.ones(2), validate_args=True)
    assert is_fixed(normal.support)
    assert is_fixed(constraints.independent(constraints.integer_interval(0, 5), 1))
    assert not is_fixed(fixed.support)  # torch makes tensors of its bounds
    with pytest.raises(SupportError, match="the real numbers"):
        check_support(normal, torch.tensor([[0.0, torch.inf]]))
    with pytest.raises(ValueError, match="within the support"):
        unchecked(normal).log_prob(torch.tensor([0.0, torch.nan]))


OBJECTIVES = [vk.objectives.ELBO, vk.objectives.IWAE, vk.objectives.TVO, vk.objectives.BetaTC, vk.objectives.InfoVAE]


@pytest.mark.parametrize("make", OBJECTIVES, ids=lambda make: make.__name__)
def test_no_objective_stops_at_a_row_that_one_draw_makes_impossible(make):
    """Training skips such a step; torch's own check would end it."""
    objective = make()
    objective.prepare(4)
    model = Window(2, True)
    mean = torch.zeros(2, requires_grad=True)
    model.posterior = lambda x: vk.distributions.Product(Normal(mean + x, torch.ones_like(x)), 1)
    with vk.engine.seeded(0):
        loss = objective(model, 3 + torch.zeros(4, 2))
    assert loss.value.shape == ()


def test_chains_stop_at_no_bound_that_moves():
    model = Window(1, True)
    found = vk.evaluation.ais(
        model, torch.zeros(3, 1), num_chains=8, num_steps=50, generator=torch.Generator().manual_seed(0)
    )
    exact = torch.log(Normal(0.0, 1.0).cdf(torch.tensor(1.0)) - 0.5)
    assert bool(((found.value - exact).abs() < 5 * found.stderr + 0.2).all())


class Transformed:
    """z ~ N(0, 1) and x|z as `made` says of z, checked by torch."""

    def __init__(self, made):
        self.made = made

    def prior(self):
        return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(1), torch.ones(1)), 1)

    def posterior(self, x):
        return self.prior().expand((len(x),))

    def likelihood(self, z):
        return torch.distributions.Independent(self.made(z), 1)


def shifted_exponential(z):
    base = torch.distributions.Exponential(torch.ones_like(z), validate_args=True)
    return torch.distributions.TransformedDistribution(base, torch.distributions.AffineTransform(z, 1))


def shifted_uniform(z):
    base = torch.distributions.Uniform(torch.zeros_like(z), torch.ones_like(z), validate_args=True)
    return torch.distributions.TransformedDistribution(base, [torch.distributions.AffineTransform(z, z.exp())])


def pareto(z):
    return torch.distributions.Pareto(z.exp(), torch.full_like(z, 2.0), validate_args=True)


@pytest.mark.parametrize("made", [shifted_exponential, shifted_uniform, pareto])
def test_a_transform_that_moves_with_z_moves_the_support(made):
    """Against the integral over z on a fine grid, with the density by hand: 0 outside."""
    x = torch.tensor([[0.5], [1.0], [2.0]])
    z, y = torch.linspace(-8, 8, 160_001, dtype=torch.float64), x.double()
    if made is shifted_exponential:
        density = torch.where(y >= z, (z - y).exp(), 0.0)
    elif made is shifted_uniform:
        density = torch.where((y >= z) & (y <= z + z.exp()), (-z).exp(), 0.0)
    else:
        density = torch.where(y >= z.exp(), 2 * (2 * z).exp() / y**3, 0.0)
    truth = (density * torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5).sum(-1).mul(1e-4).log()
    noise = torch.Generator().manual_seed(0)
    found = vk.evaluation.log_marginal(Transformed(made), x, num_samples=20_000, generator=noise)
    assert bool(((found.value - truth).abs() < 5 * found.stderr + 0.01).all())
