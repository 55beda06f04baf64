"""Precision, random streams and threads: what is chosen, and that it changes no number."""

import os
import subprocess
import sys

import pytest
import torch

import vaekit as vk
from vaekit import engine
from vaekit.engine import devices
from vaekit.engine.speed import threads
from vaekit.evaluation import log_marginal


def vae(event_shape, hidden=(8,), likelihood="bernoulli", latent_dim=2, preset=vk.presets.vae):
    options = {} if hidden is None else {"hidden": hidden}
    with engine.seeded(0):
        return preset(event_shape, latent_dim=latent_dim, likelihood=likelihood, **options)[0]


# --- Precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch_size", "expected"),
    [
        (lambda: vae((1, 28, 28), (400,)), 128, torch.bfloat16),
        (lambda: vae((1, 28, 28), (400,)), 32, None),
        (lambda: vae((36,), (128, 128)), 128, None),
        (lambda: vae((1, 28, 28), (400,)).double(), 128, None),
        (lambda: vae((1, 16, 16), None, preset=vk.presets.conv_vae), 16, torch.bfloat16),
        (lambda: vae((1, 8, 8), None, preset=vk.presets.conv_mnist), 128, None),
        (object, 128, None),
    ],
)
def test_auto_takes_low_precision_where_it_pays(monkeypatch, model, batch_size, expected):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: True)
    assert engine.autocast_dtype(model(), "auto", batch_size) == expected
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: False)
    assert engine.autocast_dtype(model(), "auto", batch_size) is None
    assert engine.autocast_dtype(model(), "bf16") == torch.bfloat16
    assert engine.autocast_dtype(model(), "float32", batch_size) is None


def test_convolutions_of_single_pixels_get_gradients_in_full_precision():
    """In bf16, torch leaves what was in memory in the gradients of taps that see only padding: here NaN."""
    x = torch.bernoulli(torch.full((40, 1, 8, 8), 0.3), generator=torch.Generator().manual_seed(0))
    for seed in range(5):
        model = vae((1, 8, 8), None, preset=vk.presets.conv_mnist)
        junk = [torch.full((size,), float("nan")) for size in (256, 1_000, 4_096, 10_000, 100_000)]
        del junk
        trainer = vk.Trainer(max_epochs=2, batch_size=20, progress=False, precision="bf16", seed=seed)
        assert trainer.fit(model, vk.objectives.ELBO(), x)["skipped"][-1] == 0


def test_the_history_says_how_it_was_computed():
    x = torch.bernoulli(torch.full((64, 6), 0.4))
    trainer = vk.Trainer(max_epochs=1, progress=False, precision="bf16")
    history = trainer.fit(vae((6,)), vk.objectives.ELBO(), x)
    chosen = {"precision": "bfloat16", "compile": "auto", "compiled_at": None, "memory_format": "contiguous"}
    assert history.engine == {**chosen, "threads": torch.get_num_threads(), "flush_denormals": True}
    assert (
        vk.Trainer(max_epochs=1, progress=False).fit(vae((6,)), vk.objectives.ELBO(), x).engine["precision"]
        == "float32"
    )


IMAGES = [("bernoulli", 0.05), ("continuous-bernoulli", 0.05), ("discretized-logistic", 0.05)]
TABLES = [("normal", 0.01), ("laplace", 0.01), ("categorical", 0.01)]


@pytest.mark.parametrize(("likelihood", "per_element"), [*IMAGES, *TABLES])
def test_low_precision_gives_the_same_log_p(likelihood, per_element):
    """Trained in bf16 and judged in both: within 0.05 nats (images), 0.01 nats per column (tables)."""
    generator = torch.Generator().manual_seed(0)
    is_image = (likelihood, per_element) in IMAGES
    if is_image:
        grey = torch.from_numpy(vk.data.load("digits:train").x).float() / 16
        x = {"bernoulli": (grey > 0.5).float(), "discretized-logistic": (grey * 255).round()}.get(likelihood, grey)
        event_shape, limit = (1, 8, 8), per_element
    else:
        x = torch.randn(600, 2, generator=generator) @ torch.randn(2, 5, generator=generator)
        x = x.round().clamp(0, 3) if likelihood == "categorical" else x
        event_shape, limit = (5,), 5 * per_element
    head = vk.likelihoods.Categorical(event_shape, num_classes=4) if likelihood == "categorical" else likelihood
    model = vae(event_shape, (64, 64), head, latent_dim=4)
    vk.Trainer(max_epochs=30, batch_size=64, progress=False, precision="bf16").fit(model, vk.objectives.ELBO(), x)
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    full, low = (
        log_marginal(model, x[:200], num_samples=100, generator=g, precision=p)
        for g, p in zip(noise, ("float32", "bf16"), strict=True)
    )
    assert abs(full.mean - low.mean) < limit
    assert full.mean != low.mean, "bf16 was not used"


