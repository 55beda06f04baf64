"""What the documents say is run: examples, commands, the map from theory to code, and doctests."""

import ast
import dataclasses
import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import vaekit
from vaekit import catalog, cli
from vaekit.cli.reading import READS

ROOT = Path(__file__).parent.parent


def blocks(path, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / path).read_text(), re.S | re.M)
    return [text for kind, text in found if kind == language]


def test_readme_examples_run(capsys):
    names = {}
    code = blocks("README.md", "python")
    assert len(code) == 3
    first = [line for line in code[0].splitlines() if line and not line.startswith(("import", "#"))]
    assert len(first) <= 13, "the opening example stays short"
    for block in code:
        quick = "max_epochs=2, " + ("progress=False" if "Trainer" in block else 'compile="off", hidden=8')
        exec(block.replace("max_epochs=20", quick), names)
    assert names["images"].shape == (64, 1, 8, 8)
    closed_form = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1).log_prob(torch.zeros(3))
    assert abs(names["estimate"].mean - float(closed_form)) < 0.1


def test_theory_examples_run():
    for block in blocks("docs/theory.md", "python"):
        with torch.random.fork_rng(devices=()):
            exec(block, {})


def test_evaluation_page_runs():
    names = {}
    with torch.random.fork_rng(devices=()):
        for block in blocks("docs/evaluation.md", "python"):
            exec(block, names)
    assert names["draws"].r_hat.max() < 1.2
    assert names["comparison"].differences[0].better == "four"
    assert names["sandwich"].gap.value < 1


def test_data_page_runs():
    for block in blocks("docs/data.md", "python"):
        exec(block, {})
    options = set(re.findall(r"`(--[a-z-]+)", (ROOT / "docs/data.md").read_text()))
    names = {f"--{name.replace('_', '-')}" for name in READS} - {"--data-dir"}
    assert options >= names


def test_fonts_page_runs():
    names = {}
    with torch.random.fork_rng(devices=()):
        for block in blocks("docs/fonts.md", "python"):
            exec(block, names)
    assert not names["filled"].isnan().any()
    assert names["log_p"].quantity == "mass"


def test_tables_page_runs():
    from vaekit.data.column import KINDS

    for block in blocks("docs/tables.md", "python"):
        exec(block, {})
    text = (ROOT / "docs/tables.md").read_text()
    assert set(re.findall(r"^\| ([a-z -]+) \|", text, re.M)) - {"kind"} == set(KINDS)


def test_estimators_page_runs(tmp_path, monkeypatch):
    from vaekit.estimators.shared import DEFAULTS, KEYS

    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/estimators.md", "python"):
        exec(block.replace("max_epochs=5", "max_epochs=2, hidden=8"), names)
    assert names["even"]["town"].value_counts().tolist() == [30, 30, 30]
    assert (tmp_path / "runs/people/config.json").exists()
    text = (ROOT / "docs/estimators.md").read_text()
    assert set(re.findall(r"`(\w+)`", text)) >= set(DEFAULTS) - set(KEYS)


def test_labels_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/labels.md", "python"):
        exec(block.replace("max_epochs=5", "max_epochs=2, hidden=8"), names)
    assert names["odd"].all()
    assert names["p"].shape == names["error"].shape == names["shifted"].shape == (200, 2)
    assert len(names["rows"]) == 3
    assert names["sevens"].to_dict()["label"].tolist() == [7] * 4
    assert (tmp_path / "runs/species/config.json").exists()


def test_scale_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/scale.md", "python"):
        exec(block, names)
    assert len(names["history"]["valid_elbo"]) == 5
    text = (ROOT / "docs/scale.md").read_text()
    assert set(re.findall(r"vk\.distributed\.(\w+)", text)) <= set(vaekit.distributed.__all__)


def test_deploy_page_names_what_there_is():
    """Options of the command, paths, and metrics: each in the page exists."""
    from vaekit.serve.app import make_app
    from vaekit.serve.limits import Limits
    from vaekit.serve.questions import QUESTIONS
    from vaekit.serve.served import Fleet

    text = (ROOT / "docs/deploy.md").read_text()
    command = (ROOT / "vaekit/cli/serve.py").read_text()
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= set(re.findall(r'"(--[a-z-]+)"', command))
    fleet = Fleet([], Limits())
    routes = {route.path for route in make_app(fleet).routes}
    for path in re.findall(r"^\| GET (.+?) \|", text, re.MULTILINE):
        assert set(re.findall(r"`(/[^`]*)`", path)) <= routes
    assert set(re.findall(r"/v1/models/NAME/(\w+)`", text)) == set(QUESTIONS)
    metrics = {family.name for family in fleet.metrics.registry.collect()}
    named = {
        name.removesuffix("_total")
        for name in re.findall(r"^\| .*?\|", text, re.MULTILINE)
        for name in re.findall(r"`(vaekit_\w+)`", name)
    }
    assert named == {name for name in metrics if name.startswith("vaekit_")}


