"""Runs: folders that hold a fitted model with its settings and its history."""

from vaekit.runs.calibration import Calibration
from vaekit.runs.division import Parts, Split
from vaekit.runs.fitting import fit
from vaekit.runs.folder import DataAbout, is_finished, is_run
from vaekit.runs.reading import flattened, outcome, records
from vaekit.runs.run import Run, open
from vaekit.runs.several import held_out_by_all
from vaekit.runs.table import Table
from vaekit.runs.training import fit_rows

__all__ = [
    "Calibration",
    "DataAbout",
    "Parts",
    "Run",
    "Split",
    "Table",
    "fit",
    "fit_rows",
    "flattened",
    "held_out_by_all",
    "is_finished",
    "is_run",
    "open",
    "outcome",
    "records",
]
