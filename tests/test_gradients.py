"""The gradient as one graph is that of the backward pass, buffers included; compiled, it trains to the same bound."""

import pytest
import torch
from components import OBJECTIVES, BernoulliPosterior, BernoulliPrior, rows
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import vaekit as vk
from vaekit import engine
from vaekit.models.rows import Batch
from vaekit.models.view import View
from vaekit.training import Adam, gradients
from vaekit.training.gradients import Backward, OneGraph, norm_of
from vaekit.training.step import Step


def with_batch_norm():
    network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh())
    encoder = vk.Conditional(network, vk.posteriors.DiagonalNormal(2), in_shape=6)
    decoder = vk.Conditional(vk.networks.MLP(2, (5,)), vk.likelihoods.Bernoulli(6))
    return vk.VAE(encoder, decoder, vk.priors.StandardNormal(2))


def with_bits():
    """No reparameterisation: the objective keeps a running baseline in a buffer."""
    encoder = vk.Conditional(vk.networks.MLP(6, (5,)), BernoulliPosterior(3))
    return vk.VAE(encoder, vk.Conditional(vk.networks.MLP(3, (5,)), vk.likelihoods.Bernoulli(6)), BernoulliPrior(3))


def plain():
    return vk.presets.vae((6,), latent_dim=2, hidden=(5,), likelihood="bernoulli")[0]


CASES = {
    "ELBO": (plain, lambda: vk.objectives.ELBO(num_samples=2)),
    "IWAE": (plain, lambda: vk.objectives.IWAE(3)),
    "schedule": (plain, lambda: vk.objectives.ELBO(beta=vk.schedules.Linear(0.5, 1.0, 10))),
    "batch norm": (with_batch_norm, vk.objectives.ELBO),
    "score function": (with_bits, vk.objectives.ELBO),
}
MEMBERS = {f"{name} {i}": (plain, factory) for i, (name, factory) in enumerate(rows(OBJECTIVES))}
MEMBERS = {name: case for name, case in MEMBERS.items() if case[1]().can_compile}


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(gradients.engine, "compiled", lambda function, *_, **__: function)


def make(case):
    model, objective = {**CASES, **MEMBERS}[case]
    with engine.seeded(0):
        model, objective = model().double(), objective().double()
        objective.prepare(100)
        objective.build(model)
    apart = {id(p) for p in objective.adversary_parameters()}
    return model, objective, [p for m in (model, objective) for p in m.parameters() if id(p) not in apart]


def buffers(model, objective):
    return [b for m in (model, objective) for b in m.state_dict(keep_vars=True).values() if not b.requires_grad]


X = torch.bernoulli(torch.full((20, 6), 0.4, dtype=torch.float64), generator=torch.Generator().manual_seed(0))


def rows_of(x):
    """A batch as the trainer hands it over."""
    return Batch(x, torch.zeros(len(x), dtype=torch.float64))


def one_graph(model, objective, parameters, calls_matter=False):
    changing = [b for b in buffers(model, objective) if b is not objective.step]
    return OneGraph(model, objective, parameters, changing, calls_matter)


@pytest.mark.parametrize("case", [*CASES, *MEMBERS])
def test_one_graph_gives_the_gradient_of_the_backward_pass(uncompiled, case):
    outcomes = []
    for way in (Backward, one_graph):
        model, objective, parameters = make(case)
        compute = way(model, objective, parameters)
        for _ in range(2):
            with engine.seeded(3):
                loss, norm = compute(rows_of(X))
        found = [p.grad for p in parameters]
        norm = norm_of(found) if norm is None else norm
        assert way is Backward or compute.otherwise is None, "the graph itself, not what it falls back to"
        outcomes.append([loss.value, norm, *loss.terms.values(), *found, *buffers(model, objective)])
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert float(outcomes[0][1]) > 0


