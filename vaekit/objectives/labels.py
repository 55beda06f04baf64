"""Learning from rows with labels, all of them or few: sums over labels, and losses of classification."""

from torch import Tensor

from vaekit import bounds
from vaekit.bounds import KLMode, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.models.labels import Alternatives
from vaekit.objectives.base import Loss, average, average_of_all
from vaekit.objectives.elbo import ELBO
from vaekit.traits import ModelTraits, told_of


class SemiSupervised(ELBO):
    r"""The bound of M2: rows with a label and rows without one, and a classification loss on those with one.

    Maximises \( \frac1N \left( \sum_{(x, y)} -L(x, y) + \sum_x -U(x) \right) + \alpha\, \frac1{N_l} \sum_{(x, y)} \log
    q(y|x) \) with \( -L(x, y) = E_q[\log p(x|z, y)] - KL(q(z|x, y), p(z)) + \log p(y) \le \log p(x, y) \) for the
    \( N_l \) rows with a label, and \( -U(x) = \sum_y q(y|x) (-L(x, y)) + H(q(y|x)) \le \log p(x) \) for the others.

    The sum over y is exact. The model says which rows have a label (`models.labels.Alternatives`), so that the
    objective handles none. Of a model without labels it is the ELBO. Use it with few labels and many rows; the
    more alike rows of one label are beside other differences between rows, the more the rows without one tell.

    Terms: `elbo` is the bound of each row, on log p(x, y) or log p(x); `kl` counts the label as a latent, so that a
    row with a label has \( -\log p(y) \) in it; `classification` is the mean of \( \log q(y|x) \) over the rows of a
    batch that have a label.

    References:
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298,
        equations 6-9.

    Args:
        alpha: weight of the classification loss, per row; the paper's is 0.1.
        num_samples: M, draws of z per row and label.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.

    Raises:
        ConfigError: for M < 1 or a negative alpha.

    Example:
        >>> import torch, vaekit as vk
        >>> model, objective = vk.presets.m2((3,), latent_dim=2, hidden=(8,), likelihood="normal", levels=(4,))
        >>> labels = torch.tensor([[2.0], [torch.nan], [0.0]])
        >>> sorted(objective(model.given(labels), torch.zeros(3, 3)).terms)
        ['classification', 'elbo', 'kl', 'log_likelihood']
    """

    def __init__(self, alpha: float = 0.3, num_samples: int = 1, kl: KLMode = "auto") -> None:
        super().__init__(num_samples=num_samples, kl=kl)
        self.alpha = _weight(alpha)
        self.needs_whole_batch = True  # labels may be few, and lie with one process

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X)."""
        ask = told_of(ModelTraits, model, "alternatives")
        if ask is None:
            return super().forward(model, x, weight)
        found: Alternatives = ask(x)
        terms = self._rows(found)
        labelled = found.is_known if weight is None else found.is_known * weight.to(x)
        right = average_of_all((found.known * found.log_posterior).sum(-1), labelled)
        return Loss(-average(terms["elbo"], weight) - self.alpha * right, {**terms, "classification": right})

    def _rows(self, found: Alternatives) -> dict[str, Tensor]:
        """The bound of each row and its two terms, shape (B,): all mass lies on a label that is known."""
        terms = bounds.elbo_terms(found.model, found.x, self.num_samples, self.kl)
        log_q = found.log_posterior.masked_fill(found.is_known.unsqueeze(-1) > 0, 0.0)
        return _over_labels(found, *terms, found.log_posterior, log_q - found.log_prior)

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound of each row, and the mean of log q(y|x) over those with a label."""
        has_labels = told_of(ModelTraits, model, "alternatives") is not None
        return self(model, x).terms if has_labels else super().validation_terms(model, x)


