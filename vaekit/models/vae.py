"""The variational autoencoder: an encoder q(z|x), a decoder p(x|z) and a prior p(z)."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.conditional import Conditional
from vaekit.distributions import centre, nearest
from vaekit.errors import ConfigError, ShapeError
from vaekit.models import inputs
from vaekit.models.supports import check_supports
from vaekit.transforms import Transform

_VALUES = 2**22  # parameters of p(x|z) per pass of sample, encode and reconstruct: bounds memory, whatever N and X


def _event_shape(prior: nn.Module) -> tuple[int, ...]:
    """Shape Z of the prior's events: of its attribute, for a prior that works only once it is bound, or of its call."""
    shape = getattr(prior, "event_shape", None)
    if shape is None:
        with torch.no_grad():
            shape = prior().event_shape
    return tuple(shape)


class VAE(nn.Module):
    r"""A latent-variable model \( p(x, z) = p(x|z) p(z) \) with an inference network \( q(z|x) \).

    Equation 13.2 of chapter 13 of "Neural Networks and Deep Learning". `posterior`, `prior` and `likelihood` take and
    give model-space values; `sample`, `encode`, `reconstruct` and `interpolate` take and give data in the units handed
    in, through `transform`.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
        Rezende et al., "Stochastic backpropagation", 2014, https://arxiv.org/abs/1401.4082.

    Args:
        encoder: q(z|x), a `Conditional` with a posterior head.
        decoder: p(x|z), a `Conditional` with a likelihood head.
        prior: p(z), a module whose call returns a distribution.
        transform: the way from data to model space; None means that the model sees the data as they are.

    Raises:
        ShapeError: if the parts do not fit each other.
        SupportError: if q(z|x) and p(z) live on different sets.

    Example:
        >>> import torch, vaekit as vk
        >>> model = VAE(
        ...     encoder=Conditional(vk.networks.MLP((1, 8, 8), (32,)), vk.posteriors.DiagonalNormal(4)),
        ...     decoder=Conditional(vk.networks.MLP(4, (32,)), vk.likelihoods.Bernoulli((1, 8, 8))),
        ...     prior=vk.priors.StandardNormal(4),
        ... )
        >>> model.sample(3, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self, encoder: Conditional, decoder: Conditional, prior: nn.Module, transform: Transform | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior, self.transform = encoder, decoder, prior, transform
        latent_shape = _event_shape(prior)
        if encoder.head.event_shape != latent_shape:
            raise ShapeError(
                f"the posterior {type(encoder.head).__name__} has events of shape {encoder.head.event_shape}, "
                f"the prior {type(prior).__name__} of shape {latent_shape}; both describe z and must agree."
            )
        encoder.build(decoder.head.event_shape)
        decoder.build(latent_shape)
        self.bind()
        check_supports(encoder.head, prior)

    def bind(self) -> None:
        """Tell the prior and both heads which model they are part of, where they ask for it by a method `bind(model)`.

        A `VampPrior` works through the model's encoder, a `Ladder` through the model's prior. The constructor binds;
        call it again after a part was exchanged.
        """
        for part in (self.prior, self.encoder.head, self.decoder.head):
            bind: Any = getattr(part, "bind", None)
            if bind is not None:
                bind(self)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row of data."""
        return self.decoder.head.event_shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of one latent."""
        return self.encoder.head.event_shape

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) for x of shape (B, *X) in model space: batch shape (B,), event shape Z."""
        return self.encoder(x)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) for z of shape (..., *Z): batch shape (...), event shape X, in model space."""
        return self.decoder(z)

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of q(z|x): what an E step moves (13.15)."""
        return self.encoder.parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters, those of p(x|z) and p(z): what an M step moves (13.19)."""
        mine = {id(p) for p in self.encoder.parameters()}
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
        x = self._checked(x)
        with engine.evaluating(self), engine.fork_rng(generator):
            return self._map(lambda chunk: self._encode(chunk, mean), x)

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
        x = self._checked(x)
        with engine.evaluating(self), engine.fork_rng(generator):
            return self._map(lambda chunk: self._decode(self._encode(chunk, mean), mean), x)

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

    def _checked(self, x: Any) -> Tensor:
        x = inputs.as_tensor(x)
        inputs.check_data(self, x)
        return x

    def _map(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        device = engine.model_device(self)
        if len(rows) == 0:
            return function(rows.to(device))
        size = max(1, min(1024, _VALUES // prod(self.decoder.head.param_shape)))
        return torch.cat([function(rows[part].to(device)) for part in inputs.batches(len(rows), size)])

    def _encode(self, x: Tensor, mean: bool) -> Tensor:
        q = self.posterior(inputs.to_model_space(self, x)[0])
        return centre(q) if mean else q.sample()

    def _decode(self, z: Tensor, mean: bool) -> Tensor:
        p = self.likelihood(z)
        y = p.mean if mean else p.sample()
        return y if self.transform is None else self.transform.inverse(y)
