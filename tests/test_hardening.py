"""What a hostile reader tried: each case once did harm, or gave a number that was wrong."""

import json
import math

import numpy as np
import pandas
import pytest
import torch
from torch import nn
from torch.distributions import Dirichlet, Independent, Normal, OneHotCategorical

import vaekit as vk
from vaekit import cli, engine, runs
from vaekit.errors import ArtifactError, ConfigError, DataError
from vaekit.evaluation.weights import WeightSums
from vaekit.training import Trainer

FAST = ["max_epochs=1", "hidden=8", "latent_dim=2", "--quiet"]
QUIET = {"progress": False, "device": "cpu"}


def vaekit(*arguments):
    return cli.run([str(a) for a in arguments])


@pytest.fixture
def run(tmp_path):
    assert vaekit("fit", "digits:train", "-o", tmp_path / "run", *FAST) == 0
    return tmp_path / "run"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "arguments", [["digits", "likelihood=bernouli"], ["nosuch.csv"], ["digits", "transform=scale"]]
)
def test_overwrite_keeps_the_old_run_until_the_new_one_is_sure_to_start(run, arguments):
    before = contents(run)
    assert vaekit("fit", *arguments, "-o", run, "--overwrite") in (1, 2)
    assert contents(run) == before


def test_overwrite_replaces(run):
    before = contents(run)
    assert vaekit("fit", "digits", "-o", run, "--overwrite", "seed=5", *FAST) == 0
    assert contents(run)["model.safetensors"] != before["model.safetensors"]


def test_default_data_are_the_test_part_even_if_the_fit_named_a_part(run, capsys):
    assert vaekit("evaluate", run, "--json", "--num-samples", 1) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["value"] for row in rows if row["name"] == "num_points"] == [360]


def test_leftovers_of_a_killed_write_do_not_block_a_run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".settings.json.abc").write_text("")
    assert vaekit("fit", "digits", "-o", folder, "--resume", *FAST) == 0
    assert not list(folder.glob(".*"))


