"""A model that has met its rows: batches in model space, weights, contexts, and noise that belongs to a row."""

import math
from types import SimpleNamespace

import pytest
import torch
from components import OBJECTIVES
from components import rows as table_rows
from torch import nn

import vaekit as vk
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.models import space
from vaekit.models import view as view_module
from vaekit.models.rows import chosen
from vaekit.models.view import View
from vaekit.objectives import Loss, Objective
from vaekit.transforms import Binarize, Compose, Dequantize, Logit, Scale, Standardize, Transform

FIXED = {
    "none": None,
    "scale": Scale(0, 16),
    "standardize": Standardize(3),
    "logit": Compose([Scale(0, 16), Logit()]),
    "threshold": Compose([Scale(0, 16), Binarize("threshold")]),
    "fixed bits": Compose([Scale(0, 16), Binarize("fixed")]),
}
RANDOM = {"dequantize": Compose([Dequantize(17), Logit()]), "bits": Compose([Scale(0, 16), Binarize("fresh")])}


def model_with(transform, likelihood="normal"):
    """Three columns, whatever they are."""
    with vk.engine.seeded(5):
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood=likelihood)
    model.transform = transform
    return model


def table(num_rows=50, dtype=torch.uint8):
    """Integers in 0..16."""
    return torch.randint(0, 17, (num_rows, 3), generator=torch.Generator().manual_seed(0)).to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Counting(Scale):
    """Counts the rows that come by."""

    is_fixed = True
    num_rows = 0

    def forward(self, x):
        """Scale."""
        self.num_rows += len(x)
        return super().forward(x)


# --- Batches in model space ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*FIXED, *RANDOM])
@pytest.mark.parametrize("limit", [0, 2**26])
def test_batches_are_those_of_the_transform(name, dtype, limit, monkeypatch):
    """The same bits and the same draws, whether all rows go through the transform at once or not."""
    monkeypatch.setattr(space, "_AT_ONCE_BYTES", limit)
    transform, x = {**FIXED, **RANDOM}[name], table(dtype=dtype)
    if name == "standardize":
        transform.fit(x)
    view = View.of(model_with(transform), x)
    indices = [slice(0, 20), torch.tensor([3, 49, 3]), slice(20, 50)]
    with vk.engine.seeded(1):
        rows = [x[index] for index in indices]
        expected = [(r, torch.zeros(len(r))) if transform is None else transform.with_log_det(r) for r in rows]
    with vk.engine.seeded(1):
        batches = list(view.batches(indices))
    assert view.has_jacobian == (name not in ("threshold", "fixed bits", "bits"))
    for batch, (y, log_det) in zip(batches, expected, strict=True):
        assert torch.equal(batch.x, y.float())
        assert batch.x.dtype == torch.float32
        assert batch.log_det.dtype == torch.float64
        assert torch.equal(batch.log_det, log_det.double() if view.has_jacobian else torch.zeros(len(y)).double())


@pytest.mark.parametrize(("limit", "num_rows"), [(3 * 4 * 50, 1 + 50), (3 * 4 * 50 - 1, 1 + 40)])
def test_a_fixed_transform_is_applied_once_where_the_rows_are_few(limit, num_rows, monkeypatch):
    """Two epochs of one batch of 20 rows cost 50 rows, or 40 where 50 are too many to keep."""
    monkeypatch.setattr(space, "_AT_ONCE_BYTES", limit)
    view = View.of(model_with(Counting(0, 16)), table())
    view.transform.num_rows = 0
    list(view.batches([slice(0, 20)] * 2))
    assert view.transform.num_rows == num_rows
    if limit == 3 * 4 * 50:
        list(view.batches(7))
        assert view.transform.num_rows == num_rows, "what was computed once is kept"


def test_many_rows_are_transformed_in_blocks():
    """More rows than one block, and a log-determinant for each."""
    x = table(10_000, torch.float32)
    (batch,) = View.of(model_with(Scale(0, 16)), x).batches([slice(0, len(x))])
    assert torch.equal(batch.x, x / 16)
    torch.testing.assert_close(batch.log_det, torch.full((len(x),), -3 * math.log(16.0), dtype=torch.float64))


