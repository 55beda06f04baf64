"""What docstrings say of their subject: every component has a source that can be read, and runs can be cited."""

import inspect
import json
import re

import pytest

import vaekit as vk
from vaekit import catalog, cli, data, docstrings, models, objectives, presets, schedules
from vaekit.docstrings import Reference
from vaekit.saving import spec

MEMBERS = {f"{axis}.{name}": kind for axis in spec.AXES for name, kind in spec.components(axis).items()}
PRESETS = {f"presets.{name}": function for name, function in presets.available().items()}
MODELS = {f"models.{name}": getattr(models, name) for name in models.__all__}
WITHOUT_SOURCE = {
    "likelihoods.Laplace": "a textbook density",
    "models.Batch": "rows of data",
    "models.GenerativeModel": "what models share",
    "models.View": "a model and rows of data",
    "networks.ColumnsInput": "one-hot codes and masks",
    "networks.Concat": "inputs side by side",
    "networks.ContextInput": "one-hot codes and standardised numbers",
    "networks.LogInput": "a logarithm",
    "networks.Parts": "a choice of inputs",
    "networks.Readout": "a linear map",
    "networks.RescaleInput": "an affine map",
    "schedules.Constant": "a number",
    "transforms.Columns": "transforms side by side",
    "transforms.Compose": "a sequence",
    "transforms.Log": "a logarithm",
    "transforms.Scale": "an affine map",
    "transforms.Spiked": "a choice of what has a Jacobian",
    "transforms.Standardize": "an affine map",
}


@pytest.mark.parametrize("name", sorted(MEMBERS | PRESETS | MODELS))
def test_every_member_has_sources_that_can_be_read(name):
    thing = (MEMBERS | PRESETS | MODELS)[name]
    found = docstrings.references(thing)
    assert bool(found) != (name in WITHOUT_SOURCE), f"{name}: one readable reference, or a reason to have none"
    section = inspect.getdoc(thing).partition("References:\n")[2].partition("\n\n")[0]
    assert section.count('"') == 2 * len(found), f"{name}: a title stands outside of what was read:\n{section}"
    assert section.count("http") == len(found)
    for reference in found:
        assert re.fullmatch(r"[^\W\d_][^\d\".]*( et al\.)?", reference.authors), reference
        assert 1900 < reference.year < 2030
        assert re.fullmatch(r"https?://[^\s\"]+[^\s\".,;:]", reference.url), reference
        assert reference.argument is None or reference.argument in inspect.signature(thing).parameters
    assert docstrings.summary(thing)
    assert "\\(" not in docstrings.summary(thing) + docstrings.advice(thing)
    assert "\n" not in docstrings.summary(thing) + docstrings.advice(thing)


CHOICES = {name for name in MEMBERS if name.startswith(("likelihoods.", "objectives.", "posteriors.", "priors."))}


@pytest.mark.parametrize("name", sorted(PRESETS.keys() | CHOICES))
def test_whoever_has_to_choose_is_told_when_to_use_it(name):
    assert docstrings.advice((MEMBERS | PRESETS)[name]).startswith("Use ")


def test_one_source_has_one_form():
    """The same address comes with the same authors, title and year everywhere."""
    seen = {}
    for name, thing in (MEMBERS | PRESETS | MODELS).items():
        for reference in docstrings.references(thing):
            form = (reference.authors, reference.title, reference.year)
            first = seen.setdefault(reference.url, (form, name))
            assert first[0] == form, f"{name} and {first[1]} differ on {reference.url}"


def documented(text):
    def thing():
        pass

    thing.__doc__ = text
    return thing


SECTION = """Does something.

    Use this one rarely. It is slow; use it where `Other` fails, as
    in A. B. Example, 2.5 times. Never elsewhere.

    References:
        Lange, Little & Taylor, "Robust modeling", 1989, https://doi.org/10.2307/2290063, section 2. And
        figure 3.
        van den Oord et al., "Pixel networks: a study", 2nd edition, 2016,
        https://arxiv.org/abs/1601.06759; their K is M here.
        Limpert, "Log-normal", 2001, https://doi.org/10.1641/0006-3568(2001)051[0341:LNDATS]2.0.CO;2.
        Kingma, "Free", 2016, https://arxiv.org/abs/1606.04934, appendix C (`free_bits`).

    Args:
        x: "Not a title", 2020, https://example.org.
    """


