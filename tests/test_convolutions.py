"""Convolutions as matrix products: the same values and gradients as torch's own, where shapes ask for it."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import vaekit as vk
from vaekit.contrib import adopt, convolutions
from vaekit.models.rows import Batch
from vaekit.training.gradients import Backward, OneGraph

CONV, TRANSPOSED = nn.Conv2d, nn.ConvTranspose2d
# Input's shape, channels and kernel of the layer, and its other arguments.
TO_PIXEL = {
    "the end of a DCGAN": ((3, 5, 4, 4), (5, 2, 4), {}),
    "padding on both sides": ((3, 5, 3, 3), (5, 7, 4), {"stride": 2, "padding": 1}),
    "one pixel to one": ((3, 5, 1, 1), (5, 2, 3), {"stride": 2, "padding": 1}),
    "unequal sides": ((2, 3, 2, 5), (3, 4, (3, 5)), {"stride": (2, 1), "padding": (1, 0)}),
    "rows that no tap meets": ((2, 3, 3, 4), (3, 4, 2), {"stride": 4}),
    "one by one": ((2, 3, 1, 1), (3, 4, 1), {"bias": False}),
}
FROM_PIXEL = {
    "the start of a DCGAN": ((3, 5, 1, 1), (5, 2, 4), {}),
    "stride 2": ((3, 5, 1, 1), (5, 2, 4), {"stride": 2, "padding": 1, "bias": False}),
    "output padding": ((3, 5, 1, 1), (5, 2, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "unequal sides": ((3, 5, 1, 1), (5, 2, (2, 5)), {"stride": 3, "padding": (0, 1), "output_padding": (0, 1)}),
}
FEW_PIXELS = {
    "two by two": ((1, 512, 2, 2), (512, 2, 3), {"stride": 2, "padding": 1}),
    "output padding": ((1, 512, 2, 3), (512, 3, (3, 2)), {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}),
    "without a bias": ((1, 512, 1, 2), (512, 2, 4), {"stride": 2, "padding": 1, "bias": False}),
}
CASES = [
    *((CONV, *case) for case in TO_PIXEL.values()),
    *((TRANSPOSED, *case) for case in {**FROM_PIXEL, **FEW_PIXELS}.values()),
]
LEFT_ALONE = {
    "two pixels": (CONV, (2, 4, 4, 5), (4, 3, 4), {}),
    "groups": (CONV, (2, 4, 4, 4), (4, 4, 4), {"groups": 2}),
    "dilation": (CONV, (2, 4, 3, 3), (4, 3, 2), {"dilation": 2}),
    "padding by name": (CONV, (2, 4, 1, 1), (4, 3, 3), {"padding": "same"}),
    "padding by reflection": (CONV, (2, 4, 2, 2), (4, 3, 3), {"padding": 1, "stride": 2, "padding_mode": "reflect"}),
    "nothing but padding": (CONV, (2, 4, 1, 1), (4, 3, 1), {"padding": 1, "stride": 3}),
    "no batch": (CONV, (4, 4, 4), (4, 3, 4), {}),
    "no rows": (CONV, (0, 4, 4, 4), (4, 3, 4), {}),
    "a stride of one number": (CONV, (2, 4, 3, 3), (4, 3, 3), {"stride": (2,)}),
    "transposed groups": (TRANSPOSED, (2, 4, 1, 1), (4, 4, 4), {"groups": 2}),
    "transposed dilation": (TRANSPOSED, (2, 4, 1, 1), (4, 2, 3), {"dilation": 2}),
    "more than the kernel": (TRANSPOSED, (2, 4, 1, 1), (4, 2, 2), {"stride": 2, "output_padding": 1}),
    "few channels": (TRANSPOSED, (1, 9, 2, 2), (9, 8, 3), {"stride": 2}),
    "many rows": (TRANSPOSED, (3, 512, 2, 2), (512, 2, 3), {"stride": 2}),
    "many pixels": (TRANSPOSED, (1, 512, 5, 4), (512, 5, 3), {"stride": 2}),
    "many overlaps": (TRANSPOSED, (1, 512, 2, 2), (512, 2, 3), {}),
    "no rows, transposed": (TRANSPOSED, (0, 512, 2, 2), (512, 2, 3), {"stride": 2}),
}


@pytest.fixture
def taken(monkeypatch):
    """Whether each adopted layer that ran was computed by a product."""
    results = []

    def watched(function):
        def call(*args):
            results.append(function(*args) is not None)
            return function(*args)

        return call

    for name in ("_to_pixel", "_transposed"):
        monkeypatch.setattr(convolutions, name, watched(getattr(convolutions, name)))
    return results


def layers(kind, arguments, options, dtype=torch.float64, layout=torch.contiguous_format):
    """A layer of torch's, and an adopted copy of it."""
    with vk.engine.seeded(0):
        layer = kind(*arguments, **options).to(dtype=dtype, memory_format=layout)
    own = copy.deepcopy(layer)
    adopt(own)
    return layer, own


