"""The masked network and the autoregressive prior: by derivatives, by enumeration, by frequencies."""

import itertools
import math

import pytest
import torch

import vaekit as vk
from vaekit import Conditional, bounds, likelihoods, networks, posteriors, priors
from vaekit.errors import ConfigError

F64 = torch.float64


def randomised(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.8 * torch.randn_like(parameter))
    return module.double()


def every_code(num_codes, num_classes):
    indices = torch.tensor(list(itertools.product(range(num_classes), repeat=num_codes)))
    return torch.eye(num_classes, dtype=F64)[indices]


@pytest.mark.parametrize("hidden", [(), (4,), (9, 6)])
def test_outputs_depend_on_all_earlier_inputs_and_on_no_other(hidden):
    network = randomised(networks.MaskedMLP(4, 2, 3, hidden, activation="tanh"))
    x = torch.randn(4, 2, dtype=F64)
    jacobian = torch.autograd.functional.jacobian(network, x).abs().amax((1, 3))  # (output position, input position)
    earlier = torch.arange(4).unsqueeze(1) > torch.arange(4)
    assert bool((jacobian[~earlier] == 0).all())
    assert bool((jacobian[earlier] > 1e-6).all())
    assert network(x.expand(5, 6, 4, 2)).shape == (5, 6, 4, 3)


def test_a_hidden_layer_narrower_than_the_degrees_is_refused():
    with pytest.raises(ConfigError, match="5 positions need hidden layers of at least 4 units, one per degree; got 3"):
        networks.MaskedMLP(5, hidden=(8, 3))
    with pytest.raises(ConfigError, match="at least 2 classes; got 1"):
        priors.AutoregressiveCategorical(3, num_classes=1)


@pytest.mark.parametrize(("shape", "num_classes"), [(1, 4), ((2, 2), 3), (5, 2)])
def test_the_mass_sums_to_one_and_is_the_product_of_conditionals(shape, num_classes):
    prior = randomised(priors.AutoregressiveCategorical(shape, num_classes, hidden=(8,)))
    p, num_codes = prior(), math.prod(prior.code_shape)
    codes = every_code(num_codes, num_classes)
    log_p = p.log_prob(codes.reshape(-1, *prior.event_shape)).detach()
    assert abs(float(log_p.exp().sum()) - 1) < 1e-12
    # P(first code), by summing over the others, is the softmax of the first logits.
    first = torch.stack([log_p[codes[:, 0, c] == 1].exp().sum() for c in range(num_classes)])
    torch.testing.assert_close(first, torch.softmax(prior.network(codes)[0, 0].detach(), -1))


def test_draws_have_the_enumerated_frequencies():
    prior, n = randomised(priors.AutoregressiveCategorical(3, 2, hidden=(6,))), 40_000
    codes = every_code(3, 2)
    probabilities = prior().log_prob(codes).exp().detach()
    draws = prior().sample((n,))
    seen = (draws.flatten(1) @ codes.flatten(1).T == 3).double().mean(0)
    stderr = (probabilities * (1 - probabilities) / n).sqrt()
    assert abs(float(seen.sum()) - 1) < 1e-12
    assert bool(((seen - probabilities).abs() < 4.5 * stderr).all())
    # The codes depend on each other: what a product of the marginals would give is far away.
    marginals = draws.mean(0)
    product = (codes * marginals).sum(-1).prod(-1)
    assert float((product - seen).abs().max()) > 0.02


def test_a_model_with_it_is_bounded_by_the_enumerated_log_p_and_is_kept(tmp_path):
    torch.manual_seed(3)
    model = randomised(
        vk.VAE(
            Conditional(networks.MLP(4, ()), posteriors.Categorical(3, 2)),
            Conditional(networks.MLP((3, 2), ()), likelihoods.Normal(4, scale=0.7)),
            priors.AutoregressiveCategorical(3, 2, hidden=(6,)),
        )
    )
    x, codes = torch.randn(5, 4, dtype=F64), every_code(3, 2).unsqueeze(1)
    with torch.no_grad():
        log_p = (model.likelihood(codes).log_prob(x) + model.prior().log_prob(codes)).logsumexp(0)
        elbo = bounds.elbo(model, x, 2_000)
    assert bool((elbo < log_p).all())
    noise = torch.Generator().manual_seed(0)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=5_000, generator=noise)
    assert bool(((estimate.value - log_p).abs() < 5 * estimate.stderr + 1e-9).all())
    loss = vk.objectives.ELBO(num_samples=4)(model, x).value
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert all(g.isfinite().all() and bool(g.abs().sum() > 0) for g in gradients)
    vk.save(model, tmp_path / "run")
    again = vk.load(tmp_path / "run")
    assert torch.equal(again.prior().log_prob(codes), model.prior().log_prob(codes))
