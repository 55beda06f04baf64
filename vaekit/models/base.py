"""What models offer beside the protocol: samples, codes, reconstructions, in the units of the data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.distributions import centre, nearest
from vaekit.errors import ConfigError, ShapeError
from vaekit.models import inputs

_VALUES = 2**22  # parameters of p(x|z) per pass of sample, encode and reconstruct: bounds memory, whatever N and X


class OfWrapped:
    """What a model that refines the posterior of another one hands on from it: shapes, decoder, transform.

    A mixin of classes that keep the other model as `model`.
    """

    model: Any

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row of data."""
        return self.model.event_shape

    @property
    def num_likelihood_params(self) -> int:
        """How many raw parameters p(x|z) has for one z."""
        return self.model.num_likelihood_params

    @property
    def decoder(self) -> Any:
        """The decoder of the wrapped model; its input is z."""
        return getattr(self.model, "decoder", None)

    @property
    def transform(self) -> Any:
        """The way from data to model space, or None."""
        return inputs.transform_of(self.model)


class GenerativeModel(nn.Module, ABC):
    """A module with a posterior, a prior and a likelihood: `VAE`, and what is wrapped around one.

    `posterior`, `prior` and `likelihood` take and give model-space values; `sample`, `encode`, `reconstruct` and
    `interpolate` take and give data in the units handed in, through `transform`.

    Attributes:
        prior: a call without an argument returns p(z); a module or a method.
        transform: the way from data to model space, or None.
        can_compile: whether torch.compile can take an objective of the model; False where `posterior` contains a
            derivative of its own.
    """

    prior: Any
    can_compile = True

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

    @abstractmethod
    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of q(z|x): what an E step moves (13.15)."""

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters, those of p(x|z) and p(z): what an M step moves (13.19)."""
        mine = {id(p) for p in self.posterior_parameters()}
        return (p for p in self.parameters() if id(p) not in mine)

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
        if n < 0:
            raise ConfigError(f"the number of samples is not negative; got {n}")
        with engine.evaluating(self), engine.fork_rng(generator):
            z = self.prior().sample(torch.Size((n,)))
            return self._map(lambda chunk: self._decode(chunk, mean), z)

    def decode(self, z: Tensor, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[x|z], or a draw of x, for z of shape (N, *Z): shape (N, *X), in the units of the data."""
        z = z.to(engine.model_device(self), engine.model_dtype(self))
        with engine.evaluating(self), engine.fork_rng(generator):
            return self._map(lambda chunk: self._decode(chunk, mean), z)

    def encode(self, x: Any, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[z|x], or with `mean=False` a draw from q(z|x), for each row of x.

        Args:
            x: data in their own units, shape (N, *X).
            mean: the mean of q (on spheres, balls and relaxed bits the point in its centre; a posterior that knows
                neither raises), or a draw.
            generator: source of the noise of the draw and of a random transform; None with `mean=True` uses a fixed
                seed, so that two calls give the same codes.

        Returns:
            Shape (N, *Z).

        Raises:
            ShapeError, SupportError, DataError: if x does not fit the model.
        """
        if generator is None and mean:
            generator = torch.Generator().manual_seed(0)
        rows = self._checked(x)
        with engine.evaluating(self), engine.fork_rng(generator):
            return self._map(lambda chunk: self._encode(chunk, mean), rows)

    def reconstruct(self, x: Any, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[x'|z] at z = E[z|x], or with `mean=False` a draw of x' at a draw of z, for each row of x.

        Args:
            x: data in their own units, shape (N, *X).
            mean: means throughout, or draws throughout.
            generator: as in `encode`.

        Returns:
            Shape (N, *X), in the units of the data.
        """
        if generator is None and mean:
            generator = torch.Generator().manual_seed(0)
        rows = self._checked(x)
        with engine.evaluating(self), engine.fork_rng(generator):
            return self._map(lambda chunk: self._decode(self._encode(chunk, mean), mean), rows)

    def interpolate(self, start: Any, end: Any, num_steps: int = 8) -> Tensor:
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

    def _checked(self, x: Any) -> inputs.Rows:
        rows = inputs.as_rows(x)
        inputs.check_data(self, rows)
        return rows

    def _map(self, function: Callable[[Tensor], Tensor], rows: inputs.Rows) -> Tensor:
        device = engine.model_device(self)
        if len(rows) == 0:
            return function(rows[:0].to(device))
        size = max(1, min(1024, _VALUES // self.num_likelihood_params))
        parts = inputs.read(rows, inputs.batches(len(rows), size))
        return torch.cat([function(part.to(device)) for part in parts])

    def _encode(self, x: Tensor, mean: bool) -> Tensor:
        q = self.posterior(inputs.to_model_space(self, x)[0])
        return centre(q) if mean else q.sample()

    def _decode(self, z: Tensor, mean: bool) -> Tensor:
        p = self.likelihood(z)
        y = p.mean if mean else p.sample()
        transform = inputs.transform_of(self)
        return y if transform is None else transform.inverse(y)
