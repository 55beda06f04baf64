"""Runs: folders that hold a fitted model with its settings and its history."""

from vaekit.runs.citing import Citation, bibtex, cite
from vaekit.runs.fitting import fit
from vaekit.runs.folder import DataAbout, is_finished, is_run
from vaekit.runs.reading import flattened, outcome, records
from vaekit.runs.run import Run, open
from vaekit.runs.table import Table

__all__ = [
    "Citation",
    "DataAbout",
    "Run",
    "Table",
    "bibtex",
    "cite",
    "fit",
    "flattened",
    "is_finished",
    "is_run",
    "open",
    "outcome",
    "records",
]
