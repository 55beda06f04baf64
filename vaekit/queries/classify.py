"""The class of each row by Bayes' rule, from the densities of a conditional model."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vaekit import engine
from vaekit.errors import ConfigError, UnreliableEstimateWarning
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.likelihood.marginal import iwae, log_marginal
from vaekit.models.draws import Key
from vaekit.models.rows import as_rows, as_tensor
from vaekit.models.view import View
from vaekit.shapes import check_count
from vaekit.traits import Data, ModelTraits, told

_CLOSE = 30.0  # nats below the most probable class, within which log p(x|y) is searched for where draws of q fail
By = Literal["bayes", "posterior"]
"""What p(y|x) is made of: densities p(x|y), or the model's own q(y|x)."""


@dataclass(frozen=True)
class Classification:
    r"""log p(x|y) of N rows under each of L classes, and what follows from it (equation 13.1).

    \( p(y|x) = p(x|y)\, p(y) / \sum_{y'} p(x|y')\, p(y') \). With a temperature T, log p(x|y) / T takes the place of
    log p(x|y) there, which leaves p(y) as it is.

    Attributes:
        log_p_given: log p(x|y), shape (N, L), float64, nats.
        given_stderr: its Monte Carlo standard error, shape (N, L).
        log_proportions: log p(y), shape (L,), nats.
        temperature: T.
        quantity: what log p is.
        unreliable: where log p(x|y) is not to be believed to its error, shape (N, L), bool; None knows of none.
        shared_stderr: where log p(y|x) is none of Bayes' rule: the Monte Carlo standard error of log p(x), shape (N,),
            which is the same under each class and no part of that of p(y|x).

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[-1.0, -3.0]], dtype=torch.float64)
        >>> found = Classification(log_p, torch.zeros(1, 2), torch.tensor([0.5, 0.5]).log().double())
        >>> found.probabilities
        tensor([[0.8808, 0.1192]], dtype=torch.float64)
    """

    log_p_given: Tensor
    given_stderr: Tensor
    log_proportions: Tensor
    temperature: float = 1.0
    quantity: str = "density"
    unreliable: Tensor | None = None
    shared_stderr: Tensor | None = None

    @property
    def log_joint(self) -> Tensor:
        """log p(x, y), shape (N, L), nats."""
        return self.log_p_given + self.log_proportions

    @property
    def log_probabilities(self) -> Tensor:
        """log p(y|x), shape (N, L), nats; p(y) for a row that no class gives a number."""
        logits = self.log_p_given / self.temperature
        lost = ~(logits > -math.inf).any(1, keepdim=True)
        logits = torch.where(lost, 0.0, logits.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf))
        return (logits + self.log_proportions).log_softmax(1)

    @property
    def probabilities(self) -> Tensor:
        """p(y|x), shape (N, L); rows sum to 1."""
        return self.log_probabilities.exp()

    @property
    def stderr(self) -> Tensor:
        r"""Monte Carlo standard error of each p(y|x), shape (N, L), to first order.

        \( s_y^2 = p_y^2 [ (1 - p_y)^2 \sigma_y^2 + \sum_{y' \ne y} p_{y'}^2 \sigma_{y'}^2 ] \) with the errors
        \( \sigma \) of log p(x|y) / T, whose noise is drawn apart for each class.
        """
        p = self.probabilities
        variance = (self.given_stderr.double().nan_to_num(nan=0.0, posinf=0.0) / self.temperature) ** 2
        share = p**2 * variance
        return (p**2 * (variance - 2 * p * variance + share.sum(1, keepdim=True))).clamp(min=0).sqrt()

    @property
    def log_p(self) -> Tensor:
        """log p(x) = log sum_y p(x|y) p(y), shape (N,), nats: low for a row that is like no class."""
        return self.log_joint.logsumexp(1)

    @property
    def log_p_stderr(self) -> Tensor:
        """Monte Carlo standard error of log p(x), shape (N,), to first order."""
        if self.shared_stderr is not None:
            return self.shared_stderr
        share = self.log_joint.nan_to_num(nan=-math.inf).softmax(1).nan_to_num(nan=0.0)
        return (share * self.given_stderr.double().nan_to_num(nan=0.0, posinf=0.0)).square().sum(1).sqrt()

    @property
    def codes(self) -> Tensor:
        """The most probable class of each row, shape (N,), int64."""
        return self.log_probabilities.argmax(1)

    def under(self, proportions: Sequence[float] | Tensor) -> "Classification":
        """The same rows where classes have other proportions, as after a shift of labels.

        Raises:
            ConfigError: unless they are L shares that sum to 1.
        """
        return replace(self, log_proportions=log_shares(proportions, self.log_p_given.shape[1]))


