"""Refinement of q(z|x): semi-amortised steps and Hamiltonian steps, against closed forms, Jacobians and differences."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import vaekit as vk
from vaekit import bounds, engine, networks
from vaekit.distributions import Flow, Normal, Product, Stacked
from vaekit.errors import ConfigError, SupportError
from vaekit.models import Hamiltonian, SemiAmortized
from vaekit.models.refined import TemperedLeapfrog
from vaekit.testing.distributions import check_draws

pytestmark = pytest.mark.usefixtures("coarse")

F64 = torch.float64
DIMS, LATENT, NOISE = 4, 2, 0.6


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Affine(nn.Module):
    """Parameters that do not depend on x beyond a linear map: an encoder that is wrong on purpose."""

    def __init__(self, num_in, shape):
        super().__init__()
        self.in_shape, self.out_shape = (num_in,), shape
        self.linear = nn.Linear(num_in, math.prod(shape))

    def forward(self, x):
        return self.linear(x).reshape(-1, *self.out_shape)


def linear_gaussian(posterior, seed=0):
    """x ~ N(Wz + b, s^2 I) as a VAE in float64 whose encoder knows nothing."""
    with engine.seeded(seed):
        decoder = vk.Conditional(networks.MLP(LATENT, ()), vk.likelihoods.Normal(DIMS, scale=NOISE))
        encoder = vk.Conditional(networks.MLP(DIMS, ()), posterior)
        model = vk.VAE(encoder, decoder, vk.priors.StandardNormal(LATENT)).double()
        x = model.sample(12)
    return model, x


def exact(model, x):
    """log p(x), and p(z|x)."""
    linear = model.decoder.adapter.linear
    w, b = linear.weight.detach(), linear.bias.detach()
    log_p = MultivariateNormal(b, w @ w.T + NOISE**2 * torch.eye(DIMS, dtype=F64)).log_prob(x)
    covariance = torch.linalg.inv(torch.eye(LATENT, dtype=F64) + w.T @ w / NOISE**2)
    return log_p, MultivariateNormal((x - b) @ w @ covariance / NOISE**2, covariance)


def curved(posterior=None, likelihood=None, dtype=F64):
    """A VAE with a bent decoder, and data."""
    with engine.seeded(2):
        model = vk.VAE(
            vk.Conditional(networks.MLP(5, (6,), "tanh"), posterior or vk.posteriors.DiagonalNormal(2)),
            vk.Conditional(networks.MLP(2, (6,), "tanh"), likelihood or vk.likelihoods.Bernoulli(5)),
            vk.priors.StandardNormal(2),
        ).to(dtype)
        for parameter in model.decoder.parameters():
            nn.init.normal_(parameter, std=1.0)
        return model, model.sample(7)


WRAPPERS = {
    "semi-amortized": lambda model: SemiAmortized(model, num_steps=3, learning_rate=0.05, max_norm=2.0),
    "hamiltonian": lambda model: Hamiltonian(model, num_steps=2, step_size=0.1),
    "hamiltonian-fixed": lambda model: Hamiltonian(model, num_steps=3, step_size=0.2, tempering=0.5),
    "both": lambda model: Hamiltonian(SemiAmortized(model, num_steps=2), num_steps=2, step_size=0.1),
}
each = pytest.mark.parametrize("name", sorted(WRAPPERS))


# --- Both ------------------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_refined_model_does_everything_a_vae_does(name, dtype):
    vae, x = curved(dtype=dtype)
    model = WRAPPERS[name](vae)
    latent = model.latent_shape
    assert latent == ((2,) if name == "semi-amortized" else (2, 2))
    assert model.event_shape == (5,)
    check_draws(model.posterior(x), (7,), latent, dtype)
    check_draws(model.prior(), (), latent, dtype)
    for result, shape in (
        (model.encode(x), (7, *latent)),
        (model.encode(x, mean=False), (7, *latent)),
        (model.reconstruct(x), (7, 5)),
        (model.reconstruct(x, mean=False), (7, 5)),
        (model.interpolate(x[:2], x[2:4], 3), (2, 3, 5)),
        (model.sample(2, mean=True), (2, 5)),
    ):
        assert result.shape == shape
        assert result.dtype == dtype
        assert result.isfinite().all()
        assert not result.requires_grad
    assert torch.equal(model.encode(x), model.encode(x)), "codes repeat"
    draws = bounds.draw(model, x, 4)
    assert draws.z.shape == (4, 7, *latent)
    assert draws.log_weights.shape == (4, 7)
    assert torch.equal(
        vae.sample(3, generator=seeded(1)), WRAPPERS["semi-amortized"](vae).sample(3, generator=seeded(1))
    )


@each
def test_parameters_are_split_into_those_of_q_and_the_rest(name):
    model = WRAPPERS[name](curved()[0])
    q, p = list(model.posterior_parameters()), list(model.generative_parameters())
    assert {id(t) for t in q}.isdisjoint(id(t) for t in p)
    assert {id(t) for t in q + p} == {id(t) for t in model.parameters()}
    inner = model.model if name != "both" else model.model.model
    assert {id(t) for t in p} == {id(t) for t in inner.generative_parameters()}


@each
def test_it_is_saved_and_evaluated_repeatably(name, tmp_path):
    vae, x = curved()
    vae.transform = None
    model = WRAPPERS[name](vae)

    def log_p(which):
        return vk.evaluation.log_marginal(which, x, num_samples=70, generator=seeded(3)).value

    first = log_p(model)
    torch.rand(3)  # the global stream moves on: nothing may depend on it
    assert torch.equal(log_p(model), first)
    vk.save(model, tmp_path / "run")
    loaded = vk.load(tmp_path / "run")
    assert type(loaded) is type(model)
    assert torch.equal(log_p(loaded), first)
    assert repr(loaded) == repr(model)


def test_a_transform_is_that_of_the_wrapped_model(tmp_path):
    with engine.seeded(0):
        vae = vk.presets.vae(
            3, latent_dim=2, hidden=(4,), likelihood="normal", transform=vk.transforms.Scale(-2.0, 3.0)
        )
        model = Hamiltonian(vae[0], num_steps=1)
    z = torch.randn(20, 2, 2, generator=seeded(0))
    x = model.decode(z)
    assert torch.equal(x, vae[0].decode(z[:, 0]))
    assert model.transform is vae[0].transform
    assert not [name for name in model.state_dict() if name.startswith("transform")]
    vk.save(model, tmp_path / "run")
    assert torch.equal(vk.load(tmp_path / "run").decode(z), x)


OBJECTIVES = {
    "elbo": vk.objectives.ELBO(),
    "iwae": vk.objectives.IWAE(num_samples=3),
    "dreg": vk.objectives.DReG(num_samples=3),
    "stl": vk.objectives.STL(),
    "piwae": vk.objectives.PIWAE(num_samples=4, num_groups=2),
}


@each
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_training_moves_every_parameter(name, objective):
    vae, x = curved(dtype=torch.float32)
    model = WRAPPERS[name](vae)
    before = {key: value.clone() for key, value in model.named_parameters()}
    trainer = vk.Trainer(max_epochs=1, batch_size=7, progress=False, compile="on", precision="float32")
    history = trainer.fit(model, copy.deepcopy(OBJECTIVES[objective]), x, x)
    assert math.isfinite(history["valid_elbo"][0])
    still = [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
    assert not still, f"no gradient reached {still}"
    assert all(value.isfinite().all() for value in model.parameters())


@each
def test_the_gradient_is_that_of_the_refined_bound(name):
    """Through the steps, for every parameter: against central differences in a random direction of each."""
    vae, x = curved()
    model = WRAPPERS[name](vae)

    def value():
        with engine.seeded(5):
            return -bounds.iwae(model, x, 2).mean()

    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(value(), list(parameters.values()))
    with engine.seeded(6):
        directions = [torch.randn_like(p) for p in parameters.values()]
    for (key, parameter), gradient, direction in zip(parameters.items(), gradients, directions, strict=True):
        start, ends = parameter.detach().clone(), []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(start + sign * 1e-5 * direction)
                ends.append(value().item())
                parameter.copy_(start)
        slope = (ends[0] - ends[1]) / 2e-5
        assert abs(float((gradient * direction).sum()) - slope) < 1e-6 * max(1, abs(slope)), key


@pytest.mark.parametrize("half", ["posterior_parameters", "generative_parameters"])
def test_one_half_can_be_held(half):
    """The steps are taken, and the other half learns, whichever half has no gradients."""
    for make in WRAPPERS.values():
        model = make(curved()[0])
        held = {id(p) for p in getattr(model, half)()}
        for p in model.parameters():
            p.requires_grad_(id(p) not in held)
        vk.objectives.ELBO()(model, curved()[1]).value.backward()
        for p in model.parameters():
            assert p.grad is None if id(p) in held else float(p.grad.abs().sum()) > 0


def test_refinement_works_where_gradients_are_off_and_leaves_none_behind():
    vae, x = curved()
    for make in WRAPPERS.values():
        model = make(vae)
        with torch.no_grad(), engine.seeded(0):
            z = model.posterior(x).sample()
        assert not z.requires_grad
        with engine.seeded(0):
            assert torch.allclose(model.posterior(x).sample(), z, rtol=1e-12, atol=1e-12), "the mode changes no value"
        assert all(p.grad is None for p in model.parameters())


# --- Semi-amortised --------------------------------------------------------------------------------------------------


def test_many_steps_lead_to_the_exact_posterior():
    """The family holds p(z|x): the refined parameters end there, from wherever the encoder starts."""
    vae, x = linear_gaussian(vk.posteriors.FullNormal(LATENT))
    log_p, best = exact(vae, x)
    model = SemiAmortized(vae, num_steps=300, learning_rate=0.05, max_norm=100.0, num_samples=64)
    with torch.no_grad(), engine.seeded(0):
        q = model.posterior(x)
        start = vae.posterior(x)
        bound = bounds.elbo(model, x, 400, kl="sampled")
        first = bounds.elbo(vae, x, 400, kl="sampled")
    assert (start.mean - best.mean).abs().max() > 0.3
    torch.testing.assert_close(q.mean, best.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(q.covariance_matrix, best.covariance_matrix.expand(12, -1, -1), atol=0.05, rtol=0)
    assert (bound <= log_p + 0.01).all()
    assert (bound > log_p - 0.05).all()
    assert float((log_p - first).mean()) > 1


def test_one_step_is_the_encoders_answer_plus_the_clipped_gradient():
    vae, x = curved()
    with torch.no_grad(), engine.seeded(4):
        refined = SemiAmortized(vae, num_steps=1, learning_rate=0.1, max_norm=0.5)._refined(vae.encoder.params(x), x)
    params = vae.encoder.params(x).detach().requires_grad_()
    with engine.seeded(4):
        log_likelihood, kl = bounds.elbo_terms(vae, x, 1, posterior=vae.encoder.head(params))
    (gradient,) = torch.autograd.grad((log_likelihood - kl).sum(), params)
    norms = gradient.flatten(1).norm(dim=1)
    assert (norms > 0.5).any()
    assert (norms < 0.5).any()
    expected = params + 0.1 * gradient * (0.5 / norms).clamp(max=1).reshape(-1, 1, 1)
    torch.testing.assert_close(refined, expected.detach())


def test_points_are_refined_apart():
    """A point's refined parameters do not depend on the other points of the batch."""
    vae, x = curved()
    head = vae.encoder.head
    model = SemiAmortized(vae, num_steps=4, learning_rate=0.1)
    noise = torch.zeros(1, 7, 2, dtype=F64)  # the same for every point, wherever it stands
    original = head.forward

    def without_noise(params):
        q = original(params)
        q.rsample = lambda shape=(): q.mean + noise[:, : len(params)] * q.stddev if shape else q.mean
        return q

    head.forward = without_noise
    try:
        with torch.no_grad():
            together, alone = model.posterior(x).mean, model.posterior(x[2:3]).mean
    finally:
        del head.forward
    torch.testing.assert_close(together[2:3], alone)


