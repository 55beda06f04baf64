"""What the targets of Kingma et al. 2014 on few labels share: draws of labels, trials, means with standard errors."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import vaekit as vk
from reproductions.result import Check, Result
from vaekit.models.view import View
from vaekit.queries import classify
from vaekit.recipes.contexts import labelled_oftener

NUM_ROWS, NUM_CLASSES = 50_000, 10
_BY_BAYES = 1_000  # test rows that Bayes' rule classifies, at 20 draws of z per row and class


def mnist(data_dir: str | Path | None) -> tuple[Any, Any]:
    """The first 50,000 rows of the training part, and the test part."""
    train, test = (vk.data.load(f"mnist:{part}", data_dir=data_dir) for part in ("train", "test"))
    return train.take(np.arange(NUM_ROWS)), test


def balanced(labels: np.ndarray, num_labels: int, draw: int) -> np.ndarray:
    """Contexts of rows, shape (N, 1): the label of as many rows of each class, NaN elsewhere."""
    rng = np.random.default_rng(draw)
    contexts = np.full((len(labels), 1), np.nan)
    for label in range(NUM_CLASSES):
        chosen = rng.choice(np.flatnonzero(labels == label), num_labels // NUM_CLASSES, replace=False)
        contexts[chosen] = label
    return contexts


def trainer(max_epochs: int, batch_size: int, learning_rate: float) -> vk.Trainer:
    """A trainer whose rate falls to 0 along a cosine, and that keeps the last weights."""

    def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)

    how: dict[str, Any] = {"precision": "bf16", "compile": "on", "keep": "last", "progress": False}
    rate: dict[str, Any] = {"learning_rate": learning_rate, "scheduler": cosine}
    return vk.Trainer(max_epochs=max_epochs, batch_size=batch_size, **rate, **how)


def accuracy(log_q: Callable[[Tensor], Tensor], view: View, labels: np.ndarray) -> float:
    """The share of rows whose class has the largest log q(y|x)."""
    with torch.no_grad():
        found = torch.cat([log_q(batch.x).argmax(1) for batch in view.batches(1_000, by_row=True)])
    return float((found.numpy() == labels).mean())


def classifier_alone(model: Any, view: View, test: View, labels: np.ndarray, num_updates: int = 1_000) -> float:
    """Accuracy of the model's classifier, with the weights that it starts from, trained on the rows with a label alone.

    By Adam with a rate of 1e-3 that falls to 0 along a cosine, in batches of 100 rows; a random transform draws anew at
    each of them, as for the model.
    """
    alone = copy.deepcopy(model)
    parts = alone.second if isinstance(alone, vk.models.StackedVAE) else alone
    optimizer = torch.optim.Adam(parts.classifier.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_updates)
    assert view.context is not None
    some = view.take((~view.context[:, 0].isnan()).nonzero()[:, 0])
    generator = torch.Generator().manual_seed(0)
    alone.train()
    order = [torch.randperm(len(some), generator=generator)[:100] for _ in range(num_updates)]
    for batch in some.batches(order):
        assert batch.context is not None
        loss = F.nll_loss(alone.log_label_posterior(batch.x), batch.context[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    alone.eval()
    return accuracy(alone.log_label_posterior, test, labels)


def trial(
    make: Callable[[], tuple[Any, Any]],
    fit: Callable[[Any, Any, View], None],
    data: tuple[Any, Any],
    num_labels: int,
    draw: int,
) -> dict[str, float]:
    """One draw of labels: accuracies on the test part by q(y|x), by Bayes' rule and of the classifier alone; minutes.

    Args:
        make: makes model and objective.
        fit: trains them on a view of the rows and their labels.
        data: the rows with all their labels, and the test part.
        num_labels: how many of them are shown.
        draw: which.
    """
    train, test = data
    with vk.engine.seeded(draw):
        model, objective = make()
        start = copy.deepcopy(model)
    view = View.of(model, train.x, context=balanced(train.labels, num_labels, draw))
    judged = View.of(model, test.x)
    began = time.perf_counter()
    with vk.engine.seeded(draw):
        fit(model, objective, labelled_oftener(view))
    minutes = (time.perf_counter() - began) / 60
    found = {"posterior": accuracy(model.log_label_posterior, judged, test.labels), "minutes": round(minutes, 2)}
    some = judged.take(torch.arange(_BY_BAYES))
    classes = classify(model, some, 20, generator=torch.Generator().manual_seed(draw)).codes
    found["bayes"] = float((classes.numpy() == test.labels[:_BY_BAYES]).mean())
    if not isinstance(model, vk.models.StackedVAE):
        with vk.engine.seeded(draw):
            found["alone"] = classifier_alone(start, view, judged, test.labels)
    return found


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over draws and its standard error; None of a single one."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return float(np.mean(values)), error


def summary(name: str, published: float | None, least: float, trials: Sequence[dict[str, float]]) -> Result:
    """The checks of a model and its number of labels, and what the trials gave, with standard errors."""
    best, _ = mean_and_error([t["posterior"] for t in trials])
    checks = [Check(f"{name}: accuracy, mean of {len(trials)} draws", published, best, least, 1.0)]
    if all("alone" in t for t in trials):
        gain = best - mean_and_error([t["alone"] for t in trials])[0]
        checks.append(Check(f"{name}: above the classifier on the labels alone", None, gain, 0.0, 1.0))
    details: dict[str, Any] = {f"{name}, each draw": list(trials)}
    for key in trials[0]:
        details[f"{name}, {key}: mean, standard error"] = list(mean_and_error([t[key] for t in trials]))
    return Result(tuple(checks), details)


def together(*results: Result) -> Result:
    """Several results as one."""
    checks = tuple(check for result in results for check in result.checks)
    return Result(checks, {key: value for result in results for key, value in result.details.items()})
