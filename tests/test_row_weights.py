"""Rows that count by a column: in the loss, in the bound that chooses the epoch, and nowhere else."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import vaekit as vk
from vaekit import cli, runs
from vaekit.data import Dataset, Reading, from_frame, holdout, load
from vaekit.data.by_schema import load_by_schema
from vaekit.errors import ConfigError, DataError
from vaekit.models.view import View
from vaekit.objectives.base import average

FAST = ["max_epochs=2", "hidden=8", "latent_dim=2", "compile=off", "--quiet"]


def people(n=80, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": rng.normal(size=n).round(3),
            "town": rng.choice(["Bern", "Basel", "Thun"], n),
            "w": rng.integers(0, 4, n),
        }
    )


def numbers(n=80):
    return people(n).assign(town=np.random.default_rng(1).normal(size=n).round(3))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".feather"])
def test_weights_are_read_beside_the_rows(tmp_path, suffix):
    from test_data_typed_files import write

    path = write(numbers(), tmp_path / f"t{suffix}")
    data = load(path, reading=Reading(weight="w"))
    assert data.columns == ("size", "town")
    np.testing.assert_array_equal(data.weights, numbers()["w"])
    assert data.weights.dtype == np.float64
    assert data.take([3, 1]).weights.tolist() == data.weights[[3, 1]].tolist()
    train, valid = holdout(data)
    assert len(train.weights) == len(train)
    assert train.weights.sum() + valid.weights.sum() == data.weights.sum()
    assert from_frame(numbers(), reading=Reading(weight="w")).weights.tolist() == data.weights.tolist()
    coded = load_by_schema(write(people(), tmp_path / f"w{suffix}"), reading=Reading(weight="w"))
    assert (coded.columns, coded.weights.tolist()) == (("size", "town"), data.weights.tolist())


def test_weights_of_rows_on_disk(tmp_path):
    numbers().to_parquet(tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", in_memory=False, reading=Reading(weight="w"))
    np.testing.assert_array_equal(data.weights, numbers()["w"])


@pytest.mark.parametrize("table", [people, numbers])
@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({7: -1}, r"Column 'w' of 't' is -1 in row 7 \(line 9\); weights are finite and not negative"),
        ({7: None, 9: None}, r"'w' of 't' is empty in row 7 \(line 9\) .1 more are like it."),
        ({3: np.inf}, r"is inf in row 3 \(line 5\)"),
        (dict.fromkeys(range(80), 0), "'w' of 't' is 0 in each row: none would count"),
        ({5: "much"}, "'w' of 't' holds String, and weights are numbers"),
    ],
)
def test_weights_that_cannot_be_are_named(tmp_path, capsys, table, cells, message):
    import re

    frame = table().astype({"w": object})
    for row, cell in cells.items():
        frame.loc[row, "w"] = cell
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert cli.run(["fit", str(tmp_path / "t.csv"), "--weight", "w", "-o", str(tmp_path / "r"), *FAST]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert cli.run(["fit", str(tmp_path / "t.csv"), "--weight", "v", "-o", str(tmp_path / "r"), *FAST]) == 1
    assert "no column 'v' for the weights" in capsys.readouterr().err


def still(n_in, hidden=4):
    """A model in float64 whose loss draws nothing that matters: p(x|z) does not depend on z."""
    torch.manual_seed(0)
    model = vk.presets.vae((n_in,), latent_dim=2, hidden=(hidden,), likelihood=vk.likelihoods.Normal(n_in, scale=1.0))[
        0
    ].double()
    for name, parameter in model.decoder.named_parameters():
        if "bias" not in name:
            torch.nn.init.zeros_(parameter)
    return model


def test_whole_weights_are_rows_that_stand_several_times():
    """In full batches, exactly: the loss, its gradient, the bound of training and of validation."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    weights = np.random.default_rng(1).integers(0, 4, 40)
    data, repeated = Dataset(x, weights=weights), Dataset(np.repeat(x, weights, axis=0))
    histories, gradients = [], []
    for rows in (data, repeated):
        model, objective = still(3), vk.objectives.ELBO(kl="analytic")
        view = View.of(model, rows, weight=rows.weights)
        batch = next(view.batches(len(view)))
        objective(model, batch.x, *([] if batch.weight is None else [batch.weight])).value.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.encoder.parameters()]))
        trainer = vk.Trainer(max_epochs=1, batch_size=500, learning_rate=1e-9, progress=False, compile="off")
        valid = View.of(model, rows, weight=rows.weights)
        histories.append(trainer.fit(model, objective, rows, valid, weight=rows.weights))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-13)
    for term in ("train_elbo", "valid_elbo", "train_kl"):
        assert histories[0][term] == pytest.approx(histories[1][term], rel=1e-7)
    assert View.of(still(3), data, weight=data.weights).total_weight == len(repeated)
    terms = torch.randn(40, dtype=torch.float64)
    expected = torch.from_numpy(np.repeat(terms.numpy(), weights)).mean()
    torch.testing.assert_close(average(terms, torch.from_numpy(weights)), expected, rtol=1e-12, atol=1e-14)