# --- Leapfrog --------------------------------------------------------------------------------------------------------


def leapfrog(num_steps=3, beta_0=0.6):
    weight = torch.tensor([[1.0, 0.5], [-0.3, 2.0]], dtype=F64)
    steps = torch.tensor([0.3, 0.15], dtype=F64)
    return TemperedLeapfrog(lambda z: -torch.tanh(z @ weight) - z, steps, torch.tensor(beta_0, dtype=F64), num_steps)


@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("beta_0", [0.3, 1.0])
def test_leapfrog_runs_backwards_and_knows_its_jacobian(num_steps, beta_0):
    step = leapfrog(num_steps, beta_0)
    v = torch.randn(5, 4, dtype=F64, generator=seeded(0))
    image, log_det = step.forward(v)
    back, log_det_back = step.inverse(image)
    torch.testing.assert_close(back, v, atol=1e-13, rtol=1e-13)
    assert float((image - v).abs().max()) > 0.1
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda u: step.forward(u)[0], v[i])
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_det_back, -log_det)
    torch.testing.assert_close(log_det, torch.tensor(0.5 * 2 * math.log(beta_0), dtype=F64))


def test_temperatures_rise_to_one():
    coolings = torch.stack(leapfrog(5, 0.3)._coolings())
    assert (coolings < 1).all()
    torch.testing.assert_close(coolings.prod(), torch.tensor(math.sqrt(0.3), dtype=F64))


