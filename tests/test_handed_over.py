"""What people hand over as rows: the same numbers, whatever they come in, or a line that names the way."""

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

import vaekit as vk
from vaekit.errors import DataError
from vaekit.models.rows import as_rows, as_tensor

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 2
WHOLE = np.arange(120).reshape(40, 3) % 5
HOLED = np.where(WHOLE == 0, np.nan, WHOLE)


class Items(Dataset):
    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return self.make(i)


class Indexed:
    """What other libraries call a data set: a length, and items by their number."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 40

    def __getitem__(self, i):
        if i >= 40:
            raise IndexError(i)
        return self.make(i)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


class Tagged(torch.Tensor):
    pass


def frame(**columns):
    return pd.DataFrame({"u": X[:, 0].numpy(), "v": X[:, 1].numpy(), **columns})


SAME = {
    "a subclass": lambda: X.clone().as_subclass(Tagged),
    "a parameter": lambda: torch.nn.Parameter(X.clone()),
    "part of a graph": lambda: X.clone().requires_grad_() * 1.0,
    "not contiguous": lambda: X.T.contiguous().T,
    "every other row": lambda: X.repeat_interleave(2, 0)[::2],
    "sparse": lambda: X.to_sparse(),
    "sparse by rows": lambda: X.to_sparse_csr(),
    "Fortran order": lambda: np.asfortranarray(X.numpy()),
    "other bytes": lambda: X.numpy().astype(">f4"),
    "read only": lambda: np.frombuffer(X.numpy().tobytes(), np.float32).reshape(40, 3),
    "objects": lambda: X.numpy().astype(object),
    "a list of arrays": lambda: [row.numpy() for row in X],
    "a list of tensors": lambda: list(X),
    "a list of lists": lambda: X.tolist(),
    "an array of arrays": lambda: pd.Series([row.numpy() for row in X]).to_numpy(),
    "scipy csr_matrix": lambda: scipy.sparse.csr_matrix(X.numpy()),
    "scipy csr_array": lambda: scipy.sparse.csr_array(X.numpy()),
    "scipy dok_matrix": lambda: scipy.sparse.dok_matrix(X.numpy()),
    "scipy coo_matrix": lambda: scipy.sparse.coo_matrix(X.numpy()),
    "pandas": lambda: pd.DataFrame(X.numpy()),
    "polars": lambda: pl.DataFrame(X.numpy(), schema=["a", "b", "c"]),
    "polars, lazy": lambda: pl.DataFrame(X.numpy(), schema=["a", "b", "c"]).lazy(),
    "pyarrow": lambda: pa.table({name: X[:, i].numpy() for i, name in enumerate("abc")}),
    "a TensorDataset": lambda: TensorDataset(X, Y),
    "a Subset": lambda: Subset(TensorDataset(X, Y), range(40)),
    "a ConcatDataset": lambda: ConcatDataset([TensorDataset(X[:9]), TensorDataset(X[9:])]),
    "a DataLoader": lambda: DataLoader(TensorDataset(X, Y), batch_size=16),
    "a DataLoader that shuffles": lambda: DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True, drop_last=True),
    "a DataLoader of dictionaries": lambda: DataLoader(Items(lambda i: {"image": X[i], "y": Y[i]}), batch_size=7),
    "a DataLoader of a stream": lambda: DataLoader(Stream(), batch_size=16),
    "a DataLoader of batches": lambda: DataLoader(X.split(16), batch_size=None),
    "a DataLoader of tuples of numbers": lambda: DataLoader(Items(lambda i: tuple(X[i].tolist())), batch_size=16),
    "a DataLoader by another sampler": lambda: DataLoader(X, batch_size=16, sampler=range(40)),
    "a DataLoader that collates": lambda: DataLoader(X, batch_size=16, collate_fn=lambda b: (default_collate(b), 0)),
    "an IterableDataset": Stream,
    "a generator": lambda: (row for row in X),
    "pairs": lambda: zip(X, Y, strict=True),
    "a list of pairs": lambda: list(zip(X.numpy(), Y.tolist(), strict=True)),
    "items are dictionaries": lambda: Items(lambda i: {"label": int(Y[i]), "x": X[i]}),
    "items are lists": lambda: Items(lambda i: X[i].tolist()),
    "items are tuples of numbers": lambda: Items(lambda i: tuple(X[i].tolist())),
    "items are (label, x)": lambda: Items(lambda i: (int(Y[i]), X[i])),
    "items are (x, mask)": lambda: Items(lambda i: (X[i], X[i] > 0)),
    "items by their number": lambda: Indexed(lambda i: {"pixel_values": X[i].numpy(), "label": 3}),
    "a pair (x, y)": lambda: (X, Y),
    "a pair of arrays": lambda: (X.numpy(), np.eye(2)[Y.numpy()]),
    "a tuple of rows": lambda: tuple(X),
    "a dictionary": lambda: {"x": X, "y": Y},
    "a dictionary of one array": lambda: {"arr_0": X.numpy()},
    "by __array__": lambda: Arrayed(),
}


class Arrayed:
    def __array__(self, dtype=None, copy=None):
        return X.numpy()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("name", SAME)
def test_rows_are_the_same_numbers_whatever_they_come_in(name):
    state = torch.get_rng_state()
    rows = as_tensor(SAME[name]())
    assert torch.equal(torch.get_rng_state(), state)  # what a loader draws leaves torch's stream alone
    assert type(rows) is torch.Tensor
    assert rows.layout == torch.strided
    assert not rows.requires_grad
    assert rows.dtype in (torch.float32, torch.float64)
    assert torch.equal(rows, X.to(rows.dtype))


VALUES = {
    "bool beside float": (lambda: frame(w=Y.bool().numpy()), torch.column_stack([X[:, :2], Y])),
    "nullable whole": (lambda: frame(w=pd.array(Y.tolist(), dtype="Int64")), torch.column_stack([X[:, :2], Y])),
    "pyarrow behind pandas": (
        lambda: frame(w=pd.Series(Y.tolist(), dtype="float64[pyarrow]")),
        torch.column_stack([X[:, :2], Y]),
    ),
    "a sparse column": (lambda: frame(w=pd.arrays.SparseArray(Y.double().numpy())), torch.column_stack([X[:, :2], Y])),
    "nullable with holes": (
        lambda: pd.DataFrame({n: pd.array(HOLED[:, i], dtype="Int64") for i, n in enumerate("abc")}),
        torch.tensor(HOLED),
    ),
    "objects of a data frame": (
        lambda: frame(w=pd.Series(Y.tolist(), dtype=object)),
        torch.column_stack([X[:, :2], Y]),
    ),
    "bools and None": (
        lambda: pd.DataFrame({"a": [True, None, False], "b": [decimal.Decimal(2), 0.5, None]}),
        torch.tensor([[1, 2], [torch.nan, 0.5], [0, torch.nan]]),
    ),
    "polars with holes": (
        lambda: pl.DataFrame({n: [None if v != v else int(v) for v in HOLED[:, i]] for i, n in enumerate("abc")}),
        torch.tensor(HOLED),
    ),
    "objects with None": (
        lambda: np.array([[None if v != v else decimal.Decimal(int(v)) for v in row] for row in HOLED], dtype=object),
        torch.tensor(HOLED),
    ),
    "masked cells": (lambda: np.ma.masked_equal(WHOLE, 0), torch.tensor(HOLED)),
    "nothing masked": (lambda: np.ma.array(WHOLE), torch.tensor(WHOLE)),
    "bools": (lambda: WHOLE > 2, torch.tensor(WHOLE > 2)),
    "a tensor of bools": (lambda: torch.tensor(WHOLE > 2), torch.tensor(WHOLE > 2)),
    "halves": (lambda: X.half().numpy(), X.half()),
    "longdouble": (lambda: X.numpy().astype(np.longdouble), X),
    "uint16": (lambda: WHOLE.astype(np.uint16), torch.tensor(WHOLE)),
    "torch.uint16": (lambda: torch.tensor(WHOLE).to(torch.uint16), torch.tensor(WHOLE)),
    "float8": (lambda: torch.tensor(WHOLE).to(torch.float8_e4m3fn), torch.tensor(WHOLE)),
    "a list of records of a database": (lambda: [(0.5, 1), (1.5, 0)], torch.tensor([[0.5, 1], [1.5, 0]])),
    "a series": (lambda: pd.Series(pd.array([1, 0], dtype="Int64")), torch.tensor([1, 0])),
    "a stream of numbers": (lambda: iter([1.0, 2.0]), torch.tensor([[1.0], [2.0]])),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_kept(name):
    make, expected = VALUES[name]
    rows = as_tensor(make())
    assert torch.equal(rows.double().nan_to_num(-1), expected.double().nan_to_num(-1))


REFUSED = {
    "a path": (lambda: "data.csv", "the text 'data.csv'.*vaekit.data.load"),
    "text": (lambda: np.array([["a"]]), "dtype <U1, which is text.*astype"),
    "a column of text": (lambda: frame(city=["x"] * 40), "column 'city' of the data frame holds String.*from_frame"),
    "a column of dates": (lambda: frame(when=pd.date_range("2020", periods=40)), "column 'when'.*Datetime"),
    "an array of dates": (lambda: np.array([["2020-01-01"]], "datetime64[D]"), "which are dates. Count seconds"),
    "complex": (lambda: WHOLE + 0j, r"dtype complex128.*x\.real"),
    "records": (lambda: np.zeros(3, [("a", "f4"), ("b", "i4")]), "dtype .*Put its fields side by side"),
    "a tensor without numbers": (lambda: torch.empty(4, 3, device="meta"), "device meta"),
    "rows of unequal lengths": (lambda: [[1.0, 2.0], [3.0]], r"row 1 has shape \(1,\)"),
    "unequal tensors": (lambda: [X[0], X[1, :2]], r"row 1 has shape \(2,\)"),
    "a nested tensor": (lambda: torch.nested.nested_tensor([X[0], X[1, :2]]), "nested tensor. Pad it"),
    "unequal batches": (lambda: DataLoader([X[:5], X[:5, :2]], batch_size=None), r"row 5 has shape \(2,\)"),
    "objects that are no numbers": (lambda: np.array([[1, "two"]], object), r"'two' \(str\) at \(0, 1\)"),
    "training and validation rows": (lambda: (X, X[:5, None]), r"lengths \[5, 40\]"),
    "a dictionary of columns": (lambda: {"a": [1, 2], "b": [3, 4]}, "dictionary with 'a', 'b'.*from_frame"),
    "records of a table": (lambda: [{"a": 1, "b": 2}], "row 0: .*dictionary with 'a', 'b'.*from_records"),
    "a dictionary of two images": (lambda: Items(lambda i: {"a": X[i], "b": X[i]}), "cannot tell which"),
    "a number with its label": (lambda: Items(lambda i: (0.5, 1)), "a tuple of fractions, whole numbers"),
    "text with a label": (lambda: Items(lambda i: ("a", 1)), "a tuple of text, whole numbers"),
    "objects of a data frame that are no numbers": (lambda: frame(w=[*[1] * 39, "two"]), "column 'w' .* holds Object"),
    "complex objects": (lambda: frame(w=pd.Series([1j] * 40, dtype=object)), "column 'w' .* holds Object"),
    "a number": (lambda: torch.tensor(3.0), r"got a single number, 3. One row is x\[None\]"),
    "a batch that was collated": (lambda: [X, Y], r"a list of \(40, 3\), \(40,\)\. .* or a tuple: \(x, y\)"),
    "a used generator": (lambda: iter(()), "has 0 rows. An iterator is read once"),
    "a function": (lambda: print, "got builtin_function_or_method"),
    "a set": (lambda: {1.0, 2.0}, "got set"),
    "a set without length": (lambda: type("NoLength", (Dataset,), {})(), "NoLength has no length"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rows_is_refused_in_a_line_that_names_the_way(name):
    make, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        as_rows(make())
    assert "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("dtype object", "inhomogeneous"))


def test_a_stream_that_does_not_end_is_refused(monkeypatch):
    from itertools import repeat

    monkeypatch.setattr("vaekit.models.conversion._MAX_STREAM", 2**16)
    with pytest.raises(DataError, match="repeat brings more than"):
        as_tensor(repeat(X[0]))


def test_every_way_to_a_model_takes_them():
    def fitted(train):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, objective = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        history = vk.Trainer(max_epochs=2, batch_size=16, progress=False).fit(model, objective, train, X[:8])
        return model, history["train_elbo"]

    model, expected = fitted(X)
    assert fitted(DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True))[1] == expected
    assert fitted(row for row in X)[1] == expected
    for give in (SAME["a DataLoader"], SAME["polars"], SAME["scipy csr_matrix"], SAME["a pair (x, y)"]):
        assert torch.equal(model.encode(give()), model.encode(X))
        assert torch.equal(model.reconstruct(give()), model.reconstruct(X))
        found = vk.evaluation.elbo(model, give(), generator=torch.Generator().manual_seed(0))
        assert torch.equal(found.value, vk.evaluation.elbo(model, X, generator=torch.Generator().manual_seed(0)).value)


def test_rows_of_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        x = X.clone()
    model, objective = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
    vk.Trainer(max_epochs=1, progress=False).fit(model, objective, x)


def test_checks_on_samples_read_a_generator_once():
    found = vk.evaluation.mmd((row for row in X), (row for row in X + 1), generator=torch.Generator().manual_seed(0))
    again = vk.evaluation.mmd(X, X + 1, generator=torch.Generator().manual_seed(0))
    assert found.value == again.value


def test_sparse_columns_of_pandas_are_numbers_of_a_table():
    make, expected = VALUES["a sparse column"]
    assert np.array_equal(vk.data.from_frame(make()).x, expected.double().numpy())


def test_a_data_set_has_holes_where_an_array_is_masked():
    data = vk.data.Dataset(np.ma.masked_equal(WHOLE, 0))
    assert np.array_equal(data.x, HOLED, equal_nan=True)
    assert vk.data.Dataset(np.ma.array(WHOLE)).dtype == WHOLE.dtype


def test_a_run_reads_them_too(tmp_path):
    model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
    vk.save(model, tmp_path / "run")
    run = vk.runs.open(tmp_path / "run")
    for name in ("a DataLoader", "a generator", "scipy csr_matrix", "a pair (x, y)", "polars", "part of a graph"):
        assert np.array_equal(run.rows(SAME[name]()).x, X.numpy()), name
    with pytest.raises(DataError, match="got builtin_function_or_method"):
        run.rows(print)