def noise_of(base):
    """A transform that adds noise, derived from `base`, which says nothing of itself."""

    class Noise(base):
        def forward(self, x):
            return x + torch.rand_like(x)

        def inverse(self, y):
            return y

        def log_abs_det_jacobian(self, x, y):
            return torch.zeros(len(x))

    return Noise()


def test_a_transform_of_someone_else_is_not_taken_for_fixed():
    """It may draw; and it may lack what ours have."""
    first, second = View.of(model_with(noise_of(nn.Module)), torch.zeros(5, 3)).batches([slice(0, 5)] * 2)
    assert not torch.equal(first.x, second.x)


def test_our_own_kind_of_transform_says_nothing_either():
    assert not Compose([Scale(), noise_of(Transform)]).is_fixed


@pytest.mark.parametrize("base", [Scale, Compose])
def test_a_class_with_a_way_of_its_own_does_not_inherit_that_it_is_fixed(base):
    """Unless it says so."""

    class Jitter(base):
        def forward(self, x):
            return super().forward(x) + torch.rand_like(x)

    class Kept(base):
        pass

    arguments = [] if base is Scale else [[Scale()]]
    assert not Jitter(*arguments).is_fixed
    assert Kept(*arguments).is_fixed


def test_gradients_are_on_between_batches():
    """The transform runs without them; what is done with a batch does not."""
    for name in ("scale", "bits"):
        for _ in View.of(model_with({**FIXED, **RANDOM}[name]), table()).batches([slice(0, 5)] * 2):
            assert torch.is_grad_enabled()


def test_a_view_meets_once(monkeypatch):
    """A view of the same model is taken as it is; the decoder's dry run and the checks happen once."""
    model, x = model_with(Scale(0, 16)), table()
    view = View.of(model, x)
    calls = []
    monkeypatch.setattr(view_module.checks, "check_finite", lambda *arguments, **_: calls.append(arguments))
    assert View.of(model, view) is view
    vk.evaluation.log_marginal(model, view, num_samples=2)
    model.encode(view)
    assert not calls
    assert View.of(model_with(None), view) is not view
    assert calls, "another model has not met these rows"


def test_rows_keep_their_weights_when_they_meet_another_model():
    weight = torch.rand(50) + 0.1
    other = View.of(model_with(None), View.of(model_with(Scale(0, 16)), table(), weight=weight))
    assert torch.equal(other.weight, weight)
    batch = other.batch(torch.tensor([3, 1]))
    assert torch.equal(batch.weight, weight[[3, 1]])


def test_a_fixed_choice_of_rows():
    view = View.of(model_with(None), table(dtype=torch.float32), max_rows=7)
    assert torch.equal(view.rows, table(dtype=torch.float32)[chosen(50, 7)])
    assert torch.equal(view.some(7).rows, view.rows)
    assert len(view.take(torch.tensor([2, 2, 0]))) == 3


def test_a_model_without_a_method_is_refused_by_its_name():
    model = SimpleNamespace(posterior=lambda x: None)
    with pytest.raises(
        ConfigError, match=r"needs prior\(\), likelihood\(\) of the model, and SimpleNamespace has none"
    ):
        View.of(model, table())


# --- Weights and contexts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (torch.ones(3), ShapeError),
        (torch.ones(50, 1), ShapeError),
        (-torch.ones(50), DataError),
        (torch.zeros(50), DataError),
        (torch.full((50,), torch.nan), DataError),
    ],
)
def test_weights_that_are_none_are_refused(weight, error):
    with pytest.raises(error, match="weight"):
        View.of(model_with(None), table(), weight=weight)


def test_weights_and_contexts_without_rows_are_refused():
    for beside in ({"weight": torch.ones(3)}, {"context": torch.ones(3, 2)}):
        with pytest.raises(ConfigError, match="belong to rows|needs given"):
            View.of(model_with(None), **beside)