def test_sections_are_read_over_lines_and_remarks():
    thing = documented(SECTION)
    assert docstrings.references(thing) == (
        Reference("Lange, Little & Taylor", "Robust modeling", 1989, "https://doi.org/10.2307/2290063"),
        Reference("van den Oord et al.", "Pixel networks: a study", 2016, "https://arxiv.org/abs/1601.06759"),
        Reference("Limpert", "Log-normal", 2001, "https://doi.org/10.1641/0006-3568(2001)051[0341:LNDATS]2.0.CO;2"),
        Reference("Kingma", "Free", 2016, "https://arxiv.org/abs/1606.04934", "free_bits"),
    )
    assert docstrings.summary(thing) == "Does something"
    assert docstrings.advice(thing) == "Use it where Other fails, as in A"
    for text in (None, "A line.", "References:\n", 'References:\n    Nothing, "Untitled", no year.'):
        assert docstrings.references(documented(text)) == ()


def test_formulas_are_left_out():
    thing = documented(r"\( x = y \): a formula." "\n\n" r"Use it always; the weight \( \gamma \) is found by trial.")
    assert docstrings.summary(thing) == ""
    assert docstrings.advice(thing) == "Use it always"
    assert docstrings.advice(documented("Reuse it.")) == ""


def test_every_component_says_in_words_what_it_is():
    """Lists, tables and reports read the first sentence: no formula, and no two of an axis are the same."""
    for axis in spec.AXES:
        words = [docstrings.summary(kind) for kind in spec.components(axis).values()]
        assert all(words), axis
        assert len(set(words)) == len(words), axis


@pytest.mark.parametrize(
    ("authors", "bibtex", "key"),
    [
        ("Kingma & Welling", "Kingma and Welling", "kingma2014title"),
        ("Burda et al.", "Burda and others", "burda2014title"),
        ("Lange, Little & Taylor", "Lange and Little and Taylor", "lange2014title"),
        ("Lange, Little, & Taylor", "Lange and Little and Taylor", "lange2014title"),
        ("van den Oord et al.", "van den Oord and others", "oord2014title"),
        ("Loaiza-Ganem & Cunningham", "Loaiza-Ganem and Cunningham", "loaizaganem2014title"),
        ("Rényi", "Rényi", "renyi2014title"),
    ],
)
def test_authors_and_keys(authors, bibtex, key):
    reference = Reference(authors, "A title-page", 2014, "https://example.org")
    assert (reference.author, reference.key) == (bibtex, key)


def test_bibtex_names_each_source_once_and_keeps_keys_apart():
    first = documented(
        'A bound.\n\nReferences:\n    Rainforth et al., "Tighter bounds & 100 % more", 2018, https://a.org/x_y.'
    )
    second = documented('A bound.\n\nReferences:\n    Rainforth et al., "Tighter still", 2018, https://b.org.')
    text = catalog.bibtex(catalog.cited([("one", first, {}), ("two", second, {}), ("three", first, {})]))
    assert re.findall(r"@misc\{(\w+),", text) == ["rainforth2018tighter", "rainforth2018tighterb"]
    assert re.findall("^%.*", text, re.M) == ["% one, three", "% two"]
    assert text.startswith("% one, three\n@misc{")
    assert r"title = {{Tighter bounds \& 100 \% more}}" in text
    assert "url = {https://a.org/x_y}" in text
    assert text.count("{") == text.count("}")
    assert catalog.bibtex([]) == ""


def fitted(folder, *settings, preset="vae"):
    arguments = ["fit", "digits", "-o", str(folder), "--preset", preset, "max_epochs=1", "hidden=4"]
    assert cli.run([*arguments, "latent_dim=2", "likelihood=bernoulli", *settings, "--quiet"]) == 0
    return folder


def used_for(run):
    return {f"{c.reference.authors} {c.reference.year}": set(c.used_for) for c in catalog.cite(run)}


