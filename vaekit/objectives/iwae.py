"""The importance-weighted bound."""

from torch import Tensor

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.objectives.base import Loss, Objective, average


class IWAE(Objective):
    r"""The importance-weighted bound.

    Minimises \( -\frac1B \sum_b \log \frac1K \sum_k w_{bk} \).

    A tighter bound than the ELBO, at K times the decoder's cost. The signal-to-noise ratio of the encoder's gradient
    falls with K (Rainforth et al. 2018), which `DReG` mends; 5 to 50 are usual.
    Use it where log p(x) matters more than the time of training.

    References:
        Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519, equation 8.

    Args:
        num_samples: K.

    Raises:
        ConfigError: for K < 1.
    """

    selects = "iwae"

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        self.num_samples = num_samples

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `iwae`, and the ELBO of the same draws with its two parts."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        bound = bounds.iwae_from_draw(draws, reparameterized=q.has_rsample)
        return Loss(-average(bound, weight), {**terms_of(draws), "iwae": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with the K of training chooses the weights: a model fitted by IWAE has a loose ELBO."""
        return validation_terms_of(model, x, self.num_samples)


def terms_of(draws: bounds.Draw) -> dict[str, Tensor]:
    """The bounds of K draws, per point: `iwae`, and the `elbo` with its two parts; the KL is a sampled one."""
    return {
        "iwae": bounds.log_mean_exp(draws.log_weights),
        "elbo": draws.log_weights.mean(0),
        "log_likelihood": draws.log_likelihood.mean(0),
        "kl": (draws.log_posterior - draws.log_prior).mean(0),
    }


def validation_terms_of(model: LatentVariableModel, x: Tensor, num_samples: int) -> dict[str, Tensor]:
    """`terms_of` fresh draws: what objectives over several draws are validated by."""
    return terms_of(bounds.draw(model, x, num_samples))
