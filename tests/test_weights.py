"""Weights and contexts of rows while training: in each objective, the graph, the adversary, the history, validation."""

import math
import threading
from types import SimpleNamespace

import pytest
import torch
from components import OBJECTIVES
from components import rows as table_rows
from torch import nn

import vaekit as vk
from vaekit import engine
from vaekit.errors import BusyError, ConfigError
from vaekit.models.rows import Batch
from vaekit.models.view import View
from vaekit.objectives import Loss, Objective
from vaekit.training.gradients import Adversary, Backward, OneGraph
from vaekit.training.history import Totals
from vaekit.training.settings import TrainerSettings
from vaekit.training.step import Step

MEMBERS = table_rows(OBJECTIVES)


def small(**parts):
    with engine.seeded(0):
        return vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal", **parts)[0]


def made(make, model):
    objective = make()
    with engine.seeded(0):
        objective.build(model)
        objective.prepare(40.0)
    return objective


def batch_of(x, weight=None, context=None):
    return Batch(x, torch.zeros(len(x), dtype=torch.float64), weight, context)


@pytest.mark.parametrize(("name", "make"), MEMBERS)
def test_a_row_of_weight_zero_moves_nothing(name, make):
    """Neither the loss nor a gradient depends on the values of rows that weigh nothing."""
    model = small().double()
    objective = made(make, model).double()
    with engine.seeded(2):
        x = torch.randn(8, 3, dtype=torch.float64)
    weight = torch.tensor([2.0, 1.0, 1.0, 0.5, 3.0, 1.0, 0.0, 0.0])
    found = []
    for rows in (x, torch.cat([x[:6], x[6:] + 5])):
        with engine.seeded(1):
            loss = objective(model, rows, weight)
            gradient = torch.autograd.grad(loss.value, list(model.parameters()), allow_unused=True)
        found.append([loss.value.detach(), *(g for g in gradient if g is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


class Still(vk.distributions.Normal):
    """A normal whose draw number k has the same noise for all rows, however many there are."""

    def rsample(self, sample_shape=()):
        number = torch.arange(1.0, 1 + math.prod(sample_shape), dtype=self.loc.dtype).reshape(*sample_shape, 1, 1)
        return self.loc + self.scale * torch.sin(number + torch.arange(self.loc.shape[-1]))

    def sample(self, sample_shape=()):
        return self.rsample(sample_shape).detach()


class StillVAE(vk.VAE):
    def posterior(self, x):
        base = super().posterior(x).base
        return vk.distributions.Product(Still(base.loc, base.scale, validate_args=False), 1)


# Two rows are a pair of the unbiased MMD, one row of twice the weight is none; the "weighted" estimate of q(z) counts
# the rows of a batch; noise of a corruption belongs to places.
NOT_TWICE = {("InfoVAE", 0), ("InfoVAE", 1), ("BetaTC", 1), ("Denoising", 0), ("Denoising", 1)}
TWICE = [(name, i, make) for name, makes in OBJECTIVES.items() for i, make in enumerate(makes)]


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, i, make in TWICE if (name, i) not in NOT_TWICE])
def test_a_row_of_weight_two_is_a_row_that_stands_twice(name, make):
    model = small().double()
    model = StillVAE(model.encoder, model.decoder, model.prior)
    with engine.seeded(4):
        x = torch.randn(40, 3, dtype=torch.float64)
    weight = torch.ones(40)
    weight[:7] = 2
    found = []
    for rows, weights in ((x, weight), (torch.cat([x, x[:7]]), None)):
        objective = made(make, model).double()
        with engine.seeded(1):
            loss = objective(model, rows) if weights is None else objective(model, rows, weights)
        gradient = torch.autograd.grad(loss.value, list(model.parameters()), materialize_grads=True)
        found.append([loss.value.detach(), *gradient])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "make"), MEMBERS)
