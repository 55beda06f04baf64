"""In evaluation the noise of a random transform is a function of the row: of its values and the transform seed."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from components import TRANSFORMS
from components import rows as table_rows
from known_models import GreyModel, grey_model
from test_view import RANDOM, model_with, seeded, table

import vaekit as vk
from vaekit import evaluation
from vaekit.models.row_transform import RowTransform
from vaekit.models.view import View
from vaekit.transforms import Binarize, Compose, Dequantize, Logit, Scale, Transform
from vaekit.transforms.base import steps_of
from vaekit.transforms.noise import content_noise

F64 = torch.float64


def in_model_space(transform, x, seed=0, likelihood="normal"):
    """y and log|det| of all rows, as evaluation meets them."""
    batch = View.of(model_with(transform, likelihood), x).under(seed).batch(slice(0, len(x)), by_row=True)
    return batch.x, batch.log_det


def seen(name, x, seed=0):
    return in_model_space(RANDOM[name], x, seed, "bernoulli" if name == "bits" else "normal")


# --- The noise -------------------------------------------------------------------------------------------------------


def test_noise_depends_on_the_numbers_and_not_on_their_type():
    x = table(200)
    noise = content_noise(x, 3)
    assert noise.dtype == torch.float32
    for dtype in (torch.int64, torch.float32, F64):
        torch.testing.assert_close(content_noise(x.to(dtype), 3).float(), noise, atol=0, rtol=0)
    grey = torch.rand(200, 30)
    bits = Binarize("fixed")(grey)
    assert torch.equal(Binarize("fixed")(grey.double()).float(), bits)
    assert torch.equal(Binarize("fixed")(torch.from_numpy(grey.double().numpy())).float(), bits)


def test_zeros_of_both_signs_are_one_number_and_so_are_all_nan():
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [torch.nan, 1.0]])
    noise = content_noise(x, 0)
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    nan = np.array([0x7FC00000, 0xFFC00001 - 2**32], dtype=np.int64).astype(np.int32).view(np.float32)
    assert len(content_noise(torch.from_numpy(nan)[:, None], 0).unique()) == 1


def test_denormal_numbers_count_also_where_a_thread_flushes_them():
    x = torch.tensor([[1e-40, 0.5]])
    noise = content_noise(x, 0)
    assert torch.equal(vk.engine.run_flushing_denormals(partial(content_noise, x, 0), 1, x.device), noise)
    assert not torch.equal(noise, content_noise(torch.tensor([[0.0, 0.5]]), 0))


@pytest.mark.parametrize("seed", [-1, 2**63 - 1, 2**64 - 1, 2**70 + 5])
def test_any_integer_is_a_seed(seed):
    x = torch.rand(50, 20)
    noise = content_noise(x, seed)
    assert 0.4 < float(noise.mean()) < 0.6
    assert torch.equal(noise, content_noise(x, seed % 2**64))
    assert not torch.equal(noise, content_noise(x, seed + 1))


def test_draws_of_one_row_under_several_seeds_are_uniform_and_independent():
    x = torch.rand(2, 40)
    noise = torch.stack([content_noise(x, t)[0] for t in range(4000)]).double().numpy()
    assert abs(noise.mean() - 0.5) < 4 / np.sqrt(12 * noise.size)
    assert abs(noise.var() - 1 / 12) < 0.001
    correlations = np.corrcoef(noise.T)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 4 / np.sqrt(noise.size)


@pytest.mark.parametrize(("name", "make"), table_rows(TRANSFORMS))
def test_every_random_transform_takes_noise(name, make):
    """Its own draws are what it makes of noise from torch's stream."""
    x = torch.rand(40, 3).round() if name == "Dequantize" else torch.rand(40, 3)
    for step in steps_of(make()):
        assert step.is_fixed or step.takes_noise
        if step.takes_noise:
            with vk.engine.seeded(0):
                noise = torch.rand_like(x)
            with vk.engine.seeded(0):
                assert torch.equal(step(x), step.from_noise(x, noise))


