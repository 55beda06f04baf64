"""An ELBO whose posterior sees corrupted data."""

from typing import Literal

import torch
from torch import Tensor

from vaekit import bounds
from vaekit.bounds import KLMode, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average

_KINDS = ("normal", "mask", "flip")


class Denoising(Objective):
    r"""An ELBO whose posterior sees corrupted data.

    Minimises \( -E_{\tilde x}[ E_{q(z|\tilde x)}[\log p(x|z)] - KL(q(z|\tilde x), p(z)) ] \), \( \tilde x \) a
    corruption of x.

    What is bounded: for each \( \tilde x \) the bracket is an ELBO of the clean x, with \( q(z|\tilde x) \) as its
    posterior; so is its mean, and the value never exceeds log p(x) of the clean data. It is looser than the bound whose
    posterior is the mixture of \( q(z|\tilde x) \) over the corruptions of x, whose density has no closed form. The
    term `elbo` while training is this bound, validation uses q(z|x) of the clean x.

    Use it where the encoder overfits, or has to bear noise later on. Not where every nat of log p(x) counts and data
    are plenty.

    References:
        Im et al., "Denoising criterion for variational auto-encoding framework", 2017,
        https://arxiv.org/abs/1511.06406.

    Args:
        corruption: "normal" adds noise of standard deviation `level`, "mask" sets elements to 0 with probability
            `level`, "flip" takes x to 1 - x with probability `level` (for bits).
        level: how much, not negative; a probability for "mask" and "flip".
        num_samples: draws of z per row.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.

    Raises:
        ConfigError: for another corruption, a level that it does not take, or less than one draw.

    Example:
        >>> Denoising("flip", level=0.05)
        Denoising(corruption='flip', level=0.05, num_samples=1, kl='auto')
    """

    def __init__(
        self,
        corruption: Literal["normal", "mask", "flip"] = "mask",
        level: float = 0.1,
        num_samples: int = 1,
        kl: KLMode = "auto",
    ) -> None:
        super().__init__()
        bounds.check_arguments(num_samples, kl)
        if corruption not in _KINDS:
            raise ConfigError(f"corruption is one of {', '.join(_KINDS)}; got {corruption!r}")
        if not level >= 0 or (corruption != "normal" and level > 1):
            raise ConfigError(f"level is not negative, and at most 1 where it is a probability; got {level}")
        self.corruption, self.level, self.num_samples, self.kl = corruption, level, num_samples, kl

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"corruption={self.corruption!r}, level={self.level}, num_samples={self.num_samples}, kl={self.kl!r}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `elbo`, `log_likelihood`, `kl` of the clean x with the corrupted q."""
        q = model.posterior(self._corrupted(x))
        log_likelihood, kl = bounds.elbo_terms(model, x, self.num_samples, self.kl, posterior=q)
        value = average(kl - log_likelihood, weight)
        return Loss(value, {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl})

    def _corrupted(self, x: Tensor) -> Tensor:
        """A draw of the corruption; elements that were not observed (NaN) stay so."""
        if self.corruption == "normal":
            return x + self.level * torch.randn_like(x)
        hit = torch.rand_like(x) < self.level
        return torch.where(hit & ~torch.isnan(x), 1 - x if self.corruption == "flip" else torch.zeros_like(x), x)
