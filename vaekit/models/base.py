"""What models offer beside the protocol: samples, codes, reconstructions, in the units of the data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import Conditional
from vaekit.distributions import nearest
from vaekit.errors import ConfigError, ShapeError
from vaekit.traits import Data, ModelTraits, told

if TYPE_CHECKING:
    from vaekit.transforms import Transform


class OfWrapped(ABC):
    """What a model hands on from another one whose p(x|z) it has: the shape of rows, decoder, transform. A mixin."""

    @property
    @abstractmethod
    def describing(self) -> "GenerativeModel":
        """The model whose p(x|z) this one has."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row of data."""
        return self.describing.event_shape

    @property
    def num_likelihood_params(self) -> int:
        """How many raw parameters p(x|z) has for one z."""
        return self.describing.num_likelihood_params

    @property
    def decoder(self) -> nn.Module | None:
        """That of the other model; its input is z."""
        return told(ModelTraits, self.describing).decoder

    @property
    def transform(self) -> "Transform | None":
        """The way from data to model space, or None."""
        result: Transform | None = self.describing.transform
        return result


class OfParts:
    """Shapes of a model that has an encoder and a decoder, each a `Conditional`; a mixin."""

    encoder: Conditional
    decoder: Conditional

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row of data."""
        return self.decoder.head.event_shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of one latent, given the context where there is one."""
        return self.encoder.head.event_shape

    @property
    def num_likelihood_params(self) -> int:
        """How many raw parameters p(x|z) has for one z."""
        return prod(self.decoder.head.param_shape)


class Generative(ABC):
    """What has a posterior, a prior and a likelihood, and what that answers in the units of the data.

    `posterior`, `prior` and `likelihood` take and give model-space values; `sample`, `encode`, `reconstruct` and
    `interpolate` take and give data in the units handed in, through `transform`.

    Attributes:
        prior: a call without an argument returns p(z); a module or a method.
        transform: the way from data to model space, or None.
    """

    prior: Any
    transform: Any

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row of data."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of one latent."""

    @property
    @abstractmethod
    def num_likelihood_params(self) -> int:
        """How many raw parameters p(x|z) has for one z: what a pass through the decoder costs in memory."""

    @abstractmethod
    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) for x of shape (B, *X) in model space: batch shape (B,), event shape Z."""

    @abstractmethod
    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) for z of shape (..., *Z): batch shape (...), event shape X, in model space."""

    def sample(self, n: int, mean: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Ancestral sampling: z ~ p(z), then x ~ p(x|z) (section 13.1.2).

        Args:
            n: number of samples.
            mean: return E[x|z] instead of draws of x; through a transform that is not affine, the image of that mean.
            generator: source of the noise; None takes torch's own stream.

        Returns:
            Shape (n, *X), in the units of the data.

        Raises:
            ConfigError: if n is negative.
        """
        from vaekit.models.view import View  # on use: start-up stays cheap

        return View.of(self).sample(n, mean, generator)

    def decode(self, z: Tensor, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[x|z], or a draw of x, for z of shape (N, *Z): shape (N, *X), in the units of the data."""
        from vaekit.models.view import View  # on use: start-up stays cheap

        return View.of(self).decode(z, mean, generator)

    def encode(self, x: Data, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[z|x], or with `mean=False` a draw from q(z|x), for each row of x.

        Args:
            x: data in their own units, shape (N, *X).
            mean: the mean of q (on spheres, balls and relaxed bits the point in its centre; a posterior that knows
                neither raises), or a draw.
            generator: source of the noise of the draw. What a random transform draws is a function of the row, so that
                two calls give the same codes; `View.of(model, x).under(1)` in the place of x has other bits.

        Returns:
            Shape (N, *Z).

        Raises:
            ShapeError, SupportError, DataError: if x does not fit the model.
        """
        from vaekit.models.view import View  # on use: start-up stays cheap

        return View.of(self, x).encode(mean, generator)

    def reconstruct(self, x: Data, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[x'|z] at z = E[z|x], or with `mean=False` a draw of x' at a draw of z, for each row of x.

        Args:
            x: data in their own units, shape (N, *X).
            mean: means throughout, or draws throughout.
            generator: as in `encode`.

        Returns:
            Shape (N, *X), in the units of the data.
        """
        from vaekit.models.view import View  # on use: start-up stays cheap

        return View.of(self, x).reconstruct(mean, generator)

    def interpolate(self, start: Data, end: Data, num_steps: int = 8) -> Tensor:
        """Means of p(x|z) along the straight lines in z between the codes of paired rows (on a sphere, the arcs).

        Args:
            start: rows where the lines begin, shape (N, *X).
            end: rows where they end, shape (N, *X).
            num_steps: points on each line, both ends included.

        Returns:
            Shape (N, num_steps, *X), in the units of the data.
        """
        first, last = self.encode(start), self.encode(end)
        if first.shape != last.shape:
            raise ShapeError(f"start and end need as many rows; got {len(first)} and {len(last)}")
        t = torch.linspace(0, 1, num_steps, dtype=first.dtype, device=first.device)
        weights = t.reshape(1, -1, *[1] * (first.ndim - 1))
        with torch.no_grad():
            z = nearest(self.prior(), torch.lerp(first.unsqueeze(1), last.unsqueeze(1), weights))
        return self.decode(z.flatten(0, 1)).reshape(len(first), num_steps, *self.event_shape)


class GenerativeModel(Generative, nn.Module):
    """A module with a posterior, a prior and a likelihood: `VAE`, and what is wrapped around one.

    Attributes:
        can_compile: whether torch.compile can take an objective of the model; False where `posterior` contains a
            derivative of its own.
        posterior_is_fixed: whether `posterior` draws no noise of its own while the model is evaluated.
    """

    can_compile = True
    posterior_is_fixed = False

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """Not how a model is asked: a model has no one answer to x.

        Raises:
            ConfigError: always, with what to call instead.
        """
        raise ConfigError(
            f"{type(self).__name__} is not called: call model.reconstruct(x), model.encode(x), model.sample(n). q(z|x) "
            "is model.posterior(x), p(x|z) is model.likelihood(z); vaekit.objectives.ELBO()(model, x).value is a loss, "
            "vaekit.evaluation.log_marginal(model, x, num_samples=100) estimates log p(x)."
        )

    @abstractmethod
    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of q(z|x): what an E step moves (13.15)."""

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters, those of p(x|z) and p(z): what an M step moves (13.19)."""
        mine = {id(p) for p in self.posterior_parameters()}
        return (p for p in self.parameters() if id(p) not in mine)
