"""What a report says of a table: simple tools against closed forms, verdicts, the oddest rows, maps of pairs."""

import numpy as np
import pandas as pd
import pytest
import torch

import vaekit as vk
from vaekit import cli, runs
from vaekit.data.by_schema import load_by_schema
from vaekit.models.view import View
from vaekit.report import baselines
from vaekit.report.beside import US, Beside, judged
from vaekit.report.tables import odd_rows

pytestmark = pytest.mark.usefixtures("coarse", "quick_gap")

RANDOM = np.random.default_rng(0)
LOADINGS = np.array([[2.0, 0.0], [1.5, 1.0], [0.0, 1.5], [-1.0, 1.0]])
X = RANDOM.normal(size=(1500, 2)) @ LOADINGS.T + 0.3 * RANDOM.normal(size=(1500, 4))


def exact(noise=0.3):
    """The factor model that made the rows: decoder linear, posterior exact."""
    loadings = torch.tensor(LOADINGS, dtype=torch.float32)

    class Exact(torch.nn.Module):
        def posterior(self, x):
            seen = ~x.isnan()
            own = loadings.unsqueeze(0) * seen.unsqueeze(-1)
            covariances = torch.linalg.inv(torch.eye(2) + own.mT @ own / noise**2)
            mean = (covariances @ own.mT @ (x.nan_to_num() / noise**2).unsqueeze(-1)).squeeze(-1)
            return torch.distributions.MultivariateNormal(mean, covariances)

        def prior(self):
            return torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))

        def likelihood(self, z):
            return vk.likelihoods.Normal(4, scale=noise, missing="observed-only")((z @ loadings.T).unsqueeze(-2))

    return Exact()


def test_ecod_by_hand():
    """Tails of four values: the highest has a quarter above it, the one below the middle three."""
    learned, scored = np.array([[1.0], [2.0], [3.0]]), np.array([[10.0]])
    assert baselines.ecod(learned, scored) == pytest.approx(np.log(4))
    assert baselines.ecod(np.array([[3.0], [1.0], [2.0]]), np.array([[2.0]])) == pytest.approx(np.log(4 / 3))


def test_a_copula_keeps_margins_and_rank_correlations():
    made = baselines.copula(X, 6000)
    for column, own in zip(made.T, X.T, strict=True):
        assert set(column) <= set(own)
        assert np.quantile(column, (0.1, 0.5, 0.9)) == pytest.approx(np.quantile(own, (0.1, 0.5, 0.9)), abs=0.05)
    assert np.corrcoef(made.T) == pytest.approx(np.corrcoef(X.T), abs=0.05)
    apart = baselines.independent(X, 6000)
    assert np.corrcoef(apart.T) == pytest.approx(np.eye(4), abs=0.06)


def test_holes_are_drawn_as_often_as_they_are():
    holed = np.where(RANDOM.random(X.shape) < 0.2, np.nan, X)
    assert np.isnan(baselines.copula(holed, 3000)).mean() == pytest.approx(0.2, abs=0.03)


def test_a_verdict_is_one_beyond_two_standard_errors_of_the_pairs():
    own = RANDOM.normal(size=400)
    contest = judged("job", "measure", {US: own, "above": own + 0.1 + 0.1 * RANDOM.normal(size=400), "below": own - 1})
    assert contest.verdict == f"above is better than {US}; {US} is better than below."
    turned = judged("job", "measure", {US: own**2, "as good": own[::-1] ** 2}, lower=True, root=True)
    assert turned.verdict == "as good is as good, within two standard errors."
    assert turned.scores[US][0] == pytest.approx(np.sqrt(np.mean(own**2)))


