"""Bounds of several draws: below log p(x), and equal to their formulas on fixed draws; gradients by enumeration."""

import itertools
import math

import pytest
import torch
from components import OBJECTIVES, rows
from known_models import LinearGaussian
from test_score_function import Replicates, assert_unbiased, exact_gradients
from test_score_function import X as POINT
from torch.distributions import Normal

from vaekit import VAE, Conditional, Trainer, bounds, cli, engine, likelihoods, networks, posteriors, priors
from vaekit.distributions import Product
from vaekit.errors import ConfigError
from vaekit.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, STL, TVO, Denoising, DReG, Renyi
from vaekit.saving import spec

F64 = torch.float64


class WrongPosterior(LinearGaussian):
    """A linear-Gaussian model whose q(z|x) is a product, shifted and too wide."""

    def posterior(self, x):
        exact = super().posterior(x)
        return Product(Normal(exact.mean + 0.2, 1.4 * exact.variance.sqrt(), validate_args=False), 1)


def make() -> VAE:
    return VAE(
        encoder=Conditional(networks.MLP(5, (8,), "tanh"), posteriors.DiagonalNormal(3)),
        decoder=Conditional(networks.MLP(3, (8,), "tanh"), likelihoods.Normal(5, scale=0.5)),
        prior=priors.StandardNormal(3),
    ).double()


X = torch.linspace(-2, 2, 30, dtype=F64).reshape(6, 5)


def drawn(model, num_samples):
    with engine.seeded(4):
        return bounds.draw(model, X, num_samples)


def loss_of(objective, model):
    with engine.seeded(4):
        return objective(model, X)


def gradients(loss, model):
    return torch.autograd.grad(loss.value, list(model.parameters()))


BOUNDS = [
    ("renyi", Renyi(0.3, 4)),
    ("renyi", Renyi(0.7, 4)),
    ("renyi", Renyi(2.0, 4)),
    ("tvo", TVO(8)),
    ("tvo", TVO(8, num_intervals=6, first=0.1)),
    ("miwae", MIWAE(8, 2)),
    ("miwae", PIWAE(8, 2)),
    ("ciwae", CIWAE(4, 0.3)),
    ("iwae", DReG(4)),
    ("elbo", STL(2)),
    ("elbo", Denoising("normal", 0.2)),
    ("elbo", Denoising("mask", 0.2)),
]


@pytest.mark.parametrize(("term", "objective"), BOUNDS, ids=lambda value: repr(value))
def test_bounds_stay_below_log_p(term, objective):
    model = WrongPosterior()
    model.posterior_parameters = model.generative_parameters = list
    x = model.sample(1).expand(20_000, -1)
    exact = float(model.log_prob(x[:1]))
    with torch.no_grad():
        terms = objective(model, x).terms
    values = terms[term]
    stderr = float(values.std()) / math.sqrt(len(values))
    assert stderr < 0.1
    assert float(values.mean()) < exact + 4 * stderr
    if not isinstance(objective, Denoising):
        assert float(values.mean()) > exact - 3  # and they are near it
    assert term in objective.log_densities


def test_at_the_exact_posterior_bounds_are_log_p():
    model = LinearGaussian()
    model.posterior_parameters = model.generative_parameters = list
    x = model.sample(5)
    for term, objective in BOUNDS[:-2]:
        torch.testing.assert_close(objective(model, x).terms[term], model.log_prob(x), rtol=0, atol=1e-9)


# --- Formulas on fixed draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_renyi_is_a_power_mean_of_the_weights(alpha):
    model = make()
    weights = drawn(model, 6).log_weights
    powers = weights.exp().pow(1 - alpha).mean(0)
    expected = weights.mean(0) if alpha == 1 else powers.log() / (1 - alpha)
    loss = loss_of(Renyi(alpha, 6), model)
    torch.testing.assert_close(loss.terms["renyi"], expected)
    torch.testing.assert_close(loss.value, -expected.mean())


