"""The tables of the comparison: cells as they are, and what each job makes of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MOST = 3_000  # rows of a set that jobs take, unless they say otherwise


@dataclass(frozen=True)
class Labelled:
    """A table whose rows are ordinary or not.

    Args:
        name: of the file.
        anomalous: the values of the label that are called anomalous.
        left_out: values of the label whose rows take no part.
    """

    name: str
    anomalous: tuple[str, ...]
    left_out: tuple[str, ...] = ()


LABELLED: dict[str, Labelled] = {
    "ionosphere": Labelled("ionosphere", ("bad",)),
    "breastcancer": Labelled("breastcancer", ("malignant",)),
    "pima": Labelled("pimaindiansdiabetes2", ("pos",)),
    "soybean": Labelled(
        "soybean",
        (
            "2-4-d-injury",
            "cyst-nematode",
            "diaporthe-pod-&-stem-blight",
            "herbicide-injury",
            "charcoal-rot",
            "powdery-mildew",
        ),
    ),
    "letter, W of 14": Labelled("letterrecognition", ("W",), tuple("NOPQRSTUVXYZ")),
    "satellite, 3 classes": Labelled("satellite", ("cotton crop", "damp grey soil", "vegetation stubble")),
    "satellite, 1 class": Labelled("satellite", ("cotton crop",), ("damp grey soil", "vegetation stubble")),
    "shuttle": Labelled("shuttle", ("Fpv.Close", "Fpv.Open", "High", "Bypass", "Bpv.Close", "Bpv.Open")),
    "shuttle, no High": Labelled("shuttle", ("Fpv.Close", "Fpv.Open", "Bypass", "Bpv.Close", "Bpv.Open"), ("High",)),
    "credit": Labelled("credit_data", ("bad",)),
}
NUMERIC = (
    *("ionosphere", "breastcancer", "pimaindiansdiabetes2", "satellite", "letterrecognition", "ozone", "shuttle"),
    *("credit_data", "diamonds", "nmes1988"),
)
LEVELS = ("soybean", "housevotes84")
SYNTHESIS: dict[str, str] = {
    "credit_data": "Status",
    "loans_full_schema": "homeownership",
    "nmes1988": "visits",
    "diamonds": "price",
}
"""Each set whose rows are made up, and the column that is predicted from the others."""


@dataclass(frozen=True)
class Tables:
    """The folder of the tables.

    Args:
        folder: with `NAME.csv.gz` and `tables.json`.
    """

    folder: Path

    def about(self, name: str) -> dict[str, Any]:
        """Types, levels and label of a set."""
        text = (self.folder / "tables.json").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)[name]
        return found

    def frame(self, name: str) -> pd.DataFrame:
        """All cells, levels as words, numbers as numbers; without identifiers and free text."""
        frame = pd.read_csv(self.folder / f"{name}.csv.gz", keep_default_na=True)
        types = {column: about["type"] for column, about in self.about(name)["schema"].items()}
        for column in frame.columns:
            if types.get(column) in ("categorical", "binary") and frame[column].dtype.kind in "biuf":
                cells = frame[column].map(lambda cell: None if pd.isna(cell) else f"{cell:g}")
                frame[column] = cells.astype(object)
        words = [c for c in frame.columns if frame[c].dtype.kind not in "biuf" and frame[c].nunique() > 100]
        return frame.drop(columns=words)

    def numbers(self, name: str, seed: int, most: int = MOST) -> np.ndarray:
        """The columns of numbers and grades that vary, without the label, shape (N, D), float64; NaN is a hole.

        Args:
            name: of the set.
            seed: which rows, where there are more than `most`.
            most: how many rows at most.
        """
        about = self.about(name)
        kept = [
            column
            for column, its in about["schema"].items()
            if its["type"] in ("continuous", "integer", "ordinal") and (column != about.get("label"))
        ]
        frame = pd.read_csv(self.folder / f"{name}.csv.gz", usecols=kept)[kept]
        x = frame.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
        x = x[chosen(len(x), most, seed)]
        return x[:, [np.unique(column[~np.isnan(column)]).size > 1 for column in x.T]]

    def levels(self, name: str) -> pd.DataFrame:
        """The columns of levels, without the label, as words; None is a hole."""
        frame = self.frame(name).drop(columns=[self.about(name)["label"]])
        cells = frame.map(lambda cell: None if pd.isna(cell) else f"{cell:g}" if isinstance(cell, float) else str(cell))
        return cells.loc[:, cells.nunique() > 1]

    def labelled(self, which: str) -> tuple[pd.DataFrame, np.ndarray]:
        """The rows of a labelled set without the label, and which are anomalous, shape (N,)."""
        its = LABELLED[which]
        frame, label = self.frame(its.name), self.about(its.name)["label"]
        frame = frame[~frame[label].isin(its.left_out)].reset_index(drop=True)
        is_anomalous = frame[label].isin(its.anomalous).to_numpy()
        return frame.drop(columns=label), is_anomalous


def chosen(num_rows: int, most: int, seed: int) -> np.ndarray:
    """At most so many rows, in their order."""
    if num_rows <= most:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).choice(num_rows, most, replace=False))


def stratified(is_anomalous: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to score: 70% and 30% of each class, of at most so many rows."""
    random = np.random.default_rng(seed)
    rows = chosen(len(is_anomalous), most, seed)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for value in (False, True):
        own = random.permutation(rows[is_anomalous[rows] == value])
        cut = round(0.7 * len(own))
        parts.append((own[:cut], own[cut:]))
    train, test = (np.sort(np.concatenate(side)) for side in zip(*parts, strict=True))
    return train, test


def as_codes(frame: pd.DataFrame) -> np.ndarray:
    """Cells as numbers for baselines that know nothing else: levels one-hot, holes as the median or no level."""
    columns = []
    for name in frame.columns:
        cells = frame[name]
        if cells.dtype.kind in "biuf":
            numbers = cells.to_numpy(dtype=np.float64)
            middle = np.nanmedian(numbers) if not np.isnan(numbers).all() else 0.0
            columns.append(np.where(np.isnan(numbers), middle, numbers)[:, None])
        else:
            columns.append(pd.get_dummies(cells).to_numpy(dtype=np.float64))
    return np.concatenate(columns, axis=1)