class MultiConditional(ELBO):
    r"""The bound on log p(x|y), and how well Bayes' rule tells y of it: a density that is trained to classify as well.

    Maximises \( \frac1N \sum_{(x, y)} L(x|y) + \alpha\, \frac1N \sum_{(x, y)} \log \hat p(y|x) \) with \( L(x|y) =
    E_q[\log p(x|z, y)] - KL(q(z|x, y), p(z|y)) \le \log p(x|y) \) and \( \hat p(y|x) \propto p(y)\, e^{L(x|y)} \), in
    which a bound stands for the density. A row without a label has \( \log \sum_y p(y)\, e^{L(x|y)} \le \log p(x) \)
    for its bound, and no part in the second sum.

    A loose bound under the other labels would flatter \( \hat p(y|x) \): their posteriors therefore follow the opposite
    gradient and tighten them, while p(x|z, y) sets the classes apart.

    Use it with a conditional model whose rows have labels, where classes matter more than densities: densities alone
    spend their capacity on what all classes share. The bound itself ends somewhat lower. A step asks the decoder for
    every label; the encoder too, unless the label stays out of the posterior. Of a model without labels it is the ELBO.

    Terms: `elbo` is the bound of each row; `classification` the mean of \( \log \hat p(y|x) \) over the rows of a batch
    that have a label. The best weights have the largest `multi_conditional`, what is maximised, of held-out rows.

    References:
        McCallum et al., "Multi-conditional learning: generative/discriminative training for clustering and
        classification", 2006, https://aaai.org/papers/00433-AAAI06-069-multi-conditional-learning/.
        Lasserre et al., "Principled hybrids of generative and discriminative models", 2006,
        https://doi.org/10.1109/CVPR.2006.227.

    Args:
        alpha: weight of the second sum.
        num_samples: M, draws of z per row and label.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.

    Raises:
        ConfigError: for M < 1 or a negative alpha.

    Example:
        >>> import torch, vaekit as vk
        >>> model, _ = vk.presets.conditional_vae((3,), latent_dim=2, hidden=(8,), likelihood="normal", levels=(4,))
        >>> loss = MultiConditional(10.0)(model.given(torch.tensor([[2.0], [0.0]])), torch.zeros(2, 3))
        >>> loss.terms["elbo"].shape, loss.terms["classification"].shape
        (torch.Size([2]), torch.Size([]))
    """

    selects = "multi_conditional"

    def __init__(self, alpha: float = 10.0, num_samples: int = 1, kl: KLMode = "auto") -> None:
        super().__init__(num_samples=num_samples, kl=kl)
        self.alpha = _weight(alpha)
        self.needs_whole_batch = True  # labels may be few, and lie with one process

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X)."""
        ask = told_of(ModelTraits, model, "alternatives")
        if ask is None:
            return super().forward(model, x, weight)
        found: Alternatives = ask(x)
        terms, log_p = self._rows(found)
        labelled = found.is_known if weight is None else found.is_known * weight.to(x)
        right = average_of_all(log_p, labelled)
        return Loss(-average(terms["elbo"], weight) - self.alpha * right, {**terms, "classification": right})

    def _rows(self, found: Alternatives) -> tuple[dict[str, Tensor], Tensor]:
        r"""The bound of each row and its two terms, and \( \log \hat p(y|x) \) of its label, 0 without one; (B,) each.

        \( \log \sum_y p(y)\, e^{L(x|y)} \) is the mean of L under \( \hat p(y|x) \), less its divergence from p(y).
        """
        is_known = found.is_known.unsqueeze(-1) > 0
        rivals = (found.known == 0) & is_known
        log_likelihood, kl = bounds.elbo_terms(found.model.against(rivals), found.x, self.num_samples, self.kl)
        log_p = (log_likelihood - kl + found.log_prior).log_softmax(-1)
        terms = _over_labels(found, log_likelihood, kl, log_p, (log_p - found.log_prior).masked_fill(is_known, 0.0))
        return terms, (found.known * log_p).sum(-1)

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound of each row, what is maximised of it, and the logarithm of its label's probability."""
        ask = told_of(ModelTraits, model, "alternatives")
        if ask is None:
            terms = super().validation_terms(model, x)
            return {**terms, self.selects: terms["elbo"]}
        terms, log_p = self._rows(ask(x))
        return {**terms, "classification": log_p, self.selects: terms["elbo"] + self.alpha * log_p}


def _over_labels(
    found: Alternatives, log_likelihood: Tensor, kl: Tensor, log_q: Tensor, divergence: Tensor
) -> dict[str, Tensor]:
    """The bound of each row and its two terms, means over its labels, shape (B,).

    Args:
        found: the labels that are known, each of which takes the place of q(y|x).
        log_likelihood: the first term under each label, nats, shape (B, L).
        kl: the second one.
        log_q: log q(y|x), by which the labels of other rows are weighed.
        divergence: what each label adds to the KL.
    """
    q = found.known.where(found.is_known.unsqueeze(-1) > 0, log_q.exp())
    expected, rate = (q * log_likelihood).sum(-1), (q * (kl + divergence)).sum(-1)
    if found.shared is not None:
        expected = expected + found.shared
    return {"elbo": expected - rate, "log_likelihood": expected, "kl": rate}


def _weight(alpha: float) -> float:
    """The weight of a loss.

    Raises:
        ConfigError: if it is negative.
    """
    if not alpha >= 0:
        raise ConfigError(f"alpha is not negative; got {alpha}")
    return alpha
