"""Networks: every side from 8 x 8 up, odd and unequal ones too; any channels."""

import pytest
import torch
from torch import nn

from vaekit.errors import ConfigError, ShapeError
from vaekit.networks import MLP, ConvDecoder, ConvEncoder, RescaleInput

SIDES = [
    (8, 8),
    (9, 8),
    (8, 63),
    (11, 17),
    (13, 13),
    (16, 16),
    (21, 34),
    (28, 28),
    (31, 33),
    (32, 32),
    (47, 50),
    (64, 64),
]


@pytest.mark.parametrize(("index", "sides"), list(enumerate(SIDES)))
def test_convolutions_fit_any_image(index, sides):
    shape = (1 + index % 4, *sides)
    encoder, decoder = ConvEncoder(shape), ConvDecoder(3, shape)
    assert encoder.channels == decoder.channels[::-1]
    h = encoder(torch.rand(2, *shape))
    assert h.shape == (2, *encoder.out_shape)
    assert h.isfinite().all()
    assert min(encoder.out_shape[1:]) >= 1
    h = decoder(torch.randn(2, 3))
    assert h.shape == (2, *decoder.out_shape)
    assert decoder.out_shape[1:] == sides


@pytest.mark.parametrize("side", range(8, 65))
def test_every_square_side_comes_back_exactly(side):
    """With one channel per block, each side and its neighbour are cheap enough to try."""
    shape = (1, side, side + 1)
    assert ConvEncoder(shape, channels=(1, 1, 1))(torch.rand(2, *shape)).shape[2:] == (
        -(-side // 8),
        -(-(side + 1) // 8),
    )
    assert ConvDecoder(2, shape, channels=(1, 1, 1))(torch.randn(2, 2)).shape == (2, 1, side, side + 1)


def test_large_images():
    shape = (3, 512, 512)
    encoder, decoder = ConvEncoder(shape), ConvDecoder(2, shape)
    with torch.no_grad():
        assert encoder(torch.rand(1, *shape)).shape == (1, *encoder.out_shape)
        assert decoder(torch.randn(1, 2)).shape == (1, *decoder.out_shape)
    assert decoder.out_shape == (32, 512, 512)


@pytest.mark.parametrize("sides", [(8, 8), (8, 9), (13, 8), (28, 28)])
def test_a_batch_of_one_trains(sides):
    shape = (1, *sides)
    for network, x in (
        (ConvEncoder(shape), torch.rand(1, *shape)),
        (ConvDecoder(2, shape), torch.randn(1, 2)),
        (MLP(shape, (4,)), torch.rand(1, *shape)),
    ):
        network.train()
        network(x).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_blocks_are_those_of_the_blog():
    """Four blocks of a stride-2 convolution, batch norm and leaky ReLU of slope 0.2; the decoder mirrors them."""
    kinds = [type(layer) for layer in ConvEncoder((1, 32, 32)).blocks]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 4
    assert ConvEncoder((1, 32, 32)).blocks[2].negative_slope == 0.2
    kinds = [type(layer) for layer in ConvDecoder(2, (1, 32, 32)).blocks]
    assert kinds == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.LeakyReLU] * 4
    plain = ConvEncoder((1, 16, 16), channels=(4, 8), batch_norm=False, activation="relu")
    assert [type(layer) for layer in plain.blocks] == [nn.Conv2d, nn.ReLU] * 2
    assert plain.blocks[0].bias is not None


def test_images_without_a_channel_dimension():
    encoder, decoder = ConvEncoder((12, 10)), ConvDecoder(2, (12, 10))
    assert encoder(torch.rand(3, 12, 10)).shape == (3, *encoder.out_shape)
    assert decoder.out_shape[1:] == (12, 10)


def test_mlp_is_its_layers_and_nothing_more():
    network = MLP((2, 3), (4,), activation="tanh").double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    linear = network.layers[1]
    torch.testing.assert_close(network(x), torch.tanh(x.reshape(5, 6) @ linear.weight.T + linear.bias))
    assert network.out_shape == (4,)
    flat = MLP((2, 3), ())
    assert flat.out_shape == (6,)
    assert torch.equal(flat(x), x.flatten(1))
    assert MLP(7, (3,)).in_shape == (7,)


def test_dropout_is_off_in_eval_mode():
    network = MLP(4, (64,), dropout=0.5)
    x = torch.randn(3, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_rescaling_belongs_to_the_network():
    inner = MLP(3, ())
    network = RescaleInput(inner, 0, 255)
    assert network(torch.tensor([[0.0, 51.0, 255.0]])).tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    assert (network.in_shape, network.out_shape) == (inner.in_shape, inner.out_shape)
    assert RescaleInput(nn.Linear(2, 2)).out_shape is None
    with pytest.raises(ConfigError, match="low < high"):
        RescaleInput(inner, 1, 0)


def test_shapes_and_activations_that_make_no_sense_are_refused():
    for bad in (0, (3, 0), (2.5,), (-1, 4)):
        with pytest.raises(ShapeError, match="positive int"):
            MLP(bad)
    with pytest.raises(ShapeError, match=r"\(C, H, W\) or \(H, W\); got \(4,\)"):
        ConvEncoder(4)
    with pytest.raises(ShapeError, match=r"\(C, H, W\) or \(H, W\)"):
        ConvDecoder(2, (1, 2, 3, 4))
    with pytest.raises(ConfigError, match=r"relu, leaky-relu.*got 'swish'"):
        MLP(3, activation="swish")
