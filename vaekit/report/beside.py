"""A model of a table beside simple tools at the same jobs, on rows that neither was fitted to; losses are said."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vaekit import evaluation, queries
from vaekit.errors import UnreliableEstimateWarning, VaekitError
from vaekit.models.view import View
from vaekit.queries.cells import parts_of
from vaekit.report.baselines import DETECTORS, FILLERS, MAKERS, Floats

US = "this model"
_LEARNED, _JUDGED = 2_000, 500  # rows that the simple tools learn from, and that all are judged on
_HIDDEN = 0.1
_FOLDS = 5


@dataclass(frozen=True)
class Contest:
    """One job: what each tool reached, and a sentence.

    Attributes:
        job: what was done, a title.
        measure: what the numbers are.
        scores: by tool, a value and its standard error.
        verdict: who is better, in words.
    """

    job: str
    measure: str
    scores: Mapping[str, tuple[float, float]]
    verdict: str


def judged(job: str, measure: str, each: Mapping[str, Floats], *, lower: bool = False, root: bool = False) -> Contest:
    """A contest from what each tool reached in the same n cases: means, and paired differences to the model.

    Args:
        job: a title.
        measure: what the numbers are.
        each: by tool, shape (n,), the model's under `US`.
        lower: whether less is better.
        root: whether the root of a mean is shown, as of squared errors.
    """
    scores: dict[str, tuple[float, float]] = {}
    better: list[str] = []
    worse: list[str] = []
    for name, values in each.items():
        mean, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
        scores[name] = (math.sqrt(mean), error / (2 * math.sqrt(mean) or 1.0)) if root else (mean, error)
        gain = (values - each[US]) * (-1 if lower else 1)
        if name != US and abs(gain.mean()) > 2 * gain.std(ddof=1) / math.sqrt(len(gain)):
            (better if gain.mean() > 0 else worse).append(name)
    equal = [name for name in each if name not in (US, *better, *worse)]
    said = [f"{_listed(better)} {_is(better)} better than {US}"] if better else []
    said += [f"{US} is better than {_listed(worse)}"] if worse else []
    said += [f"{_listed(equal)} {_is(equal)} as good, within two standard errors"] if equal else []
    return Contest(job, measure, scores, "; ".join(said) + ".")


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class Beside:
    """The contests of one model.

    Args:
        view: the model, and rows that it was not fitted to.
        learned: rows that it was fitted to, shape (N, D), in the units of the data, NaN in holes.
        seed: of all noise.
    """

    def __init__(self, view: View, learned: Floats, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.view, self.seed = view.some(_JUDGED), seed
        rows = torch.as_tensor(self.view.rows)
        self.dtype = rows.dtype if rows.is_floating_point() else torch.float64
        self.x = rows.cpu().double().numpy()
        self.learned = learned[np.sort(random.permutation(len(learned))[:_LEARNED])]
        self.num_levels = np.zeros(self.x.shape[1], dtype=int)
        for part in parts_of(view.at_prior):
            if part.has_levels:
                self.num_levels[part.columns] = part.level_masses().shape[-1]
        self.mean, scale = np.nanmean(self.learned, axis=0), np.nanstd(self.learned, axis=0)
        self.scale = np.where(scale > 0, scale, 1.0)

    def all(self) -> list[Contest]:
        """Every contest that the model can enter."""
        jobs = (self.odd_rows, self.fills, self.made_up, self.features)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableEstimateWarning)  # the verdict is over all rows
            return [contest for job in jobs if (contest := job()) is not None]

    def as_features(self, x: Floats, holes: bool = False) -> Floats:
        """Standardised numbers and one-hot levels, shape (N, F); holes as 0, or NaN."""
        columns = []
        for j, size in enumerate(self.num_levels):
            if size:
                seen = (x[:, j : j + 1] == np.arange(size)).astype(float)
                columns.append(np.where(np.isnan(x[:, j : j + 1]), np.nan, seen))
            else:
                columns.append(((x[:, j] - self.mean[j]) / self.scale[j])[:, None])
        features = np.concatenate(columns, axis=1)
        return features if holes else np.nan_to_num(features)

    def places(self, place: int) -> slice:
        """Where the features of a column stand."""
        sizes = np.maximum(self.num_levels, 1)
        return slice(int(sizes[:place].sum()), int(sizes[: place + 1].sum()))

    def _beside(self, x: Floats) -> View:
        return self.view.beside(torch.from_numpy(x).to(self.dtype))

    def _noise(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    # --- The jobs ----------------------------------------------------------------------------------------------------

    def odd_rows(self) -> Contest | None:
        """Rows whose cells come from rows of their own, told from rows as they are: the area under the ROC curve."""
        random = np.random.default_rng(self.seed)
        mixed = self.x.copy()
        for column in mixed.T:
            seen = ~np.isnan(column)
            column[seen] = random.permutation(column[seen])  # holes stay where they are
        both = np.concatenate([self.x, mixed])
        try:
            found = evaluation.log_marginal(self.view.model, self._beside(both), num_samples=50,
                                            generator=self._noise())  # fmt: skip
        except VaekitError:  # a context, or a likelihood without a density
            return None
        scores = {US: -np.nan_to_num(found.value.numpy(), nan=-math.inf, posinf=1e300, neginf=-1e300)}
        learned, scored = self.as_features(self.learned), self.as_features(both)
        scores |= {name: detect(learned, scored) for name, detect in DETECTORS.items()}
        size = len(self.x)
        each = {name: _ranks(values[:size], values[size:]) for name, values in scores.items()}
        what = "area under the ROC curve of rows whose cells were shuffled between rows"
        return judged("Odd rows", f"{what}; 0.5 is chance, 1 is best", each)

    def fills(self) -> Contest | None:
        """A tenth of the cells hidden: standardised squared errors of numbers; of levels whether the fill is wrong."""
        random = np.random.default_rng(self.seed)
        seen = ~np.isnan(self.x)
        where = (random.random(self.x.shape) < _HIDDEN) & seen
        where &= (seen & ~where).any(1, keepdims=True)
        holed = np.where(where, np.nan, self.x)
        try:
            rows = self._beside(holed)
            ours = queries.impute(self.view.model, rows, num_samples=50, generator=self._noise()).filled
        except VaekitError:  # the likelihood counts each cell
            return None
        filled = {US: self.as_features(np.asarray(ours, dtype=np.float64))}
        learned, features = self.as_features(self.learned, holes=True), self.as_features(holed, holes=True)
        filled |= {name: fill(learned, features) for name, fill in FILLERS.items()}
        each = {name: self._misses(values, where) for name, values in filled.items()}
        numbers, levels = bool((self.num_levels == 0).any()), bool((self.num_levels > 0).any())
        parts = ["squared error of a number by the variance of its column"] if numbers else []
        parts += ["1 where a level is wrong"] if levels else []
        return judged("Holes", f"root of the mean over hidden cells: {', '.join(parts)}; less is better", each,
                      lower=True, root=True)  # fmt: skip

    def _misses(self, features: Floats, where: np.ndarray) -> Floats:
        """What each hidden cell is off by, shape (number of cells,)."""
        truth, found = self.as_features(self.x), []
        for j, size in enumerate(self.num_levels):
            rows, of = where[:, j], self.places(j)
            if size:
                found.append((features[rows, of].argmax(1) != truth[rows, of].argmax(1)).astype(float))
            else:
                found.append((features[rows, of][:, 0] - truth[rows, of][:, 0]) ** 2)
        return np.concatenate(found)

    def made_up(self) -> Contest | None:
        """How far correlations between columns of made-up rows are from those of the judged rows."""
        size = _FOLDS * len(self.x)
        drawn = self.view.wide().sample(size, False, self._noise()).double().cpu().numpy()
        made = {US: drawn} | {name: make(self.learned, size) for name, make in MAKERS.items()}
        pairs = self._pairs()
        if not len(pairs):
            return None
        truth = self.correlations(self.x)
        each = {}
        for name, rows in made.items():
            folds = np.array_split(rows, _FOLDS)
            each[name] = np.array([np.abs(self.correlations(fold) - truth)[pairs].mean() for fold in folds])
        return judged("Made-up rows", "mean absolute error of the correlations of two columns; less is better", each,
                      lower=True)  # fmt: skip

    def correlations(self, x: Floats) -> Floats:
        """Correlations of features; 0 where one does not vary."""
        features = self.as_features(x)
        features = features - features.mean(0)
        spread = np.sqrt((features**2).mean(0))
        result: Floats = features.T @ features / len(x) / np.outer(spread, spread).clip(min=1e-12)
        return result

    def _pairs(self) -> np.ndarray:
        """Which features belong to two columns, shape (F, F), bool; empty where there is one column."""
        owner = np.repeat(np.arange(len(self.num_levels)), np.maximum(self.num_levels, 1))
        apart: np.ndarray = owner[:, None] < owner[None]
        return apart if apart.any() else np.zeros((0, 0), dtype=bool)

    def features(self) -> Contest | None:
        """Numbers given back from as few codes, by principal components: squared errors, a row each."""
        from sklearn.decomposition import PCA

        numbers, size = self.num_levels == 0, math.prod(self.view.latent_shape)
        if size >= min(len(self.learned), int(numbers.sum())):  # as many codes as numbers lose nothing
            return None
        learned, judged_rows = self.as_features(self.learned), self.as_features(self.x)
        back = PCA(size, random_state=0).fit(learned)
        places = [self.places(int(j)).start for j in np.flatnonzero(numbers)]
        ours = self.as_features(self.view.wide().reconstruct(True, self._noise()).double().cpu().numpy())
        filled = {US: ours, "principal components": back.inverse_transform(back.transform(judged_rows))}
        seen = ~np.isnan(self.x[:, numbers])
        count = seen.sum(1).clip(min=1)
        each = {
            name: (((values - judged_rows)[:, places] ** 2) * seen).sum(1) / count for name, values in filled.items()
        }
        what = f"root mean square error of numbers given back from {size} codes, by their sd; less is better"
        return judged("Features", what, each, lower=True, root=True)


def _ranks(low: Floats, high: Floats) -> Floats:
    """Placements of paired rows, whose mean is the area under the ROC curve (DeLong 1988), shape (n,)."""
    above = (high[None] > low[:, None]) + 0.5 * (high[None] == low[:, None])
    result: Floats = above.mean(1) + above.mean(0) - above.mean()
    return result