def test_a_finished_run_without_its_weights_is_fitted_again(run):
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").unlink()
    assert not runs.is_finished(run)
    assert vaekit("fit", "digits:train", "-o", run, "--resume", *FAST) == 0
    assert (run / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("text", ['{"a": 1}', '{"settings": 3, "data": {}}', "[]", "null", "{"])
def test_damaged_settings_are_named(run, capsys, text):
    (run / "settings.json").write_text(text)
    assert vaekit("fit", "digits:train", "-o", run, "--resume") == 1
    assert "settings.json is damaged" in capsys.readouterr().err
    (run / "settings.json").unlink()
    assert vaekit("fit", "digits:train", "-o", run, "--resume") == 1
    assert "settings.json is missing" in capsys.readouterr().err


def test_damaged_metrics_and_metadata_are_named(run, capsys, tmp_path):
    (run / "metrics.jsonl").write_text("3\n")
    assert vaekit("plot", run, "losses", "-o", tmp_path / "p.png") == 1
    assert "metrics.jsonl is damaged" in capsys.readouterr().err
    config = json.loads((run / "config.json").read_text())
    config["metadata"]["data"] = 3
    (run / "config.json").write_text(json.dumps(config))
    assert vaekit("evaluate", run) == 1
    assert "is damaged" in capsys.readouterr().err


def test_validation_data_are_part_of_the_run(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("train", "a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(40, 3)))
    arguments = ["fit", tmp_path / "train.npy", "-o", tmp_path / "r", *FAST]
    assert vaekit(*arguments, "--valid", tmp_path / "a.npy") == 0
    assert vaekit(*arguments, "--resume") == 0
    assert vaekit(*arguments, "--resume", "--valid", tmp_path / "b.npy") == 2
    assert "valid_crc32 differs" in capsys.readouterr().err


def test_scaled_images_are_not_scored_by_a_run_of_integers(run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", vk.data.load("digits:test").x / 16.0)
    assert vaekit("evaluate", run, tmp_path / "x.npy") == 1
    assert "fitted to integers in 0..16" in capsys.readouterr().err


@pytest.mark.parametrize("offset", [1e6, 1.6e9 + 3])
def test_large_offsets_keep_the_density(offset):
    """x = 1e6 + N(0, 1): in float32 a sixteenth of a unit is lost, in the data's float64 nothing is."""
    x = offset + torch.randn(400, 2, dtype=torch.float64)
    with engine.seeded(0):
        transform = vk.transforms.Standardize(2).fit(x)
        model, _ = vk.presets.vae((2,), latent_dim=1, hidden=(4,), likelihood="normal", transform=transform)
    shifted = torch.as_tensor(transform.loc).double().clone()
    near = vk.evaluation.log_marginal(model, x, num_samples=8, generator=torch.Generator().manual_seed(0))
    transform.loc.zero_()
    far = vk.evaluation.log_marginal(model, x - shifted, num_samples=8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(near.value, far.value, atol=1e-5, rtol=0)


def test_a_density_at_bits_is_no_density():
    chain = vk.transforms.Compose([vk.transforms.Scale(0, 16), vk.transforms.Binarize()])
    model, _ = vk.presets.vae((1, 8, 8), latent_dim=2, hidden=(4,), likelihood="normal", transform=chain)
    x = vk.data.load("digits:test")[:3]
    assert vk.evaluation.log_marginal(model, x, num_samples=1).quantity == "no density"


def test_weights_of_zero_stay_zero():
    zero, one = torch.full((2, 1), -torch.inf), torch.zeros(2, 1)
    sums = WeightSums(1)
    sums.add(slice(0, 1), zero)
    assert sums.log_mean(2).item() == -math.inf
    sums.add(slice(0, 1), one)
    assert sums.log_mean(4).item() == pytest.approx(math.log(0.5))


def test_holes_have_no_jacobian():
    x = torch.tensor([[1.0, torch.nan, 3.0]])
    assert vk.transforms.Scale(0, 10).with_log_det(x)[1].item() == pytest.approx(-2 * math.log(10))
    assert vk.transforms.Dequantize(4).with_log_det(x)[1].item() == pytest.approx(-2 * math.log(4))


class Vector:
    """A foreign model whose likelihood has a support of vectors."""

    def __init__(self, kind):
        self.kind = kind

    def prior(self):
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def posterior(self, x):
        return Independent(Normal(torch.zeros(len(x), 2), 1.0), 1)

    def likelihood(self, z):
        shape = z.new_zeros(*z.shape[:-1], 3)
        return Dirichlet(1 + shape) if self.kind == "simplex" else OneHotCategorical(logits=shape)


@pytest.mark.parametrize(("kind", "truth"), [("simplex", math.log(2)), ("one-hot", -math.log(3))])
@pytest.mark.parametrize("n", [3, 10])
def test_likelihoods_of_vectors(kind, truth, n):
    x = torch.full((n, 3), 1 / 3) if kind == "simplex" else torch.eye(3)[torch.arange(n) % 3]
    estimate = vk.evaluation.log_marginal(Vector(kind), x, num_samples=4)
    torch.testing.assert_close(estimate.value, torch.full((n,), truth, dtype=torch.float64), atol=1e-5, rtol=0)
    with pytest.raises(vk.errors.SupportError):
        vk.evaluation.log_marginal(Vector(kind), x + 0.5, num_samples=4)


def test_a_data_frame_with_a_column_named_x():
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["x", "y"])
    model, objective = vk.presets.vae((2,), latent_dim=1, hidden=(4,), likelihood="normal")
    assert len(Trainer(max_epochs=1, **QUIET).fit(model, objective, frame).to_frame()) == 1


def test_holes_that_the_encoder_cannot_bear_are_refused():
    likelihood = vk.likelihoods.Normal(3, missing="observed-only")
    model, objective = vk.presets.vae((3,), latent_dim=1, hidden=(4,), likelihood=likelihood)
    x = torch.randn(20, 3)
    x[4, 1] = torch.nan
    with pytest.raises(DataError, match="the encoder of this model has no way to"):
        Trainer(max_epochs=1, **QUIET).fit(model, objective, x)


def test_an_encoder_that_fills_holes_trains_and_evaluates():
    class Fill(nn.Module):
        in_shape = out_shape = (3,)

        def forward(self, x):
            return torch.nan_to_num(x)

    model = vk.VAE(
        vk.Conditional(Fill(), vk.posteriors.DiagonalNormal(2)),
        vk.Conditional(vk.networks.MLP(2, (8,)), vk.likelihoods.Normal(3, missing="observed-only")),
        vk.priors.StandardNormal(2),
    )
    x = torch.randn(40, 3)
    x[::3, 1] = torch.nan
    history = Trainer(max_epochs=2, **QUIET).fit(model, vk.objectives.ELBO(), x)
    assert history["skipped"] == [0, 0]
    assert bool(torch.isfinite(vk.evaluation.log_marginal(model, x, num_samples=5).value).all())


def test_em_steps_without_anything_to_train_in_one_half_are_refused():
    model, objective = vk.presets.vae((3,), latent_dim=1, hidden=(4,), likelihood="normal")
    model.encoder.requires_grad_(False)
    with pytest.raises(ConfigError, match="the posterior has nothing to train"):
        Trainer(max_epochs=1, em_steps=(1, 1), **QUIET).fit(model, objective, torch.randn(8, 3))


def test_warm_up_begins_anew_with_each_fit():
    objective = vk.objectives.ELBO(beta=vk.schedules.Linear(0, 1, 4))
    for _ in range(2):
        model, _ = vk.presets.vae((3,), latent_dim=1, hidden=(4,), likelihood="normal")
        history = Trainer(max_epochs=1, batch_size=16, **QUIET).fit(model, objective, torch.randn(32, 3))
        assert history["train_beta"] == [0.125]


def test_another_objective_is_another_run(tmp_path):
    x = torch.randn(32, 3)
    model, _ = vk.presets.vae((3,), latent_dim=1, hidden=(4,), likelihood="normal")
    options = {"checkpoint_every": 1, **QUIET}
    Trainer(max_epochs=1, **options).fit(model, vk.objectives.ELBO(beta=2.0), x, run=tmp_path)
    with pytest.raises(ArtifactError, match="beta=2.0"):
        Trainer(max_epochs=2, **options).fit(model, vk.objectives.ELBO(beta=3.0), x, run=tmp_path, resume=True)


def test_bernoulli_works_under_function_transforms():
    likelihood = vk.likelihoods.Bernoulli(4)
    x = torch.tensor([0.0, 1.0, 1.0, 0.0])
    logits = torch.randn(4)
    got = torch.func.grad(lambda l: likelihood(l.reshape(1, 4)).log_prob(x))(logits)
    torch.testing.assert_close(got, x - torch.sigmoid(logits))
    batch = torch.func.vmap(torch.func.grad(lambda l: likelihood(l.reshape(1, 4)).log_prob(x)))(logits.expand(3, 4))
    torch.testing.assert_close(batch, got.expand(3, 4))


def test_numpy_integers_are_shapes_and_counts_are_checked():
    model, _ = vk.presets.vae(np.int64(4), latent_dim=np.int64(2), hidden=(np.int64(8),), likelihood="normal")
    assert model.event_shape == (4,)
    assert model.sample(0).shape == (0, 4)
    with pytest.raises(ConfigError, match="not negative; got -1"):
        model.sample(-1)