# --- Rows in model space ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_a_row_has_one_place_in_model_space(name):
    """Whatever its number, neighbours, batch, dtype, key, and torch's stream."""
    x = table(50)
    y, log_det = seen(name, x)
    view = View.of(model_with(RANDOM[name], "bernoulli" if name == "bits" else "normal"), x)
    order = torch.randperm(50)
    assert torch.equal(seen(name, x[order])[0], y[order])
    assert torch.equal(torch.cat([batch.x for batch in view.batches(7, by_row=True)]), y)
    with vk.engine.seeded(9):
        assert torch.equal(view.batch(torch.tensor([8, 3]), by_row=True).x, y[[8, 3]])
    for dtype in (torch.int64, torch.float32, F64):
        torch.testing.assert_close(seen(name, x.to(dtype))[0], y, atol=1e-6, rtol=1e-5)
    assert torch.equal(seen(name, x)[1], log_det)
    assert not torch.equal(seen(name, x, seed=1)[0], y)
    assert torch.equal(view.under(1).under(None).batch(slice(0, 50), by_row=True).x, seen(name, x, seed=1)[0])


def test_bits_are_those_of_the_noise_of_the_row():
    x = torch.rand(30, 3)
    y, _ = in_model_space(Binarize(), x, 5, "bernoulli")
    assert torch.equal(y, (content_noise(x, 5) < x).float())
    # the noise is that of the row as handed in, whatever comes before
    counts = table(30).float()
    y, _ = in_model_space(Compose([Scale(0, 16), Binarize()]), counts, 5, "bernoulli")
    assert torch.equal(y, (content_noise(counts, 5) < counts / 16).float())


def test_dequantised_rows_stay_in_their_cells_and_have_the_jacobian_of_their_place():
    x = table(30)
    chain = Compose([Dequantize(17), Logit()])
    y, log_det = in_model_space(chain, x)
    assert torch.equal(chain.inverse(y).to(torch.uint8), x)
    fixed = Compose([Scale(0, 1), Logit()])
    place = (x + content_noise(x, 0)) / 17
    torch.testing.assert_close(log_det, fixed.with_log_det(place)[1].double() - 3 * np.log(17), atol=1e-4, rtol=1e-5)


def test_chains_within_chains_are_chains():
    x = table(30)
    flat = Compose([Scale(0, 16), Binarize(), Scale(0, 2)])
    nested = Compose([Compose([Scale(0, 16), Binarize()]), Compose([Scale(0, 2)])])
    (y, log_det), other = (RowTransform(x, 0, has_jacobian=True)(chain) for chain in (flat, nested))
    assert torch.equal(y, other[0])
    assert torch.equal(y, in_model_space(flat, x)[0])
    torch.testing.assert_close(log_det, torch.full((30,), -3 * np.log(2)))  # what comes before the bits does not count
    assert torch.equal(log_det, other[1])


class Jitter(Transform):
    """x + u with u uniform on [0, 1)."""

    takes_noise = True
    noise_name = "jitter"

    def forward(self, x):
        return self.from_noise(x, torch.rand_like(x))

    def from_noise(self, x, noise):
        return x + noise

    def inverse(self, y):
        return y

    def log_abs_det_jacobian(self, x, y):
        return y.new_zeros(len(y))


class Noisy(Jitter):
    """The same by a map of its own, which takes no noise."""

    def forward(self, x):
        return x + torch.rand(x.shape[1:]) if len(x) == 1 else x + torch.rand_like(x)


class Doubled(Jitter):
    """Draws nothing and does not say so."""

    num_calls = 0

    def forward(self, x):
        self.num_calls += 1
        return 2 * x


def test_two_random_steps_have_noise_of_their_own():
    x = torch.randn(50, 3)
    once, twice = (in_model_space(Compose([Jitter()] * n), x)[0] for n in (1, 2))
    first, second = (once - x).flatten(), (twice - once).flatten()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.35
    assert bool(((second >= 0) & (second < 1)).all())


def test_a_random_transform_without_the_hook_is_drawn_row_by_row():
    assert not Noisy.takes_noise, "a map of its own does not inherit the hook"
    x = torch.randn(20, 3)
    y, _ = in_model_space(Noisy(), x)
    assert torch.equal(in_model_space(Noisy(), x[[7, 3]])[0], y[[7, 3]])
    assert not torch.equal(in_model_space(Noisy(), x, seed=1)[0], y)
    assert len((y - x).flatten().unique()) > 50