def test_a_run_remembers_its_column_and_leaves_it_out(tmp_path, capsys):
    people().to_csv(tmp_path / "t.csv", index=False)
    folder = tmp_path / "r"
    command = ["fit", str(tmp_path / "t.csv"), "--weight", "w", "-o", str(folder), *FAST]
    assert cli.run(command) == 0
    assert f"rows count by column 'w', {people()['w'].sum()} in all for 80 rows" in capsys.readouterr().err
    run = runs.open(folder)
    assert run.data.columns == ("size", "town")
    assert json.loads((folder / "config.json").read_text())["metadata"]["data"]["reading"]["weight"] == "w"
    own = run.score(run.rows(), num_samples=5)
    for rows in (people(), people().drop(columns="w"), people().assign(w=None), people().assign(w="x")):
        assert run.rows(rows).weights is None
        np.testing.assert_array_equal(run.score(run.rows(rows), num_samples=5).values, own.values)
    people().assign(w="-").to_csv(tmp_path / "new.csv", index=False)
    assert cli.run(["score", str(folder), str(tmp_path / "new.csv"), "-o", str(tmp_path / "s.csv")]) == 0
    assert "w" not in run.sample(3).columns
    assert cli.run([*command, "--resume"]) == 0
    people().assign(w=1).to_csv(tmp_path / "t.csv", index=False)
    assert cli.run([*command, "--resume"]) == 2
    assert "weights_crc32 differs" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_weights_move_the_fit(tmp_path):
    """Two clouds; with no weight on the second one, the model draws of the first alone."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": np.r_[rng.normal(-5, 1, 300), rng.normal(5, 1, 300)], "b": rng.normal(size=600)})
    table["w"] = np.r_[np.ones(300), np.zeros(300)]
    given = {"max_epochs": 60, "hidden": (16,), "learning_rate": 0.01}
    table.to_csv(tmp_path / "t.csv", index=False)
    runs.fit(str(tmp_path / "t.csv"), tmp_path / "r", given, weight="w", progress=False)
    drawn = runs.open(tmp_path / "r").sample(500).values
    assert (drawn[:, 0] < 0).mean() > 0.95


def test_a_schema_with_the_column_of_weights_is_one_of_the_others(tmp_path):
    people().to_csv(tmp_path / "t.csv", index=False)
    assert cli.run(["schema", str(tmp_path / "t.csv"), "-o", str(tmp_path / "s.json")]) == 0
    fit = ["fit", str(tmp_path / "t.csv"), "--schema", str(tmp_path / "s.json"), "-o", str(tmp_path / "r"), *FAST]
    assert cli.run([*fit, "--weight", "w"]) == 0
    assert runs.open(tmp_path / "r").data.columns == ("size", "town")
    assert cli.run(["schema", str(tmp_path / "t.csv"), "--weight", "w", "-o", str(tmp_path / "v.json")]) == 0
    assert "'w'" not in (tmp_path / "v.json").read_text()
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match="weight='w' is for .csv"):
        load(tmp_path / "x.npy", reading=Reading(weight="w"))


def test_a_weight_of_a_named_set_is_refused():
    with pytest.raises((DataError, ConfigError), match="weight='w' is for"):
        load("digits", reading=Reading(weight="w"))
