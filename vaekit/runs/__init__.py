"""Runs: folders that hold a fitted model with its settings and its history."""

from vaekit.runs.citing import Citation, bibtex, cite
from vaekit.runs.fitting import fit
from vaekit.runs.folder import is_finished, is_run
from vaekit.runs.reading import data_of, describe, flattened, load_data, outcome, records

__all__ = [
    "Citation",
    "bibtex",
    "cite",
    "data_of",
    "describe",
    "fit",
    "flattened",
    "is_finished",
    "is_run",
    "load_data",
    "outcome",
    "records",
]
