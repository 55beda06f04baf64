"""Groups whose members share one latent: exact posteriors, holes, order, and what is computed at all."""

import math

import pytest
import torch
from torch import nn

import vaekit as vk
from vaekit import engine, likelihoods, networks, objectives, posteriors
from vaekit.errors import ConfigError, ShapeError
from vaekit.saving import spec

F64 = torch.float64
NAN = math.nan
SIZE, SHAPE = 5, (5, 2, 3)


def group_model(missing="observed-only", member=None):
    """A small model of groups of five images of 2 x 3 bits, in float64."""
    with engine.seeded(0):
        encoder = networks.MemberEncoder(SHAPE, networks.MLP((2, 3), (8,)), each=(2, 4), embedding_size=3, hidden=16)
        head = likelihoods.Bernoulli((2, 3), missing=missing)
        decoder = likelihoods.Group(SHAPE, head, member or networks.MLP(4 + 3, (16,)), embedding_size=3)
        return vk.VAE(
            encoder=vk.Conditional(encoder, posteriors.ProductOfExperts(4, SIZE)),
            decoder=vk.Conditional(networks.MLP(4, ()), decoder),
            prior=vk.priors.StandardNormal(4),
        ).double()


def groups(count=6, seed=0):
    return torch.rand(count, *SHAPE, dtype=F64, generator=torch.Generator().manual_seed(seed)).round()


def with_holes(x, seed=1):
    hidden = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.6
    hidden[0], hidden[-1] = True, False
    return torch.where(hidden[..., None, None], NAN, x)


def test_the_product_is_the_exact_posterior_of_linear_gaussian_members():
    """x_l = W_l z + noise of variance s_l: with W_l^T W_l diagonal its factor has that precision over s_l."""
    noise = torch.Generator().manual_seed(3)
    x, params, precision, pull = [], [], torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64)
    for l in range(4):
        turn, _ = torch.linalg.qr(torch.randn(3, 2, dtype=F64, generator=noise))
        scales = 0.3 + torch.rand(2, dtype=F64, generator=noise)
        loadings, variance = turn * scales, 0.2 + l / 3
        x.append(torch.randn(3, dtype=F64, generator=noise))
        own = loadings.T @ loadings / variance
        precision, pull = precision + own, pull + loadings.T @ x[-1] / variance
        diagonal = own.diagonal()
        params.append(torch.stack([loadings.T @ x[-1] / variance / diagonal, diagonal.expm1().log()]))
    nothing = torch.full((2, 2), NAN, dtype=F64)
    q = posteriors.ProductOfExperts(2, 5)(torch.stack([*params, nothing]))
    covariance = torch.linalg.inv(precision)
    torch.testing.assert_close(q.mean, covariance @ pull, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.diag(q.variance), covariance, rtol=1e-12, atol=1e-12)


def test_without_a_member_the_posterior_is_the_prior():
    model = group_model()
    q, p = model.posterior(torch.full((3, *SHAPE), NAN, dtype=F64)), model.prior()
    assert torch.equal(q.mean, torch.zeros(3, 4, dtype=F64))
    assert torch.equal(q.variance, torch.ones(3, 4, dtype=F64))
    z = torch.randn(7, 3, 4, dtype=F64)
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z), rtol=0, atol=0)
    estimate = vk.evaluation.log_marginal(model, torch.full((2, *SHAPE), NAN, dtype=F64), num_samples=20)
    assert torch.equal(estimate.value, torch.zeros(2, dtype=F64))


def test_the_order_of_experts_does_not_matter():
    params = torch.randn(6, 5, 2, 4, dtype=F64)
    head = posteriors.ProductOfExperts(4, 5)
    q, turned = head(params), head(params[:, torch.tensor([3, 0, 4, 1, 2])])
    torch.testing.assert_close(q.mean, turned.mean)
    torch.testing.assert_close(q.variance, turned.variance)


def test_gradients_of_absent_experts_are_zero_and_those_of_others_finite():
    params = torch.randn(5, 2, 4, dtype=F64)
    params[2] = NAN
    params.requires_grad_()
    q = posteriors.ProductOfExperts(4, 5)(params)
    (q.mean.sum() + q.variance.sum()).backward()
    assert params.grad.isfinite().all()
    assert torch.equal(params.grad[2], torch.zeros(2, 4, dtype=F64))
    assert (params.grad[[0, 1, 3, 4]] != 0).all()


