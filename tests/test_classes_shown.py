"""A run with classes: rows of a class, pictures of classes and styles, and the report's section on them."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix

import vaekit as vk
from vaekit import cli, plots, queries, runs
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.models.view import View
from vaekit.plots.by_name import draw
from vaekit.plots.given import styles, under_each

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:autoencoder")
QUICK = {"preset": "conditional-vae", "max_epochs": 2, "hidden": (16,), "latent_dim": 2, "compile": "off"}


@pytest.fixture(scope="module")
def digits():
    return vk.data.load("digits:train").take(np.arange(300))


@pytest.fixture(scope="module")
def images(digits):
    return runs.fit_rows(digits, QUICK)


def flowers(n=200, seed=0):
    rng = np.random.default_rng(seed)
    species = rng.choice(["setosa", "virginica"], n)
    size = rng.normal(size=n) + 4 * (species == "virginica")
    return pd.DataFrame({"size": size, "length": size + 0.3 * rng.normal(size=n), "species": species})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flowers")
    flowers().to_csv(folder / "flowers.csv", index=False)
    runs.fit(str(folder / "flowers.csv"), folder / "run", QUICK | {"latent_dim": 1}, label="species", progress=False)
    return folder / "run"


# --- Rows of a class --------------------------------------------------------------------------------------------------


def test_a_label_is_given_exactly(images):
    drawn = images.sample(5, given={"label": "7"}, seed=3)
    under = images.model.given(torch.full((5, 1), 7.0))
    expected = View.of(under).wide().sample(5, False, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(drawn.values.reshape(5, -1), expected.numpy().reshape(5, -1))
    assert drawn.to_dict()["label"].tolist() == [7] * 5
    assert drawn.notes == ("5 rows drawn from p(x | label = 7), exactly: the model is conditioned on it",)
    means = images.sample(5, given={"label": 7}, mean=True)
    assert means.values.std() < drawn.values.std()
    each = images.sample_under([[0.0], [3.0]])
    assert each.to_dict()["label"].tolist() == [0, 3]
    assert each.notes[0].startswith("2 rows drawn from p(x | label of each row)")
    with pytest.raises(ConfigError, match="column 'label' has no level '17'"):
        images.sample(5, given={"label": "17"})
    with pytest.raises(ShapeError, match=r"contexts have shape \(N, 1\)"):
        images.sample_under([[0.0, 1.0]])


def test_a_label_and_a_cell_are_given_together(table):
    """The label is exact, the cell by resampling: length follows the size that is given, in the class that is given."""
    run = runs.open(table)
    alone = run.sample(400, given={"species": "setosa"})
    assert abs(alone.to_frame("pandas")["size"].mean()) < 0.4
    drawn = run.sample(300, given={"species": "setosa", "size": "1.5"}, num_samples=2000)
    frame = drawn.to_frame("pandas")
    assert list(frame.columns) == ["species", "size", "length"]
    assert set(frame["species"]) == {"setosa"}
    assert (frame["size"] == 1.5).all()
    assert abs(frame["length"].mean() - 1.5) < 0.3
    assert "p(the other cells | species = setosa, 1 given cell), by importance resampling" in drawn.notes[0]
    assert drawn.notes[1] == "species = setosa is given exactly: the model is conditioned on it"
    cells = run.sample(200, given={"size": 1.5})  # the label is summed over
    assert "importance resampling" in cells.notes[0]
    with pytest.raises(ConfigError, match="asks for draws"):
        run.sample(3, given={"size": 1.5}, mean=True)


def test_a_label_cannot_be_given_to_a_model_without_one(digits, images):
    plain = runs.fit_rows(digits, QUICK | {"preset": "vae"})
    with pytest.raises(ConfigError, match="'label' cannot be given to this run: its model is conditioned on no label"):
        plain.sample(3, given={"label": 7})
    with pytest.raises(ConfigError, match="a model of x alone"):
        plain.sample_under([[1.0]])
    with pytest.raises(ConfigError, match="conditioned on nothing"):
        plots.class_by_style(plain.model)


def test_the_command_line_draws_rows_of_a_class(table, tmp_path, capsys):
    file = tmp_path / "drawn.csv"
    assert cli.run(["sample", str(table), "-n", "4", "--given", "species=setosa", "-o", str(file)]) == 0
    assert "exactly: the model is conditioned on it" in capsys.readouterr().err
    drawn = pd.read_csv(file)
    assert list(drawn.columns) == ["species", "size", "length"]
    assert set(drawn["species"]) == {"setosa"}


# --- Pictures ---------------------------------------------------------------------------------------------------------


def test_one_style_is_seen_in_each_class(images, digits):
    z = styles(images.model, 3, torch.Generator().manual_seed(0))
    assert z.shape == (10, 3, 2)
    assert (z == z[:1]).all()  # p(z) does not depend on the label: it is the same draw
    decoded = under_each(images.model, z)
    assert decoded.shape == (10, 3, *digits.event_shape)
    np.testing.assert_allclose(decoded[4], images.model.given([4.0]).decode(z[4]), atol=1e-5)
    names = [str(level) for level in range(10)]
    figure = plots.class_by_style(images.model, 3, classes=names, x=digits)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == names
    known = images._in_context(digits)
    figure = draw("transfer", images.model, data=known)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["given", *names]
    assert draw("style", images.model, data=known).axes
    with pytest.raises(DataError, match="under its label"):
        plots.transfer(images.model, digits.x)
    with pytest.raises(DataError, match="hand some over"):
        draw("transfer", images.model)


def test_a_prior_of_each_class_draws_from_the_same_noise():
    model, _ = vk.presets.conditional_vae(
        (2,), latent_dim=1, hidden=(4,), likelihood="normal", levels=(2,), conditions=("prior", "likelihood")
    )
    z = styles(model, 500, torch.Generator().manual_seed(0)).numpy()[..., 0]
    assert np.corrcoef(z)[0, 1] > 0.999
    with pytest.raises(ConfigError, match="grid of images"):
        plots.class_by_style(model)


def test_calibration_curves_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 3000)
    y = (p.cumsum(1) > rng.random((3000, 1))).argmax(1)
    found = queries.reliability(p, y)
    right = p.argmax(1) == y
    share, mean = calibration_curve(right, p.max(1), n_bins=10)
    some = found.counts > 0
    np.testing.assert_allclose(found.accuracy[some], share)
    np.testing.assert_allclose(found.confidence[some], mean)
    assert found.error == pytest.approx((np.abs(share - mean) * found.counts[some]).sum() / 3000)
    assert found.error < 0.03  # drawn from p: calibrated
    assert queries.reliability(p**3 / (p**3).sum(1, keepdims=True), y).error > 0.1
    assert f"{found.error:.3f}" in plots.calibration(p, y).axes[0].get_title()
    with pytest.raises(ShapeError, match="N classes"):
        queries.reliability(p, y[:5])
    predicted = p.argmax(1)
    figure = plots.confusion(y, predicted, ["a", "b", "c"])
    counts = [int(text.get_text().replace(",", "")) for text in figure.axes[0].texts]
    assert counts == confusion_matrix(y, predicted).ravel().tolist()
    with pytest.raises(DataError, match="2 for 3 rows"):
        plots.confusion([0, 1, 1], [0, 1])


# --- Report -----------------------------------------------------------------------------------------------------------


def test_the_report_has_a_section_on_classes(table, tmp_path):
    page = tmp_path / "page.html"
    assert cli.run(["report", str(table), "-o", str(page)]) == 0
    html = page.read_text()
    section = re.search(r'<section id="classes">.*?</section>', html, re.DOTALL)[0]
    assert section.count("<picture>") == 2
    for words in ("logistic regression", "ten nearest rows", "expected calibration error", "One temperature"):
        assert words in section
    assert '<a href="#classes">' in html
    assert "is given the label of each row" in html
    run = runs.open(table)
    rows = run.parts().held_out
    found = run.classify(rows)
    right = accuracy_score(rows.labels, found.behind_key["label"])
    assert f"{100 * right:.1f}% ±" in section