def test_the_ends_of_renyi_are_iwae_and_the_elbo():
    model = make()
    for objective, end in ((Renyi(0.0, 5), IWAE(5)), (Renyi(1.0, 5), ELBO(5, kl="sampled"))):
        mine, theirs = loss_of(objective, model), loss_of(end, model)
        torch.testing.assert_close(mine.value, theirs.value)
        for a, b in zip(gradients(mine, model), gradients(theirs, model), strict=True):
            torch.testing.assert_close(a, b)
    near = loss_of(Renyi(1 - 1e-7, 5), model).terms["renyi"]
    torch.testing.assert_close(near, drawn(model, 5).log_weights.mean(0), rtol=0, atol=1e-4)
    values = [loss_of(Renyi(alpha, 5), model).value for alpha in (-2.0, 0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)  # for the same draws the bound falls with alpha


def test_miwae_averages_groups():
    model = make()
    weights = drawn(model, 6).log_weights
    expected = torch.stack([bounds.log_mean_exp(weights[m::2]) for m in range(2)]).mean(0)
    loss = loss_of(MIWAE(6, 2), model)
    torch.testing.assert_close(loss.terms["miwae"], expected)
    torch.testing.assert_close(loss.value, -expected.mean())
    torch.testing.assert_close(loss_of(MIWAE(6, 1), model).value, -bounds.log_mean_exp(weights).mean())
    torch.testing.assert_close(loss_of(MIWAE(6, 6), model).value, -weights.mean())


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_ciwae_mixes_both_bounds(weight):
    model = make()
    weights = drawn(model, 4).log_weights
    expected = weight * weights.mean(0) + (1 - weight) * bounds.log_mean_exp(weights)
    torch.testing.assert_close(loss_of(CIWAE(4, weight), model).terms["ciwae"], expected)


def test_piwae_gives_each_half_its_own_gradient():
    model = make()
    names = [name for name, _ in model.named_parameters()]
    mine = gradients(loss_of(PIWAE(6, 2), model), model)
    grouped, tight = (gradients(loss_of(o, model), model) for o in (MIWAE(6, 2), IWAE(6)))
    for name, a, g, t in zip(names, mine, grouped, tight, strict=True):
        torch.testing.assert_close(a, g if name.startswith("encoder") else t)
        assert not torch.allclose(g, t, rtol=1e-6)
    torch.testing.assert_close(loss_of(PIWAE(6, 2), model).value, loss_of(IWAE(6), model).value)
    with pytest.raises(ConfigError, match=r"posterior_parameters\(\)"):
        PIWAE()(LinearGaussian(), X)


@pytest.mark.parametrize("intervals", [1, 2, 5])
def test_tvo_is_a_left_sum_between_the_elbo_and_iwae(intervals):
    model, objective = make(), TVO(7, num_intervals=intervals, first=0.05)
    weights = drawn(model, 7).log_weights
    ends = [0.0, *(0.05 ** (1 - j / (intervals - 1)) for j in range(intervals))] if intervals > 1 else [0.0, 1.0]
    expected = sum(
        (b - a) * (weights.exp() ** a * weights).sum(0) / (weights.exp() ** a).sum(0)
        for a, b in itertools.pairwise(ends)
    )
    terms = loss_of(objective, model).terms
    torch.testing.assert_close(terms["tvo"], expected, rtol=1e-6, atol=1e-6)  # the ends are kept in float32
    assert bool((terms["tvo"] >= terms["elbo"] - 1e-9).all())
    assert bool((terms["tvo"] <= terms["iwae"] + 1e-9).all())


# --- Gradients without reparameterisation, by enumeration ------------------------------------------------------------


def states_of(model):
    """log q and log w of the four pairs of bits, each of shape (4, 1)."""
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=F64).unsqueeze(1)
    log_q = model.posterior(None).log_prob(states)
    return log_q, model.likelihood(states).log_prob(POINT) + model.prior().log_prob(states) - log_q


def expected_over_pairs(function):
    def exact(model):
        log_q, weights = states_of(model)
        pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        return (log_q[pairs].sum(1).exp() * function(weights[pairs].movedim(1, 0))).sum(0)

    return exact


