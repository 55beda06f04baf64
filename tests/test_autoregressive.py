"""Autoregressive decoders of images and of token sequences: masks, enumeration, sampling, a small language."""

import itertools
import math

import numpy as np
import pytest
import torch

import vaekit as vk
from vaekit import engine, likelihoods, networks
from vaekit.distributions import check_support
from vaekit.errors import ConfigError, SupportError

F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def bold(head, seed=0):
    """A head in float64 whose distributions are far from uniform."""
    with engine.seeded(seed):
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.6)
    return head.double()


def every_event(num_levels, shape):
    values = itertools.product(range(num_levels), repeat=math.prod(shape))
    return torch.tensor(list(values), dtype=F64).reshape(-1, *shape)


def agrees_with_masses(d, events, seed=0, num_draws=20_000):
    """The frequencies of draws are within five standard errors of the masses of all events."""
    with engine.seeded(seed):
        draws = d.sample((num_draws,)).reshape(num_draws, -1)
    masses = d.log_prob(events).exp().detach()
    frequencies = (draws.unsqueeze(1) == events.reshape(1, len(events), -1)).all(-1).double().mean(0)
    errors = (masses * (1 - masses) / num_draws).sqrt()
    assert ((frequencies - masses).abs() <= 5 * errors + 3 / num_draws).all()  # three of the rarest are no wonder
    assert float(masses.max()) > 3 / len(events), "the case is far from uniform"


# --- Images ----------------------------------------------------------------------------------------------------------

IMAGES = {
    "bits": ((1, 2, 2), 2),
    "two channels of three levels": ((2, 1, 2), 3),
    "no channel": ((2, 3), 2),
    "a row": ((4,), 3),
    "one pixel of three channels": ((3, 1, 1), 2),
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_masses_of_all_images_sum_to_one_and_are_those_of_draws(name):
    shape, num_levels = IMAGES[name]
    head = bold(likelihoods.PixelCNN(shape, num_levels, channels=3, num_layers=2, kernel_size=3))
    with torch.no_grad():
        d = head(torch.randn(2, *head.param_shape, dtype=F64, generator=seeded(1)))
        events = every_event(num_levels, shape)
        total = d.log_prob(events.unsqueeze(1)).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(2, dtype=F64), atol=1e-12, rtol=0)
        agrees_with_masses(head(torch.randn(*head.param_shape, dtype=F64, generator=seeded(1))), events)


def test_an_element_depends_on_those_before_it_alone():
    """Order: pixels row by row, channels within a pixel; the element just before is always seen."""
    shape = (3, 4, 4)
    head = bold(likelihoods.PixelCNN(shape, 4, channels=3, num_layers=2, kernel_size=5))
    context = torch.randn(1, *head.param_shape, dtype=F64, generator=seeded(0))
    x = torch.randint(4, (1, *shape), generator=seeded(1)).double()
    order = [(c, i, j) for i in range(4) for j in range(4) for c in range(3)]

    def logits(image):
        with torch.no_grad():
            found = head.network(image, context)[0]
        return torch.stack([found[c, :, i, j] for c, i, j in order])

    before = logits(x)
    for place, (c, i, j) in enumerate(order):
        changed = x.clone()
        changed[0, c, i, j] = (changed[0, c, i, j] + 2) % 4
        moved = (logits(changed) - before).abs().sum(1) > 1e-12
        assert not moved[: place + 1].any(), f"element {place} is seen by one before it, or by itself"
        if place + 1 < len(order) and order[place + 1][2] != 0:
            assert moved[place + 1]
    other = head.network(x, context + 1)[0]
    assert (other - head.network(x, context)[0]).abs().flatten(1).max(1).values.min() > 1e-3, "z is read"


def test_drawing_by_parts_of_the_image_changes_nothing():
    head = likelihoods.PixelCNN((2, 9, 8), 3, channels=3, num_layers=1, kernel_size=3)
    bold(head)
    with torch.no_grad():
        d = head(torch.randn(4, *head.param_shape, dtype=F64, generator=seeded(0)))
        assert d.reach == 2
        with engine.seeded(0):
            parts = d.sample()
        d.reach = 100
        with engine.seeded(0):
            whole = d.sample()
    assert torch.equal(parts, whole)


