"""Densities that are trained to classify: the bound and Bayes' rule of it against closed forms, and a whole fit."""

import numpy as np
import pytest
import torch
from test_few_labels import LABELS, X, by_quadrature, known, linear
from torch.distributions import Normal

import vaekit as vk
from vaekit import engine
from vaekit.errors import ConfigError
from vaekit.models.rows import Batch
from vaekit.models.view import View
from vaekit.objectives import MultiConditional
from vaekit.queries import classify
from vaekit.training.gradients import Backward, OneGraph

F64 = torch.float64
IS_KNOWN = ~LABELS[:, 0].isnan()
CODES = LABELS[:, 0].nan_to_num(0.0).long()


def test_terms_are_exact_at_the_exact_posteriors():
    model = known(linear())
    joint = by_quadrature(model, X)
    terms = MultiConditional(2.0, kl="sampled").validation_terms(model.given(LABELS), X)
    given = joint - model.log_proportions.detach()
    bound = torch.where(IS_KNOWN, given.gather(1, CODES[:, None])[:, 0], joint.logsumexp(1))
    right = joint.log_softmax(1).gather(1, CODES[:, None])[:, 0] * IS_KNOWN
    near = {"rtol": 0, "atol": 1e-4}  # the floor of the scale
    torch.testing.assert_close(terms["elbo"].detach(), bound, **near)
    torch.testing.assert_close(terms["classification"].detach(), right, **near)
    torch.testing.assert_close(terms["multi_conditional"].detach(), bound + 2 * right, **near)
    torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - terms["kl"])


@pytest.mark.parametrize("sees_label", [True, False])
def test_value_and_gradient_are_those_of_sums_by_hand(sees_label):
    """p climbs the objective; q climbs every bound: under the other labels it is weighed by what they take away."""
    with engine.seeded(4):
        model = linear(2, encoder_sees_label=sees_label)
    x, alpha, weight = X.repeat(1, 2), 3.0, torch.linspace(0.5, 2, 15, dtype=F64)
    with engine.seeded(6):
        value = MultiConditional(alpha, kl="analytic")(model.given(LABELS), x, weight).value
    with engine.seeded(6):
        noise = torch.randn(1, 15, 2, 1, dtype=F64)[0]
    under = []
    for y in range(2):
        given = model.given(torch.tensor([float(y)]))
        q = given.posterior(x).base
        log_p = given.likelihood(q.loc + q.scale * noise[:, y]).log_prob(x)
        under.append(log_p - torch.distributions.kl_divergence(Normal(q.loc, q.scale), Normal(0.0, 1.0)).sum(-1))
    bound = torch.stack(under, 1)
    joint = bound + model.log_proportions
    own = torch.where(IS_KNOWN, bound.gather(1, CODES[:, None])[:, 0], joint.logsumexp(1))
    right = joint.log_softmax(1).gather(1, CODES[:, None])[:, 0]
    labelled = weight * IS_KNOWN
    by_hand = -(weight * own).sum() / weight.sum() - alpha * (labelled * right).sum() / labelled.sum()
    torch.testing.assert_close(value, by_hand)
    decoder, encoder = list(model.decoder.parameters()), list(model.encoder.parameters())
    for mine, other in zip(
        *(torch.autograd.grad(v, decoder, retain_graph=True) for v in (value, by_hand)), strict=True
    ):
        torch.testing.assert_close(mine, other)
    (slopes,) = torch.autograd.grad(by_hand, bound, retain_graph=True)
    tightened = (-slopes.abs() * bound).sum()
    mine, other = (torch.autograd.grad(v, encoder) for v in (value, tightened))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b)


def test_a_row_that_no_class_explains_keeps_its_gradients_finite():
    model = known(linear())
    loss = MultiConditional()(model.given(LABELS), 1e4 * X)
    loss.value.backward()
    gradients = [p.grad for p in model.decoder.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_one_compiled_graph_takes_the_sum_over_labels():
    with engine.seeded(4):
        model = linear(encoder_sees_label=False).float()
    with torch.no_grad():
        model.decoder.adapter.linear.weight[:, 0] = 0  # no noise of z in the value
    objective, parameters = MultiConditional(kl="analytic"), list(model.parameters())
    batch = Batch(X.float(), torch.zeros(15, dtype=F64), torch.linspace(0.5, 2, 15), LABELS.float())
    whole, found = OneGraph(model, objective, parameters, []), []
    for step in (whole, Backward(model, objective, parameters)):
        loss, _ = step(batch)
        found.append(loss.value.detach())
    assert whole.otherwise is None  # no fallback
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_densities_that_are_trained_to_classify_do():
    """Digits by two latents: too few for the density, and Bayes' rule of it errs less often when trained to."""
    train, test = (vk.data.load(f"digits:{part}") for part in ("train", "test"))
    wrong = {}
    for objective in (vk.objectives.ELBO(), MultiConditional(20.0)):
        with engine.seeded(0):
            model, _ = vk.presets.conditional_vae(
                (1, 8, 8), latent_dim=2, hidden=(32,), levels=(10,), conditions=("likelihood",), likelihood="normal",
                transform=vk.transforms.Scale(0, 16),
            )  # fmt: skip
        labels = np.asarray(train.labels, dtype=float)[:, None]
        view = View.of(model, train.x, context=labels)
        vk.Trainer(max_epochs=15, learning_rate=3e-3, progress=False, seed=0).fit(model, objective, view)
        found = classify(model, test.x, 20, generator=torch.Generator().manual_seed(0))
        wrong[type(objective).__name__] = float((found.codes.numpy() != test.labels).mean())
    assert wrong["MultiConditional"] < 0.07, wrong
    assert wrong["MultiConditional"] < 0.75 * wrong["ELBO"], wrong


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="alpha is not negative; got -1"):
        MultiConditional(-1)
