"""What a view answers: codes, means and draws, under contexts, beside other threads, and after its model changed."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from test_view import FIXED, RANDOM, Shifted, model_with, seeded, table
from torch.distributions import Independent, Normal

import vaekit as vk
from vaekit.engine import streams
from vaekit.errors import BusyError, ConfigError
from vaekit.models.view import View
from vaekit.transforms import Scale, Standardize

# --- Draws -----------------------------------------------------------------------------------------------------------


def test_gradients_are_on_between_draws_and_the_model_may_train():
    model = model_with(None).train()
    view = View.of(model, torch.randn(70, 3))
    for draws in view.draws(2, seeded()):
        assert torch.is_grad_enabled()
        assert model.training
        assert not draws.log_weights.requires_grad
        with vk.engine.training(model):
            pass


def test_two_open_iterators_of_draws_leave_nothing_behind():
    """Closed in the order in which they were opened, as garbage is."""
    model = model_with(None).train()
    view = View.of(model, torch.randn(200, 3))
    first, second = view.draws(2, seeded()), view.draws(2, seeded())
    next(first), next(second)
    first.close(), second.close()
    assert torch.is_grad_enabled()
    assert model.training
    with vk.engine.training(model), pytest.raises(BusyError), ThreadPoolExecutor(1) as pool:
        pool.submit(next, view.draws(2)).result()


# --- Other threads ---------------------------------------------------------------------------------------------------

MANY = 2_100  # rows: three passes of at most 1,024


def borrows_in_between(monkeypatch, part, ask):
    """What happens first: the second pass of a question, or that another thread borrows torch's stream."""
    order, call = [], part.forward

    def other():
        with vk.engine.fork_rng(None):
            order.append("other")

    def forward(x):
        order.append("pass")
        if len(order) == 1:
            thread = Thread(target=other)
            thread.start()
            while thread.is_alive() and not streams._turns._queue.locked():
                time.sleep(0.001)
        return call(x)

    monkeypatch.setattr(part, "forward", forward)
    ask()
    return order


@pytest.mark.parametrize("mean", [True, False])
def test_other_threads_draw_between_two_passes(mean, monkeypatch):
    """The stream is borrowed for each pass anew, not for a question as a whole."""
    model = model_with(RANDOM["bits"], "bernoulli")
    view = View.of(model, table(MANY))
    z = torch.zeros(MANY, 2)
    questions = [
        (model.encoder, lambda: view.encode(mean, seeded())),
        (model.decoder, lambda: view.reconstruct(mean, seeded())),
        (model.decoder, lambda: view.decode(z, mean, seeded())),
        (model.decoder, lambda: view.sample(MANY, mean, seeded())),
    ]
    for part, ask in questions:
        with monkeypatch.context() as patch:
            assert borrows_in_between(patch, part, ask) == ["pass", "other", "pass", "pass"]


@pytest.mark.parametrize("name", ["none", "logit"])
def test_means_without_noise_wait_for_nobody(name):
    """E[z|x] under a fixed transform, while another thread holds torch's stream."""
    view = View.of(model_with(FIXED[name]), table(20))
    with ThreadPoolExecutor(1) as pool, vk.engine.fork_rng(None):
        codes = pool.submit(view.encode).result(timeout=60)
    assert torch.equal(codes, view.encode())


@pytest.mark.parametrize("name", ["scale", "bits"])
def test_all_passes_draw_from_one_stream(name):
    """Bit for bit what one stream for the draws of the whole question gives, and torch's own stays where it is."""
    model = model_with({**FIXED, **RANDOM}[name], "bernoulli" if name == "bits" else "normal").eval()
    view = View.of(model, table(MANY))
    own = torch.get_rng_state()
    with torch.no_grad(), vk.engine.fork_rng(seeded(3)):
        codes = [model.posterior(batch.x).sample() for batch in view.batches(1024, by_row=True)]
    assert torch.equal(view.encode(False, seeded(3)), torch.cat(codes))
    with torch.no_grad(), vk.engine.fork_rng(seeded(3)):
        z = model.prior().sample((MANY,))
        x = torch.cat([model.transform.inverse(model.likelihood(part).sample()) for part in z.split(1024)])
    assert torch.equal(view.sample(MANY, generator=seeded(3)), x)
    assert torch.equal(torch.get_rng_state(), own)


# --- Contexts --------------------------------------------------------------------------------------------------------


class Conditioned(Shifted):
    """p(z|c) = q(z|x, c) = N(c, 1), p(x|z, c) = N(0.1 z + slope c, 0.1^2): log p(x|c) is known."""

    def given(self, context):
        about = Independent(Normal(context, 1.0), 1)
        return SimpleNamespace(
            posterior=lambda x: about, prior=lambda: about, likelihood=lambda z: self._at(z, context)
        )

    def log_prob(self, x, context):
        return Independent(Normal((0.1 + self.slope) * context, 0.02**0.5), 1).log_prob(x).detach().double()