def log_shares(proportions: Any, num_labels: int) -> Tensor:
    """log p(y) of shares, shape (L,), float64.

    Raises:
        ConfigError: unless they are L numbers that are not negative and sum to 1.
    """
    p = torch.as_tensor(proportions, dtype=torch.float64).detach().cpu()
    good = p.shape == (num_labels,) and bool((p >= 0).all()) and math.isclose(float(p.sum()), 1, abs_tol=1e-6)
    if not good:
        raise ConfigError(f"proportions are p(y) of {num_labels} classes, and sum to 1; got {p.tolist()}")
    return p.log()


def classify(
    model: Any,
    x: Data,
    num_samples: int = 100,
    *,
    by: By = "bayes",
    proportions: Sequence[float] | Tensor | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    key: Key | None = "content",
    progress: bool = False,
    precision: engine.Precision = "float32",
) -> Classification:
    r"""p(y|x) of each row by Bayes' rule: importance sampling of log p(x|y) under each class (equation 13.1).

    Where draws from q(z|x, y) fail a class that is within 30 nats of the most probable one, z is searched for, as in
    `evaluation.log_marginal`.

    A model that was trained with a classifier q(y|x), as M2 is, answers by that as well, which is what Kingma et al.
    report: with few labels it sees them all, while densities weigh everything that sets rows apart.

    References:
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298.
        Guo et al., "On calibration of modern neural networks", 2017, https://arxiv.org/abs/1706.04599 (temperature).

    Args:
        model: a model that is conditioned on a single label, as `ConditionalVAE` is.
        x: rows in the units of the data, shape (N, *X); contexts that they have are not looked at.
        num_samples: K, draws of z per row and class.
        by: "bayes" for the densities, or "posterior" for the model's own q(y|x); log p(x) is estimated all the same,
            and with other proportions than the model's, q(y|x) is weighed by their ratio.
        proportions: p(y), shape (L,); None takes the model's.
        temperature: T > 0, what log p(x|y) is divided by in p(y|x).
        generator: source of the noise; None is torch's own stream.
        key: what the noise of a row depends on beside the generator; see `evaluation.log_marginal`.
        progress: show bars on stderr where that is a terminal.
        precision: of matrix products inside the model's networks.

    Returns:
        See `Classification`.

    Raises:
        ConfigError: if the model is not conditioned on a single label, has no q(y|x) that is asked for, or a number is
            out of its range.
        ShapeError, SupportError, DataError: if the rows do not fit the model.

    Example:
        >>> import torch, vaekit as vk
        >>> model, _ = vk.presets.conditional_vae((2,), latent_dim=1, hidden=(4,), likelihood="normal", levels=(3,))
        >>> found = classify(model, torch.zeros(2, 2), 10, generator=torch.Generator().manual_seed(0))
        >>> found.probabilities.sum(1).round(decimals=6)
        tensor([1., 1.], dtype=torch.float64)
    """
    check_count(num_samples, "num_samples")
    if not temperature > 0:
        raise ConfigError(f"a temperature is above 0; got {temperature}")
    engine.check_choice("by", by, get_args(By))
    num_labels = labels_of(model)
    rows: Any = x.rows if isinstance(x, View) else as_rows(x)
    p = model.log_proportions.double().cpu() if proportions is None else log_shares(proportions, num_labels)
    how: dict[str, Any] = {"num_samples": num_samples, "progress": progress, "precision": precision}
    if by == "posterior":
        view = View.of(model, rows)
        whole = log_marginal(model, view, generator=generator, key=key, **how)
        log_p = whole.value.unsqueeze(1) + _label_posterior(view) - model.log_proportions.double().cpu()
        answer = Classification(log_p, torch.zeros_like(log_p), p, temperature, view.quantity)
        return replace(answer, unreliable=whole.unreliable.unsqueeze(1), shared_stderr=whole.stderr)
    seed = engine.draw_seed(generator)
    noise = [torch.Generator().manual_seed(engine.block_seed(seed, label)) for label in range(num_labels)]
    views = [View.of(model.given(torch.tensor([float(label)])), rows) for label in range(num_labels)]
    found = [iwae(v.model, v, generator=g, key=key, **how) for v, g in zip(views, noise, strict=True)]
    values, errors = (torch.stack([getattr(one, name) for one in found], 1) for name in ("value", "stderr"))
    unreliable = torch.stack([one.unreliable for one in found], 1)
    joint = (values + p).nan_to_num(nan=math.inf)  # a class without a number may be any
    matters = unreliable & (joint > joint.where(joint < math.inf, -math.inf).amax(1, keepdim=True) - _CLOSE)
    for label, view in enumerate(views):
        again = matters[:, label].nonzero().flatten()
        if len(again):
            searched = _searched(view.take(again), key, again, engine.block_seed(seed, label), how)
            values[again, label], errors[again, label] = searched.value, searched.stderr
            unreliable[again, label] = searched.unreliable
    return Classification(values, errors, p, temperature, views[0].quantity, unreliable)


