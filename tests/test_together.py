"""Several processes train as one: gradients, loss curves, and what each of them may say."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import together
from torch import nn

import vaekit as vk
from vaekit import engine
from vaekit.engine import world
from vaekit.models.row_draws import RowDraws
from vaekit.models.view import View
from vaekit.objectives import ELBO, BetaTC, Capacity, DIPVAE, FactorVAE, InfoVAE
from vaekit.training.settings import TrainerSettings
from vaekit.training.step import Step
from vaekit.training.together import Part, StepNoise

needs_gloo = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)
OBJECTIVES = {
    "elbo": lambda: ELBO(num_samples=2),
    "free bits": lambda: ELBO(free_bits=0.3),
    "capacity": lambda: Capacity(capacity=0.5, gamma=3.0),
    "tc": lambda: BetaTC(beta=4.0),
    "weighted tc": lambda: BetaTC(beta=4.0, weighting="weighted"),
    "factor": lambda: FactorVAE(hidden=(8,)),
    "mmd": lambda: InfoVAE(),
    "dip i": lambda: DIPVAE("i"),
    "dip ii": lambda: DIPVAE("ii"),
    "iwae": lambda: vk.objectives.IWAE(num_samples=3),
    "denoising": lambda: vk.objectives.Denoising("normal"),
}


class Normed(nn.Module):
    """A network with batch normalisation and dropout."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.in_shape, self.out_shape = (in_size,), (out_size,)
        self.layers = nn.Sequential(
            nn.Linear(in_size, out_size), nn.BatchNorm1d(out_size), nn.Tanh(), nn.Dropout(0.2)
        )

    def forward(self, x):
        return self.layers(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _model(kind):
    with engine.seeded(3):
        posterior = vk.posteriors.Bernoulli(3) if kind == "bits" else vk.posteriors.DiagonalNormal(3)
        prior = vk.priors.StandardNormal(3)
        if kind == "vamp":
            prior = vk.priors.VampPrior(3, num_pseudo_inputs=5)
        if kind == "bits":
            prior = vk.priors.Bernoulli(3)
        network = Normed if kind == "normed" else lambda i, o: vk.networks.MLP(i, (o,))
        return vk.VAE(
            encoder=vk.Conditional(network(4, 6), posterior),
            decoder=vk.Conditional(network(3, 6), vk.likelihoods.Normal(4)),
            prior=prior,
        ).double()


def _rows(num_rows=23):
    x = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x @ torch.tensor([[1.0, 0.5, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]], dtype=torch.float64)


def _gradient(kind, name, weighted, num_rows):
    """The loss of a batch, all gradients of it, and the buffers after it, each as numbers."""
    model, objective = _model(kind), OBJECTIVES[name]()
    weight = torch.rand(num_rows, generator=torch.Generator().manual_seed(1)).double() if weighted else None
    view = View.of(model, _rows(num_rows), weight=weight)
    with engine.seeded(4):
        objective.build(model)
    objective.prepare(view.total_weight)
    model.train()
    settings = TrainerSettings(
        batch_size=num_rows, compile="off", row_noise=True, optimizer=torch.optim.SGD, learning_rate=1.0
    )
    before = [p.detach().clone() for module in (model, objective) for p in module.parameters()]
    step = Step(settings, view, objective)
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(2))
    part = Part.of(order, weight)
    with engine.batch_norm_together(model), StepNoise(0, 1, True, objective.num_samples).at(5, part.rows):
        loss = step(view.batch(part.rows), part if world.size() > 1 else None)
    after = [p.detach() for module in (model, objective) for p in module.parameters()]
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, after, strict=True)])
    floating = [b.flatten().double() for b in model.buffers() if b.is_floating_point()]
    baselines = [b.flatten().double() for b in objective.buffers()]
    return float(loss.value.detach()), moved.numpy(), torch.cat([*floating, *baselines, torch.zeros(1)]).numpy()


CASES = [(kind, name, False, 23) for kind, name in [*(("plain", name) for name in OBJECTIVES), ("normed", "elbo")]]
CASES += [("normed", "tc", False, 23), ("vamp", "elbo", False, 23), ("bits", "elbo", False, 23)]
CASES += [("plain", name, True, 23) for name in OBJECTIVES]
CASES += [("plain", "tc", False, 3), ("normed", "mmd", False, 3), ("bits", "capacity", True, 9)]


def _gradients():
    return [_gradient(*case) for case in CASES]


def _same_gradients(size):
    expected = _gradients()
    for found in together(_gradients, size):
        for case, one, several in zip(CASES, expected, found, strict=True):
            assert several[0] == pytest.approx(one[0], rel=1e-9), case
            if case[1] == "factor":  # its adversary moves by Adam, whose first step is the sign of the gradient
                np.testing.assert_allclose(several[1], one[1], atol=1e-5, err_msg=str(case))
            else:
                np.testing.assert_allclose(several[1], one[1], rtol=1e-7, atol=1e-9, err_msg=str(case))
            np.testing.assert_allclose(several[2], one[2], rtol=1e-6, atol=1e-9, err_msg=str(case))


@needs_gloo
def test_two_processes_have_the_gradient_of_one():
    _same_gradients(2)


@needs_gloo
@pytest.mark.slow
def test_four_processes_have_the_gradient_of_one():
    _same_gradients(4)
