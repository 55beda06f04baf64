"""A fit that goes on from a run: its model, transform, schema, settings and reading, with new rows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from vaekit import cli, runs
from vaekit.errors import ConfigError, DataError, DriftWarning

FAST = ["max_epochs=3", "hidden=8", "latent_dim=2", "compile=off", "--quiet"]


def people(n=120, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "size": (rng.normal(size=n) + shift).round(3),
            "town": rng.choice(["Bern", "Basel", "Thun"], n),
            "seen": rng.choice([1, 2, 3], n),
        }
    )


@pytest.fixture
def run(tmp_path):
    people().to_csv(tmp_path / "t.csv", index=False, sep=";")
    command = ["fit", str(tmp_path / "t.csv"), "--key", "id", "--drop", "seen", "-o", str(tmp_path / "r"), *FAST]
    assert cli.run(command) == 0
    return tmp_path / "r"


def weights_of(folder):
    return runs.open(folder).model.state_dict()


def test_weights_transform_schema_and_settings_are_those_of_the_run(run, tmp_path, capsys):
    people(90, seed=1).to_csv(tmp_path / "new.csv", index=False)
    command = ["fit", str(tmp_path / "new.csv"), "--from", str(run), "-o", str(tmp_path / "r2"), "--quiet"]
    assert cli.run([*command, "max_epochs=1", "learning_rate=1e-12"]) == 0
    assert f"going on from {run}: its settings, schema and transform, and its weights" in capsys.readouterr().err
    first, second = runs.open(run), runs.open(tmp_path / "r2")
    for name, tensor in weights_of(run).items():
        torch.testing.assert_close(weights_of(tmp_path / "r2")[name], tensor, rtol=0, atol=1e-9)
    assert second.data.columns_schema == first.data.columns_schema
    assert (second.data.key, second.data.num_rows, second.data.columns) == ("id", 90, ("size", "town"))
    changed = {"max_epochs": 1, "learning_rate": 1e-12}
    assert second.settings.model_dump() == first.settings.model_dump() | changed
    about = json.loads((tmp_path / "r2" / "config.json").read_text())["metadata"]["data"]["start"]
    assert about == {"name": "r", "weights_sha256": first.config.weights_sha256, "place": None}
    assert str(run) not in (tmp_path / "r2" / "config.json").read_text()


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_new_rows_move_the_model_and_not_its_transform(run, tmp_path):
    people(300, seed=1, shift=2.0).to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(DriftWarning, match="size: median 1.9"):
        runs.fit(str(tmp_path / "new.csv"), tmp_path / "r2", {"max_epochs": 60}, start=run, progress=False)
    before, after = weights_of(run), weights_of(tmp_path / "r2")
    constants = [name for name in before if name.startswith("transform.")]
    assert constants
    assert all(torch.equal(before[name], after[name]) for name in constants)
    fresh = runs.open(tmp_path / "r2").rows(people(200, seed=2, shift=2.0))  # RUN2 knows such rows
    scores = [runs.open(folder).score(fresh, num_samples=20).values[:, 0].mean() for folder in (run, tmp_path / "r2")]
    assert scores[1] > scores[0] + 0.5


@pytest.mark.parametrize(
    "pair", ["hidden=16", "latent_dim=3", "likelihood=normal", "transform=none", "preset=vamp", "prior=standard-normal"]
)
def test_what_would_change_the_model_is_refused(run, tmp_path, capsys, pair):
    command = ["fit", str(tmp_path / "t.csv"), "--from", str(run), "-o", str(tmp_path / "r2"), pair]
    assert cli.run(command) == 2
    said = capsys.readouterr().err
    key = pair.partition("=")[0]
    assert f"stays as it is, and {key} would change it" in said
    for free in ("max_epochs", "learning_rate", "batch_size", "seed", "patience"):
        assert free in said
    assert not (tmp_path / "r2").exists()


def test_the_same_setting_may_be_repeated(run, tmp_path):
    command = ["fit", str(tmp_path / "t.csv"), "--from", str(run), "-o", str(tmp_path / "r2"), *FAST, "seed=3"]
    assert cli.run(command) == 0
    assert runs.open(tmp_path / "r2").settings.seed == 3


def test_rows_that_the_schema_does_not_know_are_named(run, tmp_path):
    people().replace({"town": {"Thun": "Zug"}}).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match="Column 'town' has no level 'Zug'"):
        runs.fit(str(tmp_path / "new.csv"), tmp_path / "r2", start=run, progress=False)
    people().drop(columns="size").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match="has no column 'size'"):
        runs.fit(str(tmp_path / "new.csv"), tmp_path / "r2", start=run, progress=False)
    assert not (tmp_path / "r2").exists()


def test_new_rows_may_lack_keys_and_cells(run, tmp_path):
    table = people(60).drop(columns=["id", "seen"])
    table.loc[::20, "size"] = None
    table.to_csv(tmp_path / "new.csv", index=False)
    runs.fit(str(tmp_path / "new.csv"), tmp_path / "r2", {"max_epochs": 1}, start=run, progress=False)
    assert runs.open(tmp_path / "r2").data.num_rows == 60


def test_folders_that_cannot_be_gone_on_from(run, tmp_path):
    source = str(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="is the folder to write"):
        runs.fit(source, run, start=run, overwrite=True, progress=False)
    with pytest.raises(Exception, match="no saved model"):
        runs.fit(source, tmp_path / "r2", start=tmp_path / "none", progress=False)
    schema = runs.open(run).data.columns_schema
    with pytest.raises(ConfigError, match="schema and size are those of"):
        runs.fit(source, tmp_path / "r2", start=run, schema=schema, progress=False)


def test_a_fit_that_was_interrupted_is_resumed_from_where_it_began(run, tmp_path, monkeypatch):
    people(90, seed=1).to_csv(tmp_path / "new.csv", index=False)
    how = {"max_epochs": 6, "checkpoint_every": 2}
    source = str(tmp_path / "new.csv")
    runs.fit(source, tmp_path / "whole", how, start=run, progress=False)

    from vaekit.training.loop import Loop

    finish = Loop._finish_epoch

    def stop(loop):
        finish(loop)
        if loop.epoch == 3:
            raise SystemExit(143)

    monkeypatch.setattr(Loop, "_finish_epoch", stop)
    with pytest.raises(SystemExit):
        runs.fit(source, tmp_path / "r2", how, start=run, progress=False)
    monkeypatch.undo()
    runs.fit(source, tmp_path / "r2", resume=True, progress=False)
    for name, tensor in weights_of(tmp_path / "whole").items():
        assert torch.equal(weights_of(tmp_path / "r2")[name], tensor), name
    with pytest.raises(ConfigError, match="did not begin with the weights of"):
        runs.fit(source, tmp_path / "r2", start=tmp_path / "whole", resume=True, progress=False)


def test_weights_of_rows_go_on_where_there_are_any(tmp_path):
    table = people().drop(columns=["id", "seen"]).assign(w=2)
    table.to_csv(tmp_path / "t.csv", index=False)
    runs.fit(str(tmp_path / "t.csv"), tmp_path / "r", {"max_epochs": 1}, weight="w", progress=False)
    told = []
    runs.fit(str(tmp_path / "t.csv"), tmp_path / "r2", start=tmp_path / "r", progress=False, announce=told.append)
    assert any("rows count by column 'w', 240 in all" in line for line in told)
    table.drop(columns="w").to_csv(tmp_path / "new.csv", index=False)
    told.clear()
    runs.fit(str(tmp_path / "new.csv"), tmp_path / "r3", start=tmp_path / "r", progress=False, announce=told.append)
    assert not any("rows count" in line for line in told)


def test_images_go_on_too(tmp_path):
    runs.fit("digits", tmp_path / "r", {"max_epochs": 1, "hidden": (8,), "latent_dim": 2}, progress=False)
    runs.fit("digits", tmp_path / "r2", {"learning_rate": 1e-12}, start=tmp_path / "r", progress=False)
    for name, tensor in weights_of(tmp_path / "r").items():
        torch.testing.assert_close(weights_of(tmp_path / "r2")[name], tensor, rtol=0, atol=1e-9)
