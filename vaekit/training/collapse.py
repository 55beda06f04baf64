"""A warning while training, when the code collapses to the prior or decays to that of an autoencoder."""

import warnings

from vaekit import bounds, engine
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import aggregate
from vaekit.evaluation.health.verdict import AUTOENCODER, COLLAPSE, Finding, verdict
from vaekit.models.rows import given
from vaekit.training.callbacks import Callback, Run
from vaekit.training.settings import VALID

WATCHED = (COLLAPSE, AUTOENCODER)


class CollapseWarning(Callback):
    """Warns, once each, when the code collapses to the prior or decays to that of an autoencoder while training.

    The signals are those of `evaluation.diagnostics` that cost one pass of the encoder: active units, rate, and the
    aggregate posterior. Training itself stays as it is, bit for bit.

    Args:
        every: epochs between two looks.
        patience: looks in a row that must agree; the first epochs, and a beta that still warms up, look bad in passing.
        max_rows: rows that are looked at, the first of the validation data, or of the training data without any.
    """

    def __init__(self, every: int = 5, patience: int = 2, max_rows: int = 500) -> None:
        self.every, self.patience, self.max_rows = every, patience, max_rows
        self.looks: dict[str, int] = {}
        self.active_units: list[int] = []

    def on_epoch_end(self, loop: Run, record: dict[str, float]) -> None:
        """Look, and warn of what has been there for `patience` looks."""
        if loop.epoch % self.every:
            return
        findings, active = self._findings(loop)
        self.active_units.append(active)
        self.looks = {f.name: self.looks.get(f.name, 0) + 1 for f in findings}
        for finding in findings:
            if self.looks[finding.name] == self.patience:
                warnings.warn(f"{finding.name}: {finding.evidence} {finding.remedy}", stacklevel=2)

    def _findings(self, loop: Run) -> tuple[list[Finding], int]:
        """What is wrong with the code of the first rows at this point of training, and the number of active units."""
        view = loop.train if loop.valid is None else loop.valid
        if len(view) < 2 or not view.has_likelihood:
            return [], 0
        with engine.evaluating(view.model), engine.seeded(engine.block_seed(loop.settings.seed, VALID)):
            batch = view.batch(slice(0, self.max_rows))
            model = given(view.model, batch.context)
            code = aggregate(model, batch.x)
            rate = Score.of_mean(bounds.elbo_terms(model, batch.x)[1])
        return [finding for finding in verdict(rate, code) if finding.name in WATCHED], code.active_units
