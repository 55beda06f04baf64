"""Disentanglement where the factors behind the data are known: every score of a model's codes, in one call."""

import torch

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.factors.codes import as_labels
from vaekit.evaluation.factors.information import mig, modularity
from vaekit.evaluation.factors.interventions import beta_vae_score, factor_vae_score
from vaekit.evaluation.factors.prediction import dci, sap
from vaekit.models.view import View
from vaekit.traits import Data


def disentanglement(
    model: LatentVariableModel,
    x: Data,
    factors: Data,
    *,
    max_rows: int = 10_000,
    generator: torch.Generator | None = None,
) -> dict[str, Score]:
    """Every score of disentanglement of the posterior means E[z|x], where the factors behind x are known.

    Use it on data that were made from factors. The scores rank models differently: read them together. They say nothing
    of how well the model fits, and without labels no training finds the factors by itself (Locatello et al.).

    References:
        Locatello et al., "Challenging common assumptions in the unsupervised learning of disentangled representations",
        2019, https://arxiv.org/abs/1811.12359.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`; its `transform` is applied where it has one.
        x: data in their own units, shape (N, *X), N >= 20.
        factors: the values of F >= 2 discrete factors, integers, shape (N, F).
        max_rows: at most so many rows are used, chosen at random.
        generator: source of all noise.

    Returns:
        `mig`, `sap`, `dci`, `factor_vae_score`, `beta_vae_score` and `modularity`, each with the defaults of the
        function of that name.

    Raises:
        ShapeError, SupportError, DataError: if x does not fit the model, or factors do not fit x.
        ConfigError: if the posterior has no mean.

    Example:
        >>> import torch, vaekit as vk
        >>> factors = torch.randint(3, (200, 2), generator=torch.Generator().manual_seed(0))
        >>> with torch.random.fork_rng():
        ...     model, _ = vk.presets.vae((2,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> scores = disentanglement(model, factors.float(), factors, generator=torch.Generator().manual_seed(0))
        >>> all(0 <= score.value <= 1 for score in scores.values())
        True
    """
    view = View.of(model, x)
    factors = as_labels(factors, len(view))
    own = torch.Generator().manual_seed(engine.draw_seed(generator))
    rows = torch.randperm(len(view), generator=own)[:max_rows]
    codes, factors = view.encode(generator=own, indices=rows).flatten(1), factors[rows.numpy()]
    return {
        score.__name__: score(codes, factors, generator=own)
        for score in (mig, sap, dci, factor_vae_score, beta_vae_score, modularity)
    }