def test_a_random_transform_of_someone_else_is_drawn_row_by_row():
    inner, x = model_with(None), torch.randn(20, 3)
    model = SimpleNamespace(
        posterior=inner.posterior, prior=inner.prior, likelihood=inner.likelihood, transform=Elsewhere()
    )
    options = {"num_samples": 5, "key": "content"}
    whole = evaluation.log_marginal(model, x, generator=seeded(), **options)
    part = evaluation.log_marginal(model, x[:4], generator=seeded(), **options)
    torch.testing.assert_close(part.value, whole.value[:4])
    assert "noise of the transform of each row is drawn once" in whole.transform_noise


class Elsewhere:
    """Someone else's random transform, of three methods."""

    def __call__(self, x):
        return x + torch.randn_like(x)

    def inverse(self, y):
        return y

    def log_abs_det_jacobian(self, x, y):
        return y.new_zeros(len(y))


def test_a_transform_that_draws_nothing_takes_all_rows_at_once():
    transform, x = Doubled(), torch.randn(20, 3)
    view = View.of(model_with(transform), x)
    before = transform.num_calls
    assert torch.equal(view.batch(slice(0, 20), by_row=True).x, 2 * x)
    assert transform.num_calls == before + 1


def test_training_draws_anew():
    view = View.of(model_with(RANDOM["bits"], "bernoulli"), table())
    first, second = (torch.cat([batch.x for batch in view.batches(10)]) for _ in range(2))
    assert not torch.equal(first, second)


# --- All of evaluation -----------------------------------------------------------------------------------------------


class OnlyGiven(Binarize):
    """Bits from given noise; drawing them from torch's stream is an error once it is `closed`."""

    takes_noise = True
    closed = False

    def forward(self, x):
        assert not self.closed, "evaluation drew fresh bits"
        return super().forward(x)

    def from_noise(self, x, noise):
        return super().from_noise(x, noise)


QUESTIONS = {
    "log_marginal": partial(evaluation.log_marginal, num_samples=3),
    "keyed": partial(evaluation.log_marginal, num_samples=3, key="row"),
    "averaged": partial(evaluation.log_marginal, num_samples=3, transform_draws=2),
    "elbo": partial(evaluation.elbo, num_samples=3),
    "iwae": partial(evaluation.iwae, num_samples=3),
    "trend": partial(evaluation.bias_trend, num_samples=(1, 3)),
    "ais": partial(evaluation.ais, num_steps=3, num_leapfrog=1, num_chains=2),
    "hmc": partial(evaluation.hmc_posterior, num_samples=4, num_warmup=2, num_chains=2, num_leapfrog=1),
    "diagnostics": partial(evaluation.diagnostics, num_gap_rows=2),
    "two_sample": partial(evaluation.two_sample),
    "evaluate": partial(evaluation.evaluate, num_samples=3),
    "compare": lambda model, x, **options: evaluation.compare({"a": model, "b": model}, x, num_samples=2, **options),
    "encode": lambda model, x, generator: model.encode(x, generator=generator),
    "draw": lambda model, x, generator: model.encode(x, False, generator),
    "reconstruct": lambda model, x, generator: model.reconstruct(x, generator=generator),
    "interpolate": lambda model, x, generator: model.interpolate(x.take(slice(0, 2)), x.take(slice(2, 4))),
    "draws": lambda model, x, generator: list(x.draws(2, generator)),
    "plot": lambda model, x, generator: vk.plots.reconstructions(model, x),
    "latent": lambda model, x, generator: vk.plots.latent(model, x),
}


@pytest.mark.filterwarnings("ignore::vaekit.errors.UnreliableEstimateWarning")
@pytest.mark.parametrize("name", QUESTIONS)
def test_nothing_in_evaluation_draws_fresh_bits(name):
    model = grey_model(transform=OnlyGiven())
    view = View.of(model, torch.rand(16, 6))
    model.transform.closed = True
    QUESTIONS[name](model, view, generator=seeded())


