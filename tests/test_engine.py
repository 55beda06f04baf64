"""The engine: precision by rule, compilation by measured time, and parity of both with plain float32."""

import gc
import itertools
import mmap
import os
import platform
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

import vaekit as vk
from vaekit import engine
from vaekit.engine import PayingCompilation, compilation, devices, threads
from vaekit.evaluation import blocks, log_marginal
from vaekit.training import gradients


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


# --- Compilation where it pays ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a test says so; compilation by a stand-in."""

    class Clock:
        now = 0.0
        compiled = 0

        def pay(self, function, cost):
            def call(*arguments):
                self.now += cost
                return function(*arguments)

            return call

    clock = Clock()
    monkeypatch.setattr(compilation.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(compilation, "compiler", lambda: "c++")
    return clock


def double(batch):
    return 2 * batch


def run(paying, num_calls, batch=None):
    batch = torch.ones(3) if batch is None else batch
    return [float(paying(batch).sum()) for _ in range(num_calls)]


def stand_in(monkeypatch, clock, cost):
    """Compiled functions take `cost` seconds per call."""

    def compile(function, **_):
        clock.compiled += 1
        return clock.pay(double, cost)

    monkeypatch.setattr(compilation.torch, "compile", compile)


@pytest.mark.parametrize(("num_calls", "expected"), [(1_000, 0), (50_000, 0), (60_000, 1)])
def test_compiles_where_the_rest_is_worth_it(monkeypatch, clock, num_calls, expected):
    stand_in(monkeypatch, clock, 0.002)
    paying = PayingCompilation(clock.pay(double, 0.005), num_calls)
    assert set(run(paying, 300)) == {6.0}
    assert clock.compiled == expected
    assert (paying.compiled_at is not None) == bool(expected)
    before = clock.now
    run(paying, 100)
    assert clock.now - before == pytest.approx(0.2 if expected else 0.5)


@pytest.mark.parametrize(("overhead", "expected"), [(0.0, 0), (1e-3, 1)])
def test_small_steps_are_worth_it_earlier(clock, overhead, expected):
    made = []

    def make():
        made.append(clock.now)
        return clock.pay(double, 0.001)

    paying = PayingCompilation(clock.pay(double, 0.002), 50_000, make, overhead)
    assert set(run(paying, 300)) == {6.0}
    assert len(made) == expected
    assert not made or made[0] > 0.1, "nothing is made before it is needed"


def test_drops_what_is_slower_compiled(monkeypatch, clock):
    stand_in(monkeypatch, clock, 0.006)
    paying = PayingCompilation(clock.pay(double, 0.005), 10**6)
    run(paying, 300)
    assert clock.compiled == 1
    assert paying.compiled_at is None
    before = clock.now
    run(paying, 100)
    assert clock.now - before == pytest.approx(0.5)


def test_a_compiler_that_fails_or_is_missing_costs_a_warning(monkeypatch, clock):
    def broken(function, **_):
        def call(*arguments):
            raise RuntimeError("no room\nfor code")

        return call

    monkeypatch.setattr(compilation.torch, "compile", broken)
    paying = PayingCompilation(clock.pay(double, 0.005), 10**6)
    with pytest.warns(UserWarning, match=r"torch.compile failed.*\(no room\)"):
        assert set(run(paying, 300)) == {6.0}
    monkeypatch.setattr(compilation, "compiler", lambda: None)
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler"):
        assert set(run(PayingCompilation(clock.pay(double, 0.005), 10**6), 300)) == {6.0}


@pytest.mark.parametrize("kind", ["function", "method"])
def test_each_model_of_a_process_is_compiled(monkeypatch, kind):
    """Torch itself compiles one function for eight different models, and leaves the ninth as it is without a word."""
    graphs, compile = [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def double(x, factor=2.0):
        return x * factor

    class Doubling:
        def __call__(self, x):
            return 2.0 * x

        compute = __call__

    def by_backend(function, dynamic, **_):
        return compile(function, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", by_backend)
    for size in range(2, 14):
        compiled = compilation.compiled(double if kind == "function" else Doubling().compute, True)
        for _ in range(2):
            assert compiled(torch.ones(size)).tolist() == [2.0] * size
    torch.compiler.reset()
    assert len(graphs) == 12


FACTOR = 2.0  # a user's own constant, which may change while a model trains


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.shift, self.dropout = 0.0, torch.nn.Dropout(0.0)

    def forward(self, model, x):
        return self.dropout(FACTOR * x + self.shift + model.weight.sum())


def test_what_changes_while_a_model_trains_is_compiled_anew(monkeypatch):
    """Guards on names in torch's and vaekit's modules are left out, and no others."""
    names, filtered, compile = [], compilation._guards_that_can_fail, torch.compile

    def guards(entries):
        kept = filtered(entries)
        names.extend(entry.name for entry, stays in zip(entries, kept, strict=True) if stays)
        return kept

    def by_backend(function, dynamic, options, **_):
        return compile(function, backend="eager", dynamic=dynamic, options=options)

    monkeypatch.setattr(torch, "compile", by_backend)
    monkeypatch.setattr(compilation, "_guards_that_can_fail", guards)
    model, objective = torch.nn.Linear(1, 1, bias=False).requires_grad_(False), Scaled()
    torch.nn.init.zeros_(model.weight)
    compiled = compilation.compiled(gradients._loss, True)
    assert float(compiled(model, objective, torch.ones(1))) == 2.0
    assert any("FACTOR" in name for name in names)
    assert not any("__import_torch_dot_nn" in name for name in names)
    objective.shift = 1.0
    assert float(compiled(model, objective, torch.ones(1))) == 3.0
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 5.0)
    assert float(compiled(model, objective, torch.ones(1))) == 6.0
    objective.dropout.p = 1.0
    assert float(compiled(model, objective, torch.ones(1))) == 0.0
    objective.eval()
    assert float(compiled(model, objective, torch.ones(1))) == 6.0
    torch.compiler.reset()


def test_an_error_of_the_function_itself_comes_out_as_it_is(monkeypatch, clock):
    stand_in(monkeypatch, clock, 0.002)
    calls = itertools.count()

    def fails(batch):
        clock.now += 0.005
        if next(calls) == 3:
            raise ZeroDivisionError
        return double(batch)

    with pytest.raises(ZeroDivisionError):
        run(PayingCompilation(fails, 10**6), 10)


def test_auto_for_evaluation_goes_by_the_amount_of_work(monkeypatch):
    model = vae((6,))
    monkeypatch.setattr(compilation, "compiler", lambda: "c++")
    monkeypatch.setattr(engine, "compiler", lambda: "c++")
    assert not blocks._pays(model, "auto", 10**6)
    assert blocks._pays(model, "auto", 10**10)
    assert not blocks._pays(object(), "auto", 10**10)
    assert blocks._pays(model, "on", 1)
    assert not blocks._pays(model, "off", 10**10)
    monkeypatch.setattr(engine, "compiler", lambda: None)
    assert not blocks._pays(model, "auto", 10**10)


def test_padding_for_compilation_changes_nothing(monkeypatch):
    """All passes have one shape, whatever N, K and the chunk; the values are those without compilation."""
    model, shapes = vae((6,)).double(), set()
    x = torch.bernoulli(torch.full((130, 6), 0.4, dtype=torch.float64), generator=torch.Generator().manual_seed(0))

    def compile(function, **_):
        def call(model, z, y):
            shapes.add((z.shape, y.shape))
            return function(model, z, y)

        return call

    monkeypatch.setattr(compilation.torch, "compile", compile)
    for chunk in (None, 1, 100, 700, 5000):
        noise = [torch.Generator().manual_seed(1) for _ in range(2)]
        shapes.clear()
        on = log_marginal(model, x, num_samples=130, generator=noise[0], compile="on", chunk_size=chunk)
        off = log_marginal(model, x, num_samples=130, generator=noise[1], compile="off", chunk_size=chunk)
        torch.testing.assert_close(on.value, off.value, rtol=1e-12, atol=0)
        assert len(shapes) == 1, chunk


def test_an_evaluation_compiles_once_for_a_model_and_a_shape(monkeypatch):
    """Tracing anew took a third of a second per call, more than many an evaluation."""
    made = []

    def compile(function, **_):
        made.append(function)
        return function

    monkeypatch.setattr(compilation.torch, "compile", compile)
    models = [vae((6,)), vae((6,))]
    for model, num_rows in ((models[0], 70), (models[0], 70), (models[1], 70), (models[0], 3), (models[1], 3)):
        log_marginal(model, torch.ones(num_rows, 6), num_samples=70, compile="on")
    assert len(made) == 4
    assert models[0] in compilation._KEPT
    number = len(compilation._KEPT)
    del models, model
    gc.collect()
    assert len(compilation._KEPT) == number - 2, "what was compiled goes with its model"
    assert compilation.compiled_once(object(), double) is not compilation.compiled_once(object(), double)


@pytest.mark.slow
def test_a_compiled_evaluation_notices_what_becomes_of_its_model():
    """Other weights, another precision and another decoder: the function that was kept is not the old one."""
    model, x = vae((6,)), torch.ones(9, 6)

    def both(precision="float32"):
        options = {"num_samples": 20, "precision": precision}
        noise = (torch.Generator().manual_seed(1) for _ in range(2))
        on, off = (
            log_marginal(model, x, compile=c, generator=g, **options).value
            for c, g in zip(("on", "off"), noise, strict=True)
        )
        torch.testing.assert_close(on, off, rtol=1e-5, atol=0 if precision == "float32" else 1e-2)
        return on

    first = both()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    second = both()
    third = both("bf16")
    model.decoder = vae((6,), (3,)).decoder
    fourth = both()
    for one, other in pairwise([first, second, third, fourth]):
        assert not torch.equal(one, other)


# --- Random streams --------------------------------------------------------------------------------------------------


def test_a_seeded_stream_is_that_of_torch():
    before = torch.get_rng_state()
    with engine.seeded(5):
        own = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(5)
        assert torch.equal(torch.rand(3), own)


# --- Memory ----------------------------------------------------------------------------------------------------------

BLOCKS = """
import resource, torch
from vaekit import engine
from vaekit.engine import memory

def new_pages(number):
    "Pages that `number` blocks of 48 MiB, one after the other, got from the system."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(number):
        torch.ones(12 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

torch.ones(8), new_pages(1)
start = resident()
outside = new_pages(30)
with engine.keeping_memory(give_back=True):
    with engine.keeping_memory():
        new_pages(10)
    inside = new_pages(30)
    in_training = engine.run_flushing_denormals(lambda: new_pages(30))
    kept = resident() - start
print(memory._glibc() is not None, outside, inside, in_training, kept, resident() - start)
"""


@pytest.mark.skipif(sys.platform != "linux" or mmap.PAGESIZE != 4096, reason="counts pages of 4 KiB")
@pytest.mark.parametrize("variable", ["", "MALLOC_ARENA_TEST"])
def test_freed_memory_is_kept_where_the_user_has_no_settings(variable):
    """A block of 48 MiB has 12,288 pages; glibc itself gives blocks of more than 32 MiB back one by one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    environment |= {variable: "8"} if variable else {}
    command = [sys.executable, "-c", BLOCKS]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    block = 12_288
    outside, inside, in_training, kept, given_back = (int(number) / block for number in answer[1:])
    if answer[0] == "False":
        assert variable or "glibc" not in platform.libc_ver()
        assert inside == pytest.approx(outside, abs=1)
    else:
        assert not variable
        assert outside > 29
        assert inside < 10, "only a block whose place a small one has taken is new"
        assert in_training < 10
        assert kept > 0.9
        assert given_back < 0.5


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
    assert engine.threads_for(vae((36,), (128, 128)), 32) == 1
    assert engine.threads_for(vae((36,), (128, 128)), 512) == 7
    assert engine.threads_for(vae((1, 28, 28), (400,)), 128) == 7
    assert engine.threads_for(vae((1, 8, 8), None, preset=vk.presets.conv_vae), 2) == 7
    monkeypatch.undo()
    assert engine.run_flushing_denormals(torch.get_num_threads, 1) == 1
    assert engine.run_flushing_denormals(torch.get_num_threads) == before
    assert torch.get_num_threads() == before