def test_one_element_in_all_has_nothing_before_it():
    head = bold(likelihoods.PixelCNN(1, 4, channels=2, num_layers=1))
    assert not head.network.first.weight.requires_grad
    d = head(torch.randn(2, 1, 1, dtype=F64, generator=seeded(0)))
    torch.testing.assert_close(d.log_prob(every_event(4, (1,))).exp().sum(), torch.tensor(1.0, dtype=F64))


@pytest.mark.parametrize("size", [-60.0, 60.0, 1e4])
@pytest.mark.parametrize(
    "make", [lambda: likelihoods.PixelCNN((1, 3, 3), 4), lambda: likelihoods.SequenceCategorical(5, 4)]
)
def test_extreme_contexts_in_float32_give_finite_values_and_gradients(make, size):
    with engine.seeded(0):
        head = make()
    params = torch.full((2, *head.param_shape), size, requires_grad=True)
    value = head(params).log_prob(head(params).sample())
    assert value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), params)
    assert gradient.isfinite().all()


def bars(num_rows, seed):
    """Images of 4 x 4 bits whose rows are all 0 or all 1: log p = -4 log 2."""
    bits = torch.randint(2, (num_rows, 1, 4, 1), generator=seeded(seed)).float()
    return bits.expand(-1, 1, 4, 4).contiguous()


def test_a_pixel_vae_learns_what_it_can_see():
    with engine.seeded(0):
        model, objective = vk.presets.pixel_vae((1, 4, 4), latent_dim=2, num_levels=2, channels=8, num_layers=1)
    trainer = vk.Trainer(max_epochs=12, batch_size=64, learning_rate=0.01, progress=False, compile="off")
    trainer.fit(model, objective, bars(1024, 0))
    x = bars(200, 1)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=50, generator=seeded(0))
    assert estimate.quantity == "mass"
    assert -4 * math.log(2) - 0.4 < estimate.mean < -4 * math.log(2) + 0.02
    images = model.sample(40, generator=seeded(0))
    assert float((images == images[..., :1]).float().mean()) > 0.95
    assert model.sample(3, mean=True, generator=seeded(0)).shape == (3, 1, 4, 4)
    assert torch.equal(model.reconstruct(x[:3]), model.reconstruct(x[:3]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: likelihoods.PixelCNN(4, num_levels=1), "at least 2 levels; got 1"),
        (lambda: likelihoods.PixelCNN(4, channels=0), "channels and num_layers are at least 1"),
        (lambda: likelihoods.PixelCNN(4, kernel_size=4), "kernel_size is odd; got 4"),
        (lambda: likelihoods.PixelCNN((1, 1, 2, 2)), r"expects events \(C, H, W\)"),
        (lambda: likelihoods.SequenceCategorical(4, 1), "at least 2 tokens"),
        (lambda: likelihoods.SequenceCategorical(4, 3, end_token=3), r"end_token is one of 0..2 or None; got 3"),
        (lambda: likelihoods.SequenceCategorical(4, 3, word_dropout=1.5), "between 0 and 1; got 1.5"),
        (lambda: networks.GRUEncoder(4, 0), "GRUEncoder expects a number of tokens"),
        (lambda: networks.GRUEncoder(4, 3, end_token=-1), "end_token is one of 0..2 or None; got -1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# --- Sequences -------------------------------------------------------------------------------------------------------


def sequences(length, num_tokens, end_token=None, **options):
    head = likelihoods.SequenceCategorical(
        length, num_tokens, hidden_size=4, embedding_size=3, end_token=end_token, **options
    )
    return bold(head)


def padded(num_tokens, length, end_token):
    """All sequences in which nothing but the end token follows an end token."""
    events = every_event(num_tokens, (length,))
    after = (events == end_token).double().cumsum(1) > 0
    return events[((events == end_token) | ~after).all(1)]


def test_the_masses_of_all_sequences_sum_to_one_and_are_those_of_draws():
    head = sequences(3, 3)
    context = torch.randn(2, 4, dtype=F64, generator=seeded(1))
    events = every_event(3, (3,))
    with torch.no_grad():
        total = head(context).log_prob(events.unsqueeze(1)).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(2, dtype=F64), atol=1e-12, rtol=0)
        agrees_with_masses(head(context[0]), events)


@pytest.mark.parametrize("end_token", [0, 2])
def test_with_an_end_token_the_padded_sequences_have_all_the_mass(end_token):
    head = sequences(4, 3, end_token)
    context = torch.randn(2, 4, dtype=F64, generator=seeded(1))
    events = padded(3, 4, end_token)
    assert len(events) == 1 + 2 + 4 + 8 + 16
    with torch.no_grad():
        d = head(context)
        total = d.log_prob(events.unsqueeze(1)).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(2, dtype=F64), atol=1e-12, rtol=0)
        agrees_with_masses(head(context[0]), events)
        assert d.support.check(d.sample((500,))).all()
        assert d.support.check(events).all()
        assert int(d.support.check(every_event(3, (4,))).sum()) == len(events)
        filled = torch.tensor([1.0, end_token, 1.0, 1.0], dtype=F64)
        torch.testing.assert_close(
            d.log_prob(filled), d.log_prob(torch.tensor([1.0, *[end_token] * 3], dtype=F64)), rtol=1e-13, atol=0
        )


