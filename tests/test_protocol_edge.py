"""Small mistakes of models that others wrote, and of arguments: what was expected, what came, how to mend it."""

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, Normal, Uniform, constraints

import vaekit as vk
from vaekit.errors import ConfigError, ShapeError, VaekitError
from vaekit.models import View

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


class Linear:
    """p(z) = N(0, I_2), p(x|z) = N(W z, I_3), written by hand and without a mistake."""

    weight = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])

    def posterior(self, x):
        return Independent(Normal(x @ self.weight / 2.5, 0.6), 1)

    def prior(self):
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def likelihood(self, z):
        return Independent(Normal(z @ self.weight.T, 1.0), 1)


class Unsaid(Distribution):
    """log p(x) of a normal, and no word of its support."""

    arg_constraints = None

    def __init__(self, loc):
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)
        self.loc = loc

    def log_prob(self, value):
        return Normal(self.loc, 1.0).log_prob(value).sum(-1)

    def sample(self, sample_shape=()):
        return Normal(self.loc, 1.0).sample(sample_shape)


class Unsummed(Unsaid):
    support = constraints.real_vector

    def log_prob(self, value):
        return Normal(self.loc, 1.0).log_prob(value)


def mistake(**methods):
    return type("Mine", (Linear,), methods)()


MISTAKES = {
    "Independent forgotten in p(x|z)": (
        {"likelihood": lambda self, z: Normal(z @ self.weight.T, 1.0)},
        ShapeError,
        r"Mine.likelihood\(z\) has batch shape \(1, 3\) and event shape \(\).*Independent\(\.\.\., 1\)",
    ),
    "Independent forgotten in q(z|x)": (
        {"posterior": lambda self, x: Normal(x[:, :2], 1.0)},
        ShapeError,
        r"Mine.posterior\(x\) has batch shape \(2, 2\) and event shape \(\).*Independent\(\.\.\., 1\)",
    ),
    "Independent forgotten in p(z)": (
        {"prior": lambda self: Normal(torch.zeros(2), 1.0)},
        ShapeError,
        r"Mine.prior\(\) has batch shape \(2,\) and event shape \(\).*Independent\(\.\.\., 1\)",
    ),
    "no support": (
        {"likelihood": lambda self, z: Unsaid(z @ self.weight.T)},
        ConfigError,
        r"Mine.likelihood\(z\) is a Unsaid that does not say its support.*constraints\.real",
    ),
    "no sum over elements": (
        {"likelihood": lambda self, z: Unsummed(z @ self.weight.T)},
        ShapeError,
        r"Mine.likelihood\(z\).log_prob gives shape \(2, 2, 3\); expected \(2, 2\)",
    ),
    "a prior of another shape": (
        {
            "prior": lambda self: Independent(Normal(torch.zeros(5), 1.0), 1),
            "likelihood": lambda self, z: Independent(Normal(z[..., :3], 1.0), 1),
        },
        ShapeError,
        r"Mine.posterior\(x\) has events of shape \(2,\), prior\(\) of shape \(5,\); both describe z",
    ),
    "a prior of another shape, and a decoder that cannot take it": (
        {"prior": lambda self: Independent(Normal(torch.zeros(5), 1.0), 1)},
        ConfigError,
        r"Mine.likelihood fails at z of shape \(1, 5\).*This z is a draw of prior\(\), whose events have shape \(5,\)",
    ),
    "a prior for each of other rows": (
        {"prior": lambda self: Independent(Normal(torch.zeros(5, 2), 1.0), 1)},
        ShapeError,
        r"Mine.prior\(\) has batch shape \(5,\) and event shape \(2,\); p\(z\) has batch shape \(\)",
    ),
    "a prior of events without a dimension": (
        {"prior": lambda self: Normal(0.0, 1.0)},
        ShapeError,
        r"Mine.prior\(\) has events of shape \(\); expected at least one .* one latent number has shape \(1,\)",
    ),
    "latents that are numbers without a dimension": (
        {
            "prior": lambda self: Independent(Normal(0.0, 1.0), 0),
            "posterior": lambda self, x: Normal(x[:, 0], 1.0),
            "likelihood": lambda self, z: Independent(Normal(z[..., None].expand(*z.shape, 3), 1.0), 1),
        },
        ShapeError,
        r"Mine.prior\(\) has events of shape \(\).*Independent\(\.\.\., 1\)",
    ),
    "a decoder of another dtype": (
        {"likelihood": lambda self, z: Independent(Normal(z @ self.weight.T.double(), 1.0), 1)},
        ConfigError,
        r"Mine.likelihood fails at z of .* same dtype.*give their parameters that of the decoder's weights",
    ),
    "a prior of another set": (
        {"prior": lambda self: Independent(Uniform(torch.zeros(2), torch.full((2,), 1e-6), validate_args=True), 1)},
        ConfigError,
        r"Mine.prior\(\).log_prob fails at a value of shape \(2, 2, 2\).*support",
    ),
    "rows of one number": (
        {"likelihood": lambda self, z: Normal(z[..., 0], 1.0)},
        ShapeError,
        r"Mine.likelihood\(z\) has events of shape \(\); expected at least one dimension.*x\[:, None\]",
    ),
    "a likelihood of flat z": (
        {"likelihood": lambda self, z: Independent(Normal(z.reshape(len(z), 2) @ self.weight.T, 1.0), 1)},
        ConfigError,
        r"Mine.likelihood fails at z of shape \(2, 2, 2\).*z has shape \(\.\.\., \*Z\)",
    ),
    "a posterior that returns numbers": (
        {"posterior": lambda self, x: (x[:, :2], x[:, :2].exp())},
        ConfigError,
        r"Mine.posterior returns a distribution.*got tuple.*Independent",
    ),
    "a posterior of one row": (
        {"posterior": lambda self, x: Independent(Normal(torch.zeros(2), 1.0), 1)},
        ShapeError,
        r"Mine.posterior\(x\) has batch shape \(\).*return one for each of 2",
    ),
    "a posterior that fails": (
        {"posterior": lambda self, x: 1 / 0},
        ConfigError,
        r"Mine.posterior fails at x of shape \(2, 3\) and dtype torch.float32: ZeroDivisionError: division by zero\.",
    ),
    "a prior that takes an argument": (
        {"prior": lambda self, x: None},
        ConfigError,
        "Mine.prior fails at a call without arguments: TypeError",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_at_the_edge(name):
    methods, kind, message = MISTAKES[name]
    model = mistake(**methods)
    for ask in (
        lambda: vk.evaluation.log_marginal(model, X, num_samples=20),
        lambda: vk.evaluation.elbo(model, X),
        lambda: vk.evaluation.diagnostics(model, X),
        lambda: View.of(model, X).encode(),
    ):
        with pytest.raises(kind, match=message):
            ask()


def test_a_class_is_no_model():
    with pytest.raises(ConfigError, match=r"Linear\.prior fails.*hand over an instance of it: Linear\(\.\.\.\)"):
        vk.evaluation.elbo(Linear, X)


def test_the_same_model_without_a_mistake_has_its_closed_form():
    covariance = torch.eye(3) + Linear.weight @ Linear.weight.T
    truth = torch.distributions.MultivariateNormal(torch.zeros(3), covariance).log_prob(X)
    found = vk.evaluation.log_marginal(Linear(), X, num_samples=5_000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.value.float(), truth, atol=0.1)


def test_looking_at_a_model_draws_nothing_from_torchs_stream():
    state = torch.get_rng_state()
    View.of(Linear(), X)
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_follow_the_dtype_of_weights_in_an_object_that_is_no_module():
    class Holder(Linear):
        def __init__(self):
            with torch.random.fork_rng():
                self.network = nn.Linear(3, 2)

        def posterior(self, x):
            return Independent(Normal(self.network(x), 0.6), 1)

    model = Holder()
    noise = torch.Generator()
    values = [vk.evaluation.elbo(model, x, generator=noise.manual_seed(0)).value for x in (X, X.double())]
    assert torch.equal(*values)


def test_rows_that_meet_weights_out_of_sight_in_another_dtype_are_told():
    with torch.random.fork_rng():
        network = nn.Linear(3, 2)
    model = mistake(posterior=lambda self, x: Independent(Normal(network(x), 0.6), 1))
    with pytest.raises(ConfigError, match=r"x of shape \(2, 3\) and dtype torch.float64.*hand over x as torch.float32"):
        vk.evaluation.elbo(model, X.double())
    network.double()
    with pytest.raises(ConfigError, match=r"x of shape \(2, 3\) and dtype torch.float32.*hand over x as torch.float64"):
        vk.evaluation.elbo(model, X)


def test_latents_without_a_dimension_are_latents():
    class Clusters:
        means = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])

        def posterior(self, x):
            return Categorical(logits=x @ self.means.T)

        def prior(self):
            return Categorical(logits=torch.zeros(2))

        def likelihood(self, z):
            return Independent(Normal(self.means[z], 1.0), 1)

    x = X[:, :2]
    truth = (Normal(Clusters.means, 1.0).log_prob(x[:, None]).sum(-1)).logsumexp(1) - torch.tensor(2.0).log()
    found = vk.evaluation.log_marginal(Clusters(), x, num_samples=50, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.value.float(), truth, atol=1e-5)  # the posterior is exact


