"""Learning from rows of which few have a label: the sum over labels, and the classification loss."""

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
        if not alpha >= 0:
            raise ConfigError(f"alpha is not negative; got {alpha}")
        self.alpha = alpha
        self.needs_whole_batch = True  # labels may be few, and lie with one process

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X)."""
        ask = told_of(ModelTraits, model, "alternatives")
        if ask is None:
            return super().forward(model, x, weight)
        found: Alternatives = ask(x)
        log_likelihood, kl = self._bound(found)
        labelled = found.is_known if weight is None else found.is_known * weight.to(x)
        right = average_of_all((found.known * found.log_posterior).sum(-1), labelled)
        elbo = log_likelihood - kl
        terms = {"elbo": elbo, "log_likelihood": log_likelihood, "kl": kl, "classification": right}
        return Loss(-average(elbo, weight) - self.alpha * right, terms)

    def _bound(self, found: Alternatives) -> tuple[Tensor, Tensor]:
        r"""The two terms of the bound of each row, shape (B,): \( \sum_y q(y|x) E_q[\log p(x|z, y)] \), and the KL.

        A label that is known takes the place of q(y|x): all its mass, and \( \log q = 0 \) there.
        """
        log_likelihood, kl = bounds.elbo_terms(found.model, found.x, self.num_samples, self.kl)
        is_known = found.is_known.unsqueeze(-1) > 0
        q = found.known.where(is_known, found.log_posterior.exp())
        log_q = found.log_posterior.masked_fill(is_known, 0.0)
        kl = (q * (kl + log_q - found.log_prior)).sum(-1)
        expected = (q * log_likelihood).sum(-1)
        return expected if found.shared is None else expected + found.shared, kl

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound of each row, and the mean of log q(y|x) over those with a label."""
        has_labels = told_of(ModelTraits, model, "alternatives") is not None
        return self(model, x).terms if has_labels else super().validation_terms(model, x)
