"""The numbers of a model on a data set, as plain values for tables, JSON and reports."""

import math
from typing import Any

from vaekit.bounds import LatentVariableModel
from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.likelihood import elbo_and_iwae
from vaekit.models.view import View


def _term(estimate: Estimate, name: str) -> dict[str, float]:
    score = Score.of_mean(estimate.terms[name])
    return {"mean": score.value, "sampling_stderr": score.stderr, "num_points": len(estimate)}


def summarize(model: LatentVariableModel, x: Any, *, num_samples: int = 100, **options: Any) -> dict[str, Any]:
    """ELBO, its two terms and the IWAE bound on a data set, with both kinds of standard errors.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X).
        num_samples: K, draws of z per point for all of them.
        **options: `generator`, `precision`, `compile`, `chunk_size`, `progress` of `log_marginal`.

    Returns:
        `elbo`, `log_likelihood`, `kl`, `iwae`: each with `mean`, `sampling_stderr` (over the points) and, for the
        bounds, `mean_stderr` (Monte Carlo), in nats; `quantity`, `num_points`, `num_samples`, `ess_median`; and
        `bits_per_dimension`, minus the IWAE bound in bits per element, where it is a mass or bounds one.
    """
    view = View.of(model, x)
    lower, tighter = elbo_and_iwae(model, view, num_samples=num_samples, **options)
    result: dict[str, Any] = {
        "elbo": lower.summary(),
        "log_likelihood": _term(lower, "log_likelihood"),
        "kl": _term(lower, "kl"),
        "iwae": tighter.summary(),
        "num_points": len(tighter),
        "num_samples": num_samples,
        "quantity": tighter.quantity,
        "ess_median": float(tighter.ess.median()),
    }
    if "mass" in tighter.quantity:
        result["bits_per_dimension"] = -tighter.mean / math.log(2) / math.prod(view.event_shape)
    return result
