"""A program that uses vaekit, for type checkers: `test_typing.py` has its lines checked, and runs none."""

from typing import assert_type

import torch

import vaekit as vk
from vaekit.evaluation.results import Results
from vaekit.models.base import GenerativeModel

model = vk.VAE(
    encoder=vk.Conditional(vk.networks.MLP(4, (8,)), vk.posteriors.DiagonalNormal(2)),
    decoder=vk.Conditional(vk.networks.MLP(2, (8,)), vk.likelihoods.Normal(4)),
    prior=vk.priors.StandardNormal(2),
)
x = torch.zeros(3, 4)
assert_type(vk.evaluation.log_marginal(model, x, num_samples=2).value, torch.Tensor)
assert_type(vk.evaluation.evaluate(model, x), Results)
assert_type(vk.data.load("digits"), vk.data.Dataset)
assert_type(vk.load("run"), GenerativeModel)
assert_type(vk.runs.open("run"), vk.runs.Run)
assert_type(vk.Trainer().fit(model, vk.objectives.ELBO(), x), vk.training.History)
assert_type(vk.distributions.Normal(x, x), vk.distributions.Normal)
assert_type(vk.bounds.elbo(model, x), torch.Tensor)

vk.no_such_module.f()  # wrong
vk.evaluation.no_such_function()  # wrong
vk.distributions.NoSuchDistribution()  # wrong
vk.networks.NoSuchNetwork()  # wrong
vk.models.NoSuchModel()  # wrong
vk.evaluation.log_marginal(model, x, num_samples="two")  # wrong
