"""Exports: graphs beside torch, the runner beside vaekit, and what an export says where it cannot be made."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from scipy import stats

import vaekit as vk
from vaekit import cli, engine, runs
from vaekit.bounds import log_likelihood_at, log_prob_of
from vaekit.distributions.base import from_noise
from vaekit.errors import ArtifactError, ConfigError
from vaekit.evaluation.weights import Weights
from vaekit.export import decompositions, export
from vaekit.export.noise import Given, Noise, NoNoiseError, noise_of
from vaekit.export.runner import noise as runner_noise
from vaekit.export.runner import weights as runner_weights
from vaekit.transforms.noise import content_noise, row_hashes


def opened(folder):
    spec = importlib.util.spec_from_file_location("exported_runner", folder / "runner.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(folder)


def fitted(folder, *arguments):
    assert cli.run(["fit", *arguments, "-o", str(folder), "--quiet"]) == 0
    return runs.open(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    settings = ["--preset", "vae", "max_epochs=12", "hidden=32", "latent_dim=3", "likelihood=normal"]
    run = fitted(folder / "run", "digits", *settings)
    export(run, folder / "out")
    return run, folder / "out"


# --- Bits and weights in numpy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1, -3, 2**63 + 5])
def test_the_runner_draws_the_same_noise(dtype, seed):
    x = np.random.default_rng(0).integers(0, 200, (6, 2, 3)).astype(dtype)
    if dtype != np.uint8:
        x = x / 7 - 3
        x[0, 0, :2] = [-0.0, np.nan]
    rows = torch.from_numpy(x)
    assert (runner_noise.row_hashes(x, seed).view(np.int64) == row_hashes(rows, seed).numpy()).all()
    for own in (np.float32, np.float64):
        found = runner_noise.content_noise(x, seed, (5,), np.dtype(own))
        expected = content_noise(rows, seed, (5,), getattr(torch, np.dtype(own).name)).numpy()
        assert found.dtype == own
        assert (found == expected).all()


@pytest.mark.parametrize("num_samples", [1, 5, 30, 700])
def test_the_runner_weighs_as_vaekit_does(num_samples):
    generator = torch.Generator().manual_seed(num_samples)
    log_w = torch.randn(num_samples, 9, generator=generator, dtype=torch.float64) * torch.linspace(0, 4, 9)
    weights = Weights(9, num_samples)
    weights.add(slice(0, 9), log_w)
    found = runner_weights.summary(log_w.numpy())
    np.testing.assert_allclose(found["log_p"], weights.sums.log_mean(num_samples), rtol=1e-12)
    np.testing.assert_allclose(found["ess"], weights.sums.ess, rtol=1e-12)
    np.testing.assert_allclose(found["stderr"], weights.stderr(), rtol=1e-9)


# --- A run of images --------------------------------------------------------------------------------------------------


def test_the_folder_says_what_it_holds(digits):
    _, folder = digits
    about = json.loads((folder / "export.json").read_text())
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.{suffix}" for name in ("encoder", "decoder", "score", "sample") for suffix in ("onnx", "pt2")),
        "export.json",
        "runner.py",
    }
    assert about["graphs"]["score"]["inputs"][0] == {"name": "x", "shape": ["batch", 1, 8, 8], "dtype": "float32"}
    assert about["graphs"]["score"]["output"]["shape"] == ["samples", "batch"]
    assert all(graph["difference"] < 1e-4 for graph in about["graphs"].values())


def test_the_runner_answers_as_the_run(digits):
    run, folder = digits
    model, rows = opened(folder), run.rows("digits:test")[:70]
    np.testing.assert_allclose(model.encode(rows), run.model.encode(rows), rtol=1e-4, atol=1e-5)
    z = run.model.encode(rows)
    np.testing.assert_allclose(model.decode(z.numpy()), run.model.decode(z), rtol=1e-4, atol=1e-4)
    found = model.score(rows, num_samples=300)
    expected = vk.evaluation.iwae(run.model, rows, num_samples=300, generator=torch.Generator().manual_seed(1))
    error = np.hypot(found["stderr"], expected.stderr.numpy())
    assert (np.abs(found["log_p"] - expected.value.numpy()) <= 4 * error).mean() > 0.98
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(("log_p", "stderr", "ess"), (70,))


def test_a_row_scores_the_same_alone_and_among_others(digits):
    model, rows = opened(digits[1]), digits[0].rows("digits:test")[:9]
    whole = model.score(rows, num_samples=40, seed=3)["log_p"]
    alone = [model.score(rows[i : i + 1], num_samples=40, seed=3)["log_p"][0] for i in range(9)]
    np.testing.assert_allclose(whole, alone, rtol=1e-5)
    assert (np.abs(whole - model.score(rows, num_samples=40, seed=4)["log_p"]) > 1e-6).all()


def test_draws_of_the_runner_are_those_of_the_model(digits):
    run, folder = digits
    model = opened(folder)
    few, many = model.sample(5, seed=2), model.sample(3000, seed=2)
    assert (few == many[:5]).all()
    own = run.model.sample(3000, generator=torch.Generator().manual_seed(0)).numpy()
    error = np.sqrt((many.var(0) + own.var(0)) / 3000)
    assert (np.abs(many.mean(0) - own.mean(0)) < 5 * error + 1e-9).all()


def test_the_same_noise_gives_the_same_weights(digits):
    run, folder = digits
    model, rows = opened(folder), torch.from_numpy(run.rows("digits:test")[:7]).float()
    noise = torch.randn(13, 7, 3, generator=torch.Generator().manual_seed(0))
    view = vk.models.View.of(run.model, rows)
    with torch.no_grad():
        y, log_det = view.space(rows, torch.float32, 5)
        q = run.model.posterior(y)
        z = from_noise(q, noise)
        expected = log_likelihood_at(run.model, z, y) + log_prob_of(run.model.prior(), z) - q.log_prob(z) + log_det
    uniform = runner_noise.content_noise(rows.numpy(), 5, (1, 8, 8), np.dtype(np.float32))
    found = model._run("score", {"x": rows.numpy(), "transform_noise_0": uniform, "normal_0": noise.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_programs_of_torch_export_answer_as_well(digits):
    run, folder = digits
    rows = torch.from_numpy(run.rows("digits:test")[:5]).float()
    program = torch.export.load(folder / "encoder.pt2").module()
    uniform = torch.from_numpy(runner_noise.content_noise(rows.numpy(), 0, (1, 8, 8), np.dtype(np.float32)))
    torch.testing.assert_close(program(rows, uniform), run.model.encode(rows))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((2, 8, 8)), "shape"),
        (np.full((2, 1, 8, 8), np.nan), "whole numbers from 0 to 16"),
        (np.zeros((0, 1, 8, 8)), "0 rows"),
        ("digits", "numbers"),
    ],
)
def test_the_runner_says_what_is_wrong_with_rows(digits, rows, words):
    with pytest.raises(ValueError, match=words):
        opened(digits[1]).score(rows)


# --- Where it cannot be ----------------------------------------------------------------------------------------------


def test_folders_that_cannot_be_written(digits, tmp_path):
    run, folder = digits
    with pytest.raises(ConfigError, match="--overwrite"):
        export(run, folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.txt"):
        export(run, tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        export(run, tmp_path / "file" / "out")


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert cli.run(["export", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_run_leaves_no_folder(digits, tmp_path, capsys):
    run, _ = digits
    shutil.copytree(run.folder, tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert cli.run(["export", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_damaged_or_not_there_is_named_by_the_runner(digits, tmp_path):
    shutil.copytree(digits[1], tmp_path / "out")
    (tmp_path / "out" / "encoder.onnx").write_bytes(b"nothing")
    rows = digits[0].rows("digits:test")[:2]
    with pytest.raises(ValueError, match=r"encoder\.onnx cannot be opened"):
        opened(tmp_path / "out").encode(rows)
    (tmp_path / "out" / "export.json").write_text("{")
    with pytest.raises(ValueError, match="holds no exported model"):
        opened(tmp_path / "out")


# --- Noise that is handed in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "exact"),
    [
        (lambda n: torch._standard_gamma(torch.full((n,), 0.3)), stats.gamma(0.3)),
        (lambda n: torch._standard_gamma(torch.full((n,), 4.0)), stats.gamma(4.0)),
        (lambda n: torch._sample_dirichlet(torch.tensor([[2.0, 0.7]]).expand(n, 2))[:, 0], stats.beta(2.0, 0.7)),
        (lambda n: torch.empty(n).exponential_(2.0), stats.expon(scale=0.5)),
        (lambda n: torch.normal(torch.full((n,), 3.0), torch.full((n,), 2.0)), stats.norm(3, 2)),
    ],
)
def test_maps_of_noise_have_the_right_law(draw, exact):
    n = 20_000
    noise = noise_of(lambda k, b: draw(b))
    generator = torch.Generator().manual_seed(0)
    makers = {"normal": torch.randn, "uniform": torch.rand}
    tensors = [makers[each.kind](each.shape(1, n), generator=generator) for each in noise]
    with Given(tensors):
        found = draw(n)
    assert stats.kstest(found.double().numpy(), exact.cdf).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.2, 5.0, 15.9, 16.1, 90.0])
def test_counts_made_of_noise_have_the_right_law(rate):
    n, generator = 20_000, torch.Generator().manual_seed(1)
    noise = noise_of(lambda k, b: torch.poisson(torch.full((b,), rate)))
    with Given([torch.rand(each.shape(1, n), generator=generator) for each in noise]):
        found = torch.poisson(torch.full((n,), rate)).numpy()
    ends = np.unique(stats.poisson(rate).ppf(np.linspace(0.05, 0.95, 10)))
    seen = np.histogram(found, [-1, *(ends + 0.5), np.inf])[0]
    mass = np.diff([0, *stats.poisson(rate).cdf(ends), 1])
    assert stats.chisquare(seen, n * mass).pvalue > 1e-3


def test_levels_made_of_noise_have_the_right_law():
    n, probs = 30_000, torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    noise = noise_of(lambda k, b: torch.multinomial(probs.expand(b, 6), 1))
    assert noise == [Noise("uniform", ("batch",), 1)]
    with Given([torch.rand(n, 1, generator=torch.Generator().manual_seed(2))]):
        found = torch.multinomial(probs.expand(n, 6), 1).flatten()
    counts = torch.bincount(found, minlength=6).numpy()
    assert (counts[[0, 2, 5]] == 0).all()
    assert stats.chisquare(counts[[1, 3, 4]], n * np.array([0.2, 0.5, 0.3])).pvalue > 1e-3


def test_what_is_no_map_of_noise_is_refused():
    with pytest.raises(NoNoiseError, match="randperm"):
        noise_of(lambda k, b: torch.randperm(b))


@pytest.mark.parametrize("kappa", [0.5, 30.0])
def test_directions_made_of_noise_have_the_right_law(kappa):
    q = vk.distributions.VonMisesFisher(torch.tensor([0.6, 0.0, -0.8]), torch.tensor(kappa))
    with engine.seeded(0):
        own, fixed = q.sample((20_000,)), q.sample_without_rejection(torch.Size((20_000,)))
    torch.testing.assert_close(fixed.norm(dim=-1), torch.ones(20_000))
    for i in range(3):
        assert stats.ks_2samp(own[:, i].numpy(), fixed[:, i].numpy()).pvalue > 1e-3


# --- Operations that ONNX lacks --------------------------------------------------------------------------------------


def test_operations_by_others_are_exact():
    x = torch.logspace(-6, 6, 200, dtype=torch.float64)
    both = torch.cat([-x, x])
    torch.testing.assert_close(decompositions.lgamma(x), torch.lgamma(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(decompositions.digamma(x), torch.digamma(x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(decompositions.asinh(both), torch.asinh(both))
    torch.testing.assert_close(decompositions.acosh(1 + x), torch.acosh(1 + x))
    inside = torch.linspace(-0.99, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(decompositions.atanh(inside), torch.atanh(inside))
    z = torch.linspace(-40, 9, 500, dtype=torch.float64)
    torch.testing.assert_close(decompositions.log_ndtr(z), torch.special.log_ndtr(z), rtol=1e-12, atol=1e-15)
    x = torch.linspace(-7, 25, 500, dtype=torch.float64)
    torch.testing.assert_close(decompositions.erfc(x), torch.erfc(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(decompositions.erf(x), torch.erf(x), rtol=1e-12, atol=1e-15)
    near = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert (decompositions.nextafter(near, near) == torch.nextafter(near, torch.zeros(1000))).all()


def test_matrices_by_columns():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 4, 4, generator=generator, dtype=torch.float64)
    matrix, b = a @ a.mT + torch.eye(4), torch.randn(5, 4, 2, generator=generator, dtype=torch.float64)
    factor, info = decompositions.cholesky(matrix)
    torch.testing.assert_close(factor, torch.linalg.cholesky(matrix))
    assert (info == 0).all()
    assert decompositions.cholesky(-matrix)[1].all()
    upper = factor.mT.contiguous()
    torch.testing.assert_close(
        decompositions.solve_triangular(upper, b, upper=True), torch.linalg.solve_triangular(upper, b, upper=True)
    )
    torch.testing.assert_close(decompositions.cholesky_solve(b, factor), torch.cholesky_solve(b, factor))
