"""The trainer and an objective's adversary: an optimiser of its own, exact resume, skipped steps."""

import copy

import pytest
import torch
from torch import nn

import vaekit as vk
from vaekit.errors import TrainingError
from vaekit.objectives import FactorVAE, Loss
from vaekit.training import Callback, Trainer

QUIET = {"progress": False, "compile": "off", "precision": "float32"}


def make(seed=0, **arguments):
    with vk.engine.seeded(seed):
        model, _ = vk.presets.vae((6,), latent_dim=2, hidden=(16,), likelihood="normal")
        return model, FactorVAE(hidden=(8, 8), adversary_learning_rate=1e-2, **arguments)


def data(num_rows=70):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_rows, 2, generator=generator) @ torch.randn(2, 6, generator=generator)


def state(objective):
    return {name: value.clone() for name, value in objective.state_dict().items()}


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, loop):
        if loop.step == self.step:
            loop.signal = "SIGINT"


def test_the_adversary_learns_and_its_terms_are_reported():
    model, objective = make(gamma=0.0)
    history = Trainer(max_epochs=30, batch_size=16, **QUIET).fit(model, objective, data())
    assert {"train_discriminator_loss", "train_discriminator_accuracy", "train_total_correlation"} <= set(
        history.keys()
    )
    assert history["train_discriminator_loss"][0] == pytest.approx(0.69, abs=0.05)
    assert history["skipped"] == [0] * 30


def test_each_optimiser_moves_its_own_parameters():
    model, objective = make()
    moved = []

    class Spy(Callback):
        def on_fit_start(self, loop):
            adversary = {id(p) for p in objective.adversary_parameters()}
            main = {id(p) for group in loop.stepper.optimizer.param_groups for p in group["params"]}
            own = {id(p) for group in loop.stepper.adversary.optimizer.param_groups for p in group["params"]}
            assert own == adversary
            assert main == {id(p) for p in model.parameters()}
            assert not own & main
            assert loop.stepper.adversary.optimizer.param_groups[0]["lr"] == 1e-2
            moved.append(state(objective))

    Trainer(max_epochs=1, batch_size=16, learning_rate=1e-3, callbacks=[Spy()], **QUIET).fit(model, objective, data())
    after = state(objective)
    assert all(not torch.equal(after[name], value) for name, value in moved[0].items())
    assert all(p.grad is None for p in objective.adversary_parameters())


@pytest.mark.parametrize("stop", [3, 5])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, stop, monkeypatch):
    monkeypatch.setattr(vk.engine, "in_notebook", lambda: True)  # an interrupted fit returns
    options = {"max_epochs": 3, "batch_size": 16, "checkpoint_every": 1, **QUIET}
    x = data()
    model, objective = make()
    whole = Trainer(**options).fit(model, objective, x, x[:20], run=tmp_path / "whole")
    expected = [state(model), state(objective)]

    model, objective = make()
    Trainer(callbacks=[StopAt(stop)], **options).fit(model, objective, x, x[:20], run=tmp_path / "cut")
    model, objective = make(seed=99)
    resumed = Trainer(**options).fit(model, objective, x, x[:20], run=tmp_path / "cut", resume=True)
    for after, before in zip([state(model), state(objective)], expected, strict=True):
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
    for key in ("train_elbo", "train_discriminator_loss", "valid_elbo"):
        assert resumed[key] == whole[key]


def test_two_runs_are_equal_and_leave_global_randomness_alone():
    states = []
    before = torch.get_rng_state()
    for _ in range(2):
        model, objective = make()
        Trainer(max_epochs=2, batch_size=16, **QUIET).fit(model, objective, data())
        states.append({**state(model), **state(objective)})
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Failing(FactorVAE):
    """Its adversary's loss is no number at some of its calls."""

    def __init__(self, bad):
        super().__init__(hidden=(8,))
        self.bad, self.calls = bad, 0

    def adversary(self, model, x):
        self.calls += 1
        value, terms = super().adversary(model, x)
        return Loss(value * torch.nan, terms) if self.calls in self.bad else Loss(value, terms)


def test_a_bad_step_of_the_adversary_is_skipped_and_the_models_is_kept():
    model, _ = make()
    objective = Failing(bad={2})
    seen = []

    class Spy(Callback):
        def on_step_end(self, loop):
            seen.append((copy.deepcopy(state(objective)), state(model), loop.stepper.adversary.num_skipped))

    Trainer(max_epochs=1, batch_size=16, callbacks=[Spy()], **QUIET).fit(model, objective, data())
    assert [skipped for *_, skipped in seen] == [0, 1, 1, 1, 1]
    (first, before, _), (second, after, _), (third, *_) = seen[:3]
    weights = [name for name in first if name.startswith("discriminator")]
    assert all(torch.equal(first[name], second[name]) for name in weights)
    assert not all(torch.equal(second[name], third[name]) for name in weights)
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_three_bad_steps_of_the_adversary_in_a_row_stop_with_a_cause():
    model, _ = make()
    with pytest.raises(TrainingError, match="adversary_learning_rate"):
        Trainer(max_epochs=1, batch_size=16, **QUIET).fit(model, Failing(bad={1, 2, 3}), data())


def test_an_adversary_of_ones_own():
    class Critic(vk.objectives.ELBO):
        def __init__(self):
            super().__init__()
            self.critic = nn.Linear(2, 1)

        def adversary_parameters(self):
            return self.critic.parameters()

        def adversary(self, model, x):
            value = (self.critic(model.posterior(x).mean.detach()) - 3).square().mean()
            return Loss(value, {"critic": value})

    model, objective = make()[0], Critic()
    objective.adversary_learning_rate = 0.1
    history = Trainer(max_epochs=20, batch_size=16, **QUIET).fit(model, objective, data())
    assert history["train_critic"][-1] < 0.2 * history["train_critic"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [FactorVAE(hidden=(8,)), vk.objectives.DReG(3), vk.objectives.PIWAE(4), vk.objectives.BetaTC()],
    ids=repr,
)
def test_compiled_runs_agree_with_plain_ones(objective):
    means = []
    for compile in ("off", "on"):
        model, _ = make()
        options = {**QUIET, "compile": compile, "max_epochs": 2, "batch_size": 35}
        means.append(Trainer(**options).fit(model, copy.deepcopy(objective), data())["train_elbo"])
    assert means[0] == pytest.approx(means[1], rel=1e-3)
