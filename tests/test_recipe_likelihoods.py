"""The command line finds the transform and the encoder's input scale of each likelihood by its support."""

import json

import numpy as np
import pytest
import torch

import vaekit as vk
from vaekit import catalog, cli, likelihoods, networks, recipes
from vaekit.data import Dataset
from vaekit.errors import SupportError
from vaekit.evaluation import log_marginal
from vaekit.recipes import defaults
from vaekit.saving import spec

TABLE = Dataset(np.random.default_rng(0).gamma(2.0, size=(30, 3)))
BITS = Dataset(np.random.default_rng(0).integers(0, 2, (30, 3)).astype(np.uint8))
IMAGES = Dataset(np.random.default_rng(0).integers(0, 256, (30, 1, 3, 3)).astype(np.uint8), value_range=(0, 255))

CHAINS = [  # likelihood, and the transforms of a table, of bits and of 8-bit images; None where the data are refused
    ("bernoulli", None, "", "Scale Binarize"),
    ("bernoulli:grey=true", "", "", "Scale"),
    ("continuous-bernoulli", "", "", "Dequantize"),
    ("beta", "", "", "Dequantize"),
    ("normal", "Standardize", "Standardize", "Dequantize Standardize"),
    ("normal-mixture", "Standardize", "Standardize", "Dequantize Standardize"),
    ("laplace", "Standardize", "Standardize", "Dequantize Standardize"),
    ("student-t", "Standardize", "Standardize", "Dequantize Standardize"),
    ("log-normal", "", "", "Dequantize"),
    ("poisson", "", "", ""),
    ("negative-binomial", "", "", ""),
    ("zero-inflated-negative-binomial", "", "", ""),
    ("rounded-log-normal", "", "", ""),
    ("categorical", "", "", ""),
    ("ordinal", "", "", ""),
    ("discretized-logistic", "", "", ""),
    ("discretized-logistic-mixture", "", "", ""),
    ("pixel-cnn", "", "", ""),
    ("sequence-categorical:num_tokens=5", "", "", ""),
]


@pytest.mark.parametrize(("name", "table", "bits", "images"), CHAINS)
def test_the_transform_leads_into_the_support(name, table, bits, images):
    for data, expected in ((TABLE, table), (BITS, bits), (IMAGES, images)):
        head = defaults.make_likelihood(data, name)
        if expected is None:
            with pytest.raises(SupportError, match=r"transform=binarize .*|ContinuousBernoulli"):
                defaults.make_transform(data, head, None)
            assert type(defaults.make_transform(data, head, "binarize")).__name__ == "Binarize"
            continue
        transform = defaults.make_transform(data, head, None)
        parts = [] if transform is None else getattr(transform, "transforms", [transform])
        assert " ".join(type(part).__name__ for part in parts) == expected, data


def test_grey_images_of_few_levels_get_a_mass_of_the_levels_and_a_learned_prior():
    """Digits have 17 levels; with 256 the literature draws bits."""
    digits = vk.data.load("digits:train")
    colour = Dataset(
        np.zeros((9, 3, 4, 4), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None], value_range=(0, 16)
    )
    expected = {
        "digits": (digits, "vamp", "DiscretizedLogistic", 300),
        "256 levels": (IMAGES, "vae", "Bernoulli", 300),
        "colour": (colour, "vae", "DiscretizedLogistic", 300),
        "fractions": (
            Dataset(np.random.default_rng(0).random((9, 1, 4, 4)), value_range=(0, 1)),
            "vae",
            "Bernoulli",
            300,
        ),
        "bits": (BITS, "vae", "Bernoulli", 2000),
        "table": (TABLE, "vae", "Normal", 2000),
    }
    for data, preset, likelihood, max_epochs in expected.values():
        plan = recipes.plan(recipes.settings({"hidden": "4"}), data, progress=False)
        assert (plan.preset, type(plan.model.decoder.head).__name__) == (preset, likelihood)
        assert plan.trainer.max_epochs == max_epochs
    named = {"prior": "standard-normal", "posterior": "full-normal", "objective": "iwae", "likelihood": "categorical"}
    for key, value in {**named, "transform": "none", "preset": "vae"}.items():
        assert recipes.plan(recipes.settings({key: value, "hidden": "4"}), digits, progress=False).preset == "vae"


def test_a_run_remembers_the_preset_that_its_data_chose(tmp_path):
    small = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
    run = str(tmp_path / "run")
    assert cli.run(["fit", "digits", "-o", run, *small]) == 0
    assert vk.runs.open(run).settings.preset == "vamp"
    assert any("vamp" in part for c in catalog.cite(run) for part in c.used_for)
    assert cli.run(["fit", "digits", "-o", run, "--resume", *small]) == 0


def test_every_likelihood_has_a_row():
    of_parts = {"Columns", "Group", "SelfMasked", "Spiked"}  # made of heads, which no word names
    assert {spec.normalized(row[0].partition(":")[0]) for row in CHAINS} == {
        spec.normalized(name) for name in likelihoods.__all__ if name not in of_parts
    }


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (likelihoods.Normal(3), networks.MLP),
        (likelihoods.Beta(3), networks.MLP),
        (likelihoods.Poisson(3), networks.LogInput),
        (likelihoods.LogNormal(3), networks.LogInput),
        (likelihoods.DiscretizedLogisticMixture(3), networks.RescaleInput),
    ],
)
def test_the_encoder_sees_levels_rescaled_and_counts_as_logarithms(head, kind):
    model, _ = vk.presets.vae(3, latent_dim=2, hidden=(4,), likelihood=head)
    assert type(model.encoder.network) is kind