class Few(nn.Module):
    """The same group without some of its members."""

    def __init__(self, model, members):
        super().__init__()
        self.model, self.members = model, members

    def posterior(self, x):
        whole = torch.full((len(x), *SHAPE), NAN, dtype=x.dtype)
        whole[:, self.members] = x
        return self.model.posterior(whole)

    def prior(self):
        return self.model.prior()

    def likelihood(self, z):
        logits = self.model.likelihood(z).base.logits[..., self.members, :, :]
        return torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 3)


def test_log_p_of_a_group_with_holes_is_that_of_the_smaller_group():
    model, members = group_model(), [1, 4]
    x = groups()
    holed = torch.full_like(x, NAN)
    holed[:, members] = x[:, members]
    estimates = [
        vk.evaluation.log_marginal(m, rows, num_samples=50, generator=torch.Generator().manual_seed(0), compile="off")
        for m, rows in ((model, holed), (Few(model, members), x[:, members]))
    ]
    torch.testing.assert_close(estimates[0].value, estimates[1].value, rtol=1e-10, atol=1e-10)


def test_log_p_of_a_small_group_against_enumeration():
    """The masses of all 2^4 groups of two members of two bits sum to 1 at each z, and so do those of one member."""
    head = likelihoods.Group((2, 2), likelihoods.Bernoulli(2, missing="observed-only"), networks.MLP(3, (6,)), 1)
    p = head.double()(torch.randn(1, 2, dtype=F64))
    bits = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=F64)] * 4).reshape(-1, 2, 2)
    assert p.log_prob(bits).exp().sum().item() == pytest.approx(1, abs=1e-12)
    one = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=F64)] * 2)
    rows = torch.stack([one, torch.full_like(one, NAN)], 1)
    assert p.log_prob(rows).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("leading", [(6,), (4, 6), (3, 4, 6), (1,), (4, 1)])
def test_members_that_are_asked_for_alone_have_the_log_p_of_the_whole_product(leading):
    """Against the product over all elements, for values that lead the batch, follow it, or are one for all."""
    p = group_model().likelihood(torch.randn(4, 6, 4, dtype=F64, generator=torch.Generator().manual_seed(2)))
    x = with_holes(groups(math.prod(leading)).reshape(-1, *SHAPE)).reshape(*leading, *SHAPE)
    x[(0,) * len(leading)][2, 0, 1] = 1.0  # a member that is there in part
    plain = vk.distributions.Product(p.base, 3, missing="observed-only")
    torch.testing.assert_close(p.log_prob(x), plain.log_prob(x), rtol=1e-12, atol=1e-12)


class Counting(nn.Module):
    """Counts the rows that it is given."""

    in_shape, out_shape = (7,), (16,)

    def __init__(self):
        super().__init__()
        self.layers, self.rows = nn.Linear(7, 16), 0

    def forward(self, x):
        self.rows += len(x)
        return self.layers(x)


def test_members_that_are_missing_cost_nothing():
    counting = Counting()
    model = group_model(member=counting)
    x = with_holes(groups())
    observed = int((~x.isnan()).any(-1).any(-1).sum())
    assert 0 < observed < 0.7 * len(x) * SIZE
    counting.rows = 0
    vk.bounds.elbo(model, x, num_samples=3).sum().backward()
    assert counting.rows == 3 * observed
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_questions_about_groups_are_those_about_any_rows():
    model, x = group_model(), with_holes(groups())
    found = vk.queries.impute(model, x, num_samples=50, generator=torch.Generator().manual_seed(0))
    assert not found.filled.isnan().any()
    assert torch.equal(found.filled[~x.isnan()], x[~x.isnan()])
    assert model.sample(3).shape == (3, *SHAPE)
    again = spec.build(spec.describe(model))
    again.load_state_dict(model.state_dict())
    again.double()
    torch.testing.assert_close(again.posterior(x).mean, model.posterior(x).mean)