def test_energy_is_kept_to_second_order():
    """Without tempering, half the step and twice as many of them leave a quarter of the error in the energy."""
    errors = []
    for num_steps in (8, 16):
        step = TemperedLeapfrog(
            lambda z: -z - z**3, torch.full((1,), 0.8 / num_steps, dtype=F64), torch.tensor(1.0, dtype=F64), num_steps
        )
        v = torch.tensor([0.9, 0.4], dtype=F64)
        z, rho = step.forward(v)[0]
        errors.append(abs(float((z**2 / 2 + z**4 / 4 + rho**2 / 2) - (0.9**2 / 2 + 0.9**4 / 4 + 0.4**2 / 2))))
    assert 3.5 < errors[0] / errors[1] < 4.5


# --- Hamiltonian -----------------------------------------------------------------------------------------------------


def test_the_density_at_own_draws_is_that_of_the_way_back():
    vae, x = curved()
    q = WRAPPERS["hamiltonian-fixed"](vae).posterior(x)
    z = q.rsample((3,))
    own = q.log_prob(z)
    foreign = q.log_prob(z.clone())
    torch.testing.assert_close(own, foreign, atol=1e-10, rtol=0)
    assert own.shape == (3, 7)


def test_the_density_of_foreign_points_broadcasts():
    """Points with a dimension of their own before the batch: each is traced back under every x."""
    vae, x = curved()
    model = WRAPPERS["hamiltonian"](vae)
    with torch.no_grad():
        q = model.posterior(x)
        z = torch.randn(4, 1, 2, 2, dtype=F64, generator=seeded(1))
        together = q.log_prob(z)
        alone = torch.stack([model.posterior(x[i : i + 1]).log_prob(z[:, 0, None])[:, 0] for i in range(7)], 1)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(model.posterior(x).expand((3, 7)).log_prob(z[:3]), together[:3])