def test_logarithms_belong_to_the_network():
    inner = networks.MLP(2, ())
    x = torch.tensor([[0.0, np.e - 1]])
    torch.testing.assert_close(networks.LogInput(inner)(x), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(networks.LogInput(inner, 0.0)(x + 1), torch.tensor([[0.0, 1.0]]))
    assert networks.LogInput(inner, 0.0)(torch.zeros(1, 2)).isfinite().all()
    assert (networks.LogInput(inner).in_shape, networks.LogInput(inner).out_shape) == (inner.in_shape, inner.out_shape)


NUMBERS = np.random.default_rng(1)
TABLES = {
    "student-t": (NUMBERS.standard_t(3, size=(60, 3)), "density"),
    "poisson": (NUMBERS.poisson([1, 20, 3000], size=(60, 3)), "mass"),
    "negative-binomial": (NUMBERS.negative_binomial(1, 0.01, size=(60, 3)), "mass"),
    "zero-inflated-negative-binomial": (NUMBERS.poisson([0.1, 2, 5], size=(60, 3)), "mass"),
    "beta": (NUMBERS.beta(2, 3, size=(60, 3)), "density"),
    "log-normal": (np.exp(NUMBERS.normal([-5, 0, 9], size=(60, 3))), "density"),
    "discretized-logistic-mixture": (NUMBERS.integers(0, 9, size=(60, 3)), "mass"),
}


@pytest.mark.parametrize("name", TABLES)
def test_fit_of_a_table_by_name_gives_a_model_that_samples_and_scores(name, tmp_path, capsys):
    rows, quantity = TABLES[name]
    np.savetxt(tmp_path / "table.csv", rows, delimiter=",", header="a,b,c", comments="", fmt="%.9g")
    run = str(tmp_path / "run")
    words = ["max_epochs=2", "hidden=8", "latent_dim=2", "compile=off", f"likelihood={name}"]
    assert cli.run(["fit", str(tmp_path / "table.csv"), "-o", run, *words]) == 0, capsys.readouterr().err
    model = vk.load(run)
    estimate = log_marginal(model, rows[:10].astype(np.float32), num_samples=20)
    assert np.isfinite(np.asarray(estimate.value)).all()
    assert estimate.quantity == quantity
    log_marginal(model, model.sample(10), num_samples=2)  # own draws are in the support
    assert "error" not in json.dumps(capsys.readouterr().err)


def test_counts_that_are_none_are_refused_with_the_way_out(tmp_path, capsys):
    np.savetxt(tmp_path / "table.csv", NUMBERS.normal(size=(40, 2)), delimiter=",", header="a,b", comments="")
    code = cli.run(["fit", str(tmp_path / "table.csv"), "-o", str(tmp_path / "run"), "likelihood=poisson"])
    message = capsys.readouterr().err
    assert code == 1
    assert "Poisson expects" in message
    assert "non-negative integers" in message
    assert "use a likelihood of real numbers: Normal" in message.replace("\n", " ")


def test_grey_numbers_are_no_bits_unless_that_is_asked_for(tmp_path, capsys):
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).random((60, 5)))
    arguments = ["fit", str(tmp_path / "grey.npy"), "-o", str(tmp_path / "run"), "likelihood=bernoulli"]
    fast = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off"]
    assert cli.run([*arguments, *fast]) == 1
    err = capsys.readouterr().err
    assert "transform=binarize" in err
    assert "ContinuousBernoulli" in err
    assert not (tmp_path / "run").exists()
    assert cli.run([*arguments, "transform=binarize", *fast, "--quiet"]) == 0
    chosen = "likelihood Bernoulli; transform of the data: Binarize; bits are drawn from the values"
    assert capsys.readouterr().err == f"{chosen}; log p(x) will be a mass\n"
    arguments[3] += "-threshold"
    assert cli.run([*arguments, "transform=binarize:mode=threshold", *fast, "--quiet"]) == 0
    assert "Binarize; bits say which values are above 0.5; log p" in capsys.readouterr().err
    for transform in ("none", "scale"):
        arguments[3] += transform
        assert cli.run([*arguments, f"transform={transform}", *fast]) == 1
        assert "transform=binarize" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ([], "preset vamp; likelihood DiscretizedLogistic; transform of the data: none; log p(x) will be a mass"),
        (
            ["prior=standard-normal"],
            "likelihood DiscretizedLogistic; transform of the data: none; log p(x) will be a mass",
        ),
        (
            ["likelihood=bernoulli"],
            "likelihood Bernoulli; transform of the data: Scale, then Binarize; bits are drawn from the values; "
            "log p(x) will be a mass",
        ),
        (
            ["likelihood=normal"],
            "likelihood Normal; transform of the data: Dequantize, then Standardize; "
            "log p(x) will be a bound on a mass",
        ),
        (
            ["likelihood=bernoulli:grey=true"],
            "likelihood Bernoulli; transform of the data: Scale; log p(x) will be no density",
        ),
    ],
)
def test_each_fit_says_which_transform_it_chose_and_what_log_p_will_be(tmp_path, capsys, settings, line):
    arguments = ["fit", "digits", "-o", str(tmp_path / "run"), "max_epochs=1", "hidden=4", "latent_dim=2", *settings]
    assert cli.run([*arguments, "compile=off"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == line
