"""What vaekit may ask of a distribution beside torch's own interface, with the answer of one that says nothing."""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, constraints


class Hooks:
    """The optional questions to a distribution, at their defaults. `hooks` asks them of any distribution.

    Attributes:
        missing: "observed-only" where NaN in a value means an element that was not observed, else "error".
        quantity: what `log_prob` is: "density", "mass", "no density", or None, which reads it off the support.
        has_exact_mean: whether `mean` is E[x], not only a point in the middle.
        centre: the point that stands for the distribution where its support has no means (a sphere), or None.
        makes_parts: whether `log_prob` makes the parts of an event that were observed alone, while the elements of all
            cost more. It then gives -inf outside of the support by itself.
        num_values: how many numbers `log_prob` makes on its way for one event, where those are more than it holds.
        of_cells: the product over single cells of a row, each given those that it depends on beside the parameters.
        noise_shape: shape E of the standard normal noise behind one draw; None where draws are no function of it.
    """

    missing: str = "error"
    has_exact_mean: bool = True
    makes_parts: bool = False
    num_values: int = 1

    @property
    def quantity(self) -> str | None:
        """What `log_prob` is, or None where the support says it."""
        return None

    @property
    def centre(self) -> Tensor | None:
        """The point that stands for the distribution, or None where the mean does."""
        return None

    def of_cells(self, value: Tensor) -> Distribution:
        """The product over cells that stand for the row in questions about single cells; itself where it is one.

        Args:
            value: rows, shape (B, *event), NaN where not observed.
        """
        assert isinstance(self, Distribution)
        return self

    @property
    def noise_shape(self) -> Size | None:
        """Shape E of the normal noise behind one draw, or None."""
        return None

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of given standard normal noise of shape (*sample, *batch, *E): shape (*sample, *batch, *event).

        Raises:
            NotImplementedError: where `noise_shape` is None.
        """
        raise NotImplementedError(f"draws of {type(self).__name__} are not a function of normal noise")

    def sample_without_rejection(self, sample_shape: Size) -> Tensor:
        """Draws as `sample` makes them, of noise whose amount does not depend on the draws.

        A graph of a program takes them. Samplers that reject have a fixed number of tries instead.
        """
        assert isinstance(self, Distribution)
        return self.sample(sample_shape)

    def kl_to(self, p: Distribution) -> Tensor | None:
        """KL(q, p) in nats, shape (*batch,), where this distribution knows a form of its own for such a p."""
        return None

    def kl_per_element(self, p: Distribution) -> Tensor | None:
        """KL of each factor in nats, where this distribution has factors other than elements and knows a form."""
        return None

    def log_components(self, value: Tensor) -> Tensor | None:
        r"""\( \log \pi_k p_k(x) \) of each component of a mixture in nats, shape (..., K), or None where there is none.

        Their sum is the density: log-sum-exp over the last dimension gives `log_prob`.
        """
        return None

    def unturned(self) -> Distribution | None:
        """The distribution before maps that only turn space, which look the same to N(0, I); None without any."""
        return None

    def sum_log_prob_no_grad(self, value: Tensor, num_dims: int) -> Tensor | None:
        """`log_prob` summed over the last `num_dims` dimensions without gradients, where that is cheaper than a sum."""
        return None


class Base(Hooks, Distribution):
    """A distribution with vaekit's hooks that expands its named parameters.

    Attributes:
        parameters: names of its tensors and distributions whose leading dimensions are those of the batch; None may
            stand in the place of one that is not there yet.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (the name torch prescribes)
    parameters: ClassVar[tuple[str, ...]] = ()

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> Self:
        """The same distribution, repeated over `batch_shape`."""
        new, shape, ndims = copy.copy(self), Size(batch_shape), len(self.batch_shape)
        new._batch_shape = shape
        for name in self.parameters:
            value = vars(self)[name]
            if value is not None:
                own = value.shape if isinstance(value, Tensor) else value.batch_shape
                vars(new)[name] = value.expand(shape + own[ndims:])
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self.rsample(Size(sample_shape))


_NOTHING = Hooks()


def hooks(distribution: Distribution) -> Hooks:
    """The hooks of any distribution: its own, or the defaults."""
    return distribution if isinstance(distribution, Hooks) else _NOTHING


_OF_TORCH: tuple[type, ...] = (Independent, MultivariateNormal, Normal)


def _owner_of(kind: type, name: str) -> type | None:
    return next((owner for owner in kind.__mro__ if name in vars(owner)), None)


def _maker(distribution: Distribution) -> type | None:
    """The class that says how noise becomes draws of a distribution; None where none does.

    None also where a class below it has a `sample` or `rsample` of its own, which given noise would pass by.
    """
    kind = type(distribution)
    for owner in kind.__mro__:
        if owner in _OF_TORCH or "from_noise" in vars(owner):
            are_kept = all(_owner_of(kind, name) in owner.__mro__ for name in ("sample", "rsample"))
            return owner if are_kept else None
    return None


def of_cells(distribution: Distribution, value: Tensor) -> Distribution:
    """`Hooks.of_cells` of any distribution."""
    return distribution.of_cells(value) if isinstance(distribution, Hooks) else distribution


def noise_shape(distribution: Distribution) -> Size | None:
    """`Hooks.noise_shape` of any distribution; torch's normal ones have the shape of their events."""
    maker = _maker(distribution)
    if maker is None:
        return None
    if maker is Independent and isinstance(distribution, Independent):
        return None if noise_shape(distribution.base_dist) is None else distribution.event_shape
    return distribution.event_shape if maker in _OF_TORCH else hooks(distribution).noise_shape


def from_noise(distribution: Distribution, noise: Tensor) -> Tensor:
    """`Hooks.from_noise` of any distribution whose `noise_shape` is known."""
    maker = _maker(distribution)
    if maker is Independent and isinstance(distribution, Independent):
        return from_noise(distribution.base_dist, noise)
    if maker is MultivariateNormal and isinstance(distribution, MultivariateNormal):
        return distribution.loc + (distribution.scale_tril @ noise.to(distribution.loc).unsqueeze(-1)).squeeze(-1)
    if maker is Normal and isinstance(distribution, Normal):
        return distribution.loc + distribution.scale * noise.to(distribution.loc)
    return hooks(distribution).from_noise(noise)
