"""Codes, means and draws of many rows, a pass at a time, on noise that other threads may borrow in between."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import centre
from vaekit.errors import ConfigError
from vaekit.models import checks
from vaekit.models.rows import Batch, Index, given, slices
from vaekit.models.space import ModelSpace
from vaekit.shapes import check_count
from vaekit.traits import ModelTraits
from vaekit.transforms import Transform
from vaekit.transforms.base import is_foreign

Item = TypeVar("Item")
_VALUES = 2**22  # parameters of p(x|z) per pass of decode and encode: bounds memory, whatever N and X
Noise = Callable[[], AbstractContextManager[object]]
"""Gives what is entered around each pass; the noise of a pass goes on where that of the last one ended."""


def noise(generator: torch.Generator | None, is_fixed: bool = False, draws: bool = True) -> Noise:
    """Noise drawn from a generator, one stream for all passes of a question.

    Args:
        generator: source of the seed of the stream; None is torch's own stream.
        is_fixed: whether None is a fixed seed, for a mean that is asked for twice.
        draws: whether anything is drawn; otherwise nobody waits for the stream.
    """
    if generator is None and is_fixed:
        generator = torch.Generator().manual_seed(0)
    if generator is None:
        return partial(engine.fork_rng, None) if draws else nullcontext
    stream = engine.Stream(engine.draw_seed(generator))  # the generator moves on, whether or not anything is drawn
    return (lambda: stream) if draws else nullcontext


def each(items: Iterator[Item], answer: Callable[[Item], Tensor], noise: Noise) -> Tensor:
    """The answers for all items, one after the other, shape (N, ...).

    Args:
        items: batches, or which rows; what is drawn on the way to an item counts to the noise of its answer.
        answer: of an item, shape (B, ...).
        noise: entered around each item.
    """
    parts: list[Tensor] = []
    while True:
        with noise():
            item = next(items, None)
            if item is None:
                return torch.cat(parts)
            parts.append(answer(item))


def code(model: LatentVariableModel, batch: Batch, mean: bool) -> Tensor:
    """E[z|x], or a draw from q(z|x), for each row: shape (B, *Z)."""
    q = given(model, batch.context).posterior(batch.x)
    return checks.code_of(q) if mean else q.sample()


def decoded(model: LatentVariableModel, z: Tensor, mean: bool) -> Tensor:
    """E[y|z], or a draw of y, in model space: shape (B, *X).

    Args:
        model: the model, conditioned where it is conditioned.
        z: latents, shape (B, *Z).
        mean: a mean or a draw.
    """
    p = model.likelihood(z)
    y: Tensor = centre(p) if mean else p.sample()
    return y


def in_float64(transform: Transform | None) -> Callable[[Tensor], Tensor]:
    """The way from model space to the units of the data in float64, whatever the dtype of the model.

    A transform that vaekit knows nothing of goes back in its own dtype.
    """
    if transform is None:
        return Tensor.double
    if is_foreign(transform):
        return lambda y: transform.inverse(y).double()
    inverse = copy.deepcopy(transform).double().inverse
    return lambda y: inverse(y.double())


class Answering(ABC):
    """What a model that has met rows answers for them: codes, means and draws, in bounded memory; a mixin of `View`."""

    model: Any
    context: Tensor | None
    posterior_is_fixed: bool
    transform: Transform | None
    _traits: ModelTraits
    _back: Callable[[Tensor], Tensor] | None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model computes."""

    @property
    @abstractmethod
    def space(self) -> ModelSpace:
        """The way of rows to model space."""

    @property
    @abstractmethod
    def num_values(self) -> int:
        """How many numbers p(x|z) holds for one z."""

    @abstractmethod
    def batches(self, indices: int | Iterable[Index], *, by_row: bool = False) -> Iterator[Batch]:
        """Batches in model space, in turn."""

    def wide(self) -> Self:
        """The view with float64 answers in the units of the rows: the way back from model space keeps every digit."""
        view = copy.copy(self)
        view._back = in_float64(self.transform)
        return view

    def encode(
        self,
        mean: bool = True,
        generator: torch.Generator | None = None,
        indices: Tensor | None = None,
        fresh: bool = False,
    ) -> Tensor:
        """E[z|x], or with `mean=False` a draw from q(z|x), for each row; see `GenerativeModel.encode`.

        Args:
            mean: E[z|x] (on spheres, balls and relaxed bits the point in the centre of q), or a draw.
            generator: source of the noise of the draw; None with `mean=True` is a fixed seed.
            indices: which rows, in which order; None takes each once.
            fresh: whether a random transform draws from the generator too, anew each time, as in training.

        Returns:
            Shape (N, *Z).

        Raises:
            ConfigError: if a mean is asked for and q has none.
        """
        draws = not (mean and self.posterior_is_fixed) or (fresh and not self.space.is_fixed)
        source = noise(generator, is_fixed=mean, draws=draws)
        with engine.evaluating(self.model):
            batches = self.batches(self._passes(indices), by_row=not fresh)
            return each(batches, lambda batch: code(self.model, batch, mean), source)

    def reconstruct(self, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[x'|z] at z = E[z|x], or a draw of x' at a draw of z, for each row, in the units of the rows: (N, *X)."""

        def answer(batch: Batch) -> Tensor:
            return self._decoded(given(self.model, batch.context), code(self.model, batch, mean), mean)

        with engine.evaluating(self.model):
            batches = self.batches(self._passes(), by_row=True)
            return each(batches, answer, noise(generator, is_fixed=mean))

    def decode(self, z: Tensor, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """E[x|z], or a draw of x, for z of shape (N, *Z): shape (N, *X), in the units of the rows.

        Raises:
            ConfigError: if the rows have contexts, and there is not one z for each of them.
        """
        if self.context is not None and len(z) != len(self):
            raise ConfigError(
                f"{len(z)} latents are to be decoded under the contexts of {len(self)} rows; hand over one for each row"
            )
        z = z.to(self.device, engine.model_dtype(self.model) or z.dtype)
        with engine.evaluating(self.model):
            return self._decode_all(z, mean, noise(generator))

    def sample(self, n: int, mean: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Draws from p(x), or E[x|z] at draws from p(z), in the units of the rows: shape (n, *X).

        Raises:
            ConfigError: if n is negative, or the rows have contexts.
        """
        check_count(n, "the number of samples", -(2**63))
        if n < 0:
            raise ConfigError(f"the number of samples is not negative; got {n}")
        if self.context is not None:
            raise ConfigError("samples have no rows whose contexts they could take; sample from model.given(context)")
        if self._traits.num_contexts not in (None, n):
            raise ConfigError(
                f"a model under contexts of {self._traits.num_contexts} rows has as many samples; got n = {n}"
            )
        source = noise(generator)
        with engine.evaluating(self.model):
            with source():
                prior = self.model.prior()
                z = prior.sample(torch.Size() if prior.batch_shape else torch.Size((n,)))
            return self._decode_all(z, mean, source)

    def _passes(self, indices: Tensor | None = None) -> int | Iterable[Tensor]:
        """Which rows each pass has, so that the parameters of p(x|z) stay bounded."""
        return self._pass_size if indices is None else indices.split(self._pass_size)

    @property
    def _pass_size(self) -> int:
        return max(1, min(1024, _VALUES // (self._traits.num_likelihood_params or self.num_values)))

    def _decode_all(self, z: Tensor, mean: bool, noise: Noise) -> Tensor:
        def answer(part: slice) -> Tensor:
            context = None if self.context is None else self.context[part].to(z.device)
            model = self.model if self._traits.num_contexts is None else self.model[part]
            return self._decoded(given(model, context), z[part], mean)

        return each(iter(slices(len(z), self._pass_size) or [slice(0, 0)]), answer, noise)

    def _decoded(self, model: LatentVariableModel, z: Tensor, mean: bool) -> Tensor:
        y = decoded(model, z, mean)
        return y if self._back is None else self._back(y)
