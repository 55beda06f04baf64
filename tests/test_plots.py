"""Pictures: what they show is where it should be, for images, tables, and models that are not ours."""

import io
import math
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import norm
from torch.distributions import Independent, Normal

import vaekit as vk
from vaekit import plots, presets, transforms
from vaekit.data import Dataset
from vaekit.errors import ConfigError, DataError, ShapeError, VaekitError
from vaekit.models.view import View
from vaekit.plots import access, images, style
from vaekit.plots.decoded import grid


class Foreign:
    """Plane to plane: E[x|z] is (z1, z2, z1 + z2), or an image whose pixels are z1 and z2; no module, no transform."""

    def __init__(self, event=(3,)):
        self.event = event

    def posterior(self, x):
        return Independent(Normal(x.flatten(1)[:, :2], torch.tensor(0.1)), 1)

    def prior(self):
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def likelihood(self, z):
        if len(self.event) == 1:
            mean = torch.cat([z, z.sum(-1, keepdim=True)], -1)
        else:
            mean = z.repeat_interleave(8, -1).reshape(*z.shape[:-1], *self.event)
        return Independent(Normal(mean, torch.tensor(0.1)), len(self.event))


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """Few dots per inch: what is where does not depend on them, and drawing is most of the time."""
    monkeypatch.setattr(style, "DPI", 30)


def image_model(latent_dim=2, event=(1, 8, 8), **options):
    return presets.vae(event, latent_dim=latent_dim, hidden=(16,), **options)[0]


def table_model(latent_dim=3, num_columns=4):
    return presets.vae((num_columns,), latent_dim=latent_dim, hidden=(16,), likelihood="normal")[0]


@pytest.fixture
def bits():
    return (torch.rand(30, 1, 8, 8) < 0.5).float()


@pytest.fixture
def rows():
    return torch.randn(40, 4)


RECORDS = [
    {"epoch": e, "train_elbo": -100 / e - 50, "valid_elbo": -110 / e - 51, "train_kl": 5.0, "valid_kl": 5.0 + 1 / e}
    | {"train_log_likelihood": -100 / e - 45}
    for e in range(1, 21)
]


def draw_all(model, x, labels):
    """Every picture that the model has."""
    yield plots.samples(model, 6)
    yield plots.samples(model, 6, mean=True, x=x)
    yield plots.reconstructions(model, x, 5)
    yield plots.latent(model, x, labels)
    yield plots.traversal(model, x, 5)
    yield plots.traversal(model)
    yield plots.interpolation(model, x[:3], x[3:6], 5)
    yield plots.interpolation(model, x[0], x[1])
    if access.num_latents(View.of(model)) == 2:
        yield plots.manifold(model, 4, x=x)


@pytest.mark.parametrize(
    "case",
    [
        lambda: (image_model(), (torch.rand(12, 1, 8, 8) < 0.5).float()),
        lambda: (image_model(5, (3, 8, 6), likelihood="continuous-bernoulli"), torch.rand(12, 3, 8, 6)),
        lambda: (image_model(1, (8, 8), likelihood="normal", posterior="full-normal"), torch.randn(12, 8, 8)),
        lambda: (table_model(), torch.randn(12, 4)),
        lambda: (table_model(2, 10), torch.randn(12, 10)),
        lambda: (Foreign(), torch.randn(12, 3)),
        lambda: (Foreign((1, 4, 4)), torch.randn(12, 1, 4, 4)),
    ],
    ids=["bits", "colour", "no-channel", "table", "wide-table", "foreign-table", "foreign-image"],
)
@pytest.mark.usefixtures("coarse")
def test_every_kind_draws(case):
    model, x = case()
    for figure in draw_all(model, x, np.arange(12) % 3):
        assert isinstance(figure, Figure)
        content = plots.to_bytes(figure)
        assert np.asarray(Image.open(io.BytesIO(content)).convert("L")).std() > 1  # not a blank sheet


