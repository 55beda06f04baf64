"""Networks meet heads: the three adapter rules, leading dimensions, users' own modules, the dry run."""

import pytest
import torch
from torch import nn
from torch.distributions import Dirichlet

from vaekit import VAE, Conditional, ConditionalDistribution, engine, likelihoods, networks, posteriors, priors
from vaekit.distributions import Product
from vaekit.errors import ShapeError

F64 = torch.float64


class Shaped(nn.Module):
    """A network that returns zeros plus its input's sum, in a declared shape."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.gain * x.flatten(1).sum(1).reshape(-1, *[1] * len(self.out_shape)).expand(-1, *self.out_shape)


# --- The adapter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head", [posteriors.DiagonalNormal(3), posteriors.FullNormal(3), likelihoods.Bernoulli((1, 2, 2))]
)
def test_an_output_of_param_shape_is_used_as_it_is(head):
    conditional = Conditional(Shaped((2,), head.param_shape), head)
    x = torch.randn(4, 2)
    assert sum(p.numel() for p in conditional.parameters()) == 1
    expected = x.sum(1).reshape(-1, *[1] * len(head.param_shape)).expand(-1, *head.param_shape)
    torch.testing.assert_close(conditional.params(x), expected)


@pytest.mark.parametrize(("event", "channels"), [((3, 4, 5), 7), ((4, 5), 7), ((1, 4, 5), 1)])
def test_a_feature_map_with_the_sides_of_the_image_gets_a_1x1_convolution(event, channels):
    head = likelihoods.Normal(event, scale="network")
    network = nn.Conv2d(2, channels, 3, padding=1)
    conditional = Conditional(network, head, in_shape=(2, 4, 5)).double()
    (conv,) = [m for m in conditional.adapter.modules() if isinstance(m, nn.Conv2d)]
    num_channels = event[0] if len(event) == 3 else 1
    assert conv.weight.shape == (2 * num_channels, channels, 1, 1)  # P = 2 channels per event channel
    x = torch.randn(3, 2, 4, 5, dtype=F64)
    params = conditional.params(x)
    by_hand = torch.einsum("pc,bchw->bphw", conv.weight[:, :, 0, 0], network(x)) + conv.bias[:, None, None]
    torch.testing.assert_close(params, by_hand.reshape(3, 2, *event))
    d = conditional(x)
    torch.testing.assert_close(d.mean, params[:, 0])


def test_anything_else_is_flattened_and_gets_one_linear_layer():
    for network, head, in_shape in (
        (networks.MLP(3, (8,)), likelihoods.Normal((2, 4, 5), scale="network"), None),
        (nn.Conv2d(2, 8, 3), likelihoods.Bernoulli((1, 4, 5)), (2, 4, 5)),  # sides 2 x 3: not those of the event
        (nn.Conv2d(2, 8, 3, padding=1), posteriors.FullNormal(4), (2, 4, 5)),  # no elementwise family
        (nn.Conv2d(2, 8, 3, padding=1), posteriors.DiagonalNormal(4), (2, 4, 5)),  # no image event
    ):
        conditional = Conditional(network, head, in_shape).double()
        shape = conditional.in_shape
        x = torch.randn(3, *shape, dtype=F64)
        (linear,) = [m for m in conditional.adapter.modules() if isinstance(m, nn.Linear)]
        expected = linear(network(x).flatten(1)).reshape(3, *head.param_shape)
        assert torch.equal(conditional.params(x), expected)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (0,), (2, 1, 3)])
def test_leading_dimensions_are_kept(leading):
    conditional = Conditional(networks.MLP((2, 2), (8,), "tanh"), likelihoods.Categorical((1, 3), 5)).double()
    x = torch.randn(*leading, 2, 2, dtype=F64)
    d = conditional(x)
    assert d.batch_shape == leading
    assert d.event_shape == (1, 3)
    flat = conditional.params(x.reshape(-1, 2, 2))
    torch.testing.assert_close(conditional.params(x).reshape(-1, *conditional.head.param_shape), flat)


# --- Users' own networks ---------------------------------------------------------------------------------------------


def own_encoder():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(6)
    )


def test_users_modules_plug_in_unchanged():
    model = VAE(
        encoder=Conditional(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU()), posteriors.DiagonalNormal(2)),
        decoder=Conditional(nn.Sequential(nn.Linear(2, 10), nn.ReLU()), likelihoods.Bernoulli((1, 8, 8))),
        prior=priors.StandardNormal(2),
    )
    assert model.encoder.in_shape == (1, 8, 8)
    assert model.decoder.in_shape == (2,)
    assert model.encoder.adapter.linear.weight.shape == (4, 10)
    assert model.likelihood(torch.randn(5, 3, 2)).batch_shape == (5, 3)
    assert model.posterior(torch.rand(3, 1, 8, 8)).batch_shape == (3,)


def test_without_a_model_the_first_call_tells_the_shape():
    conditional = Conditional(nn.Sequential(nn.Flatten(), nn.Linear(6, 5)), posteriors.DiagonalNormal(2))
    assert conditional.adapter is None
    assert conditional(torch.randn(3, 2, 3)).batch_shape == (3,)
    assert conditional.in_shape == (2, 3)
    assert conditional(torch.randn(4, 3, 2, 3)).batch_shape == (4, 3)


def test_lazy_modules_are_measured_too():
    conditional = Conditional(own_encoder(), posteriors.DiagonalNormal(2), in_shape=(1, 9, 7))
    assert conditional(torch.rand(3, 1, 9, 7)).batch_shape == (3,)


@pytest.mark.parametrize("training", [True, False])
def test_the_dry_run_leaves_statistics_and_modes_alone(training):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    network.train(training)
    network[2].train(not training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Conditional(network, likelihoods.Bernoulli((1, 7, 7)), in_shape=(1, 9, 9))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [network.training, network[1].training, network[2].training] == [training, training, not training]
    assert all(p.grad is None for p in network.parameters())


def test_the_dtype_of_the_network_is_that_of_the_adapter():
    conditional = Conditional(nn.Linear(3, 4).double(), posteriors.DiagonalNormal(2), in_shape=3)
    assert conditional.adapter.linear.weight.dtype == F64
    assert conditional(torch.randn(2, 3, dtype=F64)).mean.dtype == F64


def test_low_precision_stays_inside_the_network():
    for head in (likelihoods.Bernoulli(4), likelihoods.Normal(4, scale="network")):
        conditional = Conditional(networks.MLP(3, (16,)), head)
        x = torch.randn(5, 3)
        exact = conditional.params(x)
        with engine.network_precision(conditional, "bf16"):
            low = conditional.params(x)
            d = conditional(x)
        assert low.dtype == exact.dtype == torch.float32
        assert not torch.equal(low, exact)
        torch.testing.assert_close(low, exact, rtol=0, atol=0.05)
        assert d.log_prob(d.sample()).dtype == torch.float32
        assert torch.equal(conditional.params(x), exact)


# --- A foreign head, and errors --------------------------------------------------------------------------------------


def test_a_head_of_another_kind_of_family():
    class Simplex(ConditionalDistribution):
        def __init__(self, size):
            super().__init__(size, param_shape=(size,))

        def forward(self, params):
            return Dirichlet(params.exp(), validate_args=False)

    d = Conditional(networks.MLP(2, (5,)), Simplex(3))(torch.randn(4, 6, 2))
    assert not isinstance(d, Product)
    assert (d.batch_shape, d.event_shape) == ((4, 6), (3,))


def test_shapes_that_do_not_fit_are_refused():
    conditional = Conditional(networks.MLP((2, 3), (4,)), posteriors.DiagonalNormal(2))
    with pytest.raises(ShapeError, match=r"expected events of shape \(2, 3\); got a tensor of shape \(5, 3, 2\)"):
        conditional(torch.zeros(5, 3, 2))
    with pytest.raises(ShapeError, match=r"MLP takes events of shape \(2, 3\).*of shape \(7,\). Build the network"):
        conditional.build(7)
    with pytest.raises(ShapeError, match=r"Linear fails on a batch of shape \(2, 4\)"):
        Conditional(nn.Linear(3, 5), posteriors.DiagonalNormal(2), in_shape=4)


def test_a_head_that_says_nothing_about_its_parameters_is_refused():
    class Bare(ConditionalDistribution):
        def forward(self, params):
            raise NotImplementedError

    with pytest.raises(ShapeError, match="num_params"):
        Bare(3)


def test_features_that_are_as_wide_as_the_parameters_are_still_features():
    """Rectified units are no parameters: without a layer behind them none could be negative."""
    head = posteriors.FullNormal(2)
    for wrap in (lambda mlp: mlp, networks.RescaleInput, lambda mlp: networks.ColumnsInput(mlp, (0, 0, 0))):
        conditional = Conditional(wrap(networks.MLP(3, head.param_shape)), head)
        assert not isinstance(conditional.adapter, nn.Identity)
        assert bool((conditional.params(torch.randn(200, 3)) < 0).any())
    own = nn.Linear(3, head.param_shape[0])  # a network of someone else's that returns parameters
    assert isinstance(Conditional(own, head, in_shape=3).adapter, nn.Identity)
