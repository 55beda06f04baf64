"""Gradients where q cannot be reparameterised, against closed forms and enumeration.

The rows of one batch are replicates: each row has its own copy of the parameters, so that one backward pass gives as
many independent gradients as there are rows.
"""

import itertools
import math

import pytest
import torch
from components import BernoulliPosterior, BernoulliPrior
from torch import nn
from torch.distributions import Bernoulli, Normal

from vaekit import VAE, Conditional, bounds, kl, likelihoods, networks
from vaekit.distributions import Product
from vaekit.objectives import ELBO, IWAE

F64 = torch.float64
ROWS = 100_000
WEIGHT = torch.tensor([[1.0, -0.5], [0.3, 0.8], [-0.7, 0.4]], dtype=F64)
X = torch.tensor([0.4, -1.0, 0.8], dtype=F64)


class PlainNormal(Normal):
    """A Normal that pretends not to know how to reparameterise."""

    has_rsample = False

    def rsample(self, sample_shape=()):
        raise NotImplementedError


class Replicates:
    """z of two dimensions, x|z ~ N(W z + b, 0.5); q is Normal or a pair of bits. One row per replicate."""

    def __init__(self, kind, rows=ROWS):
        self.kind = kind
        values = torch.tensor([0.3, -0.6, -0.2, 0.1] if kind == "normal" else [0.7, -0.4], dtype=F64)
        self.raw = values.expand(rows, -1).clone().requires_grad_()
        self.bias = torch.zeros(rows, 3, dtype=F64).requires_grad_()
        self.leaves = [self.raw, self.bias]

    def posterior(self, x):
        if self.kind == "normal":
            return Product(PlainNormal(self.raw[:, :2], self.raw[:, 2:].exp()), 1)
        return Product(Bernoulli(logits=self.raw), 1)

    def prior(self):
        zero = torch.zeros(2, dtype=F64)
        return Product(Normal(zero, zero + 1) if self.kind == "normal" else Bernoulli(logits=zero - 0.5), 1)

    def likelihood(self, z):
        return Product(Normal(z @ WEIGHT.T + self.bias, torch.tensor(0.5**0.5, dtype=F64)), 1)

    def exact_elbo(self):
        """By closed forms for the Normal, by enumeration for the bits, of the first row."""
        q = self.posterior(None)
        if self.kind == "normal":
            spread = (q.variance @ WEIGHT.square().T).sum(-1)
            return self.likelihood(q.mean).log_prob(X) - spread - kl.kl_divergence(q, self.prior())
        return self.exact_iwae(1)

    def exact_iwae(self, num_samples):
        """Over all K-tuples of pairs of bits."""
        states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=F64).unsqueeze(1)
        log_q = self.posterior(None).log_prob(states)
        weights = self.likelihood(states).log_prob(X) + self.prior().log_prob(states) - log_q
        tuples = torch.cartesian_prod(*[torch.arange(4)] * num_samples).reshape(-1, num_samples)
        bound = bounds.log_mean_exp(weights[tuples].movedim(1, 0))
        return (log_q[tuples].sum(1).exp() * bound).sum(0)


def exact_gradients(kind, function):
    model = Replicates(kind, rows=1)
    value = function(model)
    return value, torch.autograd.grad(value.sum(), model.leaves)


def assert_unbiased(values, gradients, value, exact):
    for estimate, truth in [(values, value), *zip(gradients, exact, strict=True)]:
        stderr = estimate.std(0) / math.sqrt(len(estimate))
        assert float(stderr.max()) < 0.1
        assert bool(((estimate.mean(0) - truth.squeeze(0)).abs() <= 4 * stderr + 1e-12).all())


@pytest.mark.parametrize("kind", ["normal", "bits"])
@pytest.mark.parametrize("mode", ["analytic", "sampled"])
@pytest.mark.parametrize(("num_samples", "baseline"), [(1, None), (1, (-4.0, 0.5)), (4, None)])
def test_the_gradient_of_the_elbo_is_unbiased(kind, mode, num_samples, baseline):
    value, exact = exact_gradients(kind, Replicates.exact_elbo)
    model = Replicates(kind)
    if baseline is not None:
        baseline = tuple(torch.tensor(b, dtype=F64) for b in baseline)
    terms = bounds.elbo_terms(model, X.expand(ROWS, 3), num_samples, mode, baseline=baseline)
    values = terms[0] - terms[1]
    gradients = torch.autograd.grad(values.sum(), model.leaves)
    assert_unbiased(values.detach(), gradients, value.detach(), exact)


