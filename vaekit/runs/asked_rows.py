"""The rows that a run is asked about: read as its data were, and told apart from those that it was trained on."""

import math
from functools import partial
from pathlib import Path

from vaekit import data
from vaekit.data import Dataset, Reading
from vaekit.data.cells import naming_cells
from vaekit.data.contexts import with_contexts
from vaekit.data.sources import Part, set_and_part
from vaekit.errors import ConfigError, DataError
from vaekit.models.view import View
from vaekit.runs.division import CHANGED, Parts, Split, again, is_fitted_to, num_alike, own_set, split_of
from vaekit.runs.drift import say_drift
from vaekit.runs.fitted import Fitted
from vaekit.runs.rows import HowRead, rows_like
from vaekit.traits import Data

_COMPARED = 2**24  # numbers of a file that is read again to see whether other rows are equal to rows of it


class AskedRows(Fitted):
    """What a run does with rows before it answers for them; see `Run`."""

    # --- Rows --------------------------------------------------------------------------------------------------------

    def rows(
        self,
        source: Data = None,
        part: Part = "test",
        *,
        data_dir: str | Path | None = None,
        label: str | None = None,
        key: str | None = None,
        reading: Reading | None = None,
        lenient: bool = False,
    ) -> Dataset:
        """Rows read and checked as the training data were; one row is enough.

        Args:
            source: name or path; a data frame, a list of dictionaries, or whatever `Trainer.fit` takes; None takes what
                the run was fitted to.
            part: which part of a named set.
            data_dir: where named sets are looked for first.
            label: column of a table with labels, if it has another name than in the training data.
            key: column of a table with the identifiers of the rows, likewise.
            reading: how the file is read, where it is another way than the training data were.
            lenient: take levels that the fit never met, and numbers out of bounds, for holes instead of refusing them;
                `Dataset.excluded` says which. A log p counts each as something new.

        Raises:
            ConfigError: if no source is given and the run does not know one.
            DataError: if the data cannot be read, or have other columns.

        Warns:
            DataChangedWarning, DriftWarning: The data of the run are elsewhere or have changed; others have drifted.
        """
        if source is None and (own := own_set(self.data)) is not None:  # of the set, what is wanted now is `part`
            source = own[0]
        how: HowRead = {"data_dir": data_dir, "label": label, "key": key, "reading": reading, "lenient": lenient}
        if isinstance(source, str) and set_and_part(source) is not None:
            how["data_dir"] = data_dir or self._own.data_dir
        if source is None:
            own_rows = partial(self._own.rows, is_known=lambda rows: self.split(rows).is_known)
            found = own_rows(lambda path: rows_like(self.data, path, part, **how))
            return found if lenient else self._in_context(found)
        rows = rows_like(self.data, source, part, **how)
        if isinstance(source, str | Path) and self._own.lie_at(source):
            self._own.compare(source, rows)
        elif self.folder is not None:  # estimators are silent, as scikit-learn's are
            say_drift(self.training_rows, rows, source, self.called)
        return rows if lenient else self._in_context(rows)

    def _in_context(self, rows: Dataset) -> Dataset:
        """The rows with what the model is conditioned on, where it is and they have it."""
        return rows if self.data.context_schema is None else with_contexts(rows, self.data.context_schema, whole=True)

    def compare_with_fit(self, rows: Dataset) -> None:
        """Say how rows differ from those of the fit, where they were read from the place of the data of the run.

        Args:
            rows: rows as another run has read them; `rows` itself compares what it reads.

        Warns:
            DataChangedWarning: They differ.
        """
        if self._own.lie_at(rows.source):
            self._own.compare(rows.source, rows)

    # --- Rows that were trained on -----------------------------------------------------------------------------------

    def split(self, rows: Data) -> Split:
        """Which of these rows the run was trained on.

        Rows are known again by their checksum: all that the fit was handed, a file that has grown since, the validation
        data, and the parts of the named set. Other rows are `rows` that the run knows nothing of.

        Args:
            rows: a data set, as `rows` gives it, or what `rows` makes one of.
        """
        rows = self._asked(rows)
        is_own = self._own.lie_at(rows.source)
        return split_of(self.data, rows, partial(self._part_of_set, rows), is_own)

    def _part_of_set(self, rows: Dataset, part: str) -> Dataset | None:
        """A part of the named set that the run was fitted to and the rows are of, found where they were found."""
        own = own_set(self.data)
        if own is None or rows.name != own[0] or Path(rows.source).is_file():
            return None
        try:
            return self._in_context(data.load(f"{own[0]}:{part}", data_dir=rows.source))
        except DataError:
            return None

    def parts(
        self,
        source: Data = None,
        part: Part = "test",
        *,
        data_dir: str | Path | None = None,
        label: str | None = None,
        key: str | None = None,
        reading: Reading | None = None,
    ) -> Parts:
        """Rows to judge the run by, those that it was trained on apart from the others.

        Beside validation rows and the test part of a named set stand the rows that were trained on, where they can be
        read again. Rows that the run knows nothing of stand alone; where some of them are equal
        to rows that were trained on, they are called so.

        Args:
            source: see `rows`; None takes the test part of what the run was fitted to: of a path the rows that were
                held out, or the validation data that the fit was given.
            part: see `rows`, as for the other options.
        """
        named: HowRead = {"data_dir": data_dir, "label": label, "key": key, "reading": reading}
        if source is None and part == "test" and own_set(self.data) is None:
            source = self.data.valid
            if source is not None and set_and_part(source) is None:
                source = self._own.validation_rows(lambda path: self.rows(path, part, **named))
        rows = self.rows(source, part, **named)
        found = self.split(rows)
        if len(found.train):
            held_out = rows.take(found.held_out) if len(found.held_out) else None
            return Parts(rows.name, held_out, rows.take(found.train), found.part)
        if found.is_known:
            return Parts(rows.name, rows, self._trained_on(rows), found.part)
        alike, what = self.num_alike(rows), CHANGED if self._own.lie_at(rows.source) else found.part
        return Parts(rows.name, rows, None, what + (f" ({alike:,} equal to training rows)" if alike else ""))

    def num_alike(self, rows: Dataset) -> int:
        """How many rows are equal to one that was trained on, though the run does not know them by their checksum.

        A run that does not know its rows one by one reads its own file again for that; 0 where the file is gone or has
        changed, or holds more than 16 million numbers, and for named sets.
        """
        about = self.data
        found = again(about, rows) if str(rows.dtype) == about.dtype and own_set(about) is None else None
        if found is not None:
            return int(found.trained.sum())
        size = (about.num_rows or 0) * math.prod(about.event_shape or ())
        return 0 if own_set(about) is not None or size > _COMPARED else num_alike(rows, self._trained_on(rows))

    def _trained_on(self, rows: Dataset) -> Dataset | None:
        """The rows that were trained on, to stand beside others; None where they cannot be read or have changed."""
        own = own_set(self.data)
        try:
            fitted = self.rows() if own is None else self._part_of_set(rows, own[1])
        except (ConfigError, DataError):
            return None
        if fitted is None or (own is not None and not is_fitted_to(self.data, fitted)):
            return None
        known = self.split(fitted)
        return fitted.take(known.train) if len(known.train) else None

    def _view(self, rows: Dataset) -> View:
        """The rows as the model meets them; what is wrong with a cell is told by its place in the file."""
        with naming_cells(rows):
            return View.of(self.model, rows) if rows.contexts is not None else self._met.beside(rows)

    def _asked(self, rows: Data) -> Dataset:
        """The rows of a question: a data set as it is, or what `rows` makes of anything else."""
        if not isinstance(rows, Dataset):
            return self.rows(rows)
        return rows if rows.beside is None or rows.contexts is not None else self._in_context(rows)
