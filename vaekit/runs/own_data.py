"""The data that a run was fitted to, read again: where they are now, and whether they are what they were."""

import os
from collections.abc import Callable
from pathlib import Path

from vaekit.data import Dataset
from vaekit.data.reading import notice
from vaekit.errors import DataChangedWarning, DataError
from vaekit.paths import as_text, from_place
from vaekit.runs.changes import in_words
from vaekit.runs.described import digest
from vaekit.runs.division import again
from vaekit.runs.folder import DataAbout
from vaekit.runs.places import find, is_own, is_same

IN_MEMORY = "the run in memory"
"""What a run without a folder is called in messages."""
Read = Callable[[str], Dataset]


class OwnData:
    """The data of a run.

    Args:
        about: what the run remembers of them.
        folder: the folder of the run; None for a run in memory, which knows no place of its data.

    Attributes:
        about: what the run remembers of them.
        place: absolute path of the folder, whatever the current folder will be.
        data_dir: where named sets were looked for first, or None.
    """

    def __init__(self, about: DataAbout, folder: Path | None) -> None:
        folder = folder or Path(IN_MEMORY)
        self.about, self.place = about, Path(os.path.abspath(folder))
        here = about.local and about.local.data_dir
        self.data_dir = from_place(here) if here else None
        self._name, self._said = as_text(folder), set[str]()

    def lie_at(self, source: str | Path) -> bool:
        """Whether a path is that of the data."""
        return is_own(self.about, self.place, source)

    def rows(self, read: Read, is_known: Callable[[Dataset], bool]) -> Dataset:
        """The data, wherever they are now; what differs is said.

        Args:
            read: reads a path.
            is_known: whether rows are those of the fit, or the fit's and others.

        Raises:
            DataError: if they are nowhere.
        """
        path, is_certain = find(self.about, self.place)
        rows = read(path)
        if not is_certain and not is_known(rows):
            raise DataError(
                f"{as_text(path)} in this folder holds other rows than those that {self._name} was fitted to. Name "
                "the data (DATA, behind RUN)."
            )
        self.compare(path, rows)
        return rows

    def validation_rows(self, read: Read) -> Dataset:
        """The validation data that the fit was given, likewise."""
        path, is_certain = find(self.about, self.place, "valid")
        rows = read(path)
        if self.about.valid_crc32 not in (None, digest(rows)):
            text = f"{as_text(path)} is not as it was when it chose the epoch of {self._name}"
            if not is_certain:
                raise DataError(f"{text}, or lay elsewhere. Name the data (DATA, behind RUN).")
            self._say(f"{text}: some of its rows may be new.")
        return rows

    def compare(self, path: str | Path, rows: Dataset) -> None:
        """Say where the data are now, and how they differ from those of the fit.

        Args:
            path: where they were read.
            rows: what was read there.
        """
        place = self.about.local and self.about.local.place
        if place and not is_same(was := from_place(place), path):
            self._say(f"the data of {self._name} are read from {as_text(path)}; they were at {as_text(was)}.")
        differs = in_words(self.about, rows, again(self.about, rows))
        if differs is not None:
            how, so = differs
            self._say(f"{as_text(path)} is not as it was when {self._name} was fitted to it: {how}. {so}")

    def _say(self, text: str) -> None:
        """Say something once."""
        if text not in self._said:
            self._said.add(text)
            notice(text, DataChangedWarning)