def test_batches_without_weight_are_left_out(name, make):
    """Some batches weigh nothing, others have a single row that does: training goes on, and its numbers are finite."""
    with engine.seeded(3):
        x = torch.randn(24, 3)
    weight = torch.zeros(24)
    weight[:6], weight[12] = 1.0, 2.0
    trainer = vk.Trainer(max_epochs=3, batch_size=6, shuffle=False, compile="off", progress=False)
    history = trainer.fit(small(), make(), x, weight=weight)
    assert history["skipped"][-1] == 0
    assert all(torch.isfinite(torch.tensor(record["train_loss"])) for record in history.records)


def test_a_batch_without_weight_moves_neither_parameters_nor_schedules():
    model, objective = small(), vk.objectives.ELBO(beta=vk.schedules.Linear(0.0, 1.0, 10))
    x = torch.randn(6, 3)
    step = Step(TrainerSettings(compile="off", batch_size=6), View.of(model, x), objective)
    assert step(batch_of(x, torch.ones(6))) is not None  # Adam has moments now: a gradient of 0 would still move
    before = [p.detach().clone() for p in model.parameters()]
    count, at = step.count, int(objective.step)
    assert step(batch_of(x, torch.zeros(6))) is None
    assert (step.count, int(objective.step), step.num_skipped) == (count, at, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


class Given(nn.Module):
    """p(x|z, c) = N(z + a c, 1), q(z|x) = N(b x, 1): `given` returns an object with the three methods."""

    def __init__(self, context=None):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.full((2,), 0.5)), nn.Parameter(torch.full((2,), 0.3))

    def given(self, context):
        likelihood = lambda z: self._normal(z + self.a * context)  # noqa: E731
        return SimpleNamespace(posterior=self.posterior, prior=self.prior, likelihood=likelihood)

    def posterior(self, x):
        return self._normal(self.b * x)

    def prior(self):
        return self._normal(torch.zeros(2))

    def likelihood(self, z):
        return self._normal(z)

    @staticmethod
    def _normal(loc):
        return vk.distributions.Product(vk.distributions.Normal(loc, torch.ones_like(loc), validate_args=False), 1)


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("with_weight", [False, True])
def test_one_graph_sees_weights_and_contexts(monkeypatch, with_weight, with_context):
    monkeypatch.setattr(engine, "compiled", lambda function, *_, **__: function)
    x, weight, context = torch.randn(6, 2), torch.rand(6), torch.randn(6, 2)
    batch = batch_of(x, weight if with_weight else None, context if with_context else None)
    found = []
    for way in ("plain", "graph"):
        model, objective = Given(), vk.objectives.ELBO(kl="analytic")
        parameters = list(model.parameters())
        graph = OneGraph(model, objective, parameters, [])
        with engine.seeded(1):
            loss, _ = (Backward(model, objective, parameters) if way == "plain" else graph)(batch)
        assert graph.otherwise is None
        found.append([loss.value.detach(), *(torch.zeros(2) if p.grad is None else p.grad for p in parameters)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    with engine.seeded(1):
        z = model.posterior(x).rsample()
    log_p = Given._normal(z + 0.5 * context if with_context else z).log_prob(x)
    kl = 0.5 * (0.3 * x).square().sum(1)
    shares = weight / weight.sum() if with_weight else torch.full((6,), 1 / 6)
    torch.testing.assert_close(found[0][0], (shares * (kl - log_p)).sum().detach())


class Discriminator(Objective):
    """An objective whose adversary regresses 1 on x, so that the gradient of its loss is known."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(2))

    def adversary_parameters(self):
        return [self.slope]

    def forward(self, model, x, weight=None):
        return Loss(x.sum() * 0, {})

    def adversary(self, model, x, weight=None):
        errors = (model.likelihood(x).mean @ self.slope - 1).square()
        return Loss(vk.objectives.base.average(errors, weight), {})


def test_the_adversary_sees_weights_and_contexts():
    model, objective = Given(), Discriminator()
    x, weight, context = torch.randn(5, 2), torch.rand(5), torch.randn(5, 2)
    adversary = Adversary(objective, model, [])
    seen = []
    adversary.optimizer.step = lambda: seen.append(objective.slope.grad.clone())
    adversary(batch_of(x, weight, context))
    rows = x + 0.5 * context
    torch.testing.assert_close(seen[0], (-2 * weight.unsqueeze(1) * rows).sum(0) / weight.sum())


def test_the_history_counts_rows_by_their_weights():
    totals = Totals()
    terms = [torch.randn(4), torch.randn(3)]
    weights = [torch.tensor([1.0, 0.0, 2.0, 0.5]), torch.tensor([0.0, 3.0, 1.0])]
    for term, weight in zip(terms, weights, strict=True):
        totals.add({"elbo": term}, len(term), weight)
    whole, weight = torch.cat(terms).double(), torch.cat(weights).double()
    assert totals.means()["elbo"] == pytest.approx(float((whole * weight).sum() / weight.sum()))
    totals.add({"other": torch.ones(2)}, 2, torch.zeros(2))
    assert "other" not in totals.means(), "no row with weight, no mean"

    x = torch.randn(10, 3)
    weight = torch.cat([torch.ones(5), torch.zeros(5)])
    histories = []
    for rows in (x, torch.cat([x[:5], x[5:] + 100])):
        trainer = vk.Trainer(max_epochs=2, batch_size=10, shuffle=False, compile="off", progress=False)
        histories.append(trainer.fit(small(), vk.objectives.ELBO(), rows, weight=weight)["train_elbo"])
    assert histories[0] == pytest.approx(histories[1], rel=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_validation_is_by_the_context_of_its_rows(sign):
    """E log p(x|z, c) in closed form, for contexts that help and for contexts that mislead."""
    with engine.seeded(5):
        x, context = torch.randn(4000, 2), 2 * sign * torch.randn(4000, 2)
        x = x + 0.5 * sign * context
    train, valid = (View.of(Given(), rows, context=c) for rows, c in ((x[:20], context[:20]), (x, context)))
    trainer = vk.Trainer(max_epochs=1, batch_size=20, learning_rate=1e-12, compile="off", progress=False)
    history = trainer.fit(train.model, vk.objectives.ELBO(kl="analytic"), train, valid)
    errors = (0.7 * x - 0.5 * context).square() + 1
    expected = float(-0.5 * (errors + math.log(2 * math.pi)).sum(1).mean())
    assert history["valid_log_likelihood"][0] == pytest.approx(expected, abs=0.1)
    without = float(-0.5 * ((0.7 * x).square() + 1 + math.log(2 * math.pi)).sum(1).mean())
    assert abs(without - expected) > 0.3


def test_one_objective_serves_one_thread_at_a_time():
    """Its schedule would advance by the updates of both."""
    objective, started, go = vk.objectives.ELBO(beta=vk.schedules.Linear(0.0, 1.0, 20)), threading.Event(), []
    released = threading.Event()

    class Waits(vk.training.Callback):
        def on_step_end(self, loop):
            started.set()
            released.wait(30)

    def fit():
        trainer = vk.Trainer(max_epochs=1, batch_size=8, compile="off", progress=False, callbacks=[Waits()])
        go.append(trainer.fit(small(), objective, torch.randn(8, 3)))

    thread = threading.Thread(target=fit)
    thread.start()
    try:
        assert started.wait(30)
        with pytest.raises(BusyError, match="the objective is in use"):
            vk.Trainer(max_epochs=1, compile="off", progress=False).fit(small(), objective, torch.randn(8, 3))
    finally:
        released.set()
        thread.join(30)
    assert len(go) == 1


def test_a_hook_on_a_finished_gradient_is_called_under_every_way_of_compiling():
    parameter = nn.Parameter(torch.zeros(2))
    assert OneGraph.suits([parameter])
    parameter.register_post_accumulate_grad_hook(lambda p: None)
    assert not OneGraph.suits([parameter])


def test_settings_are_plain_and_the_trainers_own():
    watching = []
    trainer = vk.Trainer(seed=2.0, callbacks=watching, progress=False)
    watching.append(vk.training.Callback())
    assert (trainer.seed, trainer.callbacks) == (2, ())
    with pytest.raises(ConfigError, match="whole number"):
        vk.Trainer(seed=1.5)
