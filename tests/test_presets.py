"""Every preset, as the command line and the library use it."""

import dataclasses
import inspect
import pickle
import re

import numpy as np
import pytest
import torch

import vaekit as vk
from vaekit import cli, engine, presets, recipes
from vaekit.data import Dataset
from vaekit.data.contexts import contexts_found, with_contexts
from vaekit.errors import ConfigError
from vaekit.presets import available
from vaekit.saving import spec

IMAGES = torch.bernoulli(torch.full((40, 1, 8, 8), 0.3), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(available()))
def test_a_preset_trains_and_moves_every_parameter(name):
    with engine.seeded(0):
        model, objective = available()[name]((1, 8, 8), latent_dim=3)
    before = {key: value.clone() for key, value in model.named_parameters()}
    history = vk.Trainer(max_epochs=2, batch_size=20, progress=False).fit(model, objective, IMAGES, IMAGES)
    assert model.latent_shape == {"hvae": (2, 3), "m1-m2": (6,)}.get(name, (3,))  # with the momentum; two layers
    assert all(not torch.equal(value, before[key]) for key, value in model.named_parameters())
    assert history["valid_elbo"][-1] > -64
    estimate = vk.evaluation.log_marginal(model, IMAGES, num_samples=30, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(estimate.value).all()


@pytest.mark.parametrize(
    "name",
    [
        "iwae",
        "piwae",
        "dreg",
        "factor-vae",
        "disentangled-beta-vae",
        "dip-vae",
        "tvo",
        "s-vae",
        "poincare-vae",
        "vamp",
        "ladder-vae",
        "vae-iaf",
        "vae-linnf",
        "semi-amortized",
    ],
)
def test_fit_by_preset(name, tmp_path):
    folder = tmp_path / "run"
    arguments = ["fit", "digits", "-o", str(folder), "--preset", name, "max_epochs=1", "hidden=16", "latent_dim=2"]
    assert cli.run([*arguments, "--quiet"]) == 0
    assert vk.load(folder).latent_shape == (2,)


def test_fit_by_codes(tmp_path):
    folder = tmp_path / "run"
    parts = ["posterior=categorical:num_classes=4", "prior=autoregressive-categorical:num_classes=4", "num_samples=3"]
    assert cli.run(["fit", "digits", "-o", str(folder), *parts, "max_epochs=1", "hidden=16", "latent_dim=2"]) == 0
    assert vk.load(folder).latent_shape == (2, 4)


def test_a_preset_takes_the_parts_of_vae():
    model, objective = vk.presets.iwae((5,), latent_dim=2, num_samples=7, hidden=(8,), likelihood="poisson")
    assert objective.num_samples == 7
    assert type(model.decoder.head).__name__ == "Poisson"
    _, objective = vk.presets.beta_tc_vae((5,), beta=3.0, objective=vk.objectives.ELBO())
    assert type(objective) is vk.objectives.ELBO, "parts win over what the preset chooses"


def test_layers_are_halved_upwards_or_given():
    model, _ = vk.presets.ladder_vae((6,), hidden=(8,))
    assert model.prior.sizes == model.encoder.head.sizes == (14, 7, 7)
    model, _ = vk.presets.hierarchical_vamp((6,), latent_dim=5, sizes=(4, 1), hidden=(8,), num_pseudo_inputs=3)
    assert model.prior.sizes == (4, 1)
    assert model.prior.top.num_pseudo_inputs == 3
    assert vk.presets.ladder_vae((6,), latent_dim=1, hidden=(8,))[0].latent_shape == (1,)
    with pytest.raises(ConfigError, match=r"the layers \(4, 2\) add up to 6 dimensions, not to 5"):
        vk.presets.ladder_vae((6,), latent_dim=5, sizes=(4, 2))


TINY = Dataset(IMAGES[:12].numpy().astype(np.uint8), np.arange(12) % 3, value_range=(0, 1), kind="image")
TINY = with_contexts(TINY, contexts_found(TINY))  # for presets of conditional models
TRIED = {
    "hidden": ["6"],
    "likelihood": ["bernoulli", "normal", "pixel-cnn", "categorical", "poisson", "sequence-categorical"],
    "posterior": [
        "diagonal-normal",
        "full-normal",
        "von-mises-fisher",
        "bernoulli",
        "categorical",
        "ladder",
        "wrapped-normal",
    ],
    "prior": ["standard-normal", "vamp-prior", "uniform-sphere", "bernoulli", "hierarchical"],
    "transform": ["none", "scale", "binarize:mode=fixed", "standardize"],
    "latent_dim": [1, 2, 3],
    "objective": ["iwae", "elbo:beta=2", "beta-tc", "dreg"],
    "beta": [2.0],
    "num_samples": [4],  # two groups of two, for miwae and piwae
    "conditions": ["likelihood", "prior,posterior"],
    "conditioning": ["concat", "film"],
    "networks": ["mlp", "conv"],
}
LABELLED = dataclasses.replace(TINY, labels=np.arange(len(TINY)) % 3)
LABELLED = with_contexts(LABELLED, contexts_found(LABELLED))


def test_every_setting_of_a_model_is_tried():
    assert set(TRIED) == presets.SETTINGS | presets.OF_CONTEXTS


@pytest.mark.parametrize("name", sorted(available()))
def test_a_setting_changes_the_plan_or_is_refused(name):
    """No other error than a `ConfigError`, which the command line answers with exit code 2."""
    built, refused = set(), set()
    rows = LABELLED if presets.find(name).is_conditional else TINY
    for key, values in TRIED.items():
        for value in values:
            settings = recipes.settings({"preset": name, "latent_dim": 3, key: value})
            try:
                plan = recipes.plan(settings, rows, progress=False)
            except ConfigError:
                refused.add(key)
            else:
                built.add(key)
                assert plan.model.event_shape == (1, 8, 8)
    preset = presets.find(name)
    _, objective = preset.make((1, 8, 8), latent_dim=3)
    inner = getattr(objective, "objective", objective)  # what hides cells hands settings on to what it hides them from
    lacking = {"beta", "num_samples"} - set(spec.parameters(type(inner)))
    if inner is not objective:  # a weight of the KL makes it an ELBO
        lacking -= {"beta"}
    assert built == preset.takes - lacking - NOT_IN_WORDS.get(name, set())
    assert ((presets.SETTINGS | presets.OF_CONTEXTS) - preset.takes) | lacking <= refused


NOT_IN_WORDS = {"hierarchical-vamp": {"posterior"}}  # its prior needs a posterior with sizes, which words do not give


def test_a_preset_says_what_it_takes(tmp_path, capsys):
    assert cli.run(["fit", "digits", "-o", str(tmp_path / "run"), "--preset", "pixel-vae", "hidden=16"]) == 2
    message = capsys.readouterr().err
    assert "the preset pixel-vae takes no hidden" in message
    assert "it takes beta, latent_dim, likelihood, num_samples, objective, posterior, prior, transform" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(available()))