def test_the_model_that_made_the_rows_is_worse_than_no_tool():
    view = View.of(exact(), torch.tensor(X[1000:], dtype=torch.float32))
    found = {contest.job: contest for contest in Beside(view, X[:1000], 0).all()}
    assert set(found) == {"Odd rows", "Holes", "Made-up rows", "Features"}
    for job in ("Odd rows", "Holes", "Made-up rows"):
        assert "is better than this model" not in found[job].verdict
        assert "are better than this model" not in found[job].verdict
    # Principal components have the least squared error that two codes can have; an exact posterior is as near.
    features = found["Features"].scores
    assert features[US][0] == pytest.approx(features["principal components"][0], rel=0.03)
    holes = found["Holes"].scores
    assert 0.3 < holes[US][0] < holes["iterative regression"][0] + 0.01
    assert holes["mean, most frequent"][0] == pytest.approx(1, abs=0.1)
    assert found["Odd rows"].scores[US][0] > 0.9


def test_a_model_that_learned_nothing_loses():
    class Standard(torch.nn.Module):
        def posterior(self, x):
            return torch.distributions.MultivariateNormal(torch.zeros(len(x), 2), torch.eye(2))

        def prior(self):
            return torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))

        def likelihood(self, z):
            nothing = (0 * z[..., :1] + torch.zeros(4)).unsqueeze(-2)
            return vk.likelihoods.Normal(4, scale=2.0, missing="observed-only")(nothing)

    view = View.of(Standard(), torch.tensor(X[1000:], dtype=torch.float32))
    found = {contest.job: contest for contest in Beside(view, X[:1000], 0).all()}
    assert "iterative regression are better than this model" in found["Holes"].verdict
    assert "normal copula is better than this model" in found["Made-up rows"].verdict
    assert "Principal" not in found["Features"].verdict
    assert "principal components is better than this model" in found["Features"].verdict


def test_the_oddest_row_is_named_with_the_cell_that_makes_it_odd():
    x = X[:200].copy()
    x[17, 2] += 5
    view = View.of(exact(), torch.tensor(x, dtype=torch.float32))
    row = odd_rows(view, ["a", "b", "c", "d"], [f"r{i}" for i in range(200)], None, 0)[0]
    assert row.key == "r17"
    assert row.reason.startswith(f"c = {x[17, 2]:.2f}"[:7])
    assert "expected" in row.reason


def test_odd_rows_are_chosen_as_detect_chooses_them():
    """By log p less what holes add: each cell that is there costs here, so that whole rows have the lowest log p."""
    table = pd.DataFrame(X[:400] @ np.diag([20.0, 40.0, 300.0, 4000.0]), columns=list("abcd"))
    table = table.mask(np.random.default_rng(0).random(table.shape) < 0.3)
    told = {"max_epochs": 2, "hidden": (8,), "latent_dim": 2, "compile": "off"}
    run = runs.fit_rows(load_by_schema(table), told)
    rows = run.rows(table)
    calibration = run.calibrations[0]
    assert min(calibration.holes) > 1  # nats
    view = View.of(run.model, rows)
    found = [int(row.key) for row in odd_rows(view, rows.columns, None, rows.schema, 0, calibration)]
    flags = run.detect(rows, num_samples=50, seed=0).values
    assert found == np.lexsort((np.arange(400), calibration.comparable(flags[:, 0], rows.x)))[:6].tolist()
    plain = [int(row.key) for row in odd_rows(view, rows.columns, None, rows.schema, 0)]
    assert plain != found
    assert np.isnan(rows.x[found]).sum() > np.isnan(rows.x[plain]).sum()


def test_the_report_of_a_table_has_its_sections(tmp_path):
    frame = pd.DataFrame(X[:300], columns=list("abcd")).assign(
        kind=np.where(X[:300, 0] > 0, "high", "low"), id=[f"p{i}" for i in range(300)]
    )
    frame.loc[5:20, "b"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    fit = ["fit", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r"), "--key", "id", "max_epochs=3", "hidden=8"]
    assert cli.run([*fit, "--quiet"]) == 0
    assert cli.run(["report", str(tmp_path / "r"), "-o", str(tmp_path / "r.html"), "--num-samples", "5"]) == 0
    page = (tmp_path / "r.html").read_text()
    for heading in ("Pairs of columns", "Oddest rows", "Beside simple tools", "isolation forest", "ten nearest rows"):
        assert heading in page
    assert "normal copula" in page
