"""Convolutions as matrix products: the same values and gradients as torch's own, where shapes ask for it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vaekit as vk
from vaekit.engine import convolutions
from vaekit.engine.convolutions import MatrixProducts

F64 = torch.float64

# Input's shape, kernel's shape, and the other arguments.
TO_PIXEL = {
    "the end of a DCGAN": ((3, 5, 4, 4), (2, 5, 4, 4), {}),
    "padding on both sides": ((3, 5, 3, 3), (7, 5, 4, 4), {"stride": 2, "padding": 1}),
    "one pixel to one": ((3, 5, 1, 1), (2, 5, 3, 3), {"stride": 2, "padding": 1}),
    "unequal sides": ((2, 3, 2, 5), (4, 3, 3, 5), {"stride": (2, 1), "padding": (1, 0)}),
    "rows that no tap meets": ((2, 3, 3, 4), (4, 3, 2, 2), {"stride": 4}),
    "one by one": ((2, 3, 1, 1), (4, 3, 1, 1), {}),
}
FROM_PIXEL = {
    "the start of a DCGAN": ((3, 5, 1, 1), (5, 2, 4, 4), {}),
    "stride 2": ((3, 5, 1, 1), (5, 2, 4, 4), {"stride": 2, "padding": 1}),
    "output padding": ((3, 5, 1, 1), (5, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "unequal sides": ((3, 5, 1, 1), (5, 2, 2, 5), {"stride": 3, "padding": (0, 1), "output_padding": (0, 1)}),
}
LARGE_KERNEL = {
    "two by two": ((2, 9, 2, 2), (9, 8, 3, 3), {"stride": 2, "padding": 1}),
    "output padding": ((2, 9, 2, 3), (9, 8, 3, 2), {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}),
}
CASES = [
    *((F.conv2d, name, case) for name, case in TO_PIXEL.items()),
    *((F.conv_transpose2d, name, case) for name, case in {**FROM_PIXEL, **LARGE_KERNEL}.items()),
]
LEFT_ALONE = {
    "two pixels": (F.conv2d, (2, 4, 4, 5), (3, 4, 4, 4), {}),
    "groups": (F.conv2d, (2, 4, 4, 4), (4, 2, 4, 4), {"groups": 2}),
    "dilation": (F.conv2d, (2, 4, 3, 3), (3, 4, 2, 2), {"dilation": 2}),
    "padding by name": (F.conv2d, (2, 4, 1, 1), (3, 4, 3, 3), {"padding": "same"}),
    "nothing but padding": (F.conv2d, (2, 4, 1, 1), (3, 4, 1, 1), {"padding": 1, "stride": 3}),
    "no batch": (F.conv2d, (4, 4, 4), (3, 4, 4, 4), {}),
    "transposed groups": (F.conv_transpose2d, (2, 4, 1, 1), (4, 2, 4, 4), {"groups": 2}),
    "transposed dilation": (F.conv_transpose2d, (2, 4, 1, 1), (4, 2, 3, 3), {"dilation": 2}),
    "more than the kernel": (F.conv_transpose2d, (2, 4, 1, 1), (4, 2, 2, 2), {"stride": 2, "output_padding": 1}),
    "a large input": (F.conv_transpose2d, (4, 9, 4, 4), (9, 8, 3, 3), {"stride": 2}),
}


@pytest.fixture
def taken(monkeypatch):
    """Whether each convolution within the mode was computed by a product."""
    results = []

    def watched(function):
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            results.append(result is not None)
            return result

        return call

    for name in ("_to_pixel", "_transposed"):
        monkeypatch.setattr(convolutions, name, watched(getattr(convolutions, name)))
    return results


def tensors(x_shape, weight_shape, out_channels, layout, dtype=F64):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator, dtype=dtype) for shape in (x_shape, weight_shape))
    bias = torch.randn(out_channels, generator=generator, dtype=dtype)
    if x.ndim == 4:
        x, weight = (tensor.contiguous(memory_format=layout) for tensor in (x, weight))
    return [tensor.requires_grad_() for tensor in (x, weight, bias)]


def with_gradients(function, leaves, **options):
    y = function(*leaves, **options)
    direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad(y, leaves, direction)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("function", "name", "case"), CASES)
def test_values_and_gradients_are_torchs(taken, function, name, case, has_bias, layout):
    x_shape, weight_shape, options = case
    leaves = tensors(x_shape, weight_shape, weight_shape[0 if function is F.conv2d else 1], layout)
    leaves = leaves if has_bias else leaves[:2]
    expected = with_gradients(function, leaves, **options)
    with MatrixProducts():
        own = with_gradients(function, leaves, **options)
    assert taken == [True]
    for value, torchs in zip(own, expected, strict=True):
        torch.testing.assert_close(value, torchs)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_the_rest_is_left_to_torch(taken, name):
    function, x_shape, weight_shape, options = LEFT_ALONE[name]
    groups = options.get("groups", 1)
    out_channels = weight_shape[0] if function is F.conv2d else groups * weight_shape[1]
    leaves = tensors(x_shape, weight_shape, out_channels, torch.contiguous_format)
    expected = function(*leaves, **options)
    with MatrixProducts():
        assert torch.equal(function(*leaves, **options), expected)
    assert taken == [False]


@pytest.mark.parametrize(("function", "name", "case"), CASES)
def test_low_precision(taken, function, name, case):
    """In bfloat16 as torch's, but for kernels beside a few pixels, whose overlaps would be rounded one by one."""
    x_shape, weight_shape, options = case
    out_channels = weight_shape[0 if function is F.conv2d else 1]
    leaves = tensors(x_shape, weight_shape, out_channels, torch.contiguous_format, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = function(*leaves, **options)
        with MatrixProducts():
            own = function(*leaves, **options)
    assert own.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(own, expected, atol=0.1, rtol=0.02)
    assert taken == [case not in LARGE_KERNEL.values()]


def dcgan():
    """A user's own modules, from and to a single pixel."""
    encoder = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 4), nn.Flatten())
    decoder = nn.Sequential(
        nn.Unflatten(1, (2, 1, 1)), nn.ConvTranspose2d(2, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)
    )
    return vk.VAE(
        vk.Conditional(encoder, vk.posteriors.DiagonalNormal(2), in_shape=(1, 8, 8)),
        vk.Conditional(decoder, vk.likelihoods.Bernoulli((1, 8, 8)), in_shape=2),
        vk.priors.StandardNormal(2),
    )


