"""A model prints its parts as they were made, and says what to call instead of itself."""

import pytest
import torch
from torch import nn

import vaekit as vk
from vaekit.errors import ConfigError

PRINTED = {
    "DiagonalNormal(16)": lambda: vk.posteriors.DiagonalNormal(16),
    "DiagonalNormal((2, 3), scale='softplus')": lambda: vk.posteriors.DiagonalNormal((2, 3), scale="softplus"),
    "Bernoulli((1, 28, 28))": lambda: vk.likelihoods.Bernoulli((1, 28, 28)),
    "Normal(4)": lambda: vk.likelihoods.Normal(4),
    "Normal(4, min_scale=0.1)": lambda: vk.likelihoods.Normal(4, min_scale=0.1),
    "StandardNormal(16)": lambda: vk.priors.StandardNormal(16),
    "Standardize(3)": lambda: vk.transforms.Standardize(3),
    "Scale()": lambda: vk.transforms.Scale(),
    "Scale(high=16)": lambda: vk.transforms.Scale(0, 16),
}


@pytest.mark.parametrize("expected", PRINTED)
def test_a_part_is_printed_as_it_was_made(expected):
    part = PRINTED[expected]()
    assert repr(part) == expected
    model = nn.ModuleDict({"part": part})
    assert f"(part): {expected}" in repr(model)


def test_a_model_prints_its_parts():
    with torch.random.fork_rng():
        model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
        model.transform = vk.transforms.Compose([vk.transforms.Scale(0, 4), vk.transforms.Standardize(4)])
    text = repr(model)
    for part in ("DiagonalNormal(2)", "Normal(4)", "StandardNormal(2)", "Scale(high=4)", "Standardize(4)"):
        assert f": {part}\n" in text


@pytest.mark.parametrize("arguments", [(torch.zeros(2, 4),), ()])
def test_a_model_that_is_called_says_what_to_call(arguments):
    with torch.random.fork_rng():
        model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
        refined = vk.models.SemiAmortized(model)
    for called in (model, refined):
        with pytest.raises(ConfigError, match=r"is not called: .*reconstruct\(x\).*posterior\(x\).*ELBO.*log_marginal"):
            called(*arguments)
