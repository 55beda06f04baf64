"""Several processes train as one: gradients, loss curves, and what each of them may say."""

import shutil
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import together
from torch import nn

import vaekit as vk
from vaekit import engine
from vaekit.engine import world
from vaekit.models.row_draws import RowDraws
from vaekit.models.view import View
from vaekit.objectives import DIPVAE, ELBO, BetaTC, Capacity, FactorVAE, InfoVAE
from vaekit.training.settings import TrainerSettings
from vaekit.training.step import Step
from vaekit.training.together import Part, StepNoise

needs_gloo = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)
OBJECTIVES = {
    "elbo": lambda: ELBO(num_samples=2),
    "one draw": lambda: ELBO(),
    # Between what the halves of the rows have, so that a process by itself would decide otherwise.
    "free bits": lambda: ELBO(free_bits=0.125),
    "capacity": lambda: Capacity(capacity=0.32, gamma=3.0),
    "tc": lambda: BetaTC(beta=4.0),
    "weighted tc": lambda: BetaTC(beta=4.0, weighting="weighted"),
    "factor": lambda: FactorVAE(hidden=(8,)),
    "mmd": lambda: InfoVAE(),
    "dip i": lambda: DIPVAE("i"),
    "dip ii": lambda: DIPVAE("ii"),
    "iwae": lambda: vk.objectives.IWAE(num_samples=3),
    "denoising": lambda: vk.objectives.Denoising("normal"),
}


class Normed(nn.Module):
    """A network with batch normalisation and dropout."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.in_shape, self.out_shape = (in_size,), (out_size,)
        self.layers = nn.Sequential(nn.Linear(in_size, out_size), nn.BatchNorm1d(out_size), nn.Tanh(), nn.Dropout(0.2))

    def forward(self, x):
        return self.layers(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _model(kind):
    with engine.seeded(3):
        posterior = vk.posteriors.Bernoulli(3) if kind == "bits" else vk.posteriors.DiagonalNormal(3)
        prior = vk.priors.StandardNormal(3)
        if kind == "vamp":
            prior = vk.priors.VampPrior(3, num_pseudo_inputs=5)
        if kind == "bits":
            prior = vk.priors.Bernoulli(3)
        network = Normed if kind == "normed" else lambda i, o: vk.networks.MLP(i, (o,))
        return vk.VAE(
            encoder=vk.Conditional(network(4, 6), posterior),
            decoder=vk.Conditional(network(3, 6), vk.likelihoods.Normal(4)),
            prior=prior,
        ).double()


def _rows(num_rows=23):
    x = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x @ torch.tensor([[1.0, 0.5, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]], dtype=torch.float64)


def _gradient(kind, name, weighted, num_rows):
    """The loss of a batch, all gradients of it, and the buffers after it, each as numbers."""
    model, objective = _model(kind), OBJECTIVES[name]()
    weight = torch.rand(num_rows, generator=torch.Generator().manual_seed(1)).double() if weighted else None
    view = View.of(model, _rows(num_rows), weight=weight)
    with engine.seeded(4):
        objective.build(model)
    objective.prepare(view.total_weight)
    model.train()
    settings = TrainerSettings(
        batch_size=num_rows, compile="off", row_noise=True, optimizer=torch.optim.SGD, learning_rate=1.0
    )
    before = [p.detach().clone() for module in (model, objective) for p in module.parameters()]
    step = Step(settings, view, objective)
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(2))
    part = Part.of(order, weight)
    with engine.batch_norm_together(model), StepNoise(0, 1, True, objective.num_samples).at(5, part.rows):
        loss = step(view.batch(part.rows), part if world.size() > 1 else None)
    after = [p.detach() for module in (model, objective) for p in module.parameters()]
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, after, strict=True)])
    floating = [b.flatten().double() for b in model.buffers() if b.is_floating_point()]
    baselines = [b.flatten().double() for b in objective.buffers()]
    return float(loss.value.detach()), moved.numpy(), torch.cat([*floating, *baselines, torch.zeros(1)]).numpy()


CASES = [(kind, name, False, 23) for kind, name in [*(("plain", name) for name in OBJECTIVES), ("normed", "elbo")]]
CASES += [("normed", "tc", False, 23), ("vamp", "elbo", False, 23), ("bits", "one draw", False, 23)]
CASES += [("plain", name, True, 23) for name in OBJECTIVES]
CASES += [("plain", "tc", False, 3), ("normed", "mmd", False, 3), ("bits", "capacity", True, 9)]


def _gradients():
    return [_gradient(*case) for case in CASES]


def _same_gradients(answers):
    expected = _gradients()
    for found in answers:
        for case, one, several in zip(CASES, expected, found, strict=True):
            assert several[0] == pytest.approx(one[0], rel=1e-9), case
            if case[1] == "factor":  # its adversary moves by Adam, whose first step is the sign of the gradient
                np.testing.assert_allclose(several[1], one[1], atol=1e-5, err_msg=str(case))
            else:
                np.testing.assert_allclose(several[1], one[1], rtol=1e-7, atol=1e-9, err_msg=str(case))
            np.testing.assert_allclose(several[2], one[2], rtol=1e-6, atol=1e-9, err_msg=str(case))


@needs_gloo
def test_two_processes_have_the_gradient_of_one(of_two):
    _same_gradients(of_two("gradients"))


@needs_gloo
@pytest.mark.slow
def test_four_processes_have_the_gradient_of_one():
    _same_gradients(together(_gradients, 4))


# --- Whole runs ------------------------------------------------------------------------------------------------------


class Ends(vk.training.Callback):
    """Ends a run after an epoch, as an interrupt would; its checkpoint is there by then."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, loop, record):
        """Raise."""
        if loop.epoch == self.epoch:
            raise InterruptedError


