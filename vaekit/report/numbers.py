"""The numbers of a report, and what each of them is, in words."""

import re
from collections.abc import Sequence

import torch

from vaekit import evaluation
from vaekit.bounds import LatentVariableModel
from vaekit.columns import RowsAbout
from vaekit.evaluation.estimate import MANY_UNRELIABLE
from vaekit.evaluation.results import TRAINING, Result, Results, title, written
from vaekit.traits import Data

MAX_ROWS = 10_000
"""Rows that a page looks at: all of most test sets; the page says how many there are."""
QUANTITIES = {
    "density": "log p(x) is the logarithm of a probability density in the units of the data. It can be above zero, "
    "and it changes with the units: compare it only with densities of the same data in the same units.",
    "mass": "log p(x) is the logarithm of a probability mass, of the values themselves, or of the bits where the "
    "transform binarises. It is never above zero.",
    "bound on a mass": "The model is a density of dequantised data. What is reported is a lower bound on the "
    "logarithm of the probability mass of the integers; it can be compared with masses, which it understates.",
    "density and mass": "log p(x) is the logarithm of a probability density in the columns of numbers and of a "
    "probability mass in those of levels, counts and single values that come up again and again. It can be above zero, "
    "and changes with the units of the numbers: compare it only with others of the same table.",
    "no density": "These numbers look like log-probabilities but are none: the likelihood was applied to values "
    "outside its support (grey values under a Bernoulli). Compare them only with numbers made in the same way.",
}


def evaluate(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int = 100,
    max_rows: int = MAX_ROWS,
    described: RowsAbout | None = None,
    generator: torch.Generator | None = None,
) -> Results:
    """`vaekit.evaluation.evaluate` on at most `max_rows` rows of x, a fixed choice where there are more.

    Args:
        model: any latent-variable model.
        x: data in their own units, shape (N, *X).
        num_samples: K of the importance weights, and draws per point of the ELBO.
        max_rows: rows that are looked at.
        described: the training rows, as `Run.training_rows` has them.
        generator: source of the noise; None is the seed 0.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    return evaluation.evaluate(
        model, x, num_samples=num_samples, max_rows=max_rows, described=described, generator=generator
    )


def kl_per_dimension(results: Results) -> list[float]:
    """Mean over x of the KL of each latent dimension, in nats; empty where it is not defined."""
    named = (row.value for row in results if "diagnostics.kl_per_dimension." in row.name)
    return [value for value in named if value is not None]


def cells(rows: Sequence[Result]) -> list[dict[str, str]]:
    """Rows as text: label, value and both standard errors, "–" where there is none."""
    return [
        {"label": r.label, "value": cell(r, r.value), "mc": cell(r, r.stderr), "sampling": cell(r, r.sampling_stderr)}
        for r in rows
    ]


def cell(row: Result, value: float | None) -> str:
    """A number of a row as text: values with two decimals, errors with one more, "–" where there is none."""
    return _typeset(written(row, value, 2 if value is row.value else 3, ",")) or "–"


def number(value: float, digits: int = 2) -> str:
    """A number with a true minus sign and thousands apart."""
    return _typeset(f"{value:,.{digits}f}")


def _typeset(text: str) -> str:
    return text.replace("-", "−")


def headline(results: Results) -> list[tuple[str, str]]:
    """The few numbers on top of the page."""
    names = {"iwae": "IWAE bound", "elbo": "ELBO", "kl": "KL", "train.iwae": f"{TRAINING}: IWAE bound"}
    values = {row.name: row.value for row in results}
    if "num_points" not in values:
        names |= {f"train.{name}": f"{TRAINING}: {label}" for name, label in names.items()}
    found = [(label, values.get(name)) for name, label in names.items()]
    return [(label, number(value)) for label, value in found if value is not None]


def judged(results: Results) -> str:
    """Which points were looked at: "40 points", "36 validation rows beside 315 training rows"."""
    words = results.judged
    return re.sub("row(s?)$", r"point\1", words) if re.fullmatch("[0-9,]+ rows?", words) else words


def about_weights(results: Results) -> str:
    """Whether the importance weights can be believed; empty where it is not known."""
    rows = (results.leading(name) for name in ("ess_median", "num_samples", "unreliable_fraction"))
    ess, k, bad = (None if row is None else row.value for row in rows)
    if ess is None or k is None or bad is None:
        return ""
    verdict = "the weights are even enough for the value to be log p(x) within its error"
    if bad > MANY_UNRELIABLE:
        verdict = (
            f"at {number(100 * bad, 0)}% of the points the weights are too uneven for the value to be log p(x): read "
            "it as a bound, or take more samples"
        )
    return f"The median effective sample size is {number(ess, 1)} of {k:,.0f}; {verdict}."


def findings(results: Results) -> list[dict[str, str]]:
    """The verdict: name, and evidence with remedy."""
    return [{"name": title(finding), "text": finding.label} for finding in results.findings]