def draw(shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def with_gradients(layer, x):
    y = layer(x)
    direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], direction)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kind", "shape", "arguments", "options"), CASES)
def test_values_and_gradients_are_torchs(taken, kind, shape, arguments, options, layout):
    layer, own = layers(kind, arguments, options, layout=layout)
    x = draw(shape).contiguous(memory_format=layout).requires_grad_()
    for value, torchs in zip(with_gradients(own, x), with_gradients(layer, x), strict=True):
        torch.testing.assert_close(value, torchs)
    assert taken == [True]


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_the_rest_is_left_to_torch(taken, name):
    kind, shape, arguments, options = LEFT_ALONE[name]
    layer, own = layers(kind, arguments, options)
    x = draw(shape)
    assert torch.equal(own(x), layer(x))
    assert taken == [False]


@pytest.mark.parametrize(
    ("kind", "shape", "arguments", "options", "words"),
    [
        (TRANSPOSED, (2, 4, 1, 1), (4, 2, 4), {"padding": 2, "output_padding": 1}, "output padding"),
        (TRANSPOSED, (2, 3, 1, 1), (4, 2, 4), {}, "channels"),
        (CONV, (2, 3, 4, 4), (4, 2, 4), {}, "channels"),
    ],
)
def test_what_torch_refuses_is_refused_in_its_words(kind, shape, arguments, options, words):
    """Extra rows that no stride explains, and images of other channels."""
    for layer in layers(kind, arguments, options):
        with pytest.raises(RuntimeError, match=words):
            layer(draw(shape))


@pytest.mark.parametrize(("kind", "shape", "arguments", "options"), CASES)
def test_low_precision(taken, kind, shape, arguments, options):
    """In bfloat16 as torch's, but for few pixels of many channels, whose overlaps would be rounded one by one."""
    layer, own = layers(kind, arguments, options, torch.float32)
    x = draw(shape, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, expected = own(x), layer(x)
    assert value.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(value, expected, atol=0.05, rtol=0.02)
    assert taken == [shape[1] != 512]


def test_the_output_size_can_be_chosen(taken):
    """The argument of torch's transposed layers."""
    layer, own = layers(TRANSPOSED, (4, 2, 3), {"stride": 2})
    x = draw((2, 4, 1, 1))
    assert torch.equal(own(x, output_size=(4, 4)), layer(x, output_size=(4, 4)))
    assert taken == []


def test_layers_of_other_classes_are_not_adopted():
    """A user's own class does what it says."""

    class Mine(nn.Conv2d):
        pass

    network = nn.Sequential(Mine(1, 2, 3), nn.Conv2d(2, 3, 3), nn.Conv1d(1, 2, 3), nn.LazyConv2d(4, 3))
    assert adopt(network) is network
    assert [type(module) for module in network] == [Mine, convolutions.Conv2d, nn.Conv1d, nn.LazyConv2d]
    assert repr(network[1]) == repr(nn.Conv2d(2, 3, 3))
    assert list(network[1].state_dict()) == ["weight", "bias"]


def dcgan(wrap=lambda network: network):
    """A user's own modules, from and to a single pixel."""
    encoder = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 4), nn.Flatten())
    decoder = nn.Sequential(
        nn.Unflatten(1, (2, 1, 1)), nn.ConvTranspose2d(2, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)
    )
    return vk.VAE(
        vk.Conditional(wrap(encoder), vk.posteriors.DiagonalNormal(2), in_shape=(1, 8, 8)),
        vk.Conditional(wrap(decoder), vk.likelihoods.Bernoulli((1, 8, 8)), in_shape=2),
        vk.priors.StandardNormal(2),
    )