def test_users_networks_run_with_them(taken):
    """The same densities and gradients as without, and only where there are convolutions."""
    model, x = dcgan().double(), (torch.rand(5, 1, 8, 8) > 0.5).double()

    def bound():
        with vk.engine.seeded(0):
            loss = vk.objectives.ELBO()(model, x).value
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    own = bound()
    assert taken == [False, True, True, False, False]  # the last one is the layer that makes the logits
    for part in (model.encoder, model.decoder):
        part._convolves = False
    for value, torchs in zip(own, bound(), strict=True):
        torch.testing.assert_close(value, torchs)
    assert len(taken) == 5
    assert not vk.presets.vae((3,), likelihood="normal")[0].encoder._convolves


@pytest.mark.slow
@pytest.mark.skipif(not vk.engine.can_compile(), reason="needs a C++ compiler")
def test_a_compiled_step_is_a_graph_all_the_same():
    """The compiler is handed torch's own convolutions."""
    from vaekit.training.gradients import Backward, OneGraph

    model, x = dcgan(), (torch.rand(16, 1, 8, 8) > 0.5).float()
    objective = vk.objectives.ELBO()
    objective.build(model)
    parameters = list(model.parameters())
    losses = []
    for step in (Backward(model, objective, parameters), OneGraph(model, objective, parameters, [])):
        with vk.engine.seeded(1):
            losses.append(step(x)[0].value.detach())
    assert step.otherwise is None
    torch.testing.assert_close(*losses)