@pytest.mark.parametrize("num_steps", [1, 2])
def test_a_compiled_loss_reads_the_baseline_before_its_update(monkeypatch, num_steps):
    """By the compiler's own graphs, run without generated code: what the backward pass reads must not have changed."""
    outcomes = []
    for backend in (None, "aot_eager"):
        compiled = (lambda f, _: f) if backend is None else (lambda f, _: torch.compile(f, backend="aot_eager"))
        monkeypatch.setattr(gradients.engine, "compiled", compiled)
        model, objective, parameters = make("score function")
        compute = Backward(model, objective, parameters, compile=True)
        for _ in range(num_steps):
            with engine.seeded(3):
                compute(rows_of(X))
            objective.advance()
        outcomes.append([objective.baseline, *(p.grad for p in parameters)])
        torch.compiler.reset()
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_buffers_stay_where_the_loss_is_not_finite(uncompiled):
    model, objective, parameters = make("batch norm")
    compute, before = one_graph(model, objective, parameters), [b.clone() for b in buffers(model, objective)]
    loss, norm = compute(rows_of(torch.full_like(X, torch.nan)))
    assert not torch.isfinite(loss.value + norm)
    assert all(torch.equal(a, b) for a, b in zip(before, buffers(model, objective), strict=True))
    compute(rows_of(X))
    assert not all(torch.equal(a, b) for a, b in zip(before, buffers(model, objective), strict=True))


def test_what_a_replayed_graph_returned_outlives_the_next_replay(uncompiled, monkeypatch):
    """A recorded graph writes into the same memory each time; here one that does so without a GPU."""
    model, objective, parameters = make("ELBO")
    compute = one_graph(model, objective, parameters)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    compute.is_replayed, graph, memory = True, compute.graph, []

    def replayed(*arguments):
        loss, gradients, norm = graph(*arguments)
        flat = [loss.value, *loss.terms.values(), *gradients, norm]
        memory[:] = memory or [torch.empty_like(tensor) for tensor in flat]
        for place, tensor in zip(memory, flat, strict=True):
            place.copy_(tensor)
        num_terms = len(loss.terms)
        terms = dict(zip(loss.terms, memory[1:], strict=False))
        return vk.objectives.Loss(memory[0], terms), memory[1 + num_terms : -1], memory[-1]

    compute.graph = replayed
    with engine.seeded(3):
        first, _ = compute(rows_of(X))
    before = {name: term.clone() for name, term in first.terms.items()}
    gradient = parameters[0].grad
    with engine.seeded(4):
        second, _ = compute(rows_of(X))
    assert parameters[0].grad.data_ptr() == gradient.data_ptr(), "the memory is that of the first replay"
    for name, term in first.terms.items():
        assert torch.equal(term, before[name])
    assert not torch.equal(first.terms["elbo"], second.terms["elbo"])


class Inner(vk.objectives.ELBO):
    """A loss with a backward pass of its own, which no functional gradient can look through."""

    def forward(self, model, x):
        weight = next(iter(model.parameters())).detach().requires_grad_()
        weight.square().sum().backward()
        return super().forward(model, x)


def test_a_loss_that_is_no_function_falls_back(uncompiled):
    model, _, parameters = make("ELBO")
    objective = Inner().double()
    compute = one_graph(model, objective, parameters)
    loss, _ = compute(rows_of(X))
    assert compute.otherwise is not None
    assert torch.isfinite(loss.value + norm_of([p.grad for p in parameters]))