def conditioned(num_rows=70):
    model, context = Conditioned(), torch.randn(num_rows, 2, generator=seeded())
    model.slope.data = torch.tensor([2.0, -1.0])
    x = (0.1 + model.slope.detach()) * context + 0.1 * torch.randn(num_rows, 2, generator=seeded(1))
    return model, x, context


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key": "row"},
        {"key": torch.arange(70), "chunk_size": 3},
        pytest.param({"compile": "on", "chunk_size": 1500}, marks=pytest.mark.slow),
    ],
    ids=["blocks", "keys", "chunks", "compiled"],
)
def test_the_density_is_that_under_the_context_of_each_row(options):
    model, x, context = conditioned()
    view = View.of(model, x, context=context)
    found = vk.evaluation.log_marginal(model, view, num_samples=4_000, generator=seeded(), **options)
    z_scores = (found.value - model.log_prob(x, context)) / found.stderr
    assert float(z_scores.abs().max()) < 4.5
    lower = vk.evaluation.elbo(model, view, num_samples=500, generator=seeded())
    torch.testing.assert_close(lower.terms["kl"], torch.zeros(70).double(), msg="q(z|x, c) is p(z|c)")
    assert bool((lower.value < model.log_prob(x, context)).all())


def test_codes_and_means_are_those_under_the_context_of_each_row():
    model, x, context = conditioned(MANY)
    view = View.of(model, x, context=context)
    means = (0.1 + model.slope.detach()) * context
    torch.testing.assert_close(view.encode(), context)
    torch.testing.assert_close(view.encode(indices=torch.tensor([7, 3])), context[[7, 3]])
    torch.testing.assert_close(view.reconstruct(), means)
    torch.testing.assert_close(view.decode(view.encode()), means)
    z = torch.cat([draws.z for draws in view.draws(64, seeded())], dim=1)
    torch.testing.assert_close(z.mean(0), context, atol=0.7, rtol=0)
    torch.testing.assert_close(view.take(torch.tensor([5])).encode(), context[5:6])


def test_a_context_that_cannot_be_used_is_refused():
    model, x, context = conditioned()
    with pytest.raises(ConfigError, match=r"a context needs given\(\) of the model, and VAE has none"):
        View.of(model_with(None), table(70), context=context)
    view = View.of(model, x, context=context)
    with pytest.raises(ConfigError, match="3 latents .* under the contexts of 70 rows"):
        view.decode(torch.zeros(3, 2))
    with pytest.raises(ConfigError, match=r"sample from model.given\(context\)"):
        view.sample(3)


def test_chains_annealing_and_diagnostics_take_the_context_of_each_row():
    model, x, context = conditioned()
    view = View.of(model, x, context=context)
    annealed = vk.evaluation.ais(model, view, num_steps=60, num_leapfrog=5, generator=seeded())
    assert ((annealed.value - model.log_prob(x, context)).abs() < 5 * annealed.stderr + 0.05).all()
    chains = vk.evaluation.hmc_posterior(model, view.some(8), num_samples=60, num_warmup=60, generator=seeded())
    assert chains.z.isfinite().all()
    found = vk.evaluation.diagnostics(model, view, num_gap_rows=4, generator=seeded())
    assert found.num_points == len(x)
    assert found.rate.value == pytest.approx(0, abs=1e-6), "q(z|x, c) is p(z|c)"


def test_holes_are_tried_on_the_encoder_under_their_context():
    """A model without a context of its own is never asked for q(z|x)."""

    class Only(Conditioned):
        def posterior(self, x):
            raise AssertionError("this model is always given a context")

        def _at(self, z, context):
            return vk.distributions.Product(Normal(0.1 * z + context, 0.1), 1, missing="observed-only")

    x = torch.zeros(5, 2)
    x[4, 0] = torch.nan
    View.of(Only(), x, context=torch.randn(5, 2))


# --- A model that changes --------------------------------------------------------------------------------------------


def scores(model, rows):
    return vk.evaluation.log_marginal(model, rows, num_samples=3, generator=seeded()).value


def test_a_view_meets_again_where_the_transform_was_replaced():
    model, x = model_with(Scale(0, 16)), table()
    view = View.of(model, x)
    model.transform = Scale(0, 32)
    assert torch.equal(scores(model, view), scores(model, x))
    assert View.of(model, view) is not view


def test_a_view_meets_again_where_the_transform_was_fitted_again():
    model, x = model_with(Standardize(3)), table(dtype=torch.float32)
    view = View.of(model, x)
    before = next(view.batches(50)).x
    model.transform.fit(x[:10])
    assert torch.equal(scores(model, view), scores(model, x))
    after = next(view.batches(50)).x
    assert not torch.equal(after, before)
    assert torch.equal(after, view.batch(slice(0, 50)).x), "what was computed at once is not kept"
    assert View.of(model, view) is not view


def test_rows_that_were_written_to_are_not_taken_from_before():
    x = table(dtype=torch.float32)
    view = View.of(model_with(Scale(0, 16)), x)
    next(view.batches(50))
    x[0] = 16.0
    assert torch.equal(next(view.batches(50)).x, x / 16)


def test_rows_follow_the_dtype_of_the_model():
    model, x = model_with(Scale(0, 16)), table()
    view = View.of(model, x)
    for convert, dtype in ((model.float, torch.float32), (model.double, torch.float64), (model.float, torch.float32)):
        convert()
        assert next(view.batches(50)).x.dtype == dtype
        assert view.encode().dtype == dtype


def test_a_view_that_knows_less_is_no_answer_to_who_asks_for_more():
    model, x = model_with(None), table(dtype=torch.float32)
    codes_only = View.of(model, x, requires=("posterior",))
    assert View.of(model, codes_only, requires=("posterior",)) is codes_only
    view = View.of(model, codes_only)
    assert view.has_likelihood
    assert scores(model, codes_only).isfinite().all()