def _searched(view: View, key: Key | None, rows: Tensor, seed: int, how: dict[str, Any]) -> Estimate:
    """log p(x) of some rows by draws that do not rest on the encoder, where that fails."""
    own = key if key is None or isinstance(key, str) else as_tensor(key)[rows]
    with warnings.catch_warnings():
        # Rows of other classes are far from what q has learned under this one; `unreliable` says which.
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        return log_marginal(view.model, view, generator=torch.Generator().manual_seed(seed), key=own, **how)


def _label_posterior(view: View) -> Tensor:
    """log q(y|x) of each row by the model's classifier, shape (N, L), float64.

    Raises:
        ConfigError: if it has none.
    """
    traits = told(ModelTraits, view.model)
    if traits.classifier is None or traits.log_label_posterior is None:
        raise ConfigError(
            f'{type(view.model).__name__} has no classifier q(y|x); take by="bayes", or fit a model with --preset m2'
        )
    with torch.no_grad(), engine.evaluating(view.model):
        found = [traits.log_label_posterior(batch.x).double().cpu() for batch in view.batches(1024, by_row=True)]
    return torch.cat(found)


def labels_of(model: Any) -> int:
    """L, the number of classes of a model that is conditioned on a single label.

    Raises:
        ConfigError: if it is not.
    """
    traits = told(ModelTraits, model)
    if traits.num_labels:
        return traits.num_labels
    is_conditioned = traits.check_context is not None
    what = "the context is no single label" if is_conditioned else f"{type(model).__name__} is conditioned on nothing"
    raise ConfigError(
        f"classes need densities p(x|y) under each label y, and {what}. Fit a model with --preset conditional-vae and "
        "labels (--label COLUMN), or VAEClassifier."
    )


def fitted_temperature(found: Classification, codes: Tensor) -> float:
    """The temperature with the largest mean log p(y|x) of rows whose class is known, from 0.05 to 100.

    log T has a standard normal prior, which weighs as much as a row: a few rows that are all classified well say little
    of how sure one may be.

    Args:
        found: of the rows.
        codes: their classes, shape (N,), NaN for rows whose class is unknown.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    known = ~codes.isnan()
    place = codes[known].long().unsqueeze(1)

    def loss(log_t: float) -> float:
        tempered = replace(found, temperature=math.exp(log_t))
        likely = tempered.log_probabilities[known].gather(1, place).clamp(min=-1e3)
        return log_t**2 / 2 - float(likely.sum())

    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(100.0)), method="bounded")
    return float(math.exp(best.x))