WEIGHTED = [(name, make) for name, make in table_rows(OBJECTIVES)]


def loss_of(objective, model, x, weight):
    objective = objective.double()
    with vk.engine.seeded(0):
        objective.build(model)
        objective.prepare(40.0)
    with vk.engine.seeded(1):
        return objective(model, x) if weight is None else objective(model, x, weight)


@pytest.mark.parametrize(("name", "make"), WEIGHTED)
def test_equal_weights_are_no_weights(name, make):
    model, x = model_with(None).double(), torch.randn(20, 3, dtype=torch.float64)
    values = []
    for weight in (None, torch.ones(20)):
        loss = loss_of(make(), model, x, weight)
        gradient = torch.autograd.grad(loss.value, list(model.encoder.parameters()))
        values.append([loss.value.detach(), *gradient])
    for a, b in zip(*values, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


# The term whose mean over the rows is minus the loss.
MINIMISED = {"CIWAE": "ciwae", "DReG": "iwae", "IWAE": "iwae", "MIWAE": "miwae", "PIWAE": "iwae"}
MINIMISED |= {"Renyi": "renyi", "TVO": "tvo", "Denoising": "elbo"}


@pytest.mark.parametrize(("name", "make"), [row for row in WEIGHTED if row[0] in MINIMISED])
def test_the_loss_is_the_weighted_mean(name, make):
    model, x = model_with(None).double(), torch.randn(6, 3, dtype=torch.float64)
    weight = torch.tensor([2.0, 1.0, 0.0, 3.0, 1.0, 0.5])
    loss = loss_of(make(), model, x, weight)
    expected = -(loss.terms[MINIMISED[name]].double() * weight).sum() / weight.sum()
    torch.testing.assert_close(loss.value.detach(), expected.detach())


def test_a_row_of_weight_zero_changes_nothing():
    model, x = model_with(None).double(), torch.randn(6, 3, dtype=torch.float64)
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    other = torch.cat([x[:4], 100 + x[4:]])
    objective = vk.objectives.ELBO(kl="analytic", free_bits=0.01)
    values = [loss_of(objective, model, rows, weight).value.detach() for rows in (x, other)]
    torch.testing.assert_close(*values)
    elbo = vk.objectives.ELBO(beta=2.0)
    loss = loss_of(elbo, model, x, weight)
    expected = (2 * loss.terms["kl"] - loss.terms["log_likelihood"])[:4].mean()
    torch.testing.assert_close(loss.value, expected)


def test_weights_of_the_aggregate_posterior_by_enumeration():
    """q(z) from whole-batch weights is the weighted average, whatever the row's own share."""
    from vaekit.objectives.total_correlation import log_batch_weights

    weight = torch.tensor([0.5, 2.0, 1.0, 4.0])
    shares = log_batch_weights(4, float(weight.sum()), "stratified", weight).exp()
    torch.testing.assert_close(shares, (weight.double() / weight.double().sum()).expand(4, 4))
    # A row that stands twice in the data: its own share is 2 / N, the others share the rest by their weights.
    shares = log_batch_weights(4, 100.0, "stratified", weight).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(shares.diagonal(), weight.double() / 100)
    torch.testing.assert_close(shares[0, 1] / shares[0, 2], torch.tensor(2.0, dtype=torch.float64))
    equal = log_batch_weights(5, 50, "stratified")
    torch.testing.assert_close(log_batch_weights(5, 50, "stratified", torch.ones(5)), equal)


def test_weighted_mmd_of_equal_weights():
    from vaekit.kernels import gaussian_kernel, unbiased_mmd, weighted_mmd

    pooled = torch.randn(9, 2, dtype=torch.float64)
    kernel = gaussian_kernel((pooled.unsqueeze(1) - pooled).square().sum(-1), 1.0)
    in_first = torch.tensor([1.0] * 4 + [0.0] * 5, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(weighted_mmd(kernel, torch.full((4,), 3.0).double()), unbiased_mmd(kernel, in_first)[0])


def test_training_by_weights_fits_the_weighted_data():
    """Two groups of rows: the fitted mean of the model is that of the group with the weight."""
    x = torch.cat([torch.full((40, 2), -3.0), torch.full((40, 2), 3.0)]) + 0.1 * torch.randn(80, 2)
    weight = torch.cat([torch.zeros(40), torch.ones(40)])
    model, objective = vk.presets.vae((2,), latent_dim=1, hidden=(4,), likelihood="normal")
    trainer = vk.Trainer(max_epochs=60, batch_size=20, learning_rate=0.02, compile="off", progress=False)
    history = trainer.fit(model, objective, x, weight=weight)
    assert objective.num_data == 40
    assert history["skipped"][-1] == 0, "a batch without weight moves nothing and is no failure"
    drawn = model.sample(200, generator=seeded())
    assert float((drawn.mean(0) - 3).abs().max()) < 0.5
    assert math.isfinite(history["train_elbo"][-1])


class Told:
    """A model under a context."""

    def __init__(self, model, context):
        self.model, self.context = model, context

    def posterior(self, x):
        return self.model.posterior(x)

    def prior(self):
        return self.model.prior()

    def likelihood(self, z):
        return self.model._at(z, self.context)


class Shifted(nn.Module):
    """p(x|z, c) = N(0.1 z + a c, 0.1), q = N(0, 1): `given` returns an object with the three methods."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(2))
        self.context = torch.zeros(1, 2)

    def given(self, context):
        return Told(self, context)

    def posterior(self, x):
        return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(len(x), 2), 1.0), 1)

    def prior(self):
        return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 1.0), 1)

    def likelihood(self, z):
        return self._at(z, self.context)

    def _at(self, z, context):
        loc = 0.1 * z + self.slope * context
        return torch.distributions.Independent(torch.distributions.Normal(loc, 0.1), 1)


@pytest.mark.parametrize("compile", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_a_context_reaches_the_model_in_each_step(compile):
    context = torch.randn(64, 2)
    x = 2 * context
    model, objective = Shifted(), vk.objectives.ELBO()
    view = View.of(model, x, context=context)
    vk.Trainer(max_epochs=60, batch_size=16, learning_rate=0.1, compile=compile, progress=False).fit(
        model, objective, view
    )
    torch.testing.assert_close(model.slope.detach(), torch.full((2,), 2.0), atol=0.1, rtol=0)


# --- Models without a density ----------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """x to a code and back: no posterior, no prior, no likelihood."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x):
        return self.up(self.down(x))


class Squares(Objective):
    """The mean squared error of a reconstruction."""

    requires = ("down", "up")
    selects = "fit"
    log_densities = frozenset()

    def forward(self, model, x, weight=None):
        error = (model(x) - x).square().sum(1)
        return Loss(error.mean(), {"fit": -error})

    def validation_terms(self, model, x):
        return {"fit": -(model(x) - x).square().sum(1)}


def test_a_model_without_a_likelihood_trains_on_the_same_loop():
    x = torch.randn(60, 2) @ torch.randn(2, 3)
    model = Autoencoder()
    history = vk.Trainer(max_epochs=40, batch_size=20, learning_rate=0.03, progress=False).fit(
        model, Squares(), x[:40], x[40:]
    )
    assert history["valid_fit"][-1] > 0.1 * history["valid_fit"][0], "the error falls by nine tenths"
    assert not any("elbo" in key for key in list(history.records[0]))
    with pytest.raises(ConfigError, match="needs posterior"):
        vk.evaluation.log_marginal(model, x, num_samples=2)
    with pytest.raises(DataError, match="NaN"):
        vk.Trainer(max_epochs=1, progress=False).fit(model, Squares(), torch.full((4, 3), torch.nan))
    with pytest.raises(ConfigError, match=r"needs down\(\), up\(\) of the model, and Linear has none"):
        vk.Trainer(max_epochs=1, progress=False).fit(nn.Linear(3, 3), Squares(), x)