def test_a_run_is_cited_by_its_parts(tmp_path, capsys):
    run = fitted(tmp_path / "run", "posterior=full-normal", preset="beta_vae")
    found = used_for(run)
    assert found["Higgins et al. 2017"] == {"preset beta-vae", "objective ELBO"}
    assert found["Kingma & Welling 2019"] == {"posterior FullNormal"}
    assert {"model VAE", "likelihood Bernoulli", "prior StandardNormal"} <= found["Kingma & Welling 2014"]
    assert found["Salakhutdinov & Murray 2008"] == {"transform Binarize"}
    assert "Kingma et al. 2016" not in found, "no free bits, no source of free bits"
    capsys.readouterr()
    assert cli.run(["cite", str(run)]) == 0
    text = capsys.readouterr().out
    assert text.count("@misc{") == len(found)
    assert "% preset beta-vae, objective ELBO\n@misc{higgins2017beta,\n  author = {Higgins and others},\n" in text
    assert cli.run(["cite", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bibtex"] + "\n" == text
    assert [source["key"] for source in document["references"]] == re.findall(r"@misc\{(\w+),", text)
    assert set(document["references"][0]) == {"key", "author", "title", "year", "url", "used_for"}


def test_an_argument_at_its_default_is_not_cited(tmp_path):
    plain = used_for(fitted(tmp_path / "plain"))
    assert not {"Higgins et al. 2017", "Kingma et al. 2016"} & set(plain)
    assert "preset vae" in plain["Kingma & Welling 2014"]
    free = used_for(fitted(tmp_path / "free", "objective=elbo:free_bits=0.1"))
    assert free["Kingma et al. 2016"] == {"objective ELBO"}
    assert "Higgins et al. 2017" not in free


def test_a_model_that_was_only_saved_is_cited_by_its_components(tmp_path):
    model, _ = vk.presets.iwae((4,), latent_dim=2, hidden=(4,), likelihood="student-t")
    vk.save(model, tmp_path / "saved")
    found = used_for(tmp_path / "saved")
    assert found["Takahashi et al. 2018"] == {"likelihood StudentT"}
    assert "Burda et al. 2016" not in found, "the objective is not saved with the model"
    with pytest.raises(vk.errors.ArtifactError, match="no saved model"):
        catalog.cite(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (
            spec.describe(objectives.ELBO(beta=schedules.Linear(0.0, 1.0, 10)), "objective"),
            {"Higgins et al. 2017": {"objective ELBO"}, "Bowman et al. 2016": {"schedule Linear"}},
        ),
        (spec.describe(objectives.ELBO(), "objective"), {}),
        (spec.describe(objectives.IWAE(), "objective"), {"Burda et al. 2016": {"objective IWAE"}}),
        ({"custom": "objective", "class": "mine.Mine"}, {}),
        # Runs of older versions hold text, of which the name alone is read.
        ("ELBO(num_samples=1, beta=<vaekit.schedules.Linear object at 0x7f23>, kl='auto', free_bits=None)", {}),
        ("ELBO(a <thing at 0x1>)", {}),
        ("Mine()", {}),
        ("IWAE(num_samples=5)", {"Burda et al. 2016": {"objective IWAE"}}),
    ],
)
def test_the_objective_of_a_run_is_cited(objective, expected, tmp_path, capsys):
    model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(4,))
    vk.save(model, tmp_path / "run", metadata={"objective": objective})
    found = used_for(tmp_path / "run")
    assert {name: found[name] for name in found if name not in MODEL_ALONE} == expected
    assert cli.run(["info", str(tmp_path / "run"), "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["objective"], str)


MODEL_ALONE = {"Kingma & Welling 2014", "Rezende et al. 2014", "He et al. 2015"}


def test_catalog_says_what_when_and_whence():
    entries = catalog.entries()
    assert entries["preset"]["iwae"].year == 2016
    assert entries["preset"]["iwae"].paper == "Burda et al., Importance weighted autoencoders"
    assert entries["preset"]["iwae"].url == "https://arxiv.org/abs/1509.00519"
    assert entries["preset"]["iwae"].use.startswith("Use it where log p(x) matters")
    assert entries["transform"]["scale"] == catalog.Entry(
        "y = (x - low) / (high - low): the range [low, high] becomes [0, 1]", "Use it for images"
    )
    assert set(entries["data"]) == set(data.available())
    assert catalog.entries("Presets") == {"preset": entries["preset"]}
    with pytest.raises(vk.errors.ConfigError, match="Did you mean posterior"):
        catalog.entries("posterio")


def test_list_prints_years_papers_and_advice(capsys):
    assert cli.run(["list", "preset"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(presets.available())
    (line,) = [line for line in lines if line.split()[1] == "beta-vae"]
    assert line.endswith("2017  Higgins et al., beta-VAE")
    assert "Use it for codes" in line
    assert cli.run(["list", "preset", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["preset"]["vae"]) == {"what", "use", "year", "paper", "url"}


@pytest.mark.parametrize("columns", [80, 120])
def test_list_on_a_terminal_keeps_within_it(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.run(["list"]) == 0
    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= columns
    assert not re.search(r"zero-inflated-nega\w*…", text), "names are not cut"
    assert "Burda et al., Importance weighted" in " ".join(text.split())
