"""The report: one file without links, valid HTML, the numbers that evaluation gives."""

import base64
import inspect
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from components import LIKELIHOODS, POSTERIORS, PRIORS
from torch.distributions import Independent, Normal

import vaekit as vk
from vaekit import evaluation, presets, report, transforms
from vaekit.data import Dataset
from vaekit.errors import ArtifactError
from vaekit.evaluation import Result, Results
from vaekit.kl import kl_per_dimension
from vaekit.plots import style
from vaekit.report import numbers, words

VOID = {"meta", "img", "br", "link", "hr", "input", "source"}
RECORDS = [{"epoch": e, "train_elbo": -50.0 - 9 / e, "valid_elbo": -51.0 - 9 / e, "train_kl": 3.0} for e in range(1, 6)]


class Page(HTMLParser):
    """Checks that tags are balanced; keeps the images in both layouts, the ids, the links and the text."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.images, self.narrow, self.ids, self.links, self.tags = [], [], [], [], [], set()
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if tag == "source":
            self.narrow.append(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module", autouse=True)
def _coarse():
    """Few dots per inch: drawing is most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 40)
        yield


def build(model, x, **options):
    settings = {"title": "A title", "config": {"latent_dim": 2, "seed": 0}, "records": RECORDS, "num_samples": 8}
    return report.build(model, x=x, **{**settings, **options})


@pytest.fixture(scope="module")
def digits():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        binary = transforms.Compose([transforms.Scale(0, 16), transforms.Binarize()])
        model, _ = presets.vae((1, 8, 8), latent_dim=2, hidden=(16,), transform=binary)
        x = torch.randint(0, 17, (24, 1, 8, 8), dtype=torch.uint8)
    return model, Dataset(x.numpy(), np.arange(24) % 4, "digits", None, (0, 16), "image")


@pytest.fixture(scope="module")
def digits_page(digits):
    return build(*digits)


@pytest.fixture(scope="module")
def table():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, _ = presets.vae((3,), latent_dim=3, hidden=(16,), likelihood="normal", posterior="full-normal")
        return model, torch.randn(40, 3)


def test_page_stands_alone_and_is_valid(digits_page):
    html = digits_page
    assert "http://" not in html
    assert "https://" not in html
    page = Page(html)
    assert {"main", "h1", "table", "figure", "title"} <= page.tags
    assert not {"script", "link", "iframe"} & page.tags
    assert {link.removeprefix("#") for link in page.links} == set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for section in ("model", "numbers", "divergence", "training", "reconstructions", "samples", "latent", "walk"):
        assert section in page.ids
    assert "Manifold" in page.text


def test_pictures_are_inside_and_described(digits_page):
    page = Page(digits_page)
    assert len(page.images) == 8
    for image in page.images:
        root = ElementTree.fromstring(svg(image["src"]))
        assert min(float(root.get(side).removesuffix("pt")) for side in ("width", "height")) > 40
        assert len(image["alt"]) > 15
    assert "Images of 8 × 8 pixels are shown smoothly." in page.text


def svg(address):
    """A picture of a page as text."""
    kind, _, content = address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


@pytest.mark.parametrize("kind", ["digits", "table"])
def test_pictures_can_be_read_on_a_telephone(kind, request):
    model, x = request.getfixturevalue(kind)
    page = Page(
        request.getfixturevalue("digits_page") if kind == "digits" else build(model, x, labels=np.arange(40) % 7)
    )
    assert len(page.narrow) == len(page.images)
    room = 390 - 2 * 16 * 1.1 - 2 * 16 * 0.9 - 2  # pixels of a telephone, less what the page and a card leave around
    for source in page.narrow:
        assert source["media"] == "(max-width: 56rem)"
        text = svg(source["srcset"])
        width = int(source["width"])
        assert width == pytest.approx(float(re.search(r' width="([\d.]+)pt"', text)[1]) / 72 * 100, abs=1)
        sizes = [
            100 * float(scale) for scale in re.findall(r"scale\((0\.\d+) -0", text)
        ]  # points of each piece of text
        assert sizes
        assert min(sizes) / 72 * 100 * min(1, room / width) >= 10


def test_pictures_follow_the_scheme_of_the_page(digits_page, table):
    page, other = Page(digits_page), Page(build(*table))
    addresses = [i["src"] for i in (*page.images, *other.images)] + [s["srcset"] for s in (*page.narrow, *other.narrow)]
    for address in addresses:
        text = svg(address)
        rule = re.search(r"<style>svg\{(.*?)\}@media \(prefers-color-scheme:dark\)\{svg\{(.*?)\}\}</style>", text)
        light, dark = (dict(pair.split(":") for pair in group.split(";")) for group in rule.groups())
        assert light.keys() == dark.keys()
        drawn = text.replace(rule[0], "")
        for colour in light.values():
            assert colour not in drawn, "colours of the figures are variables"
        assert "#000000" not in drawn
        used = set(re.findall(r"var\((--c\d+)\)", drawn))
        assert used <= light.keys()
        ink = next(name for name, colour in light.items() if colour == style.INK)
        assert ink in used
        assert luminance(dark[ink]) > 0.7 > 0.3 > luminance(light[ink])
        paper = next(name for name, colour in light.items() if colour == "#ffffff")
        assert luminance(dark[paper]) < 0.05
        for name in used & {n for n, colour in light.items() if colour in style.LINES}:
            assert (luminance(dark[name]) + 0.05) / (luminance(dark[paper]) + 0.05) > 4.5, "contrast of a line"