def test_a_draw_without_recording_still_has_a_density_with_gradients():
    vae, x = curved()
    q = WRAPPERS["hamiltonian"](vae).posterior(x)
    z = q.sample()
    assert q.log_prob(z).requires_grad
    with torch.no_grad():
        own = q.log_prob(z)
        z += 0.1
        moved = q.log_prob(z)
    assert (own - moved).abs().max() > 1e-3, "a draw that was changed in place is another point"
    torch.testing.assert_close(moved, q.log_prob(z.clone()).detach())


def test_one_latent_is_a_density_of_total_one():
    """Quadrature over (z, rho)."""
    with engine.seeded(0):
        vae = vk.VAE(
            vk.Conditional(networks.MLP(3, (4,), "tanh"), vk.posteriors.DiagonalNormal(1)),
            vk.Conditional(networks.MLP(1, (4,), "tanh"), vk.likelihoods.Bernoulli(3)),
            vk.priors.StandardNormal(1),
        ).double()
    model = Hamiltonian(vae, num_steps=2, step_size=0.3, max_step_size=1.0, tempering=0.5)
    axis = torch.linspace(-9, 9, 241, dtype=F64)
    grid = torch.cartesian_prod(axis, axis).reshape(-1, 1, 2, 1)
    with torch.no_grad():
        for d in (model.posterior(torch.ones(1, 3, dtype=F64)), model.prior()):
            total = (d.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2).item()
            assert abs(total - 1) < 1e-6


