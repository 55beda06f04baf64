"""Latents that do not fill R^D: what evaluation, pictures, reports and objectives make of them."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch.distributions import Beta, Distribution, Independent, Kumaraswamy, MixtureSameFamily, Normal
from torch.distributions import Categorical as TorchCategorical

import vaekit as vk
from vaekit import Conditional, engine, evaluation, likelihoods, networks, objectives, plots, posteriors, priors, report
from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import check_support, nearest
from vaekit.errors import ConfigError, SupportError
from vaekit.models.view import View
from vaekit.objectives import Capacity, Denoising

pytestmark = pytest.mark.usefixtures("coarse")

X = torch.bernoulli(torch.full((24, 1, 8, 8), 0.3), generator=torch.Generator().manual_seed(0))

KINDS = {
    "sphere": ("von-mises-fisher", "uniform-sphere"),
    "ball": ("wrapped-normal", "wrapped-normal"),
    "bits": ("bernoulli", "bernoulli"),
    "relaxed-bits": ("relaxed-bernoulli", "relaxed-bernoulli"),
    "codes": ("categorical", "autoregressive-categorical"),
    "relaxed-codes": ("relaxed-categorical", "relaxed-categorical"),
}


def model_of(kind, latent_dim=2):
    posterior, prior = KINDS[kind]
    with engine.seeded(0):
        parts = {"latent_dim": latent_dim, "hidden": (8,), "posterior": posterior, "prior": prior}
        return vk.presets.vae((1, 8, 8), **parts)[0]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", KINDS)
def test_chains_are_refused(kind):
    model = model_of(kind)
    for run in (
        lambda: evaluation.ais(model, X[:2], num_chains=2, num_steps=3),
        lambda: evaluation.bdmc(model, 2, num_chains=2, num_steps=3),
        lambda: evaluation.hmc_posterior(model, X[:2], num_samples=4),
    ):
        with pytest.raises(ConfigError, match=r"the latents of .* are (discrete|confined to a part). Use log_marginal"):
            run()


@pytest.mark.parametrize("kind", KINDS)
def test_diagnostics_and_the_picture_of_codes_work(kind):
    model = model_of(kind)
    gap_rows = 2 if kind in ("sphere", "bits") else 0  # the refined q is the slow part
    found = evaluation.diagnostics(model, X, num_gap_rows=gap_rows, generator=torch.Generator().manual_seed(0))
    assert (found.inference_gap is not None) == (kind == "sphere")
    assert found.rate.value >= 0
    assert len(plots.latent(model, X).axes) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_walk_through_space_are_refused(kind):
    model = model_of(kind)
    with pytest.raises(ConfigError, match="a traversal walks through all values of z, and those of this model lie in"):
        plots.traversal(model, X)
    if plots.access.num_latents(View.of(model)) == 2:
        with pytest.raises(ConfigError, match="a manifold walks through all values of z"):
            plots.manifold(model)


def test_lines_between_codes_stay_on_the_sphere():
    model, seen = model_of("sphere", 4), []
    model.decoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
    assert model.interpolate(X[:3], X[3:6], 5).shape == (3, 5, 1, 8, 8)
    plots.interpolation(model, X[:3], X[3:6], 5)
    lines = [z for z in seen if len(z) == 15]
    assert len(lines) == 2
    for z in lines:
        check_support(model.prior(), z)
    space = priors.StandardNormal(3)()
    z = torch.randn(5, 3)
    assert nearest(space, z) is z


def test_a_report_leaves_the_walk_out():
    model = model_of("ball")
    page = report.build(model, title="Ball", config={}, records=[], x=X, num_samples=2)
    assert 'id="interpolation"' in page
    assert 'id="walk"' not in page


@pytest.mark.parametrize(
    "objective",
    [
        objectives.STL(),
        objectives.DReG(),
        objectives.InfoVAE(),
        objectives.BetaTC(),
        objectives.FactorVAE(hidden=(8,)),
        objectives.DIPVAE("ii"),
    ],
    ids=lambda o: type(o).__name__,
)
def test_objectives_that_need_a_path_refuse_bits_by_name(objective):
    model = model_of("bits")
    objective.prepare(100)
    objective.build(model)
    with pytest.raises(ConfigError, match="posterior that can be reparameterised"):
        objective(model, X)


@pytest.mark.parametrize(
    "objective",
    [objectives.TVO(), objectives.CIWAE(), objectives.PIWAE(), objectives.Renyi(), Capacity(), Denoising()],
    ids=lambda o: type(o).__name__,
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_other_objectives_take_every_kind(objective, kind):
    model = model_of(kind)
    objective.prepare(100)
    objective(model, X).value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert bool(parameter.grad.abs().sum() > 0), name


# --- Parts of someone else's ---------------------------------------------------------------------------------------


class Foreign(ConditionalDistribution):
    """A head of someone else's around any function of the parameters."""

    def __init__(self, make):
        super().__init__(3, num_params=2)
        self.make = make

    def forward(self, params):
        return self.make(*self.unbind(params))


class Silent(Distribution):
    """A distribution that does not say where it lives."""

    def __init__(self, loc):
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)


def mixture(loc, raw):
    components = Independent(Normal(torch.stack([loc, -loc], -2), 1.0), 1)
    return MixtureSameFamily(TorchCategorical(logits=components.mean.sum(-1)), components, validate_args=False)


def fails(loc, raw):
    raise ValueError("cannot take zeros")


def assemble(head, prior):
    return vk.VAE(
        Conditional(networks.MLP(5, ()), head), Conditional(networks.MLP(3, ()), likelihoods.Normal(5)), prior
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda loc, raw: Independent(Normal(loc, raw.exp()), 1),
        lambda loc, raw: torch.distributions.MultivariateNormal(loc, torch.eye(3)),
        lambda loc, raw: torch.distributions.TransformedDistribution(
            Independent(Normal(loc, raw.exp()), 1), [torch.distributions.AffineTransform(0.0, 2.0, event_dim=1)]
        ),
        mixture,
        lambda loc, raw: Silent(loc),
        fails,
    ],
    ids=["independent", "full", "flow", "mixture", "silent", "fails-at-zero"],
)
def test_heads_of_other_makes_with_real_latents_pass(make):
    assemble(Foreign(make), priors.StandardNormal(3))


def test_intervals_that_differ_in_their_ends_are_one_kind():
    head = Foreign(lambda loc, raw: Independent(Kumaraswamy(loc.exp(), raw.exp()), 1))

    class BetaPrior(torch.nn.Module):
        def forward(self):
            return Independent(Beta(torch.ones(3), torch.ones(3)), 1)

    assemble(head, BetaPrior())
    assemble(head, priors.RelaxedBernoulli(3))
    with pytest.raises(
        SupportError, match=r"Foreign gives z in \[0, 1\], the prior StandardNormal in the real numbers"
    ):
        assemble(head, priors.StandardNormal(3))


def test_the_check_leaves_the_random_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    head = Foreign(lambda loc, raw: Independent(Normal(loc + 0 * torch.rand(1), raw.exp()), 1))
    with engine.seeded(1):
        encoder = Conditional(networks.MLP(5, ()), head)
        decoder = Conditional(networks.MLP(3, ()), likelihoods.Normal(5))
        encoder.build(5), decoder.build(3)
    torch.manual_seed(3)
    vk.VAE(encoder, decoder, priors.StandardNormal(3))
    assert torch.equal(torch.rand(2), expected)


def test_posteriors_of_the_table_have_their_kind():
    assert type(model_of("sphere").encoder.head) is posteriors.VonMisesFisher
    assert type(model_of("ball").prior) is priors.WrappedNormal
