"""What an objective is, and what several of them share."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import Product
from vaekit.engine import world
from vaekit.errors import ConfigError
from vaekit.kl import as_own


class Loss(NamedTuple):
    """What an objective returns."""

    value: Tensor
    """What is minimised, shape (), nats per datum."""
    terms: dict[str, Tensor]
    """Quantities to report, with their natural signs, shape (B,), or () for quantities of the whole batch."""


def average(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of values over the rows of a batch (the first dimension), each row counted with its weight.

    Args:
        values: shape (B, ...).
        weight: shape (B,), not negative, or None for equal weights.

    Returns:
        Shape (...): the weighted sum divided by the sum of the weights; 0 where all weights are 0.
    """
    if weight is None:
        return values.mean(0)
    weight = weight.to(values)
    result: Tensor = torch.tensordot(weight, values, 1) / weight.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return result


def average_of_all(values: Tensor, weight: Tensor | None) -> Tensor:
    """`average` over the rows of all processes that train together, with gradients: for what is no sum over rows."""
    if world.size() == 1:
        return average(values, weight)
    weight = values.new_ones(len(values)) if weight is None else weight.to(values)
    both = torch.cat([torch.tensordot(weight, values, 1).reshape(-1), weight.sum().reshape(1)])
    sums = world.total(both)
    return (sums[:-1] / sums[-1].clamp(min=torch.finfo(values.dtype).tiny)).reshape(values.shape[1:])


class Objective(nn.Module, ABC):
    """A function of a model and a batch. It also works in a bare PyTorch loop: `objective(model, x).value.backward()`.

    A module, so that schedules and running means are part of a checkpoint. In a loop of one's own, call `prepare` once
    and `advance` after each update; the trainer does both.

    Attributes:
        requires: names of the methods that it asks of a model; one without "likelihood" trains models that have no
            density, and then nothing reports a log p.
        step: number of updates so far, shape (); feeds schedules.
        num_samples: draws of z per row in one forward pass.
        num_data: N, or the sum of the weights of the training rows; known after `prepare`.
        needs_whole_batch: whether the loss is more than a weighted mean over rows. Its forward pass then brings rows of
            other processes in (`engine.world`), and is not compiled where there are some.
        selects: the key of `validation_terms` by which the best weights are chosen.
        can_compile: whether torch.compile can take its forward pass; False where that contains a derivative of its own.
        adversary_learning_rate: step size of the optimiser of `adversary_parameters`.
        log_densities: the terms that are log-densities of x, to which a transform's log|det| is added for reports.
    """

    requires: tuple[str, ...] = bounds.METHODS
    num_samples: int = 1
    step: Tensor
    selects = "elbo"
    needs_whole_batch: bool = False
    can_compile = True
    adversary_learning_rate = 1e-4
    log_densities = frozenset({"elbo", "iwae", "log_likelihood"})

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.num_data: float | None = None

    def extra_repr(self) -> str:
        """The arguments, for printing; those that are modules print themselves."""
        kept = [name for name in inspect.signature(type(self)).parameters if name in vars(self)]
        return ", ".join(f"{name}={vars(self)[name]!r}" for name in kept)

    def build(self, model: LatentVariableModel) -> None:
        """Make parameters whose shapes depend on the model; the trainer calls it before training. None by default."""

    @abstractmethod
    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on a batch.

        Args:
            model: the model.
            x: rows in model space, shape (B, *X).
            weight: weight of each row, shape (B,): the loss is the weighted mean over the rows. None weighs all alike.
        """

    def prepare(self, num_data: float) -> None:
        """Called once before training with the number of training rows N, or the sum of their weights."""
        self.num_data = num_data
        self.step.zero_()  # schedules begin anew with each fit; a resumed one puts its count back

    def advance(self) -> None:
        """Called after each update of the parameters."""
        self.step.add_(1)

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """Bounds that choose the best weights, each of shape (B,), whatever is minimised: always those at beta = 1."""
        log_likelihood, kl = bounds.elbo_terms(model, x)
        return {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}

    def adversary_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters with an optimiser of their own, trained on `adversary`; none by default."""
        return ()

    def adversary(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss of the adversary on the same batch; only objectives with `adversary_parameters` have one."""
        raise RuntimeError(f"{type(self).__name__} has no adversary")


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


def as_factorized(q: Distribution, what: str) -> Product:
    """q as a product over the dimensions of z that can be reparameterised; a product of ours is returned itself.

    Args:
        q: the posterior of a batch.
        what: what is defined for such posteriors only, for the message.

    Raises:
        ConfigError: if q is something else.
    """
    product = as_own(q)
    if not isinstance(product, Product):
        raise ConfigError(
            f"{what} is defined for a factorised posterior, such as DiagonalNormal; got {type(q).__name__}, whose "
            "dimensions are correlated given x. Use such a posterior, or another objective."
        )
    if not product.has_rsample:
        raise ConfigError(f"the gradient of {what} needs a posterior that can be reparameterised; {q} cannot")
    return product