def test_global_state_is_left_alone(bits):
    before = dict(matplotlib.rcParams)
    plots.to_bytes(plots.latent(image_model(), bits))
    assert dict(matplotlib.rcParams) == before


def test_pictures_ignore_the_callers_settings(rows):
    model = table_model()
    plain = plots.to_bytes(plots.reconstructions(model, rows))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert plots.to_bytes(plots.reconstructions(model, rows)) == plain


# --- Grids -----------------------------------------------------------------------------------------------------------


def test_image_grid_places_and_maps_tiles_exactly():
    x = torch.arange(7 * 3 * 5).reshape(7, 1, 3, 5).double()
    made = plots.image_grid(x, ncols=3, value_range=(0, 104))
    assert made.shape == (1 + 3 * 4, 1 + 3 * 6)
    assert made.dtype == np.uint8
    covered = np.zeros(made.shape, bool)
    for k in range(7):
        top, left = 1 + k // 3 * 4, 1 + k % 3 * 6
        covered[top : top + 3, left : left + 5] = True
        np.testing.assert_array_equal(made[top : top + 3, left : left + 5], np.rint(x[k, 0].numpy() / 104 * 255))
    assert len(np.unique(made[~covered])) == 1  # separators and empty places


def test_image_grid_keeps_eight_bits_and_colours():
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 6, 6), dtype=np.uint8)
    made = plots.image_grid(x)
    assert made.shape == (15, 15, 3)
    np.testing.assert_array_equal(made[8:14, 1:7], np.moveaxis(x[2], 0, -1))


@pytest.mark.parametrize(
    ("num", "shape", "ncols"), [(64, (8, 8), 8), (1, (8, 8), 1), (12, (4, 12), 2), (10, (8, 8), 4)]
)
def test_image_grid_is_close_to_square(num, shape, ncols):
    made = plots.image_grid(np.zeros((num, *shape)))
    assert made.shape[1] == 1 + ncols * (shape[1] + 1)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.array([[0, 255]], np.uint8), (0, 255)),
        (np.array([[3, 200]], np.uint8), (0, 255)),
        (np.array([[0, 16]], np.uint8), (0, 16)),
        (np.array([[0.2, 0.9]]), (0, 1)),
        (np.array([[-2.0, np.nan, 3.0]]), (-2, 3)),
        (np.array([[7.0, 7.0]]), (0, 7)),
        (np.array([[np.nan]]), (0, 1)),
    ],
)
def test_range_of_values(x, expected):
    assert images.data_range(x) == expected


def test_range_of_a_model():
    bits = image_model(transform=transforms.Compose([transforms.Scale(0, 255), transforms.Binarize()]))
    assert images.model_range(View.of(bits)) == (0, 255)
    logistic = image_model(likelihood=vk.likelihoods.DiscretizedLogistic((1, 8, 8)))
    assert images.model_range(View.of(logistic)) == (0, 255)
    assert images.model_range(View.of(logistic), torch.tensor([0, 16])) == (0, 16)
    assert images.model_range(View.of(Foreign()), None, torch.tensor([-1.0, 4.0])) == (-1, 4)
    assert images.model_range(View.of(Foreign()), SimpleNamespace(value_range=(-3, 3))) == (-3, 3)


@pytest.mark.parametrize("x", [np.zeros((3, 5)), np.zeros((3, 2, 8, 8)), np.zeros((0, 8, 8))])
def test_image_grid_refuses_what_is_no_image(x):
    with pytest.raises(ShapeError, match="expected images"):
        plots.image_grid(x)


def test_image_grid_refuses_bad_settings():
    with pytest.raises(ConfigError, match="low < high"):
        plots.image_grid(np.zeros((2, 8, 8)), value_range=(1, 1))
    with pytest.raises(ConfigError, match="ncols"):
        plots.image_grid(np.zeros((2, 8, 8)), ncols=0)


