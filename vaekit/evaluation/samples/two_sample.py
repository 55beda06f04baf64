"""Checks of a model's samples against held-out data, all in one call."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions.support import elements
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import Classifier
from vaekit.evaluation.samples.classifier import classifier_two_sample_test
from vaekit.evaluation.samples.distances import frechet_distance, mmd, sliced_wasserstein
from vaekit.evaluation.samples.neighbors import precision_recall_density_coverage
from vaekit.models.rows import as_tensor, given, slices
from vaekit.models.view import View
from vaekit.shapes import check_count
from vaekit.traits import Data
from vaekit.transforms.noise import content_noise

_CHUNK = 256  # rows per pass of the model


def _is_bernoulli(p: Distribution) -> bool:
    return isinstance(elements(p), Bernoulli)


def _draws(view: View, num_samples: int) -> Tensor:
    """Ancestral sampling in model space, by the three methods that every model has; under the contexts of the rows."""
    model = view.model
    if view.context is not None:
        contexts = view.context[torch.arange(num_samples) % len(view)].to(view.device)
        return torch.cat([_under(given(model, contexts[rows])) for rows in slices(num_samples, _CHUNK)])
    prior = model.prior()
    if tuple(prior.batch_shape) != ():
        raise ConfigError(
            f"two_sample draws from p(x); this model is conditioned on {prior.batch_shape[0]} rows. Draw from it and "
            "hand samples and data to mmd, sliced_wasserstein and the other functions."
        )
    z = prior.sample(torch.Size((num_samples,)))
    return torch.cat([model.likelihood(z[rows]).sample() for rows in slices(num_samples, _CHUNK)])


def _under(model: Any) -> Tensor:
    """A draw under each context."""
    prior = model.prior()
    z = prior.sample(torch.Size(() if prior.batch_shape else (model.num_contexts,)))
    result: Tensor = model.likelihood(z).sample()
    return result


def _same_space(view: View, num_samples: int) -> tuple[Tensor, Tensor, str]:
    """Data and samples as like and like, and the name of their space."""
    y = _draws(view, num_samples)
    transform, bits = view.transform, _is_bernoulli(view.at_prior)
    if not (bits or (transform is not None and transform.discretizes)):
        return as_tensor(view.rows).to(y.device), y if transform is None else transform.inverse(y), "data"
    x = torch.cat([batch.x for batch in view.batches(_CHUNK, by_row=True)])
    if bits:  # leaves bits as they are; grey values, which some recipes fit by cross-entropy, become bits of the row
        x = (content_noise(x, view.transform_seed) < x).to(x.dtype)
    return x, y, "bits of model space" if bits else "model"


def _with_baseline(
    compare: Callable[[Tensor, Tensor], dict[str, Score]], x: Tensor, y: Tensor, order: Tensor
) -> dict[str, Score]:
    """Scores of x against y; in the details those of two halves of x, and of one half against as many rows of y."""
    size = min(len(x) // 2, len(y))
    half, other = x[order[:size]], x[order[size : 2 * size]]
    null, fair = compare(half, other), compare(half, y[:size])
    return {
        name: replace(
            score,
            details=score.details
            | {"baseline": null[name].value, "at_baseline_size": fair[name].value, "baseline_rows": size},
        )
        for name, score in compare(x, y).items()
    }


def _check_counts(num_rows: int, num_samples: int | None, max_rows: int, num_neighbors: int) -> int:
    """The number of samples to draw; halves of either side must hold a neighbourhood, folds a few rows."""
    least = max(10, 2 * (num_neighbors + 1))
    for name, count in (("max_rows", max_rows), ("num_samples", num_samples)):
        if count is not None:
            check_count(count, name, 0)
        if count is not None and count < least:
            raise ConfigError(f"{name} is at least {least} for {num_neighbors} neighbours; got {count}")
    if num_rows < least:
        raise DataError(f"expected at least {least} rows in x for {num_neighbors} neighbours; got {num_rows}")
    return min(num_rows, max_rows) if num_samples is None else num_samples


def two_sample(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int | None = None,
    max_rows: int = 1000,
    features: Callable[[Tensor], Any] | None = None,
    classifier: Classifier | None = None,
    num_neighbors: int = 5,
    generator: torch.Generator | None = None,
) -> dict[str, Score]:
    r"""Samples of a model against held-out data: every check of this package that needs no density.

    Draws z ~ p(z), x ~ p(x|z) and compares with x in the units of the data. Where p(x|z) is Bernoulli or the transform
    binarises, samples are bits and grey data are not: then both are compared in model space, the data binarised (the
    bits are those of the row, as in all of evaluation; grey values under a Bernoulli likelihood become bits drawn with
    these probabilities). Each result says which under `space`.

    Use it beside log p(x), not instead of it: the two can disagree in both directions (Theis et al.). Held-out data
    only, since a model that remembers the training set passes every check against that set.

    References:
        Theis et al., "A note on the evaluation of generative models", 2016, https://arxiv.org/abs/1511.01844.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`; its `transform` is applied where it has one.
        x: held-out data in their own units, shape (N, *X).
        num_samples: rows to draw from the model; None takes as many as rows of x are used.
        max_rows: of x at most so many rows are used, chosen at random; with as many samples it all takes seconds.
        features: rows of shape (N, *X) in the space compared to features (N, F); asks for the Frechet distance.
        classifier: see `classifier_two_sample_test`.
        num_neighbors: see `precision_recall_density_coverage`.
        generator: source of all noise.

    Returns:
        `mmd` and `classifier_two_sample_test`, which hold a p-value in their details; `sliced_wasserstein`,
        `precision`, `recall`, `density`, `coverage` and, with features, `frechet_distance`, whose values depend on the
        numbers of rows: their details hold `baseline`, the same between two random halves of the data, and
        `at_baseline_size`, one half against as many samples. Those two are to be compared. A `Score` each.

    Raises:
        ShapeError, SupportError, DataError: if x does not fit the model, has holes, or too few rows.
        ConfigError: if a number is too small, or the model is conditioned on rows.

    Example:
        >>> import torch, vaekit as vk
        >>> with torch.random.fork_rng():
        ...     model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> x = 5 + torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        >>> two_sample(model, x, generator=torch.Generator().manual_seed(0))["mmd"].details["p_value"] < 0.01
        True
    """
    view = x if isinstance(x, View) else View.of(model, as_tensor(x), requires=("prior", "likelihood"))
    num_samples = _check_counts(len(view), num_samples, max_rows, num_neighbors)
    own = torch.Generator().manual_seed(engine.draw_seed(generator))
    view = view.take(torch.randperm(len(view), generator=own)[:max_rows])
    with engine.evaluating(model), engine.fork_rng(own):
        x, y, space = _same_space(view, num_samples)
        found = {
            "mmd": mmd(x, y, generator=own),
            "sliced_wasserstein": sliced_wasserstein(x, y, generator=own),
            "classifier_two_sample_test": classifier_two_sample_test(x, y, classifier=classifier, generator=own),
        }
        order = torch.randperm(len(x), generator=own).to(x.device)

        def shares(a: Tensor, b: Tensor) -> dict[str, Score]:
            return precision_recall_density_coverage(a, b, num_neighbors=num_neighbors)

        found |= _with_baseline(shares, x, y, order)
        if features is not None:
            real, drawn = (as_tensor(features(rows)) for rows in (x, y))
            found |= _with_baseline(lambda a, b: {"frechet_distance": frechet_distance(a, b)}, real, drawn, order)
    return {name: replace(score, details=score.details | {"space": space}) for name, score in found.items()}