def test_a_group_without_holes_refuses_them():
    model = group_model(missing="error")
    p, plain = model.likelihood(torch.zeros(6, 4, dtype=F64)), group_model().likelihood(torch.zeros(6, 4, dtype=F64))
    torch.testing.assert_close(p.log_prob(groups()), plain.log_prob(groups()))
    with pytest.raises(vk.errors.DataError):
        vk.evaluation.log_marginal(model, with_holes(groups()), num_samples=5)


def test_parts_that_do_not_fit_are_named():
    bits, network = likelihoods.Bernoulli((2, 3)), networks.MLP(7, (4,))
    with pytest.raises(ShapeError, match=r"members of shape \(2, 4\)"):
        likelihoods.Group((5, 2, 4), bits, network, 3)
    with pytest.raises(ShapeError, match=r"F features and 7 numbers"):
        likelihoods.Group(SHAPE, bits, network, 7)
    with pytest.raises(ConfigError, match="products over their elements"):
        likelihoods.Group((5, 4), likelihoods.SequenceCategorical(4, 3), network, 3)
    with pytest.raises(ConfigError, match="num_experts"):
        posteriors.ProductOfExperts(2, 0)
    with pytest.raises(ShapeError, match=r"members of a group of shape \(5, 2, 3\) have shape \(2, 3\)"):
        networks.MemberEncoder(SHAPE, networks.MLP((3, 2), (4,)), each=2)


# --- Hidden members --------------------------------------------------------------------------------------------------


def test_whole_members_are_hidden_as_often_as_said():
    hide = objectives.HideCells(rows=1.0, least=0.5, most=0.9, leading=1)
    with engine.seeded(0):
        holes = hide.hidden(torch.zeros(3000, 20, 2, 3)).isnan().flatten(2)
    assert torch.equal(holes.any(-1), holes.all(-1))
    share = holes.all(-1).double().mean(1)
    assert abs(float(share.mean()) - 0.7) < 0.01
    assert abs(float(share.var()) - (0.4**2 / 12 + (0.7 * 0.3 - 0.4**2 / 12) / 20)) < 2e-3  # of u, and of 20 members
    everything = objectives.HideCells(rows=1.0, least=1.0, most=1.0, leading=2)
    assert everything.hidden(torch.zeros(2, 3, 4, 5)).isnan().all()
    with pytest.raises(ConfigError, match="least is at most"):
        objectives.HideCells(most=0.2, least=0.3)
    with pytest.raises(ConfigError, match="leading"):
        objectives.HideCells(leading=0)


def true_log_p(x):
    """Of groups that are bright or dark, with a tenth of the bits turned: a mixture of the two."""
    x = x.double().flatten(1)
    bright = torch.where(x == 1, math.log(0.9), torch.where(x == 0, math.log(0.1), 0.0)).sum(1)
    dark = torch.where(x == 1, math.log(0.1), torch.where(x == 0, math.log(0.9), 0.0)).sum(1)
    return torch.logaddexp(bright, dark) - math.log(2)


def test_a_style_is_learned_from_few_members():
    """Members are all bright or all dark with the style of their group: one tells the others."""
    style = torch.rand(1300, 1, 1, 1, generator=torch.Generator().manual_seed(0)).round()
    noise = torch.rand(1300, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = (noise < 0.1 + 0.8 * style).float()
    model = group_model().float()
    objective = objectives.HideCells(objectives.ELBO(), rows=1.0, least=0.2, most=1.0, leading=1)
    trainer = vk.Trainer(max_epochs=12, batch_size=50, learning_rate=1e-2, compile="off", progress=False)
    trainer.fit(model, objective, x[:1000])
    one, two = torch.full_like(x[1000:], NAN), torch.full_like(x[1000:], NAN)
    one[:, 0] = x[1000:, 0]
    two[:, :2] = x[1000:, :2]
    values = [
        vk.evaluation.log_marginal(model, rows, num_samples=200, generator=torch.Generator().manual_seed(0)).value
        for rows in (one, two)
    ]
    exact = [true_log_p(rows) for rows in (one, two)]
    assert (values[0] - exact[0]).mean().abs() < 0.2
    assert ((values[1] - values[0]) - (exact[1] - exact[0])).mean().abs() < 0.2
    assert (values[1] - 2 * values[0]).mean() > 0.5  # at best the log 2 nats that the style is worth