def test_a_token_depends_on_those_before_it_and_steps_agree_with_the_pass():
    head = sequences(5, 4)
    context = torch.randn(3, 4, dtype=F64, generator=seeded(0))
    tokens = torch.randint(4, (3, 5), generator=seeded(1))
    with torch.no_grad():
        logits = head.logits(tokens, context)
        for t in range(5):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % 4
            moved = (head.logits(changed, context) - logits).abs().sum(-1) > 1e-12
            assert not moved[:, : t + 1].any()
            assert moved[:, t + 1 :].all()
        state, last = None, None
        for t in range(5):
            one, state = head.step(last, state, context)
            torch.testing.assert_close(one, logits[:, t])
            last = tokens[:, t]


def test_the_mean_is_the_greedy_sequence():
    head = sequences(4, 3, end_token=0)
    with torch.no_grad():
        d = head(torch.randn(6, 4, dtype=F64, generator=seeded(2)))
        greedy = d.mean
        assert d.support.check(greedy).all()
        assert torch.equal(greedy, d.mode)
        first = head.logits(greedy.long(), d.context)[:, 0].argmax(-1)
    assert torch.equal(greedy[:, 0], first.double())
    assert not d.has_exact_mean
    assert len(greedy.unique()) > 1


def test_word_dropout_hides_tokens_while_training_only():
    head = sequences(5, 4, word_dropout=1.0)
    context = torch.randn(1, 4, dtype=F64, generator=seeded(0))
    a, b = torch.tensor([[0, 1, 2, 3, 1]]), torch.tensor([[3, 2, 0, 1, 1]])
    with torch.no_grad():
        assert torch.equal(head.logits(a, context), head.logits(b, context)), "all are hidden"
        head.eval()
        assert not torch.equal(head.logits(a, context), head.logits(b, context))
        assert torch.equal(head.logits(a, context), head.logits(a, context))
        half = sequences(5, 4, word_dropout=0.5)
        with engine.seeded(0):
            values = {float(half(context).log_prob(a.double())) for _ in range(20)}
        assert 5 < len(values) <= 20


def test_events_of_more_dimensions_are_read_in_the_order_of_memory():
    head = likelihoods.SequenceCategorical((2, 3), 4, hidden_size=4, embedding_size=3)
    flat = sequences(6, 4)
    head.double().load_state_dict(flat.state_dict())
    context = torch.randn(2, 4, dtype=F64, generator=seeded(0))
    x = torch.randint(4, (2, 2, 3), generator=seeded(0)).double()
    assert torch.equal(head(context).log_prob(x), flat(context).log_prob(x.reshape(2, 6)))


def test_the_encoder_does_not_read_padding():
    with engine.seeded(0):
        encoder = networks.GRUEncoder(5, 4, hidden_size=3, embedding_size=2, end_token=0)
    short = encoder(torch.tensor([[1.0, 2, 0, 0, 0], [1, 2, 0, 3, 3], [0, 0, 0, 0, 0], [1, 2, 3, 1, 2]]))
    assert short.shape == (4, 3)
    assert torch.equal(short[0], short[1])
    assert not torch.equal(short[0], short[3])
    with engine.seeded(0):
        whole = networks.GRUEncoder(5, 4, hidden_size=3, embedding_size=2)
    assert torch.equal(whole(torch.tensor([[1.0, 2, 3, 1, 2]])), short[3:])
    assert not torch.equal(whole(torch.tensor([[1.0, 2, 0, 0, 0]])), whole(torch.tensor([[1.0, 2, 0, 3, 3]])))