def test_the_bound_is_below_log_p_and_tighter_than_without():
    vae, x = linear_gaussian(vk.posteriors.DiagonalNormal(LATENT))
    log_p, _ = exact(vae, x)
    model = Hamiltonian(vae, num_steps=3, step_size=0.3, max_step_size=0.6, tempering=0.3)
    with torch.no_grad(), engine.seeded(0):
        plain = bounds.draw(vae, x, 40_000).log_weights
        refined = bounds.draw(model, x, 40_000).log_weights
    stderr = refined.std(0) / math.sqrt(40_000)
    assert (refined.mean(0) <= log_p + 3 * stderr).all()
    assert float(refined.mean()) > float(plain.mean()) + 1
    estimate = bounds.log_mean_exp(refined)
    covered = 1 / torch.softmax(refined, 0).square().sum(0) > 4_000
    assert covered.sum() >= 5
    torch.testing.assert_close(estimate[covered], log_p[covered], atol=0.05, rtol=0)  # with momenta, the same p(x)


def test_without_tempering_the_steps_keep_the_energy_and_gain_nothing():
    vae, x = linear_gaussian(vk.posteriors.DiagonalNormal(LATENT))
    model = Hamiltonian(vae, num_steps=10, step_size=0.02, tempering=1.0)
    with torch.no_grad(), engine.seeded(0):
        refined = bounds.draw(model, x, 50).log_weights
    with torch.no_grad(), engine.seeded(0):
        start = model.posterior(x).base.sample((50,))
        z = start[..., 0, :]
        plain = bounds.Draw(z, vae.likelihood(z).log_prob(x), vae.prior().log_prob(z), vae.posterior(x).log_prob(z))
    torch.testing.assert_close(refined, plain.log_weights, atol=0.02, rtol=0)


def test_training_tightens_the_bound_by_the_steps():
    """With the decoder held, what is learned of q alone brings the bound of a poor encoder near log p(x)."""
    vae, x = linear_gaussian(vk.posteriors.DiagonalNormal(LATENT))
    log_p, _ = exact(vae, x)
    for parameter in vae.parameters():
        parameter.requires_grad_(False)
    model = Hamiltonian(vae, num_steps=4, step_size=0.05, max_step_size=1.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    assert len(optimizer.param_groups[0]["params"]) == 2
    with engine.seeded(0):
        first = bounds.elbo(model, x, 500).mean().item()
        for _ in range(60):
            loss = vk.objectives.ELBO(num_samples=8)(model, x).value
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        last = bounds.elbo(model, x, 500).mean().item()
    assert last > first + 1
    assert last < float(log_p.mean())
    assert (model.step_sizes > 0).all()
    assert (model.step_sizes < 1).all()


def test_force_in_parts_is_the_force(monkeypatch):
    vae, x = curved()
    model = WRAPPERS["hamiltonian"](vae)
    with torch.no_grad():
        z = torch.randn(6, 7, 2, dtype=F64, generator=seeded(0))
        whole = model._force(x)(z)
        monkeypatch.setattr("vaekit.models.refined._VALUES", 80)
        torch.testing.assert_close(model._force(x)(z), whole)
    torch.testing.assert_close(model._force(x)(z).detach(), whole)


def test_evaluation_pictures_and_diagnostics_take_a_hamiltonian_model():
    vae, x = curved(dtype=torch.float32)
    model = WRAPPERS["hamiltonian"](vae)
    result = vk.evaluation.diagnostics(model, x, generator=seeded(0))
    assert result is not None
    sandwich = vk.evaluation.ais(model, x[:2], num_steps=20, num_chains=2, generator=seeded(0))
    assert torch.isfinite(sandwich.value).all()


# --- Stacked events --------------------------------------------------------------------------------------------------


def test_stacked_events_are_independent():
    a = Product(Normal(torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)), 1)
    b = Product(Normal(torch.ones(4, 3, dtype=F64), 2 * torch.ones(4, 3, dtype=F64)), 1)
    both = Stacked([a, b])
    check_draws(both, (4,), (2, 3), F64)
    v = torch.randn(5, 4, 2, 3, dtype=F64, generator=seeded(0))
    torch.testing.assert_close(both.log_prob(v), a.log_prob(v[..., 0, :]) + b.log_prob(v[..., 1, :]))
    torch.testing.assert_close(both.mean[:, 1], b.mean)
    torch.testing.assert_close(both.variance[:, 1], b.variance)


