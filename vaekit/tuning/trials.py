"""The trials of a search: what Optuna proposes is fitted, judged by held-out rows, and kept where it is the best."""

import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vaekit import evaluation, runs
from vaekit.data import Dataset
from vaekit.errors import ConfigError, ShapeError, SupportError, TrainingError, UnreliableEstimateWarning
from vaekit.models.view import View
from vaekit.training.callbacks import Callback
from vaekit.training.callbacks import Run as Loop
from vaekit.tuning.ranges import Range

if TYPE_CHECKING:
    import optuna

JOURNAL, RUNNING, BEST = "trials.log", "running", "best"
_ROWS, _DRAWS = 1000, 100
_BOUNDS = ("valid_iwae", "valid_elbo")
_FIRST, _WARM_UP = 5, 20  # trials that are never stopped early; percent of a training before which none is
Announce = Callable[[str], object]


@dataclass(frozen=True)
class Trial:
    """What became of some settings.

    Attributes:
        number: from 0.
        state: "done", "stopped" (early: it was worse than the median at this time), or "failed".
        settings: those that were searched.
        log_p: mean log p of held-out rows, nats; None where there is none.
        stderr: Monte Carlo error of the mean.
        sampling_stderr: its error over the rows.
        unreliable: share of rows whose log p is a lower bound in expectation rather than a number with an error.
        epochs: how many were trained.
        seconds: how long all took.
        reason: why it failed.
    """

    number: int
    state: str
    settings: Mapping[str, str | int | float]
    log_p: float | None = None
    stderr: float | None = None
    sampling_stderr: float | None = None
    unreliable: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""