def test_sequences_that_are_not_padded_are_refused_at_the_edge():
    model = language_model(0.0)
    with pytest.raises(SupportError, match="nothing but 0 after the first 0"):
        check_support(model.likelihood(torch.zeros(1, 2)), torch.tensor([[1.0, 0, 1, 0, 0]]))
    with pytest.raises(SupportError, match=r"the integers 0\.\.4"):
        vk.evaluation.log_marginal(model, torch.tensor([[1.0, 5, 0, 0, 0]]), num_samples=2)


# --- A language ------------------------------------------------------------------------------------------------------

LENGTH, TOKENS = 5, 5


def language(num_rows, seed):
    """Sentences of 1 to 4 words: the first of a pair, then words of one of two topics; 0 ends them. With log p."""
    rng = np.random.default_rng(seed)
    topic, length = rng.integers(2, size=num_rows), rng.integers(1, 5, size=num_rows)
    words = 1 + 2 * topic[:, None] + rng.integers(2, size=(num_rows, LENGTH))
    x = np.where(np.arange(LENGTH) < length[:, None], words, 0)
    log_p = -math.log(2) - math.log(4) - length * math.log(2)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(log_p)


def language_model(word_dropout, latent=2):
    with engine.seeded(0):
        return vk.VAE(
            vk.Conditional(
                networks.GRUEncoder(LENGTH, TOKENS, 16, 8, end_token=0), vk.posteriors.DiagonalNormal(latent)
            ),
            vk.Conditional(
                networks.MLP(latent, ()),
                likelihoods.SequenceCategorical(LENGTH, TOKENS, 16, 8, end_token=0, word_dropout=word_dropout),
            ),
            vk.priors.StandardNormal(latent),
        )


def trained(model, epochs):
    x, _ = language(1536, 0)
    trainer = vk.Trainer(max_epochs=epochs, batch_size=64, learning_rate=0.01, progress=False, compile="off")
    trainer.fit(model, vk.objectives.ELBO(), x)
    return model


def test_a_language_is_learned_up_to_its_entropy_and_a_collapse_is_seen(tmp_path):
    """The GRU alone can hold this language, and z falls silent: the bound is right, and the diagnostics say so."""
    model = trained(language_model(0.0), 8)
    x, log_p = language(400, 1)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=50, generator=seeded(0))
    assert estimate.quantity == "mass"
    gap = float(log_p.mean()) - estimate.mean
    assert -0.02 < gap < 0.15, "log p(x) is at most what the language has, and near it"
    found = vk.evaluation.diagnostics(model, x, num_gap_rows=0, generator=seeded(0))
    assert found.rate.value < 0.1
    assert [finding.name for finding in found.findings] != ["healthy"]
    sentences = model.sample(200, generator=seeded(0))
    topics = torch.where(sentences > 0, (sentences > 2).float(), -1.0)
    mixed = (topics == 0).any(1) & (topics == 1).any(1)
    assert float(mixed.float().mean()) < 0.1
    vk.save(model, tmp_path / "run")
    again = vk.evaluation.log_marginal(vk.load(tmp_path / "run"), x, num_samples=50, generator=seeded(0))
    assert torch.equal(again.value, estimate.value)


def test_hiding_words_makes_z_speak():
    model = trained(language_model(1.0), 8)
    x, _ = language(400, 1)
    found = vk.evaluation.diagnostics(model, x, num_gap_rows=0, generator=seeded(0))
    assert found.rate.value > 0.5
    assert found.aggregate.active_units >= 1
    codes = model.encode(x).flatten(1)
    topic = (x[:, 0] > 2).float()
    fitted = torch.linalg.lstsq(torch.cat([codes, torch.ones(400, 1)], 1), topic.unsqueeze(1)).solution
    right = ((torch.cat([codes, torch.ones(400, 1)], 1) @ fitted).squeeze(1) > 0.5) == (topic > 0.5)
    assert float(right.float().mean()) > 0.9, "the topic is read off the code"


def test_semi_amortised_inference_takes_a_language():
    """Second derivatives go through the GRU."""
    model = vk.models.SemiAmortized(language_model(0.0), num_steps=2)
    x, _ = language(8, 0)
    vk.objectives.ELBO()(model, x).value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_command_line_takes_the_levels_from_the_data(tmp_path):
    from vaekit import cli

    run = str(tmp_path / "run")
    settings = ["max_epochs=1", "latent_dim=2", "batch_size=512"]
    assert cli.run(["fit", "digits", "-o", run, "--preset", "pixel-vae", *settings, "--quiet"]) == 0
    head = vk.load(run).decoder.head
    assert type(head).__name__ == "PixelCNN"
    assert head.num_levels == 17
