"""Peers on whole tables, as their users call them: pyod's detector, ctgan's synthesizers, sdmetrics' judgement.

Runs in the peers' venv. Each turn does the job once and writes its answer beside the data.
"""

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.workers.turns import Turns, serve


def detect(turns: Turns, data: str, num_train: int, out: str) -> None:
    """Scores of the rows behind the first `num_train`, by pyod's VAE at its defaults."""
    from pyod.models.vae import VAE

    x = np.load(data)
    for _ in turns:
        detector = VAE(verbose=0)
        detector.fit(x[:num_train])
        np.save(out, detector.decision_function(x[num_train:]))
        turns.report()


def synthesize(turns: Turns, data: str, discrete: list[str], model: str, epochs: int, rows: int, out: str) -> None:
    """Rows made up by TVAE or CTGAN."""
    from ctgan import CTGAN, TVAE

    frame = pd.read_csv(data)
    for column in discrete:
        frame[column] = frame[column].astype(str)
    for _ in turns:
        synthesizer = {"TVAE": TVAE, "CTGAN": CTGAN}[model](epochs=epochs, enable_gpu=False)
        synthesizer.fit(frame, discrete)
        synthesizer.sample(rows).to_csv(out, index=False)
        turns.report()


def judge(turns: Turns, real: str, synthetic: str, columns: dict[str, dict[str, str]]) -> None:
    """sdmetrics' quality score with its parts, and how well a logistic regression tells the rows apart (1: not)."""
    from sdmetrics.reports import QualityReport
    from sdmetrics.single_table import LogisticDetection

    first, second = (_typed(pd.read_csv(path), columns) for path in (real, synthetic))
    metadata = {"columns": columns}
    for _ in turns:
        report = QualityReport()
        of_all = {"tables": {"table": metadata}, "relationships": []}
        report.generate({"table": first}, {"table": second}, of_all, verbose=False)
        parts = report.get_properties().set_index("Property")["Score"]
        found: dict[str, Any] = {"quality": float(report.get_score())}
        found |= {"column shapes": float(parts["Column Shapes"]), "pair trends": float(parts["Column Pair Trends"])}
        found["logistic detection"] = float(LogisticDetection.compute(first, second, metadata=metadata))
        turns.report(**found)


def _typed(frame: pd.DataFrame, columns: dict[str, dict[str, str]]) -> pd.DataFrame:
    for name, about in columns.items():
        if about["sdtype"] == "categorical":
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return frame[list(columns)]


if __name__ == "__main__":
    serve(detect=detect, synthesize=synthesize, judge=judge)