def _study(place: Path) -> "optuna.Study":
    """The trials of the folder, as Optuna keeps them: a line of JSON for each event."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ConfigError("a search needs Optuna, which is not installed: pip install 'vaekit[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_FIRST, n_warmup_steps=_WARM_UP)
    storage = JournalStorage(JournalFileBackend(str(place / JOURNAL)))
    return optuna.create_study(
        storage=storage, pruner=pruner, direction="maximize", study_name="vaekit", load_if_exists=True
    )


class _EarlyStop(Callback):
    """Tell Optuna the held-out bound of each epoch, and end a trial that is worse than the median."""

    def __init__(self, trial: "optuna.Trial", bound: str | None) -> None:
        self._trial, self._bound, self._share = trial, bound, 0

    def on_fit_start(self, loop: Loop) -> None:
        for epoch, record in enumerate(loop.history.records, 1):  # of a trial that goes on
            self._report(record, epoch, loop.max_epochs)

    def on_epoch_end(self, loop: Loop, record: dict[str, float]) -> None:
        import optuna

        if self._report(record, loop.epoch, loop.max_epochs) and self._share < 100 and self._trial.should_prune():
            raise optuna.TrialPruned

    def _report(self, record: Mapping[str, float], epoch: int, max_epochs: int) -> bool:
        """Note the bound of an epoch; says whether there is something new to decide by."""
        self._trial.set_user_attr("epochs", epoch)
        bound = next((name for name in _BOUNDS if name in record), None)
        if bound is None or bound != (self._bound or bound):
            return False  # a bound of another kind than that of the first trial, beside which no median stands
        self._trial.set_user_attr("bound", bound)
        share = 100 * epoch // max_epochs  # trainings of several lengths are compared at the same share
        if share <= self._share:
            return False
        self._share, value = share, record[bound]
        self._trial.report(value if math.isfinite(value) else -sys.float_info.max, share)
        return True


class Searching:
    """A search under way."""

    def __init__(
        self,
        place: Path,
        source: str,
        searched: Mapping[str, Range],
        fixed: Mapping[str, object],
        seed: int,
        reads: Mapping[str, Any],
        announce: Announce,
    ) -> None:
        self._study, self._place, self._source, self._searched = _study(place), place, source, searched
        self._fixed, self._seed, self._reads, self._announce = fixed, seed, reads, announce

    def again(self) -> None:
        """Enqueue the trial that ran when the search was killed."""
        import optuna

        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if "result" in trial.user_attrs:  # all but the last line was written
                self._tell(trial.number, trial.user_attrs["result"])
                continue
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            self._study.enqueue_trial(trial.params, user_attrs={"goes_on": True})

    def trials(self) -> tuple[Trial, ...]:
        """What became of the trials that came to an end, without those that were interrupted."""
        found: list[Trial] = []
        for trial in self._study.get_trials(deepcopy=False):
            if "result" in trial.user_attrs:
                settings = {key: trial.params[key] for key in self._searched}
                found.append(Trial(number=len(found), settings=settings, **trial.user_attrs["result"]))
        return tuple(found)

    @property
    def quantity(self) -> str | None:
        """What log p is in the trials; None before the first one is done."""
        return self._study.user_attrs.get("quantity")

    def one(self) -> None:
        """A trial: settings, a fit, and its log p of held-out rows."""
        import optuna

        known = self.trials()
        # As a function of the trials before it, what is proposed does not depend on when the search was killed.
        self._study.sampler = optuna.samplers.TPESampler(seed=self._seed + len(known), constant_liar=False)
        trial = self._study.ask()
        chosen = {key: one.suggest(key, trial) for key, one in self._searched.items()}
        start = time.monotonic()
        result: dict[str, Any] = {"state": "failed"}
        try:
            result = {"state": "done", **self._fitted(trial, chosen)}
            self._keep(result["log_p"], known)
        except optuna.TrialPruned:
            result["state"] = "stopped"
        except (ConfigError, ShapeError, SupportError, TrainingError) as error:
            result["reason"] = " ".join(str(error).split())
        result |= {"epochs": trial.user_attrs.get("epochs", 0), "seconds": time.monotonic() - start}
        trial.set_user_attr("result", result)
        self._tell(trial.number, result)
        shutil.rmtree(self._place / RUNNING, ignore_errors=True)
        self._say(self.trials()[-1])

    def _tell(self, number: int, result: Mapping[str, Any]) -> None:
        """Let Optuna know what became of a trial."""
        from optuna.trial import TrialState

        states = {"done": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._study.tell(number, result.get("log_p"), state=states[result["state"]])

    def _fitted(self, trial: "optuna.Trial", chosen: Mapping[str, object]) -> dict[str, float]:
        """Fit a model, and judge it."""
        folder, goes_on = self._place / RUNNING, bool(trial.user_attrs.get("goes_on"))
        stop = _EarlyStop(trial, self._study.user_attrs.get("bound"))
        runs.fit(
            self._source,
            folder,
            {**self._fixed, **chosen},
            resume=goes_on,
            overwrite=not goes_on,
            progress=False,
            callbacks=[stop],
            **self._reads,
        )
        if "bound" in trial.user_attrs and "bound" not in self._study.user_attrs:
            self._study.set_user_attr("bound", trial.user_attrs["bound"])
        run = runs.open(folder)
        view = View.of(run.model, _held_out(run), max_rows=_ROWS)
        noise = torch.Generator().manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableEstimateWarning)  # their share is a column of the table
            found = evaluation.log_marginal(run.model, view, num_samples=_DRAWS, generator=noise, key="content")
        if found.quantity == "no density":
            raise ConfigError("trials are compared by log p, and this model has none")
        known = self.quantity
        if known is not None and known != found.quantity:
            raise ConfigError(f"log p is a {found.quantity} here and a {known} in the first trial: no two to compare")
        if not math.isfinite(found.mean):
            raise TrainingError(f"log p of {int((~found.value.isfinite()).sum())} held-out rows is no number")
        if known is None:
            self._study.set_user_attr("quantity", found.quantity)
        errors = {"stderr": found.mean_stderr, "sampling_stderr": found.sampling_stderr}
        return {"log_p": found.mean, **errors, "unreliable": float(found.unreliable.double().mean())}

    def _keep(self, log_p: float, before: Sequence[Trial]) -> None:
        """Let the run be the best one, where it is."""
        if any(trial.log_p is not None and trial.log_p >= log_p for trial in before if trial.state == "done"):
            return
        best, aside = self._place / BEST, self._place / f"{BEST}.old"
        shutil.rmtree(aside, ignore_errors=True)
        if best.exists():
            best.rename(aside)
        (self._place / RUNNING).rename(best)
        shutil.rmtree(aside, ignore_errors=True)

    def _say(self, trial: Trial) -> None:
        settings = " ".join(f"{key}={in_short(value)}" for key, value in trial.settings.items())
        what = {
            "done": f"log p {trial.log_p or 0:.3f} +- {trial.sampling_stderr or 0:.3f}",
            "stopped": "stopped early",
            "failed": f"failed: {trial.reason}",
        }[trial.state]
        self._announce(f"trial {trial.number}: {settings}: {what} ({trial.epochs} epochs, {trial.seconds:.0f} s)")


def _held_out(run: runs.Run) -> Dataset:
    """The rows that chose the epoch: never those of a test part."""
    if run.data.valid is not None:
        return run.parts().judged
    rows = run.rows(part="train")
    return rows.take(run.split(rows).held_out)


def in_short(value: object) -> str:
    """A setting in a line."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