def _digits():
    digits = vk.data.load("digits", part="train")
    return torch.from_numpy(digits.x[:601]), torch.from_numpy(digits.x[601:750])


def _fit(kind="bits", folder=None, ends=None, resume=False, epochs=4, **options):
    """The history of a run on a few digits, with noise of every kind: of the transform, of dropout, and of z."""
    train, valid = _digits()
    transform = vk.transforms.Compose([vk.transforms.Scale(0, 16), vk.transforms.Binarize()])
    if kind == "dequantized":
        transform = vk.transforms.Dequantize(17)
    head = vk.likelihoods.Bernoulli if kind == "bits" else vk.likelihoods.Normal
    with engine.seeded(world.rank() if kind == "bits" else 0):  # process 0 says how the weights begin
        model = vk.VAE(
            encoder=vk.Conditional(vk.networks.MLP((1, 8, 8), (32,)), vk.posteriors.DiagonalNormal(4)),
            decoder=vk.Conditional(vk.networks.MLP(4, (32,)), head((1, 8, 8))),
            prior=vk.priors.StandardNormal(4),
            transform=transform,
        )
    how = {"max_epochs": epochs, "batch_size": 50, "compile": "off", "row_noise": True, "progress": False} | options
    trainer = vk.Trainer(**how, checkpoint_every=1, callbacks=[] if ends is None else [Ends(ends)])
    objective = vk.objectives.ELBO() if kind == "bits" else vk.objectives.BetaTC(beta=2.0)
    try:
        history = trainer.fit(model, objective, train, valid, run=folder, resume=resume)
    except InterruptedError:
        return None
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).double().numpy()
    return history["valid_elbo"], history["train_elbo"], history.best_epoch, weights


