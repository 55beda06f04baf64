"""A prior fitted after training: the aggregate posterior, the bound that rises, files."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import vaekit as vk
from vaekit import bounds, engine
from vaekit.distributions import Mixture, Product
from vaekit.errors import ConfigError, ShapeError, SupportError
from vaekit.training import fit_prior

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_model():
    """A linear VAE in which q(z|x) is a fixed map of x plus noise, so that q(z) of grouped data is a known mixture."""
    with engine.seeded(0):
        model = vk.VAE(
            vk.Conditional(vk.networks.MLP(3, ()), vk.posteriors.DiagonalNormal(2)),
            vk.Conditional(vk.networks.MLP(2, ()), vk.likelihoods.Normal(3, scale=0.5)),
            vk.priors.StandardNormal(2),
        ).double()
    linear = model.encoder.adapter.linear
    with torch.no_grad():
        linear.weight[2:].zero_()  # one scale for all x
        linear.bias[2:].fill_(2 * np.log(0.3))
    return model


def groups(n=4_000):
    """Three groups of weights 1/2, 1/4, 1/4 around known centres."""
    centres = torch.tensor([[0.0, 3.0, 0.0], [3.0, 0.0, 0.0], [-3.0, 0.0, 3.0]], dtype=F64)
    index = torch.arange(n) % 4
    with engine.seeded(1):
        return centres[(index - 1).clamp(min=0)] + 0.2 * torch.randn(n, 3, dtype=F64)


def test_full_and_diagonal_mixtures_find_a_known_aggregate_posterior():
    model, x = linear_model(), groups()
    linear = model.encoder.adapter.linear
    centres = torch.tensor([[0.0, 3.0, 0.0], [3.0, 0.0, 0.0], [-3.0, 0.0, 3.0]], dtype=F64)
    loc = centres @ linear.weight[:2].T + linear.bias[:2]
    covariance = 0.04 * linear.weight[:2] @ linear.weight[:2].T + 0.09 * torch.eye(2, dtype=F64)
    truth = MixtureSameFamily(
        Categorical(torch.tensor([0.5, 0.25, 0.25], dtype=F64)), MultivariateNormal(loc.detach(), covariance.detach())
    )
    z = truth.sample((2_000,))
    for kind in ("full", "diagonal"):
        fitted = fit_prior(model, x, vk.priors.NormalMixture(2, 3, kind), num_draws=20_000, generator=generator())
        gap = truth.log_prob(z) - fitted.prior().log_prob(z)
        assert float(gap.detach().mean()) < (0.01 if kind == "full" else 0.05), kind
    assert float((truth.log_prob(z) - model.prior().log_prob(z)).mean()) > 0.3, "the old prior is far from it"


def test_log_p_under_the_new_prior_is_that_of_the_new_model():
    # With a linear decoder log p(x) under a mixture prior is known.
    model, x = linear_model(), groups(400)
    encoder, decoder = model.encoder.adapter.linear, model.decoder.adapter.linear
    with torch.no_grad():  # a proposal that covers the posterior: importance sampling is then to be believed
        inverse = torch.linalg.pinv(decoder.weight)
        encoder.weight[:2], encoder.bias[:2] = inverse, -inverse @ decoder.bias
        encoder.bias[2:] = 2 * torch.log(1.2 * 0.5 * inverse.norm(dim=1))
    fitted = fit_prior(model, x, vk.priors.NormalMixture(2, 3, "full"), num_draws=5_000, generator=generator())
    prior, linear = fitted.prior(), fitted.decoder.adapter.linear
    tril = prior.components.scale_tril
    covariance = linear.weight @ tril @ tril.mT @ linear.weight.T + 0.25 * torch.eye(3, dtype=F64)
    exact = MixtureSameFamily(
        Categorical(logits=prior.logits), MultivariateNormal(linear(prior.components.loc), covariance)
    )
    with torch.no_grad():
        rows = fitted.sample(30, generator=generator())
        estimate = vk.evaluation.log_marginal(fitted, rows, num_samples=5_000, generator=generator())
        assert bool((estimate.ess > 200).all())
        gap = (estimate.value - exact.log_prob(rows)).abs()
        assert bool((gap < 5 * estimate.stderr + 1e-3).all())


class Shifted(nn.Module):
    """A foreign prior: a Gaussian with learned mean and scale."""

    def __init__(self, size):
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def forward(self):
        return Product(torch.distributions.Normal(self.loc, self.log_scale.exp(), validate_args=False), 1)


def test_any_prior_with_parameters_is_fitted_by_gradient_steps():
    model, x = linear_model(), groups(1_000)
    prior = Shifted(2)
    before = copy.deepcopy(model.state_dict())
    fitted = fit_prior(model, x, prior, num_draws=5_000, max_epochs=30, learning_rate=0.02, generator=generator())
    assert fitted.prior is prior
    with engine.seeded(3):
        z = model.posterior(x).sample((50,)).flatten(0, 1)
    torch.testing.assert_close(prior.loc.detach(), z.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(prior.log_scale.exp().detach(), z.std(0), atol=0.06, rtol=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in fitted.parameters()), "nothing is left behind for the next optimiser"


def test_a_vamp_prior_is_fitted_without_moving_the_encoder():
    model, x = linear_model(), groups(600)
    prior = vk.priors.VampPrior(2, num_pseudo_inputs=8)
    fitted = fit_prior(model, x, prior, num_draws=2_000, max_epochs=15, learning_rate=0.05, generator=generator())
    assert isinstance(fitted.prior(), Mixture)
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(fitted.encoder.state_dict()[key], value)
    assert all(p.grad is None for p in fitted.encoder.parameters())
    with torch.no_grad(), engine.seeded(0):
        z = model.posterior(x).sample()
        assert fitted.prior().log_prob(z).mean() > model.prior().log_prob(z).mean() + 0.1


def test_on_digits_the_bound_rises_and_the_model_is_saved_with_its_prior(tmp_path):
    x = torch.from_numpy((load_digits().images > 7).astype(np.float32))[:, None]
    train, test = x[:1400], x[1400:]
    with engine.seeded(0):
        model, objective = vk.presets.vae((1, 8, 8), latent_dim=8, hidden=(64,))
    vk.Trainer(max_epochs=15, batch_size=64, progress=False, compile="off").fit(model, objective, train)
    fitted = fit_prior(model, train, generator=generator(), num_draws=10_000)
    assert fitted.prior.covariance == "full"
    values = {}
    for name, candidate in (("before", model), ("after", fitted)):
        with torch.no_grad(), engine.seeded(5):
            values[name] = bounds.elbo(candidate, test, 50, kl="sampled")
    gain = values["after"] - values["before"]
    assert float(gain.mean()) > 3 * float(gain.std()) / len(gain) ** 0.5
    vk.save(fitted, tmp_path)
    again = vk.load(tmp_path)
    first, second = (
        vk.evaluation.log_marginal(m, test[:50], num_samples=20, generator=generator(), compile="off").value
        for m in (fitted, again)
    )
    assert torch.equal(first, second)


def test_draws_and_em_repeat_and_leave_the_global_stream_alone():
    model, x = linear_model(), groups(200)
    priors = [vk.priors.NormalMixture(2, 3) for _ in range(2)]
    state = torch.get_rng_state()
    first, second = (fit_prior(model, x, prior, num_draws=500, generator=generator(4)) for prior in priors)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_what_cannot_be_fitted_is_refused():
    model, x = linear_model(), groups(40)
    with pytest.raises(ConfigError, match="StandardNormal has no parameters to fit"):
        fit_prior(model, x, vk.priors.StandardNormal(2))
    with pytest.raises(ShapeError, match=r"events of shape \(3,\), the model's z has shape \(2,\)"):
        fit_prior(model, x, vk.priors.NormalMixture(3))
    with pytest.raises(ConfigError, match="num_draws is at least 1"):
        fit_prior(model, x, num_draws=0)
    with pytest.raises(ConfigError, match="such as VAE"):
        fit_prior(SimpleNamespace(prior=model.prior.forward, likelihood=model.likelihood), x)

    class Positive(Shifted):
        def forward(self):
            return Product(torch.distributions.Exponential(self.log_scale.exp(), validate_args=False), 1)

    with pytest.raises(SupportError, match="expects z in"):
        fit_prior(model, x, Positive(2))
