"""A run as an object: the fitted model, its settings, what its data were, and its answers for other rows."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit import evaluation
from vaekit.data import Dataset
from vaekit.data.cells import naming_cells
from vaekit.evaluation.health.verdict import held_back
from vaekit.evaluation.results import TRAINING, Results, in_sample, with_article
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.queries.classify import By
from vaekit.runs.asked_rows import AskedRows
from vaekit.runs.classes import DRAWS, classify_rows, given_in_words
from vaekit.runs.detection import detect, draws_for
from vaekit.runs.division import Parts
from vaekit.runs.questions import TableQuestions
from vaekit.runs.rows import OUT_OF_BOUNDS, of_new_cells
from vaekit.runs.table import Table, check_key, element_names
from vaekit.saving import artifact
from vaekit.traits import Data


class Run(AskedRows, TableQuestions):
    """A fitted model with its data's description; `vk.runs.open` and `vk.runs.fit_rows` make one.

    Its questions (`score`, `encode`, `reconstruct`, `sample`) answer with a `Table`, under the seed alone: the same
    question has the same answer each time. The command line and a service ask them as a notebook does.

    Args:
        folder: the folder of the run; None for one in memory.
        config: what its `config.json` holds.
        weights: of a run in memory, what its `model.safetensors` would hold.
        epochs: of a run in memory, the records of the epochs.

    Attributes:
        folder: the folder of the run; None for one in memory.
        config: what its `config.json` holds.
        data: what its data were; empty where the model was only saved.
        called: its folder in words, for messages.
    """

    def evaluate(
        self,
        rows: Data = None,
        *,
        num_samples: int = 100,
        full: bool = False,
        max_rows: int | None = None,
        seed: int = 0,
        progress: bool = False,
        transform_draws: int = 1,
        transform_seed: int = 0,
    ) -> Results:
        """Bounds, diagnostics and a verdict: `evaluation.evaluate` of held-out rows, with training rows beside them.

        Names without a prefix are of rows that were not trained on, as far as the run knows; the same names with
        `train.` in front are of rows that were. Where all rows were trained on, every name has the prefix.

        Args:
            rows: the parts that `parts` gives, or what `parts` makes them of; None takes what the run was fitted to.
            num_samples: see `evaluation.evaluate`, as for `full` and `max_rows`.
            seed: source of all noise.
            progress: whether to report on stderr.
            transform_draws: see `evaluation.evaluate`, as for `transform_seed`.
        """
        parts = rows if isinstance(rows, Parts) else self.parts(rows)
        ask = partial(
            evaluation.evaluate,
            self.model,
            num_samples=num_samples,
            full=full,
            max_rows=max_rows,
            progress=progress,
            generator=_generator(seed),
            transform_draws=transform_draws,
            transform_seed=transform_seed,
            described=self.training_rows,
        )
        with naming_cells(parts.judged):
            if parts.held_out is None:
                return in_sample(ask(parts.judged, part=TRAINING))
            found = ask(parts.held_out, train=parts.train, part=parts.part)
        # Rows beside which no training rows stand may be of any kind.
        return held_back(found) if self.training_rows is None and parts.train is None else found

    def score(
        self,
        rows: Data,
        *,
        num_samples: int | None = None,
        seed: int = 0,
        progress: bool = False,
        transform_draws: int = 1,
        transform_seed: int = 0,
    ) -> Table:
        """log p(x) of each row in nats: columns `log_p`, `stderr` (Monte Carlo) and `ess`, float64.

        A row has the same score alone and among others, up to rounding: its noise is a function of its content and the
        seed. A row without a number has NaN or -inf as `log_p`. `Table.reasons` says why, and which not to believe.
        Bits, or the noise of a dequantisation, are a function of the row and `transform_seed`, whatever `seed`;
        `Table.notes` says so, and as `Table.quantity` whether log p is a density or a mass.

        Args:
            rows: a data set, as `rows` gives it, or what `rows` makes one of.
            num_samples: K, draws of z per row; None takes 100 up to 100,000 rows, and 10 beyond.
            seed: source of all noise but that of a random transform.
            progress: whether to report on stderr.
            transform_draws: T, draws of a random transform's noise for each row: `log_p` is the mean over them, and
                `stderr` holds how much they differ; see `evaluation.log_marginal`.
            transform_seed: the first transform seed.

        Raises:
            ConfigError: if the rows' column of identifiers has the name of one of these, as in the other questions.
        """
        rows, columns = self._asked(rows), ("log_p", "stderr", "ess")
        check_key(rows.key, columns)
        num_samples = num_samples or draws_for(len(rows))
        found = evaluation.log_marginal(
            self.model,
            self._view(rows),
            num_samples=num_samples,
            generator=_generator(seed),
            progress=progress,
            key="content",
            transform_draws=transform_draws,
            transform_seed=transform_seed,
        )
        values = torch.stack([found.value, found.stderr, found.ess], dim=1).numpy()
        new, said = of_new_cells(rows, self.data.num_rows or 0)
        given_what = given_in_words(self.data.context_schema, rows)
        values[:, 0] += new
        reasons = {text: bad.numpy() for text, bad in found.reasons.items()}
        reasons |= {OUT_OF_BOUNDS: np.isinf(new)} if np.isinf(new).any() else {}
        what = f"log_p is {with_article(found.quantity)}, in nats", f"K = {num_samples} draws of z per row"
        notes = _notes(*what, given_what, found.transform_noise, said)
        return Table(values, columns, rows.key, rows.row_keys, reasons, notes, found.quantity)

    def detect(
        self,
        rows: Data,
        *,
        rate: float | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        progress: bool = False,
        transform_seed: int = 0,
    ) -> Table:
        """Which rows are odd beside rows that were not trained on, and why; see `runs.detection.detect`.

        Columns `log_p`, `p_value` (conformal), `outlier` and `reason`.

        Args:
            rows: a data set, as `rows(..., lenient=True)` gives it, or what that makes one of.
            rate: share of rows like those of the fit that may be called outliers; None takes 5%.
            num_samples: K, draws of z per row; None takes 100 up to 100,000 rows, and 10 beyond.
            seed: see `Run.score`, as for `progress` and `transform_seed`.
        """
        rows = rows if isinstance(rows, Dataset) else self.rows(rows, lenient=True)
        rows = rows if rows.contexts is not None else self._in_context(rows)
        return detect(
            self, rows, rate=rate, num_samples=num_samples, seed=seed, progress=progress, transform_seed=transform_seed
        )

    def classify(
        self,
        rows: Data,
        *,
        num_samples: int = DRAWS,
        seed: int = 0,
        proportions: Sequence[float] | None = None,
        by: By | None = None,
        progress: bool = False,
    ) -> Table:
        """The class of each row by Bayes' rule: columns `label`, `p_<class>`, `stderr_<class>` and `log_p`.

        Classes stand in their order. log p(x|y) is divided by the temperature that the fit chose on held-out rows, in
        p(y|x) alone. A model with a classifier of its own, as M2, answers by that; `Table.notes` says which it was.
        Labels that the rows have are not looked at.

        Args:
            rows: a data set, as `rows(..., lenient=True)` gives it, or what that makes one of.
            num_samples: K, draws of z per row and class.
            seed: source of all noise.
            proportions: p(y) in the order of the classes; None takes the shares of the training rows.
            by: "bayes", or "posterior" for the model's own q(y|x); None takes that where there is one.
            progress: whether to report on stderr.

        Raises:
            ConfigError: if the model is not one given a single label.
        """
        rows = rows if isinstance(rows, Dataset) else self.rows(rows, lenient=True)
        return classify_rows(self, rows, num_samples, seed, proportions, progress, by)

    def encode(self, rows: Data, *, mean: bool = True, seed: int = 0, transform_seed: int = 0) -> Table:
        """E[z|x] of each row, or a draw from q(z|x): columns `z0`, `z1`, ...; `transform_seed` as in `score`."""
        rows = self._asked(rows)
        one = self.model if rows.contexts is None else self.model.given(rows.contexts[:1])
        columns = element_names(View.of(one).latent_shape, "z")
        check_key(rows.key, columns)
        view = self._view(rows).under(transform_seed)
        codes = self.model.encode(view, mean=mean, generator=_generator(seed)).cpu().numpy()
        return Table(codes, columns, rows.key, rows.row_keys, notes=_notes(view.transform_noise(errors=False)))

    def reconstruct(self, rows: Data, *, mean: bool = True, seed: int = 0, transform_seed: int = 0) -> Table:
        """E[x'|z] at z = E[z|x] of each row, or draws throughout, in the units of the data, under their columns.

        Float64; whole where the data were and p(x|z) is a density. A mass draws whole numbers by itself.
        """
        rows = self._asked(rows)
        columns = self._columns(rows.event_shape)
        check_key(rows.key, columns)
        view = self._view(rows).under(transform_seed)
        x = self._in_units(view.wide().reconstruct(mean, _generator(seed)))
        notes, schema = _notes(view.transform_noise(errors=False)), self.data.columns_schema
        return Table(x, columns, rows.key, rows.row_keys, notes=notes, schema=schema)

    def decode(self, z: Data, *, mean: bool = True, seed: int = 0) -> Table:
        """E[x|z], or a draw from p(x|z), of each latent z of shape (N, *Z), as in `reconstruct`, and without keys."""
        view = View.of(self.model).wide()
        latents = as_tensor(z).to(view.dtype)
        x = self._in_units(view.decode(latents, mean, _generator(seed)))
        return Table(x, self._columns(x.shape[1:]), schema=self.data.columns_schema)

    def sample(self, n: int, *, mean: bool = False, seed: int = 0, given: Data = None, **how: Any) -> Table:
        """Draws from p(x), or means of p(x|z), in the units of the data, as in `reconstruct`, and without keys.

        Args:
            n: number of rows, for each partial row where there are several.
            mean: means of p(x|z) at draws of z instead of draws; not with conditions on cells.
            seed: source of all noise.
            given: cells that all rows have: a mapping from columns to cells, or to text that says them; or partial
                rows, as `rows` reads them, whose empty cells are drawn. Draws are then from p(other cells | these).
                What the model is conditioned on, such as a label, is given exactly, by its name (`label` where it has
                none of its own); cells of the rows are given by importance resampling. `Table.notes` says which.
            **how: with conditions, `method` and `num_samples` of `queries.sample_given`.

        Raises:
            ConfigError: if there is no such column, or it cannot have such a cell.
            DataError: if the model gives the condition no mass.
        """
        if given is not None:
            return self._sample_given(n, given, seed, mean, **how)
        x = self._in_units(View.of(self.model).wide().sample(n, mean, _generator(seed)))
        return Table(x, self._columns(x.shape[1:]), schema=self.data.columns_schema)

    def _columns(self, event_shape: tuple[int, ...]) -> tuple[str, ...]:
        return self.data.columns or element_names(event_shape, "x")


def open(folder: str | Path) -> Run:
    """The run in a folder, or any model that `vk.save` wrote; weights are read when they are first needed.

    Args:
        folder: the folder.

    Raises:
        ArtifactError: if it holds no saved model, or one of a newer vaekit.

    Example:
        Log-densities of new rows, beside their identifiers::

            run = vk.runs.open("RUN")
            table = run.score(run.rows("new.csv"), num_samples=100, seed=0)
            table.write("scores.csv")
    """
    return Run(Path(folder), artifact.read_config(folder))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _notes(*sentences: str | None) -> tuple[str, ...]:
    return tuple(sentence for sentence in sentences if sentence is not None)