@needs_gloo
@pytest.mark.parametrize("kind", ["bits", "dequantized"])
def test_two_processes_have_the_loss_curve_of_one(kind, of_two):
    expected = _fit(kind)
    first, second = of_two(kind)
    np.testing.assert_allclose(first[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(first[1], expected[1], atol=1e-3)
    assert first[2] == expected[2]
    assert first[0] == second[0]
    assert np.array_equal(first[3], second[3]), "every process ends with the same weights"


def _with_few_rows():
    """Batches of one to three rows: too few to share."""
    train, valid = _digits()
    with engine.seeded(0):
        model, objective = vk.presets.vae((1, 8, 8), latent_dim=2, hidden=(8,), likelihood="normal")
    how = {"max_epochs": 3, "batch_size": 3, "compile": "off", "row_noise": True, "progress": False}
    history = vk.Trainer(**how).fit(model, objective, train[:11], valid[:1])
    return history["valid_elbo"], history["train_elbo"]


@needs_gloo
def test_fewer_rows_than_two_for_each_process(of_two):
    expected = _with_few_rows()
    for found in of_two("few rows"):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def _other_rows():
    train, valid = _digits()
    with engine.seeded(0):
        model, objective = vk.presets.vae((1, 8, 8), latent_dim=2, hidden=(8,), likelihood="normal")
    rows = train[: 100 + world.rank()]
    with pytest.raises(vk.errors.GroupError, match=r"number of training rows differs: process . has 10[01]"):
        vk.Trainer(max_epochs=1, progress=False).fit(model, objective, rows, valid)
    return True


@needs_gloo
def test_processes_with_other_rows_are_refused(of_two):
    assert of_two("other rows") == [True, True]


def _interrupted(folder):
    _fit(folder=folder, ends=2)
    return (sorted(path.name for path in folder.iterdir()), folder) if world.rank() == 0 else None


@needs_gloo
@pytest.mark.parametrize("size", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_of_two_processes_goes_on_with_another_number(tmp_path, size, of_two):
    expected = _fit()
    (files, written), _ = of_two("interrupted")
    assert files == ["checkpoint.safetensors", "metrics.jsonl"]
    shutil.copytree(written, tmp_path / "run")
    arguments = ("bits", tmp_path / "run", None, True)
    found = _fit(*arguments) if size == 1 else together(_fit, size, *arguments)[0]
    np.testing.assert_allclose(found[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-3)


def _with_seeds(num_seeds):
    return [_fit(row_noise=False, seed=seed, epochs=8)[0][-1] for seed in range(num_seeds)]


@needs_gloo
@pytest.mark.slow
def test_without_noise_by_row_the_bound_agrees_within_its_scatter():
    one, (two, _) = np.array(_with_seeds(5)), together(_with_seeds, 2, 5)
    error = np.sqrt((one.var(ddof=1) + np.var(two, ddof=1)) / 5)
    assert abs(one.mean() - np.mean(two)) < 3 * error
    assert not np.allclose(one, two, atol=1e-3), "each process has noise of its own"


# --- Evaluation ------------------------------------------------------------------------------------------------------


def _estimates():
    """Estimates of several kinds, of rows that fill several blocks, and rows far from all that the model knows."""
    train, _ = _digits()
    rows = torch.cat([train[:130].double(), 400 + train[:3].double()])
    with engine.seeded(0):
        model, _ = vk.presets.vae((1, 8, 8), latent_dim=2, hidden=(16,), likelihood="normal")
    bits, _ = vk.presets.vae((1, 8, 8), latent_dim=2, hidden=(16,), transform=vk.transforms.Binarize())
    model, bits = model.double(), bits.double()
    with engine.seeded(0):
        for p in bits.parameters():
            nn.init.normal_(p, std=0.2)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key in (None, "row", "content"):
            noise = torch.Generator().manual_seed(3)
            found.append(vk.evaluation.log_marginal(model, rows, num_samples=30, generator=noise, key=key))
        noise = torch.Generator().manual_seed(3)
        found += vk.evaluation.likelihood.marginal.elbo_and_iwae(model, rows, num_samples=30, generator=noise)
        noise = torch.Generator().manual_seed(3)
        how = {"num_samples": 20, "transform_draws": 3, "generator": noise}
        found.append(vk.evaluation.log_marginal(bits, train[:70].double() / 16, **how))
        if world.rank():
            with world.alone():  # a process may ask by itself
                assert len(vk.evaluation.log_marginal(model, rows[:7], num_samples=5)) == 7
        torch.manual_seed(world.rank())
        found.append(vk.evaluation.log_marginal(model, rows[:10], num_samples=5))
    return [[getattr(e, name).numpy() for name in ("value", "stderr", "ess", "max_weight")] for e in found]


@needs_gloo
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_share_an_estimate(size, of_two):
    expected = _estimates()
    answers = of_two("estimates") if size == 2 else together(_estimates, size)
    for found in answers:
        for one, several in zip(expected[:-1], found[:-1], strict=True):
            np.testing.assert_allclose(several, one, rtol=1e-9, atol=1e-6)
        np.testing.assert_array_equal(found[-1], answers[0][-1], "without a generator they draw as process 0 does")


# --- One group of two for all of these --------------------------------------------------------------------------------


def _everything(folder):
    """What two processes answer to all that the tests ask of two."""
    answers = {"gradients": _gradients(), "bits": _fit("bits"), "dequantized": _fit("dequantized")}
    answers |= {"few rows": _with_few_rows(), "other rows": _other_rows(), "interrupted": _interrupted(folder)}
    return answers | {"estimates": _estimates()}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """The answers of a group of two processes, by what they were asked; made once."""
    answers = together(_everything, 2, tmp_path_factory.mktemp("run"))
    return lambda name: [answer[name] for answer in answers]


# --- Noise by row ----------------------------------------------------------------------------------------------------


def _draws(keys, num_samples=1):
    """Draws of many laws for rows with keys, the rows first."""
    d, x = torch.distributions, torch.full((len(keys), 3), 0.3)
    shape = torch.Size((num_samples,)) if num_samples > 1 else torch.Size()
    laws = {
        "normal": d.Normal(x, 2.0),
        "uniform": d.Uniform(x, x + 1),
        "bernoulli": d.Bernoulli(x),
        "exponential": d.Exponential(x),
        "gamma": d.Gamma(x + 1, x),
        "poisson": d.Poisson(x + 2),
        "binomial": d.Binomial(4, x),
        "beta": d.Beta(x + 1, x + 1),
        "gumbel": d.Gumbel(x, 1.0),
        "laplace": d.Laplace(x, 1.0),
        "categorical": d.Categorical(x.softmax(-1)),
    }
    with RowDraws(keys, 7, num_samples):
        found = {name: law.sample(shape) for name, law in laws.items()}
        found["dropout"] = torch.nn.functional.dropout(torch.ones(*shape, *x.shape).flatten(0, -2), 0.25)
        found["again"] = laws["normal"].sample(shape)
    found["dropout"] = found["dropout"].reshape(*shape, *x.shape)
    return {name: value.movedim(1, 0) if num_samples > 1 else value for name, value in found.items()}, laws


@pytest.mark.parametrize("num_samples", [1, 5])
def test_a_row_has_the_same_noise_in_every_batch(num_samples):
    keys = torch.arange(20)
    (whole, _), (some, _) = _draws(keys, num_samples), _draws(keys[5:12].flip(0), num_samples)
    for name, values in whole.items():
        assert torch.equal(values[5:12].flip(0), some[name]), name
    assert not torch.equal(whole["normal"], whole["again"]), "draws of one kind are numbered"


def test_noise_by_row_follows_the_law_that_is_asked_for():
    found, laws = _draws(torch.arange(20_000))
    for name, law in laws.items():
        if name == "categorical":
            np.testing.assert_allclose(found[name].double().mean(), 1.0, atol=0.02)
            continue
        mean, deviation = law.mean[0, 0].double(), law.stddev[0, 0].double()
        error = float(deviation) / np.sqrt(60_000)
        assert abs(float(found[name].double().mean() - mean)) < 5 * error, name
        assert float(found[name].double().std()) == pytest.approx(float(deviation), rel=0.03), name
    assert float((found["dropout"] == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert abs(np.corrcoef(found["normal"][:, 0], found["again"][:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(found["normal"][1:, 0], found["normal"][:-1, 0])[0, 1]) < 0.03