def steps_with_hooks(kind):
    """A parameter after four updates, during two of which hooks wait; which of them were called; its count."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer, calls, handles = kind([parameter], lr=0.1), [], []
    for k in range(4):
        if k == 1:
            handles = [
                optimizer.register_step_pre_hook(lambda *_: calls.append("before")),
                optimizer.register_step_post_hook(lambda *_: calls.append("after")),
                register_optimizer_step_post_hook(lambda *_: calls.append("of all")),
            ]
        if k == 3:
            for handle in handles:
                handle.remove()
        parameter.grad = torch.tensor([1.0, -2.0, 0.5 + k])
        optimizer.step()
    return parameter.detach(), sorted(calls), float(optimizer.state[parameter]["step"])


def test_hooks_that_wait_for_a_step_are_called():
    """Those of one optimiser and those of all; the update is that of torch's own Adam either way."""
    expected, found = steps_with_hooks(torch.optim.Adam), steps_with_hooks(Adam)
    torch.testing.assert_close(found[0], expected[0])
    assert found[1:] == expected[1:] == (["after", "after", "before", "before", "of all", "of all"], 4.0)


def test_channels_innermost_and_hooks_are_left_to_autograd():
    weights = nn.Parameter(torch.zeros(2, 3, 4, 4))
    assert OneGraph.suits([weights])
    assert not OneGraph.suits([nn.Parameter(weights.detach().to(memory_format=torch.channels_last))])
    weights.register_hook(lambda gradient: gradient)
    assert not OneGraph.suits([weights])


@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "eps": 1e-4, "weight_decay": 0.1}])
def test_adam_is_torchs(options):
    """Same kernel, same bits, also through a state that is saved and put back, and with a gradient that is missing."""
    shapes = [(3, 2), (5,), ()]
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    own, torchs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    optimizers = [Adam(own, lr=1e-2, **options), torch.optim.Adam(torchs, lr=1e-2, fused=True, **options)]
    schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5) for optimizer in optimizers]
    for i in range(12):
        noise = [torch.randn(shape, generator=generator) for shape in shapes]
        for parameters in (own, torchs):
            for j, (p, g) in enumerate(zip(parameters, noise, strict=True)):
                p.grad = None if i == 6 and j == 1 else g.clone()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if i == 4:
            again = Adam(own, lr=1.0)
            again.load_state_dict(optimizers[0].state_dict())
            optimizers[0] = again
            schedules[0] = torch.optim.lr_scheduler.StepLR(again, 3, 0.5, last_epoch=i)
            again.param_groups[0]["lr"] = optimizers[1].param_groups[0]["lr"]
        assert all(torch.equal(a, b) for a, b in zip(own, torchs, strict=True)), i
    assert not torch.equal(own[0], start[0])


def test_adam_takes_gradients_in_any_layout():
    """Those of `torch.autograd.grad` do not have their parameter's; the kernel goes by the order of memory."""
    values = torch.arange(24.0).reshape(2, 3, 2, 2)
    own, torchs = nn.Parameter(torch.zeros_like(values)), nn.Parameter(torch.zeros_like(values))
    own.grad = (values - 10).to(memory_format=torch.channels_last)
    torchs.grad = values - 10
    Adam([own]).step()
    torch.optim.Adam([torchs]).step()
    torch.testing.assert_close(own, torchs)


def test_adam_takes_more_parameters_later():
    """As torch's does."""
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = Adam([first], lr=0.1)
    first.grad = torch.ones(2)
    optimizer.step()
    optimizer.add_param_group({"params": [second]})
    first.grad, second.grad = torch.ones(2), torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(first, torch.full((2,), 0.8))
    torch.testing.assert_close(second, torch.full((3,), 0.9))


@pytest.fixture
def traced(monkeypatch):
    """Graphs are made, but run without generated code."""

    def compiled(function, compile, options=None, whole=False):
        return torch.compile(function, backend="eager", fullgraph=whole, dynamic=False)

    monkeypatch.setattr(gradients.engine, "compiled", compiled)
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *MEMBERS])
def test_no_objective_breaks_the_graph(traced, case):
    compute = one_graph(*make(case))
    compute(rows_of(X))
    assert compute.otherwise is None


FLAT = ["vae", "vamp", "hierarchical_vamp", "ladder_vae", "poincare_vae", "vae_iaf", "vae_linnf"]