@pytest.mark.parametrize(
    ("objective", "function"),
    [
        (Renyi(0.5, 2), lambda w: 2 * bounds.log_mean_exp(0.5 * w)),
        (Renyi(2.0, 2), lambda w: -bounds.log_mean_exp(-w)),
        (CIWAE(2, 0.3), lambda w: 0.3 * w.mean(0) + 0.7 * bounds.log_mean_exp(w)),
        (MIWAE(2, 2), lambda w: w.mean(0)),
    ],
    ids=["renyi-0.5", "renyi-2", "ciwae", "miwae"],
)
def test_gradients_for_bits_are_unbiased(objective, function):
    value, exact = exact_gradients("bits", expected_over_pairs(function))
    model = Replicates("bits", rows=50_000)
    loss = objective(model, POINT.expand(50_000, 3))
    estimates = torch.autograd.grad(-loss.value * 50_000, model.leaves)
    name = type(objective).__name__.lower()
    assert_unbiased(loss.terms[name].detach(), estimates, value.detach(), exact)


def test_the_gradient_of_tvo_against_enumeration():
    objective = TVO(2_000, num_intervals=3, first=0.1)

    def exact(model):
        log_q, weights = states_of(model)
        beta = objective.betas.double()
        log_pi = torch.log_softmax(log_q + beta[:-1].reshape(-1, 1, 1) * weights, 1)
        return (beta.diff().reshape(-1, 1, 1) * log_pi.exp() * weights).sum((0, 1))

    value, truth = exact_gradients("bits", exact)
    model = Replicates("bits", rows=300)
    loss = objective(model, POINT.expand(300, 3))
    estimates = torch.autograd.grad(-loss.value * 300, model.leaves)
    assert_unbiased(loss.terms["tvo"].detach(), estimates, value.detach(), truth)


# --- Every objective: a step, a name, a refusal ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "factory"), rows(OBJECTIVES))
def test_one_epoch_moves_every_parameter(name, factory):
    model, objective = make().float(), factory()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(24, 5)
    trainer = Trainer(max_epochs=1, batch_size=12, progress=False, compile="off", precision="float32")
    history = trainer.fit(model, objective, x, x[:8])
    assert history["skipped"] == [0]
    assert math.isfinite(history[f"valid_{objective.selects}"][0])
    for term in ("elbo", "log_likelihood", "kl"):
        assert math.isfinite(history[f"train_{term}"][0])
    assert all(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("name", "factory"), rows(OBJECTIVES))
def test_validation_is_the_bound_at_beta_one(name, factory):
    model, objective = make(), factory()
    objective.prepare(100)
    num_samples = getattr(objective, "num_samples", 1)
    terms = objective.validation_terms(model, X)
    torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])
    assert terms[objective.selects].shape == (6,)
    if "iwae" in terms:
        with engine.seeded(1):
            terms = objective.validation_terms(model, X)
        with engine.seeded(1):
            torch.testing.assert_close(terms["iwae"], bounds.iwae(model, X, num_samples))


@pytest.mark.parametrize(
    ("text", "kind"),
    [("dreg", "DReG"), ("beta-tc:beta=3", "BetaTC"), ("factor_vae", "FactorVAE"), ("dip-vae:kind=i", "DIPVAE")],
)
def test_the_command_line_finds_objectives_by_name(text, kind):
    assert type(spec.from_words("objectives", text)).__name__ == kind


def test_the_command_line_trains_them(tmp_path):
    for name in ("dreg", "factor-vae:gamma=2"):
        words = ["fit", "digits", "-o", str(tmp_path / name[:4]), f"objective={name}", "max_epochs=1", "hidden=8"]
        assert cli.run([*words, "latent_dim=2", "compile=off"]) == 0


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: MIWAE(6, 4), "divides num_samples; got 4 groups of 6"),
        (lambda: PIWAE(6, 0), "divides num_samples"),
        (lambda: MIWAE(0, 1), "num_samples is at least 1"),
        (lambda: CIWAE(4, 1.5), r"elbo_weight lies in \[0, 1\]; got 1.5"),
        (lambda: CIWAE(0), "num_samples is at least 1"),
        (lambda: Renyi(math.nan), "alpha is a finite number"),
        (lambda: Renyi(0.5, 0), "num_samples is at least 1"),
        (lambda: TVO(1), "at least 2"),
        (lambda: TVO(5, num_intervals=0), "num_intervals is at least 1"),
        (lambda: TVO(5, first=1.0), r"first lies in \(0, 1\)"),
        (lambda: Denoising("blur"), "corruption is one of"),
        (lambda: Denoising("mask", 1.5), "level"),
        (lambda: Denoising("normal", -0.5), "level"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_one, message):
    with pytest.raises(ConfigError, match=message):
        make_one()
