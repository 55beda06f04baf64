"""Saved models: round trips, shared tensors, custom modules, and everything that can go wrong with a file."""

import hashlib
import json

import pytest
import torch
from components import LIKELIHOODS, POSTERIORS, PRIORS, TRANSFORMS
from torch import nn

import vaekit as vk
from vaekit import engine
from vaekit.errors import ArtifactError, ArtifactWarning, ConfigError
from vaekit.saving import artifact, spec


def make(seed=0, **parts):
    with engine.seeded(seed):
        return vk.presets.vae((1, 4, 4), latent_dim=3, hidden=(8,), **parts)[0]


def log_p(model, x):
    return vk.evaluation.log_marginal(model, x, num_samples=8, generator=torch.Generator().manual_seed(0)).value


def test_round_trip_gives_equal_numbers_and_equal_bytes(tmp_path):
    transform = vk.transforms.Standardize((1, 4, 4)).fit(5 + 2 * torch.randn(20, 1, 4, 4))
    model = make(likelihood="normal", transform=transform)
    x = 5 + torch.randn(7, 1, 4, 4)
    vk.save(model, tmp_path / "a", metadata={"note": "kept"})
    loaded = vk.load(tmp_path / "a")
    assert torch.equal(log_p(model, x), log_p(loaded, x))
    assert not loaded.training
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"config.json", "model.safetensors"}
    vk.save(loaded, tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["format_version"] == 1
    assert config["weights_sha256"] == hashlib.sha256((tmp_path / "a/model.safetensors").read_bytes()).hexdigest()
    assert config["metadata"] == {"note": "kept"}


def test_float64_comes_back_as_float64(tmp_path):
    model = make(likelihood="normal").double()
    vk.save(model, tmp_path)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(log_p(model, x), log_p(vk.load(tmp_path), x))


ROWS = [
    (f"{name}-{i}", factory, () if table is TRANSFORMS else (4,))
    for table in (LIKELIHOODS, POSTERIORS, PRIORS, TRANSFORMS)
    for name, factories in table.items()
    for i, factory in enumerate(factories)
]


@pytest.mark.parametrize(("factory", "arguments"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_every_component_is_described_by_its_constructor(factory, arguments):
    part = factory(*arguments)
    again = spec.build(json.loads(json.dumps(spec.describe(part))))
    assert type(again) is type(part)
    assert spec.describe(again) == spec.describe(part)
    again.load_state_dict(part.state_dict())


def test_objectives_are_described_too():
    objective = vk.objectives.ELBO(num_samples=3, beta=2.0, free_bits=0.5)
    assert spec.describe(spec.build(spec.describe(objective))) == spec.describe(objective)


def test_shared_tensors_are_stored_once(tmp_path):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.in_shape = self.out_shape = (3,)
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    def build():
        return vk.VAE(
            vk.Conditional(Twin(), vk.posteriors.DiagonalNormal(2)),
            vk.Conditional(vk.networks.MLP(2, (4,)), vk.likelihoods.Normal(3)),
            vk.priors.StandardNormal(2),
        )

    model = build()
    vk.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["shared"] == {"encoder.network.second.weight": "encoder.network.first.weight"}
    loaded = vk.load(tmp_path, modules={"model.encoder.network": Twin()})
    assert loaded.encoder.network.first.weight is loaded.encoder.network.second.weight
    x = torch.randn(4, 3)
    assert torch.equal(log_p(model, x), log_p(loaded, x))


def test_custom_networks_are_handed_in_again(tmp_path):
    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh())

    model = vk.VAE(
        vk.Conditional(network(), vk.posteriors.DiagonalNormal(2)),
        vk.Conditional(vk.networks.MLP(2, (4,)), vk.likelihoods.Bernoulli((1, 4, 4))),
        vk.priors.StandardNormal(2),
    )
    vk.save(model, tmp_path)
    with pytest.raises(ArtifactError, match=r"'model.encoder.network' \(a torch.nn.modules.container.Sequential\)"):
        vk.load(tmp_path)
    with pytest.raises(ArtifactError, match=r"\['other'\] are not part of this model"):
        vk.load(tmp_path, modules={"model.encoder.network": network(), "other": network()})
    with pytest.raises(ArtifactError, match="do not fit"):
        vk.load(tmp_path, modules={"model.encoder.network": nn.Sequential(nn.Flatten(), nn.Linear(16, 6))})
    loaded = vk.load(tmp_path, modules={"model.encoder.network": network()})
    x = torch.bernoulli(torch.full((3, 1, 4, 4), 0.5))
    assert torch.equal(log_p(model, x), log_p(loaded, x))


def altered(tmp_path, **changes):
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config))


