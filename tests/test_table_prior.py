"""The prior of a table's model: a mixture where held-out rows gain by it, and N(0, I) elsewhere."""

import numpy as np
import pandas as pd
import pytest
import torch

import vaekit as vk
from vaekit import priors
from vaekit.data import Dataset
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError
from vaekit.models.view import View
from vaekit.runs import fit_rows


def clustered(n=420, seed=0):
    """Two clusters in five columns: codes of a linear model are no N(0, I)."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, n) * 2.0 - 1.0
    noise = rng.normal(size=(n, 1))
    x = side[:, None] * [2.0, -2.0, 2.0, 0.0, 0.0] + noise * [0.3, 0.3, -0.3, 1.0, 1.0] + 0.3 * rng.normal(size=(n, 5))
    return Dataset(x, columns=tuple("abcde"), kind="table", schema=schema_of(x))


def schema_of(x):
    kinds = dict.fromkeys("abcde", "continuous")
    return Schema.found(pd.DataFrame(x, columns=list("abcde")), kinds=kinds)


QUICK = {"max_epochs": 8, "hidden": (16,), "latent_dim": 2, "compile": "off"}


def test_the_model_of_a_table_gets_a_mixture_where_held_out_rows_gain():
    rows, other = clustered(), clustered(300, seed=1)
    plain = fit_rows(rows, {**QUICK, "fit_prior": False})
    fitted = fit_rows(rows, QUICK)
    assert isinstance(plain.model.prior, priors.StandardNormal)
    assert isinstance(fitted.model.prior, priors.NormalMixture)
    for name, tensor in plain.model.state_dict().items():  # all else is as it was
        assert torch.equal(tensor, fitted.model.state_dict()[name])
    one, two = (run.score(other, num_samples=100).values[:, 0] for run in (plain, fitted))
    gain = two - one
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5
    again = fit_rows(rows, QUICK)
    assert all(torch.equal(v, again.model.state_dict()[k]) for k, v in fitted.model.state_dict().items())


def test_a_table_whose_codes_are_normal_keeps_the_normal_prior():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 5)) + rng.normal(size=(600, 5))
    rows = Dataset(x, columns=tuple("abcde"), kind="table", schema=schema_of(x))
    assert isinstance(fit_rows(rows, QUICK).model.prior, priors.StandardNormal)


def test_a_detector_gives_groups_of_outliers_no_components_of_their_own():
    rows = pd.DataFrame(clustered().x, columns=list("abcde"))
    detector, other = vk.estimators.VAEDetector, vk.estimators.VAETransformer
    kinds = dict.fromkeys("abcde", "continuous")
    priors_of = [
        kind(**QUICK, schema=kinds, random_state=0, **more).fit(rows).run_.model.prior
        for kind, more in ((detector, {}), (detector, {"fit_prior": True}), (other, {}))
    ]
    assert [type(prior) for prior in priors_of] == [priors.StandardNormal, priors.NormalMixture, priors.NormalMixture]


def test_few_rows_keep_the_normal_prior_unless_another_is_asked_for():
    rows = clustered(250)
    assert isinstance(fit_rows(rows, QUICK).model.prior, priors.StandardNormal)
    assert isinstance(fit_rows(rows, {**QUICK, "fit_prior": True}).model.prior, priors.NormalMixture)
    with pytest.raises(ConfigError, match="puts a mixture in the place of the prior standard-normal"):
        fit_rows(rows, {**QUICK, "fit_prior": True, "prior": "normal-mixture"})
    kept = fit_rows(clustered(), {**QUICK, "prior": "normal-mixture:num_components=3"})
    assert kept.model.prior.num_components == 3


def test_a_prior_is_fitted_to_rows_as_often_as_their_weights_say():
    rows = clustered(400)
    run = fit_rows(rows, {**QUICK, "fit_prior": False})
    is_first = torch.from_numpy(np.asarray(rows[:])[:, 0] > 0)
    view = View.of(run.model, rows, weight=is_first.double())
    prior = priors.NormalMixture(2, num_components=1)
    noise = torch.Generator().manual_seed(0)
    fitted = vk.training.fit_prior(run.model, view, prior, num_draws=4000, generator=noise)
    codes = run.model.encode(rows)[is_first]
    far = run.model.encode(rows)[~is_first].mean(0)
    mean = fitted.prior().mean.detach()
    assert (mean - codes.mean(0)).norm() < 0.1 * (mean - far).norm()
