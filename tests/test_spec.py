"""Words and descriptions: what names a component, and how it is told in a file."""

import json

import pytest
import torch
from components import OBJECTIVES

import vaekit as vk
from vaekit import objectives, schedules
from vaekit.errors import ConfigError
from vaekit.saving import spec


def test_words_win_over_what_is_offered_and_the_rest_is_passed_over():
    objective = spec.from_words("objectives", "ELBO:beta=4:free_bits=0.5", beta=2.0, num_samples=3, width=7)
    assert (objective.beta, objective.free_bits, objective.num_samples) == (4, 0.5, 3)
    assert spec.from_words("transforms", "scale", low=1.0, high=3.0, num_levels=9).high == 3.0
    head = spec.from_words("likelihoods", "Bernoulli:grey=TRUE", event_shape=3)
    assert head.grey is True


@pytest.mark.parametrize(
    ("axis", "text", "message"),
    [
        ("objectives", "elbow", "no objective named 'elbow'. Did you mean elbo"),
        ("objectives", "elbo:bata=2", "expected argument=value, got 'bata=2'. Did you mean beta"),
        ("objectives", "elbo:beta", "expected argument=value, got 'beta'"),
        ("objectives", "iwae:num_samples=many", "'iwae:num_samples=many' cannot be made"),
        ("objectives", "elbo:beta=-1", "^beta is not negative; got -1"),
        ("posteriors", "ladder", "'ladder' needs sizes; write ladder:sizes=VALUE, or build the model in Python"),
        ("priors", "uniform-sphere:event_shape=1", "'uniform-sphere:event_shape=1' cannot be made: .*at least 2"),
    ],
)
def test_words_that_make_nothing_say_why(axis, text, message):
    with pytest.raises(ConfigError, match=message):
        spec.from_words(axis, text)


MADE = [(name, i) for name, makers in OBJECTIVES.items() for i in range(len(makers))]


@pytest.mark.parametrize(("name", "index"), MADE)
def test_every_objective_is_described_by_its_arguments(name, index):
    objective = OBJECTIVES[name][index]()
    tree = json.loads(json.dumps(spec.describe(objective, "objective")))
    again = spec.build(tree)
    assert type(again) is type(objective)
    assert spec.describe(again, "objective") == tree
    assert list(tree["arguments"]) == list(spec.parameters(type(objective)))
    assert spec.in_words(tree).startswith(f"{name}(")


def test_schedules_are_described_and_functions_of_a_user_are_named():
    linear = spec.describe(objectives.ELBO(beta=schedules.Linear(0.0, 1.0, 10)), "objective")
    assert "beta=Linear(start=0.0, end=1.0, num_steps=10)" in spec.in_words(linear)
    own = spec.describe(objectives.ELBO(beta=lambda step: step / 7), "objective")
    assert own["arguments"]["beta"]["custom"] == "objective.beta"
    assert "lambda" in own["arguments"]["beta"]["class"]
    again = spec.build(own, {"objective.beta": torch.square})
    assert again.beta is torch.square


class Warm:
    """A schedule of a user's own."""

    def __call__(self, step):
        return (step / 4).clamp(max=1.0)


def test_an_objective_with_a_schedule_of_ones_own_has_checkpoints(tmp_path):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    weights = []
    for epochs in ((2,), (1, 2)):
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
        model.load_state_dict({k: torch.full_like(v, 0.1) for k, v in model.state_dict().items()})
        for stop in epochs:
            callback = Stop(stop)
            trainer = vk.Trainer(max_epochs=2, checkpoint_every=1, callbacks=[callback], compile="off", progress=False)
            objective = objectives.ELBO(beta=Warm())
            trainer.fit(model, objective, x, x, run=tmp_path / f"{len(epochs)}", resume=stop == 2)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


class Stop(vk.training.Callback):
    """End after some epochs."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, loop, record):
        loop.stop = loop.epoch >= self.epoch and self.epoch < 2