def test_a_pushforward_of_its_own_map():
    base = Stacked([Product(Normal(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64)), 1)] * 2)
    check_draws(Flow(base, [leapfrog()]), (), (2, 2), F64)


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: SemiAmortized(m, num_steps=0), "num_steps and num_samples are at least 1; got 0"),
        (lambda m: SemiAmortized(m, learning_rate=0.0), "learning_rate and max_norm are positive"),
        (lambda m: SemiAmortized(Hamiltonian(m)), "parameters that a VAE's encoder gives; got a Hamiltonian"),
        (lambda m: Hamiltonian(m, num_steps=0), "num_steps is at least 1; got 0"),
        (lambda m: Hamiltonian(m, step_size=0.5), "expected 0 < step_size < max_step_size; got 0.5 and 0.5"),
        (lambda m: Hamiltonian(m, tempering=0.0), r"tempering is a number in \(0, 1\]"),
        (lambda m: Hamiltonian(m, tempering="free"), r'or "learned"; got \'free\''),
        (lambda m: Hamiltonian(nn.Linear(2, 2)), "Hamiltonian refines a VAE .* got a Linear"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make(curved()[0])


def test_bits_have_no_hamiltonian():
    from components import BernoulliPosterior, BernoulliPrior

    vae = vk.VAE(
        vk.Conditional(networks.MLP(3, (4,)), BernoulliPosterior(2)),
        vk.Conditional(networks.MLP(2, (4,)), vk.likelihoods.Bernoulli(3)),
        BernoulliPrior((2,)),
    )
    with pytest.raises(SupportError, match="Hamiltonian steps need latents of real numbers"):
        Hamiltonian(vae)


# --- From the command line -------------------------------------------------------------------------------------------


def test_a_hamiltonian_run_goes_through_the_commands(tmp_path, capsys):
    from vaekit import cli

    run = str(tmp_path / "run")
    settings = ["max_epochs=2", "hidden=16", "latent_dim=2"]
    assert cli.run(["fit", "digits", "-o", run, "--preset", "hvae", *settings, "--quiet"]) == 0
    assert vk.load(run).latent_shape == (2, 2)
    for words in (
        ["evaluate", run, "digits", "--num-samples", "20"],
        ["sample", run, "-n", "4", "-o", str(tmp_path / "x.npy")],
        ["encode", run, "digits", "-o", str(tmp_path / "z.npy")],
        ["reconstruct", run, "digits", "-o", str(tmp_path / "r.npy")],
        ["info", run],
        ["report", run, "digits", "-o", str(tmp_path / "report.html")],
    ):
        assert cli.run(words) == 0, words
    assert "Hamiltonian(num_steps=3, step_size=0.05" in capsys.readouterr().out