@pytest.mark.parametrize("num_samples", [1, 2, 4])
def test_the_gradient_of_iwae_is_unbiased(num_samples):
    value, exact = exact_gradients("bits", lambda m: m.exact_iwae(num_samples))
    model = Replicates("bits")
    values = bounds.iwae(model, X.expand(ROWS, 3), num_samples)
    gradients = torch.autograd.grad(values.sum(), model.leaves)
    assert_unbiased(values.detach(), gradients, value.detach(), exact)


@pytest.mark.parametrize("num_samples", [1, 4])
def test_the_gradient_of_iwae_agrees_with_the_reparameterised_one(num_samples):
    gradients = []
    for base in (PlainNormal, Normal):
        model = Replicates("normal")
        q = Product(base(model.raw[:, :2], model.raw[:, 2:].exp()), 1)
        model.posterior = lambda x, q=q: q
        assert q.has_rsample == (base is Normal)
        values = bounds.iwae(model, X.expand(ROWS, 3), num_samples)
        gradients.append(torch.cat(torch.autograd.grad(values.sum(), model.leaves), 1))
    stderr = ((gradients[0].var(0) + gradients[1].var(0)) / ROWS).sqrt()
    assert float(stderr.max()) < 0.1
    assert bool(((gradients[0].mean(0) - gradients[1].mean(0)).abs() < 4 * stderr).all())


@pytest.mark.parametrize("kind", ["normal", "bits"])
@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_the_other_draws_as_a_baseline_lower_the_variance(kind, bound):
    model = Replicates(kind)
    x = X.expand(ROWS, 3)
    value = bounds.iwae(model, x, 4) if bound == "iwae" else bounds.elbo(model, x, 4, kl="sampled")
    (with_baseline,) = torch.autograd.grad(value.sum(), [model.raw])
    draw = bounds.draw(model, x, 4)
    fixed = draw.log_weights.detach()
    if bound == "iwae":
        score = bounds.log_mean_exp(fixed) * draw.log_posterior.sum(0)
        plain = bounds.log_mean_exp(draw.log_weights) + score
    else:
        plain = (draw.log_weights + fixed * draw.log_posterior).mean(0)
    (without,) = torch.autograd.grad(plain.sum(), [model.raw])
    assert bool((with_baseline.var(0) < 0.6 * without.var(0)).all())


def test_the_score_term_leaves_the_value_alone():
    model = Replicates("normal", rows=5)
    torch.manual_seed(1)
    value = bounds.iwae(model, X.expand(5, 3), 3)
    torch.manual_seed(1)
    assert torch.allclose(value, bounds.log_mean_exp(bounds.log_weights(model, X.expand(5, 3), 3)), rtol=1e-12)


@pytest.mark.parametrize("objective", [ELBO(), ELBO(num_samples=3), IWAE(4)], ids=["elbo-1", "elbo-3", "iwae-4"])
def test_discrete_latents_learn(objective):
    """Two bits that x copies with noise: training finds a code, exactly evaluated by enumeration."""
    codes = torch.tensor([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])
    x = codes.repeat(16, 1) + 0.3 * torch.randn(64, 2)
    model = VAE(
        encoder=Conditional(networks.MLP(2, (16,), "tanh"), BernoulliPosterior(2)),
        decoder=Conditional(nn.Linear(2, 2), likelihoods.Normal(2, scale=0.5), in_shape=2),
        prior=BernoulliPrior((2,)),
    )

    def log_p():
        states = codes.sign().add(1).div(2).unsqueeze(1)
        with torch.no_grad():
            joint = model.likelihood(states).log_prob(x) + model.prior().log_prob(states)
        return float(joint.logsumexp(0).mean())

    before = log_p()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(400):
        loss = objective(model, x)
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
        objective.advance()
    assert log_p() > before + 5
    assert log_p() > -4.5  # log 4 for the code, 1.4 + 2 * 0.36 / 2 for the noise; one bit lost costs 8 nats
