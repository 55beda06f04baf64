"""A search over settings: one fit after another into a folder, which goes on where it was stopped."""

import io
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaekit.errors import ConfigError, TrainingError
from vaekit.frames import to_frame
from vaekit.paths import as_text
from vaekit.plots import style
from vaekit.runs.folder import alone
from vaekit.saving.files import write_atomically
from vaekit.tuning import pictures
from vaekit.tuning.ranges import Range, ranges
from vaekit.tuning.trials import BEST, JOURNAL, RUNNING, Searching, Trial

_ABOUT, _TABLE, _PICTURE = "tune.json", "trials.csv", "trials.png"
_OWN = (_ABOUT, JOURNAL, _TABLE, _PICTURE)


@dataclass(frozen=True)
class Search:
    """A search and its trials.

    Attributes:
        folder: where the best run lies, under `best`, beside `trials.csv` and `trials.png`.
        searched: key to range.
        trials: in the order of their numbers.
        quantity: what log p is in all trials; None without one.
    """

    folder: Path
    searched: Mapping[str, Range]
    trials: tuple[Trial, ...]
    quantity: str | None = None

    @property
    def best(self) -> Trial | None:
        """The trial of highest log p, whose run is `best`."""
        done = [trial for trial in self.trials if trial.state == "done"]
        return max(done, key=lambda trial: trial.log_p or -math.inf, default=None)

    def columns(self) -> dict[str, list[object]]:
        """Name to column: the searched settings behind what became of them."""
        names = ("number", "state", "log_p", "stderr", "sampling_stderr", "unreliable", "epochs", "seconds")
        rows = [asdict(trial) for trial in self.trials]
        found = {name: [row[name] for row in rows] for name in names}
        found |= {key: [trial.settings.get(key) for trial in self.trials] for key in self.searched}
        return found | {"reason": [trial.reason for trial in self.trials]}

    def to_csv(self) -> bytes:
        """The table of `trials.csv`."""
        from pyarrow.csv import write_csv

        buffer = io.BytesIO()
        write_csv(self.to_frame("pyarrow"), buffer)
        return buffer.getvalue()

    def to_frame(self, backend: str | None = None) -> Any:
        """A data frame with a row for each trial; see `vaekit.frames.to_frame`."""
        return to_frame(self.columns(), backend)


def tune(
    source: str,
    folder: str | Path,
    given: Mapping[str, object],
    *,
    trials: int = 20,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    announce: Callable[[str], object] | None = None,
    **reads: Any,
) -> Search:
    """Fit a model to data with one choice of settings after another, and keep the best run.

    Each trial is a fit, judged by the mean log p of at most 1,000 held-out rows, by importance sampling with K = 100:
    the same rows and the same number whatever the objective. The tree-structured Parzen estimator proposes settings; a
    trial whose held-out bound is below the median of the others at the same share of its training is stopped. What is
    proposed is a function of the seed and of the trials before, so that a search that was killed goes on as if it had
    not been: the fit that ran then goes on from its checkpoint.

    A trial fails where its settings do not go together, training is not finite, or log p is another kind of number than
    in the first trial, a density in one and a mass in another: such numbers cannot be compared.

    The best of many trials on the same held-out rows is a little flattered; judge it by a test part.

    References:
        Bergstra et al., "Algorithms for hyper-parameter optimization", 2011,
        https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization.
        Golovin et al., "Google Vizier", 2017, section 3.1.1 (the median rule), https://doi.org/10.1145/3097983.3098043.

    Args:
        source: name or path of the data, as `runs.fit` takes it.
        folder: where to write: `best`, the run of the best trial; `trials.csv` and `trials.png`; `trials.log`, by which
            a search goes on.
        given: settings by key, of which some have a range; see `ranges`.
        trials: how many there are in all.
        seed: source of what is proposed; that of the fits is the setting `seed`.
        resume: go on with the search in the folder, with more trials where there are more now.
        overwrite: replace the search in the folder.
        announce: called with a line for each trial.
        **reads: keywords of `runs.fit` that say how the data are read.

    Raises:
        ConfigError: for ranges that do not fit, a folder that holds something else, or Optuna missing.
        DataError: if the data cannot be read.
        TrainingError: if every trial fails, with the reason of the last one.
    """
    searched, fixed = ranges(given)
    about = {"data": as_text(source), "seed": seed, "fixed": {key: str(value) for key, value in fixed.items()}}
    about["searched"] = {key: str(value) for key, value in searched.items()}
    about["reads"] = {key: repr(value) for key, value in reads.items() if value is not None}
    place = Path(folder)
    with alone(place):
        _claim(place, about, resume, overwrite)
        search = Searching(place, source, searched, fixed, seed, reads, announce or (lambda line: None))
        search.again()
        while len(search.trials()) < trials:
            search.one()
            found = Search(place, searched, search.trials(), search.quantity)
            write_atomically(place / _TABLE, found.to_csv())
        found = Search(place, searched, search.trials(), search.quantity)
        if found.best is None:
            said = found.trials[-1].reason if found.trials else "there is none"
            raise TrainingError(f"no trial came to an end. The last one: {said}")
        style.save(pictures.of_trials(found.trials, searched), place / _PICTURE)
    return found


def _claim(place: Path, about: Mapping[str, object], resume: bool, overwrite: bool) -> None:
    """Make the folder of a search, or take the one that is there."""
    known = place / _ABOUT
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{as_text(place)} is a file, and no folder for a search")
    if known.exists() and not (resume or overwrite):
        raise ConfigError(f"{as_text(place)} holds a search. --resume goes on with it, --overwrite replaces it")
    if any(place.iterdir()) and not known.exists() and not overwrite:
        raise ConfigError(f"{as_text(place)} holds other files; name a folder of its own for a search")
    if known.exists() and resume:
        before = json.loads(known.read_text(encoding="utf-8"))
        differs = [key for key in about if before.get(key) != about[key]]
        if differs:
            what = ", ".join(f"{key} was {before.get(key)}" for key in differs)
            raise ConfigError(f"{as_text(place)} holds another search: {what}. --resume goes on with the same one")
        return
    if known.exists():
        for name in _OWN:
            (place / name).unlink(missing_ok=True)
        for name in (RUNNING, BEST):
            shutil.rmtree(place / name, ignore_errors=True)
    write_atomically(known, json.dumps(about, indent=2).encode())