def test_save_grid_writes_sharp_tiles(tmp_path):
    x = np.random.default_rng(0).random((4, 1, 8, 8))
    plots.save_grid(tmp_path / "x.png", x, value_range=(0, 1))
    made = np.asarray(Image.open(tmp_path / "x.png"))
    gap = (made.shape[0] - 2 * 56) // 3
    tile = made[gap : gap + 56, gap : gap + 56]
    np.testing.assert_array_equal(tile, np.rint(255 * x[0, 0]).astype(np.uint8).repeat(7, 0).repeat(7, 1))
    with pytest.raises(ConfigError, match=r"\.png"):
        plots.save_grid(tmp_path / "x.gif", x)


# --- Manifold --------------------------------------------------------------------------------------------------------


def test_manifold_grid_is_uniform_in_probability():
    z = grid(7).numpy()
    expected = norm.ppf((np.arange(7) + 0.5) / 7)
    for i in range(7):
        np.testing.assert_allclose(z[i, :, 0], expected, atol=1e-12)  # z1 to the right
        np.testing.assert_allclose(z[:, i, 1], expected[::-1], atol=1e-12)  # z2 upwards


def test_manifold_of_a_known_decoder():
    figure = plots.manifold(Foreign((1, 4, 4)), 5, value_range=(-2, 2))
    shown = figure.axes[0].get_images()[0].get_array()
    gap = 2  # between small tiles
    side = (shown.shape[0] - gap) // 5
    expected = norm.ppf((np.arange(5) + 0.5) / 5)
    for i in range(5):
        for j in range(5):
            tile = shown[gap + i * side : (i + 1) * side, gap + j * side : (j + 1) * side]
            z = np.array([expected[j], expected[4 - i]])  # the upper half of a tile is z1, the lower z2
            np.testing.assert_allclose([tile[0, 0], tile[-1, 0]], np.rint((z + 2) / 4 * 255), atol=1)


def test_manifold_of_a_table():
    figure = plots.manifold(Foreign(), 5, columns=["a", "b", "c"])
    first, second = (figure.axes[k].get_images()[0].get_array() for k in (0, 1))
    expected = norm.ppf((np.arange(5) + 0.5) / 5)
    np.testing.assert_allclose(first[0], expected, atol=1e-6)
    np.testing.assert_allclose(second[:, 0], expected[::-1], atol=1e-6)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["a", "b", "c"]


def test_manifold_needs_two_dimensions():
    with pytest.raises(ConfigError, match=r"latent_dim=2.*traversal"):
        plots.manifold(image_model(3))


# --- What the other pictures show ------------------------------------------------------------------------------------