@pytest.mark.slow
def test_export_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = {}
    code = blocks("docs/export.md", "python")
    exec(code[1], names)
    assert all(isinstance(difference, float) for difference in names["found"].graphs.values())
    assert names["scores"]["log_p"].shape == (10,)
    assert names["rows"].shape == (5, 3)
    shown = {**names, "rows": names["rows"], "z": names["codes"]}
    exec(code[0].split("m.impute")[0], shown)


def test_choose_page_runs():
    names = {}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for block in blocks("docs/choose.md", "python"):
            exec(block, names)
    assert names["comparison"].mean() > 0, "outliers: the robust likelihood is ahead"
    assert names["estimate"].quantity == "mass"


def test_choose_page_names_every_member():
    """Tables between marks are those of today, and what the page calls by name exists."""
    text = (ROOT / "docs/choose.md").read_text()
    assert catalog.filled(text) == text, "run: python -m vaekit.catalog docs/choose.md"
    kinds = re.findall(r"<!-- list (\w+) -->", text)
    assert set(kinds) == {"likelihood", "objective", "posterior", "prior"}
    assert text.count("<!-- end -->") == len(kinds)
    known = {name for members in catalog.entries().values() for name in members}
    prose = re.sub(r"<!-- list.*?<!-- end -->|^```.*?^```", "", text, flags=re.S | re.M)
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", prose))
    assert named - known == set()


@pytest.mark.usefixtures("coarse", "quick_gap")
def test_readme_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    lines = [line for block in blocks("README.md", "") for line in block.splitlines() if line.startswith("vaekit ")]
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)[1:] + ["max_epochs=2"] * line.startswith("vaekit fit ")
        assert cli.run(words) == 0, line