def luminance(colour):
    """Relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_numbers_are_those_of_evaluation(digits, digits_page):
    model, data = digits
    expected = report.evaluate(model, data, num_samples=8)
    page = Page(digits_page)
    for row in expected.table:
        assert row.label in page.text
        assert numbers.cell(row, row.value) in page.text
        assert numbers.cell(row, row.sampling_stderr) in page.text
    generator = torch.Generator().manual_seed(0)
    bound = evaluation.elbo(model, data, num_samples=8, generator=generator)
    assert expected["elbo"].value == bound.mean
    assert expected["elbo"].value == pytest.approx(expected["log_likelihood"].value - expected["kl"].value)
    bits = -expected["iwae"].value / math.log(2) / 64
    assert f"{bits:.4f}" in page.text
    assert "probability mass" in page.text


def test_an_evaluation_and_hostile_text_handed_in(table):
    model, x = table
    hostile = '<script>alert(1)</script>"&'
    found = evaluation.evaluate(model, x, num_samples=7)
    rows = (*found, Result("strange", hostile, -12345.678), Result("absent", "absent", None, reason=hostile))
    html = build(model, x, evaluation=Results(rows, "density"), title=hostile, config={hostile: {hostile: hostile}})
    page = Page(html)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert hostile in page.text
    assert f"Not done: absent: {hostile}" in page.text
    assert "IWAE, K = 7" in page.text
    assert numbers.number(found["iwae"].value) in page.text
    assert "−12,345.68" in page.text
    assert "bits per dimension" not in page.text  # a density
    assert "judged on 40 points" in page.text


def test_sections_that_cannot_be_are_left_out(table):
    page = Page(build(*table, records=[], config={}))
    assert "training" not in page.ids
    assert "Configuration of the run" not in page.text
    assert "KL per latent dimension is not shown" in page.text
    assert "Traversal" in page.text


def test_bars_are_those_of_the_evaluation(table):
    """The mean over the rows of the KL of each dimension, as in the files; none where q does not factorise."""
    model, _ = presets.vae((5,), latent_dim=3, hidden=(16,), likelihood="normal")
    x = torch.randn(40, 5)
    with torch.no_grad():
        expected = kl_per_dimension(model.posterior(x), model.prior()).double().mean(0)
    values = numbers.kl_per_dimension(report.evaluate(model, x, num_samples=2))
    torch.testing.assert_close(torch.tensor(values).double(), expected)
    assert numbers.kl_per_dimension(report.evaluate(*table, num_samples=2)) == []


def test_page_repeats(digits, digits_page):
    assert build(*digits, generator=torch.Generator().manual_seed(0)) == digits_page
    assert build(*digits, generator=torch.Generator().manual_seed(1)) != digits_page


def test_foreign_model():
    class Foreign:
        def posterior(self, x):
            return Independent(Normal(x[:, :2], torch.tensor(0.1)), 1)

        def prior(self):
            return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

        def likelihood(self, z):
            return Independent(Normal(torch.cat([z, z[..., :1]], -1), torch.tensor(1.0)), 1)

    page = Page(build(Foreign(), torch.randn(20, 3)))
    assert "Foreign" in page.text


def test_one_row_is_enough(digits):
    model, data = digits
    Page(build(model, data.take([0])))


def test_evaluation_looks_at_a_fixed_choice_of_rows(table):
    model, x = table
    first, again = (report.evaluate(model, x, num_samples=2, max_rows=10) for _ in range(2))
    assert first == again
    assert first["num_points"].value == 10


def test_words_name_the_parts(digits):
    model, _ = digits
    rows = words.parts(model)
    said = {row.name: row.words for row in rows}
    assert said["Data x"] == "1 × 8 × 8 = 64 numbers"
    assert said["Parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"
    assert said["Likelihood p(x|z)"] == "Bernoulli likelihood of bits"
    calls = {row.name: row.call for row in rows}
    assert calls["Encoder network"].startswith("MLP(in_shape=(1, 8, 8), hidden=(16), activation=relu")
    assert (calls["Transform of the data"], calls["then"]) == (
        "Scale(low=0.0, high=16.0)",
        "Binarize(mode=fresh, threshold=0.5, seed=0)",
    )
    config = {"a": {"b": [1, 2]}, "c": None, "d": [], "e": False}
    assert words.settings(config) == [("a.b", "1, 2"), ("c", "none"), ("d", "none"), ("e", "False")]


OWN = [make((4,)) for table in (LIKELIHOODS, POSTERIORS, PRIORS) for make, *_ in table.values()]


@pytest.mark.parametrize("part", OWN, ids=lambda part: type(part).__name__)
def test_words_are_the_first_sentence_of_the_docstring(part):
    found = words.part("The part", part)
    texts = [" ".join(inspect.getdoc(thing).split()) for thing in (type(part), inspect.getmodule(part))]
    assert any(text.startswith(found.words + ".") for text in texts)
    assert found.call.startswith(type(part).__name__ + "(")


def test_a_posterior_is_not_described_as_the_likelihood_of_its_name():
    both = [words.part("", kind(2)).words for kind in (vk.posteriors.Laplace, vk.likelihoods.Laplace)]
    assert both == ["Laplace posterior", "Laplace likelihood of real numbers with heavier tails"]


def test_a_part_of_unknown_make_has_the_name_of_its_class():
    assert words.part("p(z)", Independent(Normal(torch.zeros(2), 1.0), 1)) == ("p(z)", "Normal", "")
    assert words.part("p(x|z)", vk.likelihoods.Poisson(2)(torch.zeros(2, 2))) == ("p(x|z)", "Poisson", "")
    assert words.part("network", torch.nn.Flatten()) == ("network", "Flatten", "")


def test_write(tmp_path):
    report.write(tmp_path / "report.html", "<p>é</p>")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "<p>é</p>"
    with pytest.raises(ArtifactError):
        report.write(tmp_path / "nowhere" / "report.html", "x")