@pytest.mark.parametrize("name", [n if n == "vamp" else pytest.param(n, marks=pytest.mark.slow) for n in FLAT])
def test_no_posterior_or_prior_breaks_the_graph(traced, name):
    """A number that is taken out of a tensor does, and so does a function that torch does not know."""
    model, objective = getattr(vk.presets, name)((6,), likelihood="bernoulli")
    compute = one_graph(model, objective, list(model.parameters()))
    compute(rows_of(X.float()))
    assert compute.otherwise is None


def test_a_posterior_whose_sampler_rejects_is_not_compiled():
    model, objective = vk.presets.s_vae((6,), likelihood="bernoulli")
    step = Step(vk.Trainer(compile="on"), View.of(model), objective)
    assert step.gradients.loss is gradients._loss
    assert torch.isfinite(step(rows_of(X.float())).value)


@pytest.mark.parametrize(("batch_size", "expected"), [(500, True), (10**5, False)])
def test_calls_come_from_cpp_where_they_take_a_share_of_the_step(monkeypatch, batch_size, expected):
    asked = []
    monkeypatch.setattr(gradients.engine, "compiled", lambda f, _, options=None, **__: asked.append(options) or f)
    monkeypatch.setattr(gradients.engine, "can_compile", lambda: True)
    model, objective = vk.presets.vae((95,), hidden=(128, 128))
    Step(vk.Trainer(compile="on", batch_size=batch_size), View.of(model), objective)
    assert asked == [None, {"cpp_wrapper": expected}], "the plain pass, and the graph"


@pytest.mark.parametrize(("batch_size", "expected"), [(16, 16), (23, 23), (64, 47)])
def test_only_batches_of_the_common_size_are_compiled(monkeypatch, batch_size, expected):
    """One graph, not two: the last batch of an epoch takes a plain backward pass."""
    sizes, ends = set(), []

    def compiled(function, compile, *_, **__):
        def call(*arguments):
            sizes.add(len(arguments[2]))
            return function(*arguments)

        return call if compile else function

    monkeypatch.setattr(gradients.engine, "compiled", compiled)
    monkeypatch.setattr(gradients.engine, "can_compile", lambda: True)
    for compile in ("off", "on"):
        assert not sizes
        model, objective, parameters = make("ELBO")
        trainer = vk.Trainer(batch_size=batch_size, max_epochs=2, compile=compile, progress=False)
        trainer.fit(model, objective, torch.cat([X, X, X])[:47])
        ends.append(torch.nn.utils.parameters_to_vector(parameters))
    assert sizes == {expected}
    torch.testing.assert_close(*ends)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_small_graph_called_from_cpp_gives_the_same_bits(case):
    outcomes = []
    for calls_matter in (False, True):
        model, objective, parameters = make(case)
        compute = one_graph(model, objective, parameters, calls_matter)
        for _ in range(2):
            with engine.seeded(3):
                loss, norm = compute(rows_of(X))
        assert compute.otherwise is None
        outcomes.append([loss.value, norm, *loss.terms.values(), *(p.grad for p in parameters)])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
    assert float(outcomes[0][1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiled_training_reaches_the_bound_of_eager_training(case):
    ends = []
    x = torch.bernoulli(torch.full((400, 6), 0.3), generator=torch.Generator().manual_seed(1))
    x[:, 1:3] = x[:, :1]  # something to learn
    for compile in ("off", "on"):
        model, objective = CASES[case]
        with engine.seeded(0):
            model, objective = model(), objective()
        trainer = vk.Trainer(max_epochs=60, batch_size=20, learning_rate=1e-2, compile=compile, progress=False)
        history = trainer.fit(model, objective, x)
        assert history["skipped"][-1] == 0
        first, last = history["train_elbo"][0], history["train_elbo"][-1]
        assert last > first + 0.3
        ends.append(sum(history["train_elbo"][-4:]) / 4)
    assert abs(ends[0] - ends[1]) < 0.25