def bound(model, x):
    with vk.engine.seeded(0):
        loss = vk.objectives.ELBO()(model, x).value
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def test_users_networks_run_with_them_where_they_say_so(taken):
    """The same bound and gradients as by torch's layers, which stay torch's in a model that nobody adopted."""
    x = draw((5, 1, 8, 8)).gt(0).double()
    bounds = []
    for wrap in (adopt, lambda network: network):
        with vk.engine.seeded(0):
            model = dcgan(wrap).double()
        taken.clear()  # of the dry runs that measure the networks
        bounds.append(bound(model, x))
        assert taken == ([False, True, True, False] if wrap is adopt else [])
    networks = (*model.encoder.network.modules(), *model.decoder.network.modules())
    assert {type(m) for m in networks if "Conv" in type(m).__name__} == {nn.Conv2d, nn.ConvTranspose2d}
    for value, torchs in zip(*bounds, strict=True):
        torch.testing.assert_close(value, torchs)


@pytest.mark.parametrize(
    ("preset", "shape", "products"),
    [
        ("conv_mnist", (1, 8, 8), 4),
        ("conv_mnist", (1, 16, 16), 2),
        ("conv_mnist", (1, 28, 28), 0),
        ("conv_vae", (8, 8), 0),
    ],
)
def test_presets_that_gain_have_them_and_keep_them(taken, tmp_path, preset, shape, products):
    """Also in a saved run, with the same bits; networks of larger maps consist of torch's own layers."""
    with vk.engine.seeded(0):
        model, _ = getattr(vk.presets, preset)(shape)
    vk.save(model.eval(), tmp_path)
    loaded = vk.load(tmp_path)
    x = (torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    answers = []
    for each in (model, loaded):
        taken.clear()
        with torch.no_grad():
            answers.append((each.encoder.params(x), each.decoder.params(torch.ones(3, *each.latent_shape))))
        assert sum(taken) == products
        assert bool(taken) == bool(products)
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


class Recomputed(nn.Module):
    """Runs a network once more in the backward pass."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return checkpoint(self.network, x, use_reentrant=False)


def test_networks_that_recompute_export_and_batch_their_weights():
    """What torch does to modules works on adopted ones."""
    x = (torch.rand(5, 1, 8, 8) > 0.5).double()
    with vk.engine.seeded(0):
        plain = dcgan(adopt).double()
    with vk.engine.seeded(0):
        recomputed = dcgan(lambda network: Recomputed(adopt(network))).double()
    for value, expected in zip(bound(recomputed, x), bound(plain, x), strict=True):
        torch.testing.assert_close(value, expected)
    network = plain.decoder.network
    z = torch.randn(3, 2, dtype=torch.float64)
    traced = torch.jit.trace(network, z)
    torch.testing.assert_close(traced(z[:2]), network(z[:2]))
    exported = torch.export.export(network, (z,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.testing.assert_close(exported.module()(z[:2]), network(z[:2]))
    assert sum("conv_transpose2d" in str(node.target) for node in exported.graph.nodes) == 2
    parameters, buffers = torch.func.stack_module_state([network, network])
    both = torch.func.vmap(lambda p, b: torch.func.functional_call(network, (p, b), (z,)))(parameters, buffers)
    torch.testing.assert_close(both, network(z).expand(2, *network(z).shape))


@pytest.mark.slow
@pytest.mark.skipif(not vk.engine.can_compile(), reason="needs a C++ compiler")
def test_a_compiled_step_is_a_graph_all_the_same():
    """The compiler sees the products, too."""
    model, x = dcgan(adopt), (torch.rand(16, 1, 8, 8) > 0.5).float()
    batch = Batch(x, torch.zeros(len(x), dtype=torch.float64))
    objective = vk.objectives.ELBO()
    objective.build(model)
    parameters = list(model.parameters())
    losses = []
    for step in (Backward(model, objective, parameters), OneGraph(model, objective, parameters, [])):
        with vk.engine.seeded(1):
            losses.append(step(batch)[0].value.detach())
    assert step.otherwise is None
    torch.testing.assert_close(*losses)