def test_samples_repeat_and_follow_the_generator():
    model = image_model()
    first, again, other = (
        plots.to_bytes(plots.samples(model, 9, generator=torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)
    )
    assert first == again == plots.to_bytes(plots.samples(model, 9))
    assert first != other
    with pytest.raises(ConfigError, match="n is at least 1"):
        plots.samples(model, 0)


def test_samples_of_a_table_lie_over_the_data(rows):
    figure = plots.samples(table_model(), x=rows)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["data", "samples"]
    with pytest.raises(ShapeError, match="columns"):
        plots.samples(table_model(), x=rows[:, :2])


def test_reconstructions_show_the_bits_that_the_model_sees():
    x = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    binary = transforms.Compose([transforms.Scale(0, 255), transforms.Binarize("threshold")])
    figure = plots.reconstructions(image_model(transform=binary), x, 4)
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["original", "seen by the model", "reconstruction"]
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    centre = shown.shape[0] // 2  # a line of pixels within the second row
    assert {0, 255} <= set(np.unique(shown[centre]).tolist())
    seen = access.seen_by_model(View.of(image_model(transform=binary), x))
    np.testing.assert_array_equal(seen, (x > 127.5).float() * 255)
    assert len(plots.reconstructions(image_model(), (x > 99).float(), 4).axes[0].get_yticks()) == 2


def test_reconstructions_of_a_table_name_the_columns(rows):
    data = Dataset(rows.numpy(), name="t", columns=("a", "b$", "c", "d"), kind="table")
    figure = plots.reconstructions(table_model(), data)
    assert [axes.get_title().split("  ")[0] for axes in figure.axes] == ["a", r"b\$", "c", "d"]
    shown = figure.axes[2].collections[0].get_offsets()
    np.testing.assert_allclose(shown[:, 0], rows[:, 2], rtol=1e-6)
    with pytest.raises(ShapeError, match="columns names each"):
        plots.reconstructions(table_model(), rows, columns=["a"])


def test_latent_in_two_dimensions_is_as_it_is():
    x = torch.randn(50, 3)
    figure = plots.latent(Foreign(), x, np.array(["a", "b"] * 25))
    shown = np.concatenate([c.get_offsets() for c in figure.axes[0].collections if len(c.get_offsets())])
    np.testing.assert_allclose(np.sort(shown[:, 0]), np.sort(x[:, 0]), atol=1e-6)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(shown, x[order, :2], atol=1e-6)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b"]


def test_latent_in_more_dimensions_says_what_the_axes_are(rows):
    from sklearn.decomposition import PCA

    model = table_model(3)
    figure = plots.latent(model, rows)
    share = PCA(2).fit(model.encode(rows).numpy()).explained_variance_ratio_
    assert f"({share[0]:.0%} of the variance)" in figure.axes[0].get_xlabel()
    assert f"({share[1]:.0%} of the variance)" in figure.axes[0].get_ylabel()


def test_latent_with_many_labels(rows):
    model = table_model(2)
    bar = plots.latent(model, rows, np.arange(40))
    assert len(bar.axes) == 2
    assert not bar.legends
    names = plots.latent(model, rows, np.array([f"name {i}" for i in range(40)]))
    assert [t.get_text() for t in names.legends[0].get_texts()][-1] == "other"
    with pytest.raises(ShapeError, match="one label per row"):
        plots.latent(model, rows, np.arange(3))


def test_traversal_puts_the_active_latents_first():
    x = torch.randn(200, 3) * torch.tensor([0.1, 2.0, 1.0])
    figure = plots.traversal(Foreign(), x)
    assert [axes.get_title() for axes in figure.axes] == ["z2", "z1"]
    for dims in ([2], [-1], []):
        with pytest.raises(ConfigError, match="from 0 to 1"):
            plots.traversal(Foreign(), dims=dims)
    with pytest.raises(ConfigError, match="n_steps"):
        plots.traversal(Foreign(), n_steps=1)


def test_traversal_walks_along_the_latent():
    figure = plots.traversal(Foreign((1, 4, 4)), n_steps=3, dims=[1], value_range=(-3, 3))
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    width = shown.shape[1] // 3
    lower = [int(shown[shown.shape[0] - 10, width // 2 + k * width]) for k in range(3)]  # z2 from -3 to 3
    upper = [int(shown[10, width // 2 + k * width]) for k in range(3)]  # z1 stays
    assert lower == [0, 128, 255]
    assert upper == [128] * 3


def test_interpolation_ends_at_the_codes():
    start, end = torch.full((1, 1, 4, 4), -1.0), torch.full((1, 1, 4, 4), 1.0)
    figure = plots.interpolation(Foreign((1, 4, 4)), start, end, 3, value_range=(-1, 1))
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    width = shown.shape[1] // 3
    assert [int(shown[10, width // 2 + k * width]) for k in range(3)] == [0, 128, 255]
    with pytest.raises(ShapeError, match="as many rows"):
        plots.interpolation(Foreign((1, 4, 4)), start, end.repeat(2, 1, 1, 1))
    with pytest.raises(ConfigError, match="num_steps"):
        plots.interpolation(Foreign((1, 4, 4)), start, end, 1)


# --- Losses ----------------------------------------------------------------------------------------------------------


def test_losses_mark_the_best_epoch_and_leave_out_a_poor_start():
    records = [{**r, "valid_elbo": -60.0 + (r["epoch"] == 13)} for r in RECORDS]
    records[0]["train_elbo"] = -1e6
    figure = plots.losses(records)
    assert len(figure.axes) == 3
    bound = figure.axes[0]
    assert bound.get_ylim()[0] > -200
    assert "outside" in bound.get_xlabel()
    marks = [line for line in bound.lines if line.get_marker() == "v"]
    assert [line.get_xdata().tolist() for line in marks] == [[records[0]["epoch"]]]
    assert marks[0].get_ydata()[0] == bound.get_ylim()[0]
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["training", "validation", "best epoch (13)"]


def test_losses_show_everything_that_fits():
    figure = plots.losses(RECORDS[:3])
    low, high = figure.axes[0].get_ylim()
    values = [r[k] for r in RECORDS[:3] for k in ("train_elbo", "valid_elbo")]
    assert low < min(values) <= max(values) < high


@pytest.mark.parametrize("num_epochs", [10, 200])
def test_losses_show_the_first_epochs(num_epochs):
    records = [{"epoch": e, "train_elbo": -80 - 60 / e, "valid_elbo": -82 - 40 / e} for e in range(1, num_epochs + 1)]
    axes = plots.losses(records).axes[0]
    assert axes.get_ylim()[0] < -140 < -80 - 60 / num_epochs < axes.get_ylim()[1]
    assert axes.get_xlabel() == "epoch"
    assert axes.get_xscale() == ("log" if num_epochs > 15 else "linear")
    low, high = axes.get_xlim()
    place = axes.transAxes.inverted().transform(axes.transData.transform([(3, -90)]))[0, 0]
    assert low < 1 < num_epochs < high
    assert place > 0.2, "the first three epochs have room"


def test_losses_skip_what_is_not_finite_or_not_there():
    plots.to_bytes(plots.losses([{"train_elbo": math.nan}, {"train_elbo": -3.0}]))
    for records in ([], [{"epoch": 1, "seconds": 2.0}], [{"train_elbo": math.nan}]):
        with pytest.raises(DataError, match="no curves"):
            plots.losses(records)


# --- Files and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_save_repeats_byte_for_byte(tmp_path, suffix):
    for name in ("a", "b"):
        plots.save(plots.losses(RECORDS), tmp_path / f"{name}.{suffix}")
    a, b = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert a == b
    assert a.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix.lower()])


@pytest.mark.parametrize("name", ["x.jpg", "x"])
def test_save_refuses_an_unknown_suffix(tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
        plots.save(style.figure(2, 2), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_missing_method_is_named(rows):
    for missing in ("posterior", "prior", "likelihood"):
        methods = {name: getattr(Foreign(), name) for name in ("posterior", "prior", "likelihood") if name != missing}
        with pytest.raises(ConfigError, match=rf"needs {missing}\(\)"):
            plots.reconstructions(SimpleNamespace(**methods), torch.randn(5, 3))
    with pytest.raises(VaekitError):
        plots.reconstructions(table_model(), rows[:, :2])


def test_kinds_are_functions():
    assert all(callable(plots.PICTURES[kind]) for kind in plots.KINDS)


def test_a_foreign_encode_is_not_asked():
    model = Foreign()
    model.encode = lambda x: (x, x)
    assert access.encode(View.of(model, torch.ones(4, 3))).shape == (4, 2)


def test_divergence_counts_the_active():
    figure = plots.divergence([0.0, 2.0, 0.5])
    assert "2 of 3" in figure.axes[0].get_title()
    assert [bar.get_height() for bar in figure.axes[0].patches] == [2.0, 0.5, 0.0]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["z2", "z3", "z1"]


def test_a_posterior_with_correlations_can_be_drawn(rows):
    full = presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal", posterior="full-normal")[0]
    assert isinstance(plots.latent(full, rows), Figure)