def test_readme_links_exist():
    for path in ("README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / path).read_text()):
            if "://" not in link:
                assert ((ROOT / path).parent / link).exists(), f"{path} links to {link}"


def test_contributing_example_is_a_likelihood():
    from vaekit.testing import check_likelihood

    names = {}
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^ *```python\n(.*?)^ *```", text, re.S | re.M)
    exec("\n".join(line[3:] for line in code.splitlines()), names)
    check_likelihood(names["Exponential"](3))


def defined(path):
    """Names that a file defines, with those of methods as Class.method."""
    tree = ast.parse((ROOT / path).read_text())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return found


def linker():
    """The script that writes the lines into docs/theory.md."""
    found = importlib.util.spec_from_file_location("lines", ROOT / "docs/lines.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_theory_points_to_code_that_exists():
    text = (ROOT / "docs/theory.md").read_text()
    references = re.findall(r"`((?:vaekit|tests|reproductions)/[\w/]+\.py):([\w.]+)`", text)
    assert len(references) > 30
    for path, name in references:
        assert name in defined(path), f"{path} does not define {name}"


def test_theory_links_to_the_lines():
    text = (ROOT / "docs/theory.md").read_text()
    assert linker().renewed(text) == text, "lines have moved: run `python docs/lines.py`"
    links = re.findall(r"\[`([\w/.]+\.py):([\w.]+)`\]\(\.\./([\w/.]+)#L(\d+)\)", text)
    assert len(links) == len(re.findall(r"`[\w/.]+\.py:[\w.]+`", text)) > 80
    for path, name, target, number in links:
        line = (ROOT / target).read_text().splitlines()[int(number) - 1]
        assert path == target
        assert re.match(rf"\s*(class|def) {name.rpartition('.')[2]}\b", line), f"{target}:{number} is {line!r}"


def test_stale_links_are_found(tmp_path):
    (tmp_path / "vaekit").mkdir()
    code = tmp_path / "vaekit/f.py"
    code.write_text("def g():\n    pass\n\n\nclass A:\n    @property\n    def b(self):\n        pass\n")
    new = linker().renewed("`vaekit/f.py:g`, [`vaekit/f.py:A.b`](../vaekit/f.py#L1), `vaekit/f.py`", tmp_path)
    links = "[`vaekit/f.py:g`](../vaekit/f.py#L1)", "[`vaekit/f.py:A.b`](../vaekit/f.py#L7)"
    assert new == ", ".join([*links, "[`vaekit/f.py`](../vaekit/f.py)"])
    code.write_text("\n\n" + code.read_text())
    assert linker().renewed(new, tmp_path) == new.replace("#L1)", "#L3)").replace("#L7)", "#L9)")
    for wrong in ("vaekit/f.py:h", "vaekit/none.py"):
        with pytest.raises(ValueError, match="does not define h|no file"):
            linker().renewed(f"`{wrong}`", tmp_path)


def test_theory_names_the_equations_of_the_chapter():
    """Each number from 13.1 to 13.28, in a row of the table or in the list of what is not here yet."""
    text = (ROOT / "docs/theory.md").read_text()
    named = set()
    for first, last in re.findall(r"13\.(\d+)(?:-13\.(\d+))?", text):
        named |= set(range(int(first), int(last or first) + 1))
    assert named >= set(range(1, 29))


MODULES = [m.name for m in pkgutil.walk_packages(vaekit.__path__, "vaekit.") if not m.name.endswith("__main__")]


def test_every_module_can_be_imported():
    """Within a second; the doctests below import them one by one."""
    assert len([importlib.import_module(name) for name in MODULES]) > 150


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    module = importlib.import_module(name)
    with torch.random.fork_rng(devices=()), np.printoptions(legacy=False):
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_no_global_state_and_no_pickle_in_the_package():
    forbidden = re.compile(
        r"\b(import pickle|cloudpickle|import dill|torch\.load|torch\.save|np\.random\.seed|random\.seed)\b"
        r"|allow_pickle=True|(?<![\w.])(eval|exec)\("
    )
    for path in (ROOT / "vaekit").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not forbidden.search(line), f"{path.name}:{number}: {line.strip()}"
            if "manual_seed(" in line and path.parent.name != "engine":
                assert "Generator" in line, f"{path.name}:{number} seeds a global stream"


def test_the_list_of_optional_attributes_is_whole():
    """Each name in the classes that hold them stands in the page, in the row of its class, and the other way round."""
    from vaekit import traits
    from vaekit.conditional import ConditionalDistribution
    from vaekit.distributions.base import Hooks
    from vaekit.objectives import Objective
    from vaekit.training import Callback
    from vaekit.transforms import Transform

    text = (ROOT / "docs/architecture.md").read_text()
    rows = dict(re.findall(r"\| `([\w.]+)` \| ((?:`\w+`(?:, )?)+) \|", text))
    said = {name.rpartition(".")[2]: set(re.findall(r"`(\w+)`", names)) for name, names in rows.items()}
    kinds = {kind.__name__: kind for kind in vars(traits).values() if dataclasses.is_dataclass(kind)}
    for name, kind in kinds.items():
        assert said[name] == {field.name for field in dataclasses.fields(kind)}
    assert said["Hooks"] == {name for name in vars(Hooks) if not name.startswith("_")}
    assert said["Callback"] == {name for name in vars(Callback) if not name.startswith("_")}
    of_modules = set(vars(torch.nn.Module))
    optional = {
        Objective: {"step"},
        ConditionalDistribution: {"unbind"},
        Transform: {"inverse", "log_abs_det_jacobian", "with_log_det"},  # what a transform is; the others are optional
    }
    for kind, fixed in optional.items():
        own = {name for name in vars(kind) if not name.startswith("_")}
        assert said[kind.__name__] == own - of_modules - fixed


def test_the_picture_shows_every_room():
    """The rooms of the picture and the layers of the linter are the same, in the same order."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]
    picture = (ROOT / "docs/images/architecture.svg").read_text()
    places = {name: int(y) for y, name in re.findall(r'y="(\d+)" text-anchor="middle"[^>]*>(\w+)<', picture)}
    layers = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    # Rooms that are a few lines of help for others are left out.
    small = {"testing", "outcome", "frames", "raw", "kernels", "progress", "printing", "docstrings", "paths"}
    rooms = [[name for name in layer if name not in small] for layer in layers]
    assert sorted(places) == sorted(name for layer in rooms for name in layer)
    heights = [places[name] for layer in rooms for name in layer]
    assert heights == sorted(heights)
