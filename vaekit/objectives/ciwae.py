"""A mixture of the ELBO and the importance-weighted bound."""

from torch import Tensor

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of


class CIWAE(Objective):
    r"""A mixture of the ELBO and the importance-weighted bound.

    Minimises \( -\gamma\, \mathrm{ELBO} - (1 - \gamma)\, \mathrm{IWAE}_K \), both of the same K draws.

    The ELBO keeps a signal for the encoder that the tighter bound lacks, the tighter bound the better decoder. Use it
    as a cheap compromise; the weight \( \gamma \) (beta in the paper) has to be found by trial.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
        https://arxiv.org/abs/1802.04537, section 5.

    Args:
        num_samples: K.
        elbo_weight: gamma in [0, 1]; 0 is `IWAE`, 1 the `ELBO` with a sampled KL.

    Raises:
        ConfigError: for K < 1 or a weight outside [0, 1].

    Example:
        >>> CIWAE(num_samples=64, elbo_weight=0.05)
        CIWAE(num_samples=64, elbo_weight=0.05)
    """

    selects = "iwae"
    log_densities = Objective.log_densities | {"ciwae"}

    def __init__(self, num_samples: int = 5, elbo_weight: float = 0.5) -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        if not 0 <= elbo_weight <= 1:
            raise ConfigError(f"elbo_weight lies in [0, 1]; got {elbo_weight}")
        self.num_samples, self.elbo_weight = num_samples, elbo_weight

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}, elbo_weight={self.elbo_weight}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `ciwae`, `iwae`, and the ELBO with its two parts."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        elbo = bounds.elbo_from_draw(draws, reparameterized=q.has_rsample)
        iwae = bounds.iwae_from_draw(draws, reparameterized=q.has_rsample)
        bound = self.elbo_weight * elbo + (1 - self.elbo_weight) * iwae
        return Loss(-average(bound, weight), {**terms_of(draws), "ciwae": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with the K of training chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)
