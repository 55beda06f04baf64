"""Compilation: where it pays, what it is made anew for, and that it changes no number."""

import gc
import itertools
import sys
from itertools import pairwise

import pytest
import torch

import vaekit as vk
from vaekit import engine
from vaekit.engine import PayingCompilation
from vaekit.engine.speed import compilation
from vaekit.evaluation import iwae, log_marginal
from vaekit.models import draws
from vaekit.training import gradients


def vae(hidden=(8,)):
    with engine.seeded(0):
        return vk.presets.vae((6,), latent_dim=2, hidden=hidden, likelihood="bernoulli")[0]


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
    assert float(compiled(model, objective, torch.ones(1), None, None)) == 2.0
    assert any("FACTOR" in name for name in names)
    assert not any("__import_torch_dot_nn" in name for name in names)
    objective.shift = 1.0
    assert float(compiled(model, objective, torch.ones(1), None, None)) == 3.0
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 5.0)
    assert float(compiled(model, objective, torch.ones(1), None, None)) == 6.0
    objective.dropout.p = 1.0
    assert float(compiled(model, objective, torch.ones(1), None, None)) == 0.0
    objective.eval()
    assert float(compiled(model, objective, torch.ones(1), None, None)) == 6.0
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
    model = vae()
    monkeypatch.setattr(compilation, "compiler", lambda: "c++")
    monkeypatch.setattr(engine, "compiler", lambda: "c++")
    assert not draws._pays(model, "auto", 10**6)
    assert draws._pays(model, "auto", 10**10)
    assert not draws._pays(object(), "auto", 10**10)
    assert draws._pays(model, "on", 1)
    assert not draws._pays(model, "off", 10**10)
    monkeypatch.setattr(engine, "compiler", lambda: None)
    assert not draws._pays(model, "auto", 10**10)


def test_padding_for_compilation_changes_nothing(monkeypatch):
    """All passes have one shape, whatever N, K and the chunk; the values are those without compilation."""
    model, shapes = vae().double(), set()
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
    models = [vae(), vae()]
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
    """Other weights, another precision and another decoder: the function that was kept is not the old one.

    By draws of q alone: rows of such weights lie far, and `log_marginal` would search for their z in float32.
    """
    model, x = vae(), torch.ones(9, 6)

    def both(precision="float32"):
        options = {"num_samples": 20, "precision": precision}
        noise = (torch.Generator().manual_seed(1) for _ in range(2))
        on, off = (
            iwae(model, x, compile=c, generator=g, **options).value for c, g in zip(("on", "off"), noise, strict=True)
        )
        torch.testing.assert_close(on, off, rtol=1e-5, atol=0 if precision == "float32" else 1e-2)
        return on

    first = both()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    second = both()
    third = both("bf16")
    model.decoder = vae((3,)).decoder
    fourth = both()
    for one, other in pairwise([first, second, third, fourth]):
        assert not torch.equal(one, other)
