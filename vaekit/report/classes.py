"""A model with classes on a page: who is taken for whom, whether probabilities are right, and simple tools beside."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from vaekit import queries
from vaekit.errors import UnreliableEstimateWarning
from vaekit.models.view import View
from vaekit.plots import calibration, confusion
from vaekit.queries.calibration import reliability
from vaekit.report.baselines import CLASSIFIERS, Floats
from vaekit.report.beside import US, Beside, Contest, judged
from vaekit.report.figures import Picture, picture

_JUDGED, _LEARNED = 1_000, 10_000  # rows that all are judged on, and that the simple tools learn from
_LEAST = 1e-15  # of a probability in a log loss, as in scikit-learn


@dataclass(frozen=True, eq=False)
class Classes:
    """What a page says of classes needs to know beside the model and its rows.

    Attributes:
        names: of the classes, in their order.
        temperature: of p(y|x).
        learned: codes of the labels of the rows that simple tools learn from, shape (N',); None where there are none.
    """

    names: Sequence[str]
    temperature: float = 1.0
    learned: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class OfClasses:
    """The section on classes.

    Attributes:
        sentences: what is to be said.
        pictures: confusion matrix and calibration curve.
        contests: accuracy and log loss beside simple tools.
    """

    sentences: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)


def of_classes(view: View, about: Classes | None, learned: Floats | None, seed: int) -> OfClasses:
    """The section of a view whose rows have labels; an empty one of others.

    Args:
        view: the model, and rows with contexts that it was not fitted to.
        about: the classes; None where there are none.
        learned: rows that it was fitted to, shape (N', *X), in the units of the data.
        seed: of all noise.
    """
    if about is None or view.context is None:
        return OfClasses()
    some = view.some(_JUDGED)
    assert some.context is not None
    true = some.context[:, 0].cpu().long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        noise = torch.Generator().manual_seed(seed)
        found = queries.classify(some.model, some, temperature=about.temperature, generator=noise)
    p, codes = found.probabilities.numpy(), true.numpy()
    right = found.codes.numpy() == codes
    error = right.std() / np.sqrt(len(right))
    sentences = [
        f"Classes by Bayes' rule, p(y|x) from log p(x|y) of {len(codes):,} rows that were not trained on, and p(y): "
        f"{100 * right.mean():.1f}% ± {100 * error:.1f}% are right, the mean of −log p(y|x) is "
        f"{_loss(p, codes).mean():.3f} nats, and the expected calibration error {reliability(p, codes).error:.3f}.",
        _of_temperature(found, codes, about.temperature),
    ]
    pictures = [
        picture(
            lambda width: confusion(codes, found.codes, about.names, width=width),
            f"A confusion matrix of {len(about.names)} classes.",
            "A row for each class; the darker a cell, the more of the class are taken for that of the column.",
        ),
        picture(
            lambda width: calibration(p, codes, width=width),
            "A curve of the share that is right over the probability given, beside the diagonal.",
            "On the dashed line probabilities are right as often as they say; bars are two standard errors.",
        ),
    ]
    contests = [] if learned is None or about.learned is None else _beside(some, p, codes, learned, about, seed)
    return OfClasses(sentences, pictures, contests)


def _of_temperature(found: queries.Classification, codes: np.ndarray, temperature: float) -> str:
    raw = replace(found, temperature=1.0).probabilities.numpy()
    return (
        f"One temperature, {temperature:.3g}, was fitted to validation rows; without it −log p(y|x) is "
        f"{_loss(raw, codes).mean():.3f} nats, and the calibration error {reliability(raw, codes).error:.3f}."
    )


def _loss(p: Floats, codes: np.ndarray) -> Floats:
    """-log p(y|x) of each row, shape (N,)."""
    result: Floats = -np.log(np.clip(p[np.arange(len(p)), codes], _LEAST, 1))
    return result


def _beside(view: View, p: Floats, codes: np.ndarray, learned: Floats, about: Classes, seed: int) -> list[Contest]:
    """Accuracy and log loss beside tools that learned from rows of the fit."""
    assert about.learned is not None
    chosen = np.sort(np.random.default_rng(seed).permutation(len(learned))[:_LEARNED])
    x, labels = learned[chosen], about.learned[chosen].astype(int)
    rows = torch.as_tensor(view.rows).double().cpu().numpy()
    if len(view.event_shape) == 1:
        beside = Beside(view, learned, seed)
        of_learned, of_rows = beside.as_features(x), beside.as_features(rows)
    else:
        of_learned, of_rows = (values.reshape(len(values), -1) for values in (x, rows))
        scale = of_learned.std() or 1.0
        of_learned, of_rows = ((values - of_learned.mean()) / scale for values in (of_learned, of_rows))
    each = {US: p} | {
        name: classify(of_learned, labels, of_rows, len(about.names)) for name, classify in CLASSIFIERS.items()
    }
    rights = {name: (values.argmax(1) == codes).astype(float) for name, values in each.items()}
    losses = {name: _loss(values, codes) for name, values in each.items()}
    what = f"; the simple tools learned from {len(x):,} rows"
    return [
        judged("Accuracy", f"share of rows whose class is right{what}; 1 is best", rights),
        judged("Probabilities", f"mean of −log p(class | row) in nats{what}; less is better", losses, lower=True),
    ]
