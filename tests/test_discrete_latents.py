"""Bits and categories, exact and relaxed: against enumeration, quadrature and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import RelaxedOneHotCategorical as TorchRelaxedOneHotCategorical
from torch.distributions.kl import kl_divergence as torch_kl

import vaekit as vk
from vaekit import Conditional, bounds, likelihoods, networks, posteriors, priors
from vaekit.distributions import (
    Bernoulli,
    OneHotCategorical,
    Product,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    centre,
)
from vaekit.errors import ConfigError, SupportError
from vaekit.kl import kl_divergence, kl_per_dimension
from vaekit.objectives import ELBO, IWAE

F64 = torch.float64


def one_hot_codes(num_codes, num_classes):
    """Every code, shape (C^n, n, C)."""
    return torch.eye(num_classes, dtype=F64)[
        torch.tensor(list(itertools.product(range(num_classes), repeat=num_codes)))
    ]


def small(posterior, prior, dims=3):
    """Linear encoder and decoder: x|z ~ N(W z + b, 0.5)."""
    torch.manual_seed(2)
    model = vk.VAE(
        Conditional(networks.MLP(dims, ()), posterior),
        Conditional(networks.MLP(posterior.event_shape, ()), likelihoods.Normal(dims, scale=0.7)),
        prior,
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def kinds():
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=F64)
    return {
        "bits": (posteriors.Bernoulli(4), priors.Bernoulli(4), bits),
        "categories": (posteriors.Categorical(2, 3), priors.Categorical(2, 3), one_hot_codes(2, 3)),
    }


def exact(model, codes, x):
    """log p(x), the ELBO and log q, by summing over all codes; shapes (B,), (B,), (S, B)."""
    z = codes.unsqueeze(1)
    log_joint = model.likelihood(z).log_prob(x) + model.prior().log_prob(z)
    log_q = model.posterior(x).log_prob(z)
    return log_joint.logsumexp(0), (log_q.exp() * (log_joint - log_q)).sum(0), log_q


# --- Exact --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bits", "categories"])
def test_bounds_lie_below_the_enumerated_log_p(kind):
    posterior, prior, codes = kinds()[kind]
    model, x = small(posterior, prior), torch.randn(1, 3, dtype=F64)
    with torch.no_grad():
        log_p, elbo, log_q = exact(model, codes, x)
        torch.testing.assert_close(log_q.exp().sum(0), torch.ones(1, dtype=F64))
        torch.testing.assert_close(model.prior().log_prob(codes).exp().sum(), torch.tensor(1.0, dtype=F64))
        weights = bounds.log_weights(model, x.expand(2_000, 3), 16)
        stderr = weights.std() / math.sqrt(weights.numel())
        assert abs(float(weights.mean() - elbo)) < 5 * float(stderr)
        few, many = weights[:4].logsumexp(0) - math.log(4), weights.logsumexp(0) - math.log(16)
    assert float(elbo) < float(few.mean()) < float(many.mean()) < float(log_p)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=20_000, generator=torch.Generator().manual_seed(1))
    assert abs(float(estimate.value - log_p)) < 5 * float(estimate.stderr)


@pytest.mark.parametrize("kind", ["bits", "categories"])
@pytest.mark.parametrize(("kl", "num_samples"), [("auto", 1), ("sampled", 1), ("auto", 4), ("sampled", 4)])
def test_the_score_function_is_the_enumerated_gradient(kind, kl, num_samples):
    posterior, prior, codes = kinds()[kind]
    model, x, rows = small(posterior, prior), torch.randn(1, 3, dtype=F64), 40_000
    # q's parameters become leaves with one row per replicate: one backward pass gives as many gradients.
    raw = model.encoder.params(x).detach()
    leaf = raw.clone().requires_grad_()
    z = codes.unsqueeze(1)
    log_joint = model.likelihood(z).log_prob(x) + model.prior().log_prob(z)
    log_q = posterior(leaf).log_prob(z)
    (truth,) = torch.autograd.grad((log_q.exp() * (log_joint - log_q)).sum(), leaf)
    wide = raw.expand(rows, *raw.shape[1:]).clone().requires_grad_()
    terms = bounds.elbo_terms(model, x.expand(rows, 3), num_samples, kl, posterior=posterior(wide))
    (gradients,) = torch.autograd.grad((terms[0] - terms[1]).sum(), wide)
    stderr = gradients.std(0) / math.sqrt(rows)
    assert float(stderr.max()) < 0.1
    assert bool(((gradients.mean(0) - truth[0]).abs() < 4.5 * stderr).all())


def test_closed_forms_are_torchs_and_those_of_enumeration():
    q, p = torch.randn(5, 3, 4, dtype=F64), torch.randn(3, 4, dtype=F64)
    own = kl_divergence(OneHotCategorical(q, 1), OneHotCategorical(p, 1))
    other = torch_kl(TorchCategorical(logits=q), TorchCategorical(logits=p.expand(5, 3, 4)))
    torch.testing.assert_close(own, other.sum(1))
    torch.testing.assert_close(kl_per_dimension(OneHotCategorical(q, 1), OneHotCategorical(p, 1)), other)
    bits = [Product(Bernoulli(logits), 1) for logits in (q[:, 0], p[0])]
    torch_bits = [torch.distributions.Bernoulli(logits=d.base.logits.expand(5, 4)) for d in bits]
    torch.testing.assert_close(kl_divergence(*bits), torch_kl(*torch_bits).sum(-1))


@pytest.mark.parametrize(
    ("make", "nats"),
    [(lambda raw: Product(Bernoulli(raw), 1), 2 * math.log(2)), (lambda raw: OneHotCategorical(raw), math.log(2))],
)
def test_closed_forms_stay_finite_at_certain_codes(make, nats):
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    value = kl_divergence(make(logits), make(torch.zeros(2)))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(value, torch.tensor([nats]))
    assert gradient.isfinite().all()


def test_one_hot_draws_have_the_probabilities_and_only_those_values():
    logits = torch.tensor([[0.0, 1.0, -40.0], [2.0, 0.0, 0.5]], dtype=F64)
    d = OneHotCategorical(logits, 1)
    z = d.sample((40_000,))
    assert bool(d.support.check(z).all())
    assert set(z.unique().tolist()) == {0.0, 1.0}
    probs = torch.softmax(logits, -1)
    torch.testing.assert_close(z.mean(0), probs, atol=4 * 0.5 / 200, rtol=0)
    torch.testing.assert_close(d.entropy(), -(probs * probs.log()).sum())
    assert torch.equal(d.mode, torch.eye(3, dtype=F64)[[1, 0]])


# --- Relaxed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.5])
def test_the_relaxed_bernoulli_integrates_to_one_and_is_that_of_its_logistic(temperature):
    d = RelaxedBernoulli(torch.tensor(0.8, dtype=F64), temperature)
    y = torch.linspace(-120, 120, 400_001, dtype=F64)
    z, inside = torch.sigmoid(y), y.abs() < 35.9
    # Over the logit y of z: p(z) dz = p(z) z (1 - z) dy.
    density = d.log_prob(z[inside]).exp() * z[inside] * torch.sigmoid(-y[inside])
    s = temperature * y - 0.8
    logistic = temperature * torch.sigmoid(s) * torch.sigmoid(-s)
    near = y[inside].abs() < 20
    torch.testing.assert_close(density[near], logistic[inside][near], rtol=1e-6, atol=1e-14)
    step = float(y[1] - y[0])
    below, above = (float(logistic[side].sum()) * step for side in (y < -35.9, y > 35.9))
    assert abs(float(density.sum()) * step + below + above - 1) < 1e-4
    assert abs(float(density[z[inside] > 0.5].sum()) * step + above - float(torch.sigmoid(d.logits))) < 2e-3


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_the_relaxed_categorical_integrates_to_one_over_the_first_two_coordinates(temperature):
    logits = torch.tensor([0.5, -0.7, 0.1], dtype=F64)
    d = RelaxedOneHotCategorical(logits, temperature)
    # z = softmax(a, b, 0) has |d(z1, z2)/d(a, b)| = z1 z2 z3: the trapezoidal rule over the plane, which has no edge.
    axis = torch.linspace(-60, 60, 1_001, dtype=F64)
    a, b = torch.meshgrid(axis, axis, indexing="ij")
    z = torch.softmax(torch.stack([a, b, torch.zeros_like(a)], -1), -1)
    density = (d.log_prob(z) + z.log().sum(-1)).exp()
    assert abs(float(density.sum()) * float(axis[1] - axis[0]) ** 2 - 1) < 1e-5


def test_the_relaxed_categorical_is_torchs_where_that_holds():
    logits = torch.randn(3, 4, dtype=F64)
    z = RelaxedOneHotCategorical(logits, 0.8).sample((5,))
    other = TorchRelaxedOneHotCategorical(torch.tensor(0.8, dtype=F64), logits=logits, validate_args=False)
    torch.testing.assert_close(RelaxedOneHotCategorical(logits, 0.8).log_prob(z), other.log_prob(z))
    torch.testing.assert_close(RelaxedOneHotCategorical(logits, 0.8, 1).log_prob(z), other.log_prob(z).sum(-1))


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 5.0])
def test_frequencies_are_those_of_the_codes_at_every_temperature(temperature):
    logits, n = torch.tensor([1.0, -0.5, 0.2]), 60_000
    bits = RelaxedBernoulli(logits, temperature).sample((n,))
    ones = (bits > 0.5).double().mean(0)
    torch.testing.assert_close(ones, torch.sigmoid(logits).double(), atol=4 * 0.5 / math.sqrt(n), rtol=0)
    z = RelaxedOneHotCategorical(logits, temperature).sample((n,))
    largest = nn.functional.one_hot(z.argmax(-1), 3).double().mean(0)
    torch.testing.assert_close(largest, torch.softmax(logits, -1).double(), atol=4 * 0.5 / math.sqrt(n), rtol=0)
    if temperature < 0.01:  # nearly all of them are codes
        assert float(((bits - bits.round()).abs() < 1e-3).double().mean()) > 0.99
        assert float(((z - z.round()).abs().amax(-1) < 1e-3).double().mean()) > 0.98


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_float32_draws_stay_inside_with_finite_densities_and_gradients(temperature, scale):
    logits = (scale * torch.randn(20, 3)).requires_grad_()
    for d in (Product(RelaxedBernoulli(logits, temperature), 1), RelaxedOneHotCategorical(logits, temperature)):
        z = d.rsample((200,))
        assert bool(((z > 0) & (z < 1)).all())
        assert bool(d.support.check(z).all())
        value = d.log_prob(z)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("family", [RelaxedBernoulli, RelaxedOneHotCategorical])
def test_float32_importance_weights_are_those_of_float64(family):
    torch.manual_seed(0)
    q, p = torch.randn(500, 4), torch.zeros(4)
    z = family(q, 0.4).sample((20,))
    ratio = family(q, 0.4).log_prob(z) - family(p, 0.4).log_prob(z)
    exact_ratio = family(q.double(), 0.4).log_prob(z.double()) - family(p.double(), 0.4).log_prob(z.double())
    torch.testing.assert_close(ratio.double(), exact_ratio, atol=2e-4, rtol=1e-4)


def test_the_gradient_along_relaxed_draws_is_the_numerical_one():
    logits = torch.tensor([0.3, -0.4, 0.9], dtype=F64, requires_grad=True)
    for family in (RelaxedBernoulli, RelaxedOneHotCategorical):

        def average(raw, family=family):
            torch.manual_seed(5)
            return (family(raw, 0.7).rsample((2_000,)) ** 2).sum(-1).mean()

        assert torch.autograd.gradcheck(average, (logits,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["bits", "categories"])
def test_a_relaxed_pair_bounds_its_own_log_p(kind):
    """With one code, log p(x) is an integral over one or two dimensions."""
    if kind == "bits":
        model = small(posteriors.RelaxedBernoulli(1, 2 / 3), priors.RelaxedBernoulli(1, 0.8))
        y = torch.linspace(-35, 35, 20_001, dtype=F64)
        z, log_volume = torch.sigmoid(y)[:, None], nn.functional.logsigmoid(y) + nn.functional.logsigmoid(-y)
        log_volume = log_volume + math.log(float(y[1] - y[0]))
    else:
        model = small(posteriors.RelaxedCategorical(1, 3, 2 / 3), priors.RelaxedCategorical(1, 3, 0.8))
        axis = torch.linspace(-45, 45, 601, dtype=F64)
        a, b = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
        z = torch.softmax(torch.stack([a, b, torch.zeros_like(a)], -1), -1)
        log_volume = z.log().sum(-1) + 2 * math.log(float(axis[1] - axis[0]))
        z = z.unsqueeze(1)
    x = torch.randn(1, 3, dtype=F64)
    with torch.no_grad():
        log_p = torch.logsumexp(model.prior().log_prob(z) + model.likelihood(z).log_prob(x) + log_volume, 0)
        elbo = bounds.elbo(model, x.expand(4_000, 3)).mean()
    assert float(elbo) < float(log_p)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=40_000, generator=torch.Generator().manual_seed(1))
    assert abs(float(estimate.value - log_p)) < 5 * float(estimate.stderr) + 1e-4


# --- Together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("posterior", "prior", "message"),
    [
        (posteriors.RelaxedBernoulli(3), priors.Bernoulli(3), r"priors.RelaxedBernoulli or posteriors.Bernoulli\."),
        (posteriors.Bernoulli(3), priors.RelaxedBernoulli(3), r"priors.Bernoulli or posteriors.RelaxedBernoulli\."),
        (
            posteriors.RelaxedCategorical(3, 4),
            priors.Categorical(3, 4),
            r"whose prior is relaxed, too. Use priors.RelaxedCategorical or posteriors.Categorical\.",
        ),
        (posteriors.Bernoulli(3), priors.StandardNormal(3), r"z in \{0, 1\}, .* in the real numbers.*priors.Bernoulli"),
        (posteriors.DiagonalNormal(3), priors.Bernoulli(3), r"Use priors.StandardNormal or posteriors.Bernoulli\."),
        (posteriors.Categorical(3, 4), priors.StandardNormal((3, 4)), "the one-hot vectors"),
        (posteriors.RelaxedCategorical(3, 4), priors.StandardNormal((3, 4)), "the simplex"),
    ],
)
def test_latents_of_two_kinds_are_refused(posterior, prior, message):
    with pytest.raises(SupportError, match=message):
        small(posterior, prior)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: posteriors.Categorical(3, 1), "at least 2 classes; got 1"),
        (lambda: priors.Categorical(3, 1), "at least 2 classes; got 1"),
        (lambda: posteriors.RelaxedCategorical(3, 3, 0.0), "positive temperature; got 0.0"),
        (lambda: priors.RelaxedBernoulli(3, -1.0), "positive temperature; got -1.0"),
        (lambda: priors.Bernoulli(3, probs="even"), '"learned" or "uniform"; got \'even\''),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("name", ["bernoulli", "relaxed-bernoulli", "categorical", "relaxed-categorical"])
@pytest.mark.parametrize("objective", [ELBO(num_samples=3), IWAE(4)], ids=["elbo", "iwae"])
def test_presets_take_discrete_latents_and_keep_them(name, objective, tmp_path):
    torch.manual_seed(0)
    model, _ = vk.presets.vae((6,), latent_dim=3, hidden=(16,), posterior=name, prior=name)
    x = torch.bernoulli(torch.full((40, 6), 0.3))
    before = {key: value.clone() for key, value in model.named_parameters()}
    vk.Trainer(max_epochs=2, batch_size=20, progress=False).fit(model, objective, x, x)
    assert all(not torch.equal(value, before[key]) for key, value in model.named_parameters())
    vk.save(model, tmp_path / "run")
    again = vk.load(tmp_path / "run")
    first, second = (
        vk.evaluation.log_marginal(m, x, num_samples=20, generator=torch.Generator().manual_seed(0)).value
        for m in (model, again)
    )
    assert torch.equal(first, second)
    assert model.sample(3).shape == (3, 6)
    assert model.reconstruct(x[:2]).shape == (2, 6)


def test_the_code_of_a_point_is_the_mean_or_the_centre():
    logits = torch.tensor([[2.0, -1.0]])
    assert torch.equal(centre(Product(Bernoulli(logits), 1)), torch.sigmoid(logits))
    assert torch.equal(centre(Product(RelaxedBernoulli(logits, 0.5), 1)), torch.sigmoid(2 * logits))
    assert torch.equal(centre(RelaxedOneHotCategorical(logits, 0.5)), torch.softmax(2 * logits, -1))
    np.testing.assert_allclose(centre(OneHotCategorical(logits, 0)), torch.softmax(logits, -1), rtol=1e-6)