def test_a_preset_is_a_documented_function_of_its_name(name):
    """Whether it was written as a row or as a function; ruff reads the docstrings of the latter alone."""
    make = available()[name]
    assert make is getattr(presets, make.__name__) is pickle.loads(pickle.dumps(make))
    assert make.__name__ in presets.__all__
    signature = inspect.signature(make)
    assert next(iter(signature.parameters)) == "event_shape"
    assert signature.return_annotation.__origin__ is tuple
    section = re.search(r"^Args:\n((?: .*\n)+)\nReturns:\n    The model and", inspect.getdoc(make), re.M)[1]
    described = re.findall(r"^    \**(\w+): .*\.", section, re.M)
    assert sorted(described) == sorted(signature.parameters)


@pytest.mark.parametrize("name", sorted(available()))
def test_the_record_of_a_preset_agrees_with_its_function(name):
    """The defaults of the function, which a caller of the library gets, and what the command line is told of it."""
    preset = presets.find(name)
    arguments = inspect.signature(preset.make).parameters
    own = arguments["latent_dim"].default
    assert preset.latent_dim == (own if own < 16 else None)
    if preset.likelihood is not None:
        assert arguments["likelihood"].default == preset.likelihood


def test_a_setting_keeps_the_other_arguments_of_the_objective():
    """A schedule among them, which words cannot say."""
    settings = recipes.settings({"preset": "ladder-vae", "num_samples": 3, "hidden": "4", "latent_dim": 3})
    objective = recipes.plan(settings, TINY, progress=False).objective
    assert objective.num_samples == 3
    assert type(objective.beta) is vk.schedules.Linear