def small():
    with torch.random.fork_rng():
        return vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")


ARGUMENTS = {
    "num_samples in text": (
        lambda m: vk.evaluation.log_marginal(m, X, num_samples="10"),
        "num_samples is an int; .*str",
    ),
    "num_samples a fraction": (lambda m: vk.evaluation.iwae(m, X, num_samples=2.5), "num_samples is an int; .*float"),
    "num_samples a bool": (lambda m: vk.evaluation.elbo(m, X, num_samples=True), "num_samples is an int; .*bool"),
    "an objective's": (lambda m: vk.objectives.IWAE("5"), "num_samples is an int; .*str"),
    "chunk_size": (lambda m: vk.evaluation.elbo(m, X, num_samples=3, chunk_size="2"), "chunk_size is an int"),
    "transform_draws": (
        lambda m: vk.evaluation.iwae(m, X, num_samples=3, transform_draws="2"),
        "transform_draws is an",
    ),
    "chains": (lambda m: vk.evaluation.ais(m, X, num_chains=2.0), "num_chains is an int; got 2.0"),
    "draws of chains": (lambda m: vk.evaluation.hmc_posterior(m, X, num_samples="9"), "num_samples is an int"),
    "draws of a view": (lambda m: next(View.of(m, X).draws("3")), "num_samples is an int"),
    "samples": (lambda m: m.sample("3"), "the number of samples is an int; got '3'"),
    "samples, a float": (lambda m: m.sample(3.0), "the number of samples is an int; got 3.0"),
    "a seed as generator": (
        lambda m: vk.evaluation.elbo(m, X, generator=3),
        r"a torch.Generator or None; got 3 \(int\)",
    ),
    "of samples": (lambda m: m.sample(2, generator=3), r"manual_seed\(3\)"),
    "of codes": (lambda m: m.encode(X, mean=False, generator="a"), r"got 'a' \(str\)"),
    "a numpy generator": (
        lambda m: vk.evaluation.ais(m, X, generator=__import__("numpy").random.default_rng(0)),
        "generator is a torch.Generator or None; got Generator",
    ),
    "max_epochs": (lambda m: vk.Trainer(max_epochs="5"), "max_epochs is an int; got '5'"),
    "batch_size": (lambda m: vk.Trainer(batch_size=2.5), "batch_size is an int; got 2.5"),
    "learning_rate": (lambda m: vk.Trainer(learning_rate="0.1"), "learning_rate is a number; got '0.1'"),
    "a seed in text": (lambda m: vk.Trainer(seed="0"), "seed is a number; got '0'"),
    "patience": (lambda m: vk.Trainer(patience="3"), "patience is an int; got '3'"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_another_type_is_named(name):
    ask, message = ARGUMENTS[name]
    with pytest.raises(VaekitError, match=message):
        ask(small()[0])


def test_counts_of_numpy_are_counts():
    import numpy as np

    model, _ = small()
    assert model.sample(np.int64(2)).shape == (2, 3)
    assert vk.evaluation.elbo(model, X, num_samples=np.int32(2)).num_samples == 2
