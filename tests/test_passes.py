"""What is done to graphs before they become kernels, and that it changes no number."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import vaekit as vk
from vaekit import engine
from vaekit.training.gradients import OneGraph

convert, permute = torch.ops.prims.convert_element_type.default, torch.ops.aten.permute.default


@pytest.fixture
def matrices_first():
    return pytest.importorskip("vaekit.engine.speed.graph_passes").ConvertBeforeTransposing()


def targets(graph):
    return [node.target for node in graph.nodes if node.op == "call_function"]


def test_a_matrix_is_converted_before_it_is_transposed(matrices_first):
    """The same values, shapes and dtypes; a second user of the transposed matrix keeps it."""

    def function(x):
        transposed = permute(x, [1, 0])
        converted = convert(transposed, torch.float32)
        return permute(converted, [1, 0]), converted * 2, transposed

    x = torch.randn(3, 5).bfloat16()
    module = make_fx(function, tracing_mode="fake")(x)
    assert targets(module.graph)[:2] == [permute, convert]
    matrices_first(module.graph)
    module.graph.lint()
    assert targets(module.graph)[:3] == [permute, convert, permute]  # the first one for its other user
    converted = next(node for node in module.graph.nodes if node.target is convert)
    assert converted.args[0].op == "placeholder"
    module.recompile()
    for value, expected in zip(module(x), function(x), strict=True):
        assert torch.equal(value, expected)
        assert value.dtype == expected.dtype
    (turned,) = converted.users
    described = [(node.target, node.meta["val"].dtype, tuple(node.meta["val"].shape)) for node in (converted, turned)]
    assert described == [(convert, torch.float32, (3, 5)), (permute, torch.float32, (5, 3))]


def test_images_are_left_alone(matrices_first):
    """Channels innermost are a layout that the compiler chooses by itself."""
    module = make_fx(lambda x: convert(permute(x, [0, 2, 3, 1]), torch.float32), tracing_mode="fake")(
        torch.randn(2, 3, 4, 4).bfloat16()
    )
    before = targets(module.graph)
    matrices_first(module.graph)
    assert targets(module.graph) == before


def test_the_compilers_cache_knows_the_pass(matrices_first):
    """By its source: a change of it compiles anew."""
    assert matrices_first.uuid() == type(matrices_first)().uuid()
    assert isinstance(matrices_first.uuid(), bytes)


@pytest.mark.slow
@pytest.mark.skipif(not engine.can_compile(), reason="needs a C++ compiler")
def test_low_precision_gives_the_same_gradient_with_the_pass_and_without(matrices_first, monkeypatch):
    """Bit for bit; the norm up to the order of its sum. With the pass no gradient is written twice."""
    model, objective = vk.presets.vae((40,), latent_dim=3, hidden=(24,), likelihood="bernoulli")
    objective.build(model)
    parameters, x = list(model.parameters()), (torch.rand(16, 40) > 0.5).float()
    graphs = []

    def gradient():
        step = OneGraph(model, objective, parameters, [])
        with engine.seeded(0), engine.network_precision(model, "bf16"):
            loss, norm = step(x)
        assert step.otherwise is None
        return loss, norm, [p.grad for p in parameters]

    def kept(self, graph):
        original(self, graph)
        graphs.append([node.args[0].target for node in graph.nodes if node.target is convert])

    original = type(matrices_first).__call__
    monkeypatch.setattr(type(matrices_first), "__call__", kept)
    with torch._inductor.config.patch(fx_graph_cache=False):  # what lies on disk went through the pass before
        loss, norm, with_pass = gradient()
    monkeypatch.setattr(type(matrices_first), "__call__", lambda self, graph: None)
    monkeypatch.setattr(type(matrices_first), "uuid", lambda self: b"none")
    expected_loss, expected_norm, without = gradient()
    assert torch.equal(loss.value, expected_loss.value)
    torch.testing.assert_close(norm, expected_norm)
    for own, other in zip(with_pass, without, strict=True):
        assert own.stride() == other.stride()
        assert torch.equal(own, other)
    assert graphs
    assert all(converted and permute not in converted for converted in graphs)