def test_two_generators_differ_by_no_more_than_monte_carlo():
    model, x = GreyModel(40), torch.rand(300, 40, dtype=F64)
    first, second = (evaluation.log_marginal(model, x, num_samples=100, generator=seeded(s)) for s in (0, 1))
    z_scores = (first.value - second.value) / torch.hypot(first.stderr, second.stderr)
    assert float(z_scores.abs().max()) < 4.5
    assert float(z_scores.std()) < 1.1
    other = evaluation.log_marginal(model, x, num_samples=100, generator=seeded(), transform_seed=1)
    assert float((first.value - other.value).std()) > 20 * float(first.stderr.mean())


def test_dtype_and_chunks_do_not_change_the_bits():
    model, x = grey_model(features=40), torch.rand(100, 40)
    value = evaluation.log_marginal(model, x, num_samples=20, generator=seeded()).value
    for other in (x.double(), x.numpy()):
        again = evaluation.log_marginal(model, other, num_samples=20, generator=seeded(), chunk_size=3).value
        torch.testing.assert_close(again, value, atol=1e-4, rtol=1e-5)


def test_codes_and_reconstructions_do_not_depend_on_the_generator():
    model, x = grey_model(), torch.rand(20, 6)
    assert torch.equal(model.encode(x, generator=seeded(1)), model.encode(x))
    assert torch.equal(model.reconstruct(x, generator=seeded(1)), model.reconstruct(x))
    torch.testing.assert_close(model.encode(x[[4, 2]]), model.encode(x)[[4, 2]])
    assert not torch.equal(model.encode(View.of(model, x).under(1)), model.encode(x))


def test_a_view_keeps_its_transform_seed_on_its_way_to_another_model():
    model, x = grey_model(), torch.rand(20, 6)
    view = View.of(model, x).under(7)
    assert View.of(model, view) is view
    assert View.of(grey_model(), view).transform_seed == view.take(slice(0, 3)).transform_seed == 7
    by_view = evaluation.log_marginal(model, view, num_samples=5, generator=seeded())
    by_option = evaluation.log_marginal(model, x, num_samples=5, generator=seeded(), transform_seed=7)
    assert torch.equal(by_view.value, by_option.value)


def test_models_behind_different_transforms_are_compared_on_the_same_bits():
    x = table(40).float()
    scaled = Compose([Scale(0, 32), Scale(0, 0.5), Binarize()])
    models = {"one": model_with(RANDOM["bits"], "bernoulli"), "other": model_with(scaled, "bernoulli")}
    found = evaluation.compare(models, x, num_samples=5, generator=seeded())
    assert found.differences[0].value == 0


def test_rate_of_the_diagnostics_is_the_kl_of_the_bounds():
    """Of the same bits, by the same closed form: equal up to the order of a sum."""
    model, x = grey_model(), torch.rand(100, 6)
    found = evaluation.evaluate(model, x, num_samples=20, generator=seeded())
    assert found["kl"].value == pytest.approx(found["diagnostics.rate"].value, rel=1e-6)
    gap = found["log_likelihood"].value + found["diagnostics.distortion"].value
    assert abs(gap) < 4 * found["elbo"].stderr * np.sqrt(1 + 20 / 4)
    moved = evaluation.evaluate(model, x, num_samples=20, generator=seeded(), transform_seed=1)
    assert moved["kl"].value == pytest.approx(moved["diagnostics.rate"].value, rel=1e-6)
    assert abs(moved["kl"].value - found["kl"].value) > 1e-5


def test_annealing_and_importance_sampling_meet_the_same_bits():
    """The paired difference is Monte Carlo alone: on bits of their own the rows would be nats apart."""
    model, x = GreyModel(40), torch.rand(24, 40, dtype=F64)
    annealed = evaluation.ais(model, x, num_steps=100, num_leapfrog=5, generator=seeded(1))
    weighted = evaluation.log_marginal(model, x, num_samples=2000, generator=seeded(2))
    difference = annealed.value - weighted.value
    assert float(difference.abs().max()) < 0.5
    assert abs(float(difference.mean())) < 0.1
    other = evaluation.log_marginal(model, x, num_samples=2000, generator=seeded(2), transform_seed=1)
    assert float((other.value - weighted.value).std()) > 1
    assert annealed.transform_noise == weighted.transform_noise
