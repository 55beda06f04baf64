"""The numbers of a report, and what each of them is, in words."""

import math
from typing import Any

import torch

from vaekit import engine, evaluation
from vaekit.errors import ConfigError
from vaekit.evaluation import Estimate
from vaekit.evaluation.estimate import MANY_UNRELIABLE
from vaekit.kl import kl_per_dimension
from vaekit.models.view import View

QUANTITIES = {
    "density": "log p(x) is the logarithm of a probability density in the units of the data. It can be above zero, "
    "and it changes with the units: compare it only with densities of the same data in the same units.",
    "mass": "log p(x) is the logarithm of a probability mass, of the values themselves, or of the bits where the "
    "transform binarises. It is never above zero.",
    "bound on a mass": "The model is a density of dequantised data. What is reported is a lower bound on the "
    "logarithm of the probability mass of the integers; it can be compared with masses, which it understates.",
    "no density": "These numbers look like log-probabilities but are none: the likelihood was applied to values "
    "outside its support (grey values under a Bernoulli). Compare them only with numbers made in the same way.",
}


def evaluate(
    model: Any, x: Any, *, num_samples: int = 100, max_rows: int = 1000, generator: torch.Generator | None = None
) -> dict[str, Any]:
    """`vaekit.evaluation.evaluate` on at most `max_rows` rows of x, a fixed choice where there are more.

    Args:
        model: any latent-variable model.
        x: data in their own units, shape (N, *X).
        num_samples: K of the importance weights, and draws per point of the ELBO.
        max_rows: rows that are looked at.
        generator: source of the noise; None is the seed 0.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    return evaluation.evaluate(model, x, num_samples=num_samples, max_rows=max_rows, generator=generator)


def divergences(view: View) -> torch.Tensor | None:
    """Mean over x of the KL of each latent dimension, shape (D,), in nats; None where it is not defined."""
    with engine.evaluating(view.model), engine.seeded(0):
        y = view.batch(slice(0, len(view))).x
        try:
            return kl_per_dimension(view.model.posterior(y), view.model.prior()).double().mean(0).flatten().cpu()
        except ConfigError:
            return None


def table(evaluation: dict[str, Any], num_elements: int) -> list[dict[str, str]]:
    """The rows of the table of numbers: name, value, both standard errors.

    Args:
        evaluation: name to an `Estimate`, its `summary()`, or a dict with a "mean"; other entries are left out.
        num_elements: D, for bits per dimension.
    """
    summaries = {name: summary(value) for name, value in evaluation.items()}
    rows = [_row(_label(name, numbers), numbers) for name, numbers in summaries.items() if numbers]
    best = next((s for n in ("log_marginal", "iwae", "elbo") if (s := summaries.get(n))), None)
    if best and best.get("quantity") in ("mass", "bound on a mass"):
        scale = 1 / (math.log(2) * num_elements)
        kept = {key: best[key] * scale for key in ("mean_stderr", "sampling_stderr") if _is_number(best.get(key))}
        rows.append(_row("Bits per dimension (lower is better)", {"mean": -best["mean"] * scale, **kept}, digits=4))
    return rows


def summary(value: Any) -> dict[str, Any] | None:
    """The numbers of an entry of an evaluation, or None where it has no mean."""
    if isinstance(value, Estimate):
        return value.summary()
    return value if isinstance(value, dict) and _is_number(value.get("mean")) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _label(name: str, numbers: dict[str, Any]) -> str:
    k = numbers.get("num_samples")
    known = {
        "elbo": "ELBO",
        "log_likelihood": "E[log p(x|z)], the log-likelihood term",
        "kl": "KL(q(z|x), p(z)), the price of the code",
        "log_marginal": f"log p(x), importance-weighted with K = {k:,}" if _is_number(k) else "log p(x)",
        "iwae": f"Bound on log p(x), IWAE with K = {k:,}" if _is_number(k) else "Bound on log p(x), IWAE",
    }
    return known.get(name, name.replace("_", " "))


def _row(label: str, numbers: dict[str, Any], digits: int = 2) -> dict[str, str]:
    def text(key: str) -> str:
        value = numbers.get(key)
        return number(value, digits + (key != "mean")) if _is_number(value) else "–"

    return {"label": label, "value": text("mean"), "mc": text("mean_stderr"), "sampling": text("sampling_stderr")}


def number(value: Any, digits: int = 2) -> str:
    """A number with a true minus sign and thousands apart."""
    return f"{value:,.{digits}f}".replace("-", "−")


def what_it_is(evaluation: dict[str, Any]) -> str:
    """The sentence about the quantity."""
    for value in evaluation.values():
        name = (summary(value) or {}).get("quantity")
        if name in QUANTITIES:
            return QUANTITIES[name]
    return ""


def about_weights(results: dict[str, Any]) -> str:
    """Whether the importance weights can be believed; empty where it is not known."""
    for name in ("log_marginal", "iwae"):
        numbers = summary(results.get(name)) or {}
        ess, k, bad = (numbers.get(key) for key in ("ess_median", "num_samples", "unreliable_fraction"))
        if ess is not None and k is not None and bad is not None:
            verdict = "the weights are even enough for the value to be log p(x) within its error"
            if bad > MANY_UNRELIABLE:
                verdict = (
                    f"at {number(100 * bad, 0)}% of the points the weights are too uneven for the value to be log "
                )
                verdict += "p(x): read it as a bound, or take more samples"
            return f"The median effective sample size is {number(ess, 1)} of {k:,}; {verdict}."
    return ""


def health(results: dict[str, Any]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of the table of diagnostics, and the findings; both empty where there are no diagnostics."""
    rows = [
        _row(
            line.label, {"mean": line.value, "sampling_stderr": line.sampling_stderr}, 2 * isinstance(line.value, float)
        )
        for line in evaluation.health_lines(results)
    ]
    found = results.get("diagnostics")
    return rows, found["findings"] if isinstance(found, dict) else []