def test_damage_is_noticed(tmp_path):
    model = make()
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    with pytest.raises(ArtifactError, match="no saved model: config.json is missing"):
        vk.load(tmp_path)

    def fresh():
        vk.save(model, tmp_path)
        return weights.read_bytes()

    content = fresh()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="truncated or altered"):
        vk.load(tmp_path)
    changed = bytearray(content)
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    with pytest.raises(ArtifactError, match="truncated or altered"):
        vk.load(tmp_path)
    weights.unlink()
    with pytest.raises(ArtifactError, match="model.safetensors is missing"):
        vk.load(tmp_path)
    fresh()
    config.write_text(config.read_text()[:-40])
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        vk.load(tmp_path)
    fresh()
    altered(tmp_path, format_version=99)
    with pytest.raises(ArtifactError, match="format_version 99; vaekit .* reads up to 1. Upgrade"):
        vk.load(tmp_path)
    for version in (None, "1", 0):
        altered(tmp_path, format_version=version)
        with pytest.raises(ArtifactError, match="no valid format_version"):
            vk.load(tmp_path)
    fresh()
    altered(tmp_path, surprise=1)
    with pytest.raises(ArtifactError, match="surprise"):
        vk.load(tmp_path)
    garbage = b"not safetensors at all"
    fresh()
    weights.write_bytes(garbage)
    altered(tmp_path, weights_sha256=hashlib.sha256(garbage).hexdigest())
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        vk.load(tmp_path)


def test_a_description_cannot_name_anything_but_components(tmp_path):
    vk.save(make(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("os.system", "builtins.eval", "networks.Conditional", "likelihoods.__doc__"):
        config["model"]["arguments"]["prior"]["component"] = name
        altered(tmp_path, model=config["model"])
        with pytest.raises(ArtifactError, match="unknown component"):
            vk.load(tmp_path)


def test_names_ignore_case_hyphens_and_underscores():
    for name in ("DiagonalNormal", "diagonal-normal", "DIAGONAL_NORMAL", "diagonalnormal"):
        assert spec.resolve("posteriors", name) is vk.posteriors.DiagonalNormal
    with pytest.raises(ConfigError, match=r"no likelihood named 'bernuli'. Did you mean bernoulli"):
        spec.resolve("likelihoods", "bernuli")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot create the folder"):
        vk.save(make(), tmp_path / "file" / "run")


def test_an_older_format_loads_and_says_what_differs(tmp_path, monkeypatch):
    vk.save(make(), tmp_path)
    monkeypatch.setattr(artifact, "FORMAT_VERSION", 3)
    monkeypatch.setattr(artifact, "CHANGES", {1: "not this.", 2: "the scale was a variance.", 3: "so was the prior's."})
    with pytest.warns(ArtifactWarning) as seen:
        vk.load(tmp_path)
    assert [str(warning.message).partition("format_version 1: ")[2] for warning in seen] == [
        "the scale was a variance.",
        "so was the prior's.",
    ]


def test_an_old_name_of_a_component_is_todays(tmp_path, monkeypatch):
    vk.save(make(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace("priors.StandardNormal", "priors.Gaussian"))
    with pytest.raises(ArtifactError, match="unknown component"):
        vk.load(tmp_path)
    monkeypatch.setitem(spec.RENAMED, "priors.Gaussian", "priors.StandardNormal")
    assert isinstance(vk.load(tmp_path).prior, vk.priors.StandardNormal)