def test_training_in_low_precision_ends_at_the_same_bound():
    x = (torch.from_numpy(vk.data.load("digits:train").x) > 8).float()
    ends = {}
    for precision in ("float32", "bf16"):
        model = vae((1, 8, 8), (64,), latent_dim=4)
        trainer = vk.Trainer(max_epochs=40, batch_size=64, progress=False, precision=precision)
        trainer.fit(model, vk.objectives.ELBO(), x[:1000])
        ends[precision] = vk.evaluation.elbo(model, x[1000:], num_samples=50).mean
    assert ends["bf16"] == pytest.approx(ends["float32"], abs=0.25)


# --- Random streams --------------------------------------------------------------------------------------------------


def test_a_seeded_stream_is_that_of_torch():
    before = torch.get_rng_state()
    with engine.seeded(5):
        own = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(5)
        assert torch.equal(torch.rand(3), own)


# --- Threads ---------------------------------------------------------------------------------------------------------


def test_a_released_pool_comes_back(monkeypatch):
    x = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    before, num_threads = x @ x, torch.get_num_threads()
    threads.release_pool()
    assert torch.get_num_threads() == num_threads
    torch.testing.assert_close(x @ x, before)
    monkeypatch.setattr(threads, "_openmp", lambda: None)  # another runtime: nothing happens
    threads.release_pool()
    assert engine.run_flushing_denormals(lambda: float(before[0, 0])) == float(before[0, 0])


def test_denormals_are_flushed_by_all_threads_and_only_meanwhile():
    """Eight million elements are shared out among the threads of torch, each of which has a flag of its own."""
    tiny = torch.full((2**23,), 2e-38)

    def zeros():
        return int((tiny * 0.1 == 0).sum())

    assert zeros() == 0
    assert engine.run_flushing_denormals(zeros) == 2**23
    assert engine.run_flushing_denormals(zeros, 1) == 2**23
    assert zeros() == 0
    with pytest.raises(ZeroDivisionError):
        engine.run_flushing_denormals(lambda: 1 // 0)
    assert zeros() == 0
    torch.set_flush_denormal(True)
    try:
        assert engine.run_flushing_denormals(threads.is_flushing)
        assert threads.is_flushing(), "the caller's own choice comes back"
    finally:
        torch.set_flush_denormal(False)


def test_small_steps_take_one_thread_and_the_callers_setting_stays(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 7)
    assert engine.is_small_step(vae((36,), (128, 128)), 32)
    assert not engine.is_small_step(vae((36,), (128, 128)), 512)
    assert engine.calls_matter(vae((36,), (128, 128)), 512)
    assert not engine.calls_matter(vae((784,), (512,)), 128)
    assert engine.threads_for(vae((36,), (128, 128)), 32) == 1
    assert engine.threads_for(vae((36,), (128, 128)), 512) == 7
    assert engine.threads_for(vae((1, 28, 28), (400,)), 128) == 7
    assert engine.threads_for(vae((1, 8, 8), None, preset=vk.presets.conv_vae), 2) == 7
    monkeypatch.undo()
    assert engine.run_flushing_denormals(torch.get_num_threads, 1) == 1
    assert engine.run_flushing_denormals(torch.get_num_threads) == before
    assert torch.get_num_threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted by Linux")
def test_passes_over_images_find_their_memory_again():
    """glibc trims its heap between passes unless it knows of larger blocks: a fault for each page of each pass."""
    code = """
import resource, torch, vaekit as vk
model, _ = vk.presets.vae((784,), latent_dim=20, hidden=(512,))
x = torch.ones(16, 784)
def faults(draws):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    vk.evaluation.iwae(model, x, num_samples=draws, compile="off")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(500)
print(faults(1000))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(result.stdout) < 8_000, result.stdout  # 40,000 where each of 16 passes gets its memory anew
