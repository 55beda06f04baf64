"""Several importance-weighted bounds, averaged."""

from torch import Tensor

from vaekit import bounds
from vaekit.bounds import Draw, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of


class MIWAE(Objective):
    r"""Several importance-weighted bounds, averaged.

    Minimises \( -\frac1M \sum_m \log \frac1K \sum_k w_{mk} \): T = M K draws in M groups of K.

    Averaging over groups raises the signal-to-noise ratio of the encoder's gradient by \( \sqrt M \), where more draws
    in one group would lower it; the bound is that of K draws. M = 1 is `IWAE`, K = 1 the `ELBO` with a sampled KL. Use
    it where many draws are affordable and the encoder suffers under `IWAE`; where q can be reparameterised, `DReG` is
    the better cure.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
        https://arxiv.org/abs/1802.04537, section 5.

    Args:
        num_samples: T, all draws per row.
        num_groups: M, a divisor of T.

    Raises:
        ConfigError: for M < 1 or T < 1, or an M that does not divide T.

    Example:
        >>> MIWAE(num_samples=64, num_groups=8)
        MIWAE(num_samples=64, num_groups=8)
    """

    selects = "iwae"
    log_densities = Objective.log_densities | {"miwae"}

    def __init__(self, num_samples: int = 10, num_groups: int = 2) -> None:
        super().__init__()
        check_groups(num_samples, num_groups)
        self.num_samples, self.num_groups = num_samples, num_groups

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}, num_groups={self.num_groups}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `miwae`, and `iwae` and the ELBO of all draws."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        bound = mean_over_groups(draws, self.num_groups, reparameterized=q.has_rsample)
        return Loss(-average(bound, weight), {**terms_of(draws), "miwae": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with all draws chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)


def check_groups(num_samples: int, num_groups: int) -> None:
    """Raise a `ConfigError` unless the draws make that many equal groups."""
    bounds.check_arguments(num_samples)
    if num_groups < 1 or num_samples % num_groups:
        raise ConfigError(
            f"num_groups is at least 1 and divides num_samples; got {num_groups} groups of {num_samples} draws"
        )


def mean_over_groups(draws: Draw, num_groups: int, *, reparameterized: bool) -> Tensor:
    """The importance-weighted bound of each group of draws, averaged over the M groups: shape (B,)."""
    grouped = Draw(*(part.unflatten(0, (-1, num_groups)) for part in draws))  # (K, M, B)
    return bounds.iwae_from_draw(grouped, reparameterized=reparameterized).mean(0)
