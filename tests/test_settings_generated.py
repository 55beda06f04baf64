"""Settings from generated words: either settings and parts that say what was asked for, or a `ConfigError`."""

import contextlib
import io
import json

import pytest
from generated import given
from hypothesis import strategies as st

from vaekit import cli, recipes
from vaekit.errors import ConfigError
from vaekit.recipes import Settings
from vaekit.saving import spec

AXES = ("likelihoods", "posteriors", "priors", "objectives", "transforms")
NUMBERS = st.one_of(
    st.integers(-3, 9).map(str),
    st.floats(-4, 4).map(repr),
    st.sampled_from(["nan", "inf", "-inf", "1e400", "-0", "1_0", "٣", "0x2", "1e-3"]),
)
WORDS = st.one_of(
    NUMBERS,
    st.sampled_from(
        ["", "true", "False", "none", "learned", "network", "full", "exp", "cpu", "on", "8,8", "8,,8", ","]
    ),
    st.text(max_size=5),
)
KEYS = st.one_of(st.sampled_from(list(Settings.model_fields)), st.text(max_size=8))


@given(values=st.dictionaries(KEYS, WORDS, max_size=3))
def test_settings_are_checked_or_refused(values):
    try:
        made = recipes.settings(values)
    except ConfigError:
        return
    assert isinstance(made, Settings)
    assert made.model_fields_set == set(values)
    again = recipes.settings(made.model_dump(exclude_unset=True))
    assert again == made or "nan" in repr(made).lower()


def arguments_of(axis, name):
    """Arguments that the component of this name has, or none."""
    try:
        return list(spec.describe(spec.from_words(axis, name, event_shape=2, code_shape=2))["arguments"])
    except ConfigError:
        return []


@st.composite
def components_in_words(draw):
    """An axis, and text such as `normal:scale=network`, right and wrong in every place."""
    axis = draw(st.sampled_from(AXES))
    name = draw(st.sampled_from([spec.hyphened(name) for name in spec.components(axis)]) | st.text(max_size=6))
    keys = st.sampled_from(arguments_of(axis, name) or ["scale"]) | st.text(max_size=4)
    parts = draw(
        st.lists(st.builds("{}{}{}".format, keys, st.sampled_from(["=", "=", "=", "", ":"]), WORDS), max_size=2)
    )
    return axis, ":".join([name, *parts])


@given(asked=components_in_words())
def test_components_are_made_or_refused(asked):
    axis, text = asked
    try:
        made = spec.from_words(axis, text, event_shape=2, code_shape=2)
    except ConfigError:
        return
    assert type(made) is spec.resolve(axis, text.partition(":")[0])


@given(axis=st.sampled_from(AXES), data=st.data())
def test_what_is_asked_for_is_what_is_made(axis, data):
    """Arguments of a component written out as words give the component again."""
    name = data.draw(st.sampled_from([spec.hyphened(name) for name in spec.components(axis)]))
    try:
        first = spec.from_words(axis, name, event_shape=2, code_shape=2)
    except ConfigError:
        return  # needs an argument that has no words
    tree = spec.describe(first)
    words = {k: v for k, v in tree["arguments"].items() if isinstance(v, bool | int | float | str)}
    chosen = data.draw(st.lists(st.sampled_from(sorted(words) or [""]), unique=True)) if words else []
    text = ":".join([name, *(f"{key}={words[key]}" for key in chosen)])
    assert spec.describe(spec.from_words(axis, text, event_shape=2, code_shape=2)) == tree


def refusal(*arguments):
    """What `fit` says to data that are not there: errors in the words come before data are looked for."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.run(["fit", "./nowhere.csv", "-o", "nowhere", *arguments])
    assert (out.getvalue(), code in (1, 2)) == ("", True)
    return error.getvalue()


PAIRS = st.one_of(st.builds("{}={}".format, KEYS, WORDS), st.text(max_size=8)).filter(lambda word: word[:1] != "-")


@given(pairs=st.lists(PAIRS, max_size=3))
def test_fit_refuses_words_in_one_line(pairs):
    said = refusal(*pairs)
    assert said.startswith("vaekit: ")
    assert said.count("\n") == 1
    assert "--debug" not in said


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=3)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3).map(lambda values: json.dumps(values).encode())


@pytest.mark.parametrize("suffix", [".json", ".toml"])
@given(content=st.binary(max_size=20) | DOCUMENTS)
def test_fit_refuses_files_of_settings_in_one_line(tmp_path_factory, suffix, content):
    path = tmp_path_factory.getbasetemp() / f"settings{suffix}"
    path.write_bytes(content)
    said = refusal("--config", str(path))
    assert said.startswith("vaekit: ")
    assert "--debug" not in said
