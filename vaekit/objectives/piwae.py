"""The tighter bound for the decoder, the better signal for the encoder."""

from typing import Any

import torch
from torch import Tensor, nn

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of
from vaekit.objectives.miwae import check_groups, mean_over_groups


class PIWAE(Objective):
    r"""The tighter bound for the decoder, the better signal for the encoder.

    Moves p(x, z) by the gradient of \( \mathrm{IWAE}_T \) and q by that of `MIWAE` with M groups, of the same
    draws.

    The generative model gains from a tight bound, its posterior loses by it: each half of the parameters
    (`model.generative_parameters()` and `model.posterior_parameters()`) gets the objective that suits it. The value is
    the bound of all T = M K draws; its gradient is no gradient of one function. Two backward passes. Use it as `MIWAE`,
    where log p(x) matters most.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
        https://arxiv.org/abs/1802.04537, section 5.

    Args:
        num_samples: T, all draws per row.
        num_groups: M, a divisor of T.

    Raises:
        ConfigError: for M < 1 or T < 1, an M that does not divide T, and on a model that does not say which parameters
            are those of q.

    Example:
        >>> PIWAE(num_samples=64, num_groups=8)
        PIWAE(num_samples=64, num_groups=8)
    """

    selects = "iwae"
    can_compile = False
    log_densities = Objective.log_densities | {"miwae"}

    def __init__(self, num_samples: int = 10, num_groups: int = 2) -> None:
        super().__init__()
        check_groups(num_samples, num_groups)
        self.num_samples, self.num_groups = num_samples, num_groups

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}, num_groups={self.num_groups}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `iwae` and `miwae`, and the ELBO of all draws."""
        halves = _halves(model)
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        tight = bounds.iwae_from_draw(draws, reparameterized=q.has_rsample)
        grouped = mean_over_groups(draws, self.num_groups, reparameterized=q.has_rsample)
        value = -average(tight, weight).detach()
        if torch.is_grad_enabled():
            for parameters, bound in zip(halves, (grouped, tight), strict=True):
                value = value + _with_gradient_of(-average(bound, weight), parameters)
        return Loss(value, {**terms_of(draws), "miwae": grouped})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with all draws chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)


def _halves(model: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters of q, and all others."""
    try:
        halves = model.posterior_parameters(), model.generative_parameters()
    except AttributeError as error:
        raise ConfigError(
            "PIWAE gives q another gradient than p(x, z) and needs a model with posterior_parameters() and "
            f"generative_parameters(), such as VAE; {type(model).__name__} lacks them. Use MIWAE or DReG."
        ) from error
    posterior, generative = ([p for p in half if p.requires_grad] for half in halves)
    return posterior, generative


def _with_gradient_of(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Zero, with the gradient of `loss` for these parameters and for nothing else."""
    if not parameters:
        return torch.zeros_like(loss)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(gradients, parameters, strict=True)
    linear = torch.stack([(g * p).sum() for g, p in pairs if g is not None]).sum()
    return linear - linear.detach()
