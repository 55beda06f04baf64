"""Several latent layers as one distribution over one flat event."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base, hooks
from vaekit.errors import ConfigError, ShapeError

Step = Callable[[Tensor, Any], tuple[Distribution, Any]]
"""A layer's draw, and what the layers before it left behind (None at first), to the next layer's distribution."""


class Ancestral(Base):
    r"""\( p(z) = p(z_L) \prod_l p(z_l | z_{l+1}) \), or upwards \( p(z_1) \prod_l p(z_{l+1} | z_l) \), with the layers
    of a point concatenated to the flat event \( z = (z_1, \dots, z_L) \).

    A draw takes the layers in turn, each given the ones before; `log_prob` is one such pass over a given z. So priors
    and posteriors of any number of stochastic layers are distributions like all others, and the bounds do not change.
    A KL between two of them is sampled.

    Args:
        first: the layer that is drawn first, of batch shape (*batch) and event shape (its size,).
        steps: for each further layer in the order of drawing, a function of (the last layer's draw of shape (..., its
            size), state) that returns (the next layer's distribution of batch shape (...), state). The state carries
            what a step needs of earlier ones; the first step gets None.
        sizes: sizes of \( z_1, \dots, z_L \), from the layer next to x to the top, whatever the order of drawing.
        order: "down" draws \( z_L \) first, "up" \( z_1 \).
        has_rsample: whether draws carry gradients; None says what the first layer says.

    Raises:
        ConfigError: for another order.
        ShapeError: if there are not as many layers as sizes, or the first one has another size.

    Example:
        >>> import torch
        >>> from vaekit.distributions import Normal, Product
        >>> top = Product(Normal(torch.zeros(1), torch.ones(1)), 1)
        >>> below = lambda z, state: (Product(Normal(2 * z, torch.ones_like(z)), 1), None)
        >>> Ancestral(top, [below], (1, 1)).log_prob(torch.tensor([2.0, 1.0]))
        tensor(-2.3379)
    """

    parameters = ("first",)

    def __init__(
        self,
        first: Distribution,
        steps: Sequence[Step],
        sizes: Sequence[int],
        order: Literal["down", "up"] = "down",
        has_rsample: bool | None = None,
    ) -> None:
        if order not in ("down", "up"):
            raise ConfigError(f'order is "down" or "up"; got {order!r}')
        start = sizes[-1 if order == "down" else 0]
        if len(steps) != len(sizes) - 1 or tuple(first.event_shape) != (start,):
            raise ShapeError(
                f"{len(sizes)} layers need {len(sizes) - 1} steps and a first layer of shape ({start},); "
                f"got {len(steps)} and {tuple(first.event_shape)}"
            )
        self.first, self.steps, self.sizes, self.order = first, tuple(steps), tuple(sizes), order
        self._has_rsample = first.has_rsample if has_rsample is None else has_rsample
        super().__init__(first.batch_shape, torch.Size((sum(sizes),)), validate_args=False)

    def __repr__(self) -> str:
        return f"Ancestral(sizes={self.sizes}, order={self.order!r}, batch_shape={tuple(self.batch_shape)})"

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients."""
        return self._has_rsample

    @property
    def has_exact_mean(self) -> bool:  # type: ignore[override]
        """Only a single layer knows its mean; `mean` then is what it says."""
        return len(self.sizes) == 1 and hooks(self.first).has_exact_mean

    @property
    def support(self) -> constraints.Constraint | None:
        """That of the first layer, which the others share."""
        return self.first.support

    @property
    def mean(self) -> Tensor:
        """Each layer's mean given the means of the layers before: a central point, exact for linear layers only."""
        return self._joined([d.mean for d in self._walk(lambda _, d: d.mean)])

    def layers(self, value: Tensor) -> tuple[Tensor, ...]:
        """The layers z_1, ..., z_L of a flat z of shape (..., sum of sizes)."""
        result: tuple[Tensor, ...] = value.split(self.sizes, -1)
        return result

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, sum of sizes)."""
        with torch.no_grad():
            return self._draws(lambda i, d: d.sample(torch.Size(sample_shape) if i == 0 else torch.Size()))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, sum of sizes)."""
        return self._draws(lambda i, d: d.rsample(torch.Size(sample_shape) if i == 0 else torch.Size()))

    def log_prob_per_layer(self, value: Tensor) -> Tensor:
        """The log-density of each layer given those drawn before it, in nats, shape (..., L), z_1 first."""
        values = self._drawn_order(self.layers(value))
        terms = [d.log_prob(values[i]) for i, d in enumerate(self._walk(lambda i, _: values[i]))]
        return torch.stack(torch.broadcast_tensors(*self._drawn_order(terms)), -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, the sum over the layers, shape (...)."""
        return self.log_prob_per_layer(value).sum(-1)

    def log_components(self, value: Tensor) -> Tensor | None:
        """Components of the layer that is drawn first, which decide on all others: shape (..., K); None without any."""
        first = self.layers(value)[-1 if self.order == "down" else 0]
        own = hooks(self.first).log_components(first)
        if own is None:
            return None
        return own + (self.log_prob(value) - own.logsumexp(-1)).unsqueeze(-1)

    def _walk(self, choose: Callable[[int, Distribution], Tensor]) -> Iterator[Distribution]:
        """The layers' distributions in the order of drawing, each given what `choose` takes for the ones before."""
        d, state = self.first, None
        yield d
        for i, step in enumerate(self.steps):
            d, state = step(choose(i, d), state)
            yield d

    def _draws(self, draw: Callable[[int, Distribution], Tensor]) -> Tensor:
        drawn: list[Tensor] = []

        def choose(i: int, d: Distribution) -> Tensor:
            drawn.append(draw(i, d))
            return drawn[-1]

        last = list(self._walk(choose))[-1]
        choose(len(self.steps), last)
        return self._joined(drawn)

    def _drawn_order(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """From z_1, ..., z_L to the order of drawing, and back."""
        return values if self.order == "up" else values[::-1]

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(self._drawn_order(values)), -1)
