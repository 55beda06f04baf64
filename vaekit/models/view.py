"""A model that has met its data: the one place where rows are checked, converted and handed to a model.

`View.of(model, rows)` takes any object with `posterior`, `prior` and `likelihood`, whoever wrote it, and rows in their
own units. Training, evaluation, queries, plots and exports start from the view.
"""

import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import METHODS, Draw
from vaekit.distributions.support import num_values
from vaekit.errors import ConfigError, DataError
from vaekit.models import checks, protocol
from vaekit.models.answers import Answering
from vaekit.models.draws import Block, Key, RowNoise, Sampling, blocks
from vaekit.models.row_transform import noise_in_words
from vaekit.models.rows import Batch, Index, Rows, as_rows, chosen, contexts_beside, given, read, slices, taken
from vaekit.models.space import Marks, ModelSpace, Whole
from vaekit.traits import Data, ModelTraits, OnDisk, told
from vaekit.transforms.base import as_transform

Found = TypeVar("Found")


class View(Answering):
    """A model and rows of data that fit it.

    Attributes:
        model: the model, as it was handed in.
        transform: the model's transform, or None.
        requires: the methods that the model was asked for.
        posterior_is_fixed: whether `model.posterior(x)` draws no noise.
        weight: weight of each row in a loss, shape (N,), or None.
        context: what the model is conditioned on, shape (N, *C), or None.
        transform_seed: the seed under which a random transform meets each row in evaluation; see `under`.
    """

    def __init__(
        self, model: Any, rows: Rows | None, requires: tuple[str, ...], weight: Tensor | None, context: Tensor | None
    ) -> None:
        self.model, self._rows, self.requires, self.weight, self.context = model, rows, requires, weight, context
        self._traits = told(ModelTraits, model)
        self.transform = as_transform(self._traits.transform)
        self.posterior_is_fixed = self._traits.posterior_is_fixed
        self._met, self._whole = Marks(self._traits.transform), Whole()
        self._known: dict[Callable[[View], Any], tuple[Marks, Any]] = {}  # of the model alone; copies share it
        self._back: Callable[[Tensor], Tensor] | None = None if self.transform is None else self.transform.inverse
        self.transform_seed = 0

    @classmethod
    def of(
        cls,
        model: Any,
        rows: Data = None,
        *,
        where: str = "x",
        requires: Iterable[str] = METHODS,
        max_rows: int | None = None,
        weight: Data = None,
        context: Data = None,
    ) -> "View":
        """Let a model meet rows: one dry run of the decoder, and every check of the rows.

        Args:
            model: any object with the methods in `requires`.
            rows: data in their own units, shape (N, *X): an array, a tensor, a data frame, a data set, or a view, which
                is returned as it is where it is one of this model and of its present transform. Without rows, a view
                decodes and samples.
            where: what to call the rows in messages.
            requires: methods that the model must have; without "likelihood" nothing is known of support and density.
            max_rows: look at most at so many rows, a fixed choice; None takes all.
            weight: weight of each row in a loss, shape (N,), not negative, or None.
            context: what the model is conditioned on, shape (N, *C); None takes the `contexts` of the rows, if they
                have any and the model is conditioned.

        Raises:
            ConfigError: if the model lacks a method (with a context also `given`), or weights or contexts have no rows.
            ShapeError: if the rows do not have the model's event shape.
            SupportError: if a value lies outside the support of the likelihood behind the transform.
            DataError: if there are no rows, or a value is NaN or infinite and not allowed to be.
        """
        requires = tuple(requires)
        if rows is not None and told(ModelTraits, model).num_contexts is not None:
            model, context = model.model, model.context
        seed = rows.transform_seed if isinstance(rows, View) else None
        if isinstance(rows, View):
            if weight is None and context is None and rows.holds(model, requires):
                return rows.some(max_rows)
            weight = rows.weight if weight is None else weight
            context = rows.context if context is None else context
            rows = rows.rows
        context = contexts_beside(model, rows) if context is None else context
        checks.require(model, requires)
        checks.require(model, () if context is None else ("given",), "a context")
        found = None if rows is None else as_rows(rows)
        if found is None:
            if weight is not None or context is not None:
                raise ConfigError("weights and contexts belong to rows; hand the rows over as well")
            return cls(model, None, requires, None, None)
        weights = checks.weights_of(weight, len(found))
        contexts = None if context is None else checks.contexts_of(model, context, len(found))
        view = cls(model, found, requires, weights, contexts).some(max_rows).under(seed)
        checks.check_rows(view, where)
        return view

    def holds(self, model: object, requires: Iterable[str]) -> bool:
        """Whether the view is one of this model, as it is now, and asked it for these methods."""
        is_same = self._met.same(Marks(told(ModelTraits, model).transform))
        return self.model is model and is_same and set(requires) <= set(self.requires)

    @property
    def rows(self) -> Rows:
        """The rows as they were handed in, shape (N, *X)."""
        if self._rows is None:
            raise DataError("this view of a model has no rows; hand some over: View.of(model, rows)")
        return self._rows

    @property
    def has_likelihood(self) -> bool:
        """Whether p(x|z) is known, and with it what log p is."""
        return "likelihood" in self.requires

    @cached_property
    def at_prior(self) -> Distribution:
        """p(x|z) at one draw from the prior, the one dry run of the decoder: enough to ask for support and family."""
        return protocol.at_prior(self.as_one, "posterior" in self.requires)

    def once(self, what: Callable[["View"], Found]) -> Found:
        """What is computed of the model alone, and kept for as long as its weights stay as they are.

        Of an object that is no module nobody knows its weights, and nothing is kept.
        """
        if not isinstance(self.model, nn.Module):
            return what(self)
        marks = Marks(self.model)
        known = self._known.get(what)
        if known is None or not known[0].same(marks):
            known = self._known[what] = marks, what(self)
        found: Found = known[1]
        return found

    @property
    def as_one(self) -> Any:
        """The model under one context, that of the first row, where the rows have any or the model needs some."""
        return given(self.model, self._traits.some_context if self.context is None else self.context[:1])

    @cached_property
    def event_shape(self) -> tuple[int, ...]:
        """X, the shape of one row."""
        return tuple(self.at_prior.event_shape if self.has_likelihood else self.rows.shape[1:])

    @cached_property
    def quantity(self) -> str:
        """What log p is, in the units of the rows: "density", "mass", "bound on a mass" or "no density".

        Of rows whose columns have one or the other: "density and mass".
        """
        return checks.quantity(self.at_prior, self.transform) if self.has_likelihood else "no density"

    @property
    def has_jacobian(self) -> bool:
        """Whether log|det| of the transform is part of that log p."""
        return self.quantity in ("density", "bound on a mass", "density and mass")

    @cached_property
    def num_values(self) -> int:
        """How many numbers p(x|z) holds for one z."""
        return num_values(self.at_prior) if self.has_likelihood else 1

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return engine.model_device(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in; that of the rows, or torch's default, where it has no parameters."""
        own = engine.model_dtype(self.model)
        if own is not None:
            return own
        like = torch.get_default_dtype() if self._rows is None else self._rows[:1].dtype
        return like if like.is_floating_point else torch.get_default_dtype()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Z, the shape of one latent."""
        with torch.no_grad():
            return tuple(self.as_one.prior().event_shape)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total_weight(self) -> float:
        """The sum of the weights of the rows: N, where all weigh alike."""
        return len(self) if self.weight is None else float(self.weight.double().sum())

    def take(self, index: Index) -> "View":
        """A view of some of the rows, in the order given; they are not checked again. Rows on disk come to memory."""
        return self._with(taken(self.rows, index), *self._beside(index))

    def some(self, max_rows: int | None) -> "View":
        """All rows as they are, or a fixed choice of `max_rows` of them in their own order."""
        return self if max_rows is None or len(self) <= max_rows else self.take(chosen(len(self), max_rows))

    def resident(self) -> "View":
        """The view with its rows on the model's device, where they fit there; see `engine.resident`."""
        rows = engine.resident(self.rows, self.device)
        return self if rows is self._rows else self._with(rows, self.weight, self.context)

    def under(self, transform_seed: int | None) -> "View":
        """The view under another transform seed, which with a row's values decides what a random transform draws of it.

        All that is asked of a view meets a row with the same bits. Views begin with 0; None leaves the seed as it is.
        """
        view = copy.copy(self)
        view.transform_seed = self.transform_seed if transform_seed is None else int(transform_seed)
        return self if view.transform_seed == self.transform_seed else view

    def repeated(self, times: Tensor) -> "View":
        """The rows so many times each, next to each other, their weights divided among the copies.

        Training meets some rows oftener so, and every weighted mean over the rows stays what it is.

        Args:
            times: counts of at least 1, shape (N,), int64.
        """
        index = torch.arange(len(self)).repeat_interleave(times.cpu())
        weight = (torch.ones(len(self)) if self.weight is None else self.weight.cpu().float()) / times.cpu()
        rows = self.rows
        assert rows is not None
        copies = rows.take(index.numpy()) if isinstance(rows, OnDisk) else taken(rows, index)
        context = None if self.context is None else taken(self.context, index)
        return self._with(copies, weight[index], context)

    def without_context(self) -> "View":
        """The same rows under no context: of a model that sums over labels."""
        return self._with(self.rows, self.weight, None)

    def by_context(self, most: int | None = None) -> list[tuple[Tensor, "View"]]:
        """The rows of each context, and their view by the model under that one context, which all of them share.

        Rows without contexts are all rows, and the view itself. Nothing is known of models whose `given` may take no
        context that rows share.

        Args:
            most: contexts beyond which nothing is told apart, and the list is empty.
        """
        if self.context is None:
            return [(torch.arange(len(self)), self)]
        if self._traits.check_context is None:
            return []
        _, which = torch.unique(self.context.nan_to_num(nan=torch.inf), dim=0, return_inverse=True)
        if most is not None and int(which.max()) >= most:
            return []
        found = []
        for index in ((which == i).nonzero().flatten() for i in range(int(which.max()) + 1)):
            model = self.model.given(self.context[index[0]])
            part = View.of(model, self.take(index).rows, requires=self.requires)
            found.append((index, part.under(self.transform_seed)))
        return found

    def transform_noise(self, num_draws: int = 1, errors: bool = True) -> str | None:
        """How evaluation draws the transform's noise, in words, for means over T draws; None where nothing is drawn."""
        return noise_in_words(self.transform, self.transform_seed, num_draws, errors)

    def beside(self, rows: Data, where: str = "x", weight: Data = None) -> "View":
        """Other rows that the same model meets, checked like the first ones, without another dry run."""
        if isinstance(rows, View) or self._traits.check_context is not None:
            return View.of(self.model, rows, where=where, requires=self.requires, weight=weight)
        found = as_rows(rows)
        view = self._with(found, checks.weights_of(weight, len(found)), None)
        checks.check_rows(view, where)
        return view

    def _with(self, rows: Rows, weight: Tensor | None, context: Tensor | None) -> "View":
        view = copy.copy(self)
        view._rows, view.weight, view.context, view._whole = rows, weight, context, Whole()
        return view

    def _beside(self, index: Index) -> Iterator[Tensor | None]:
        return (None if values is None else taken(values, index) for values in (self.weight, self.context))

    @cached_property
    def space(self) -> ModelSpace:
        """The way of rows to model space."""
        return ModelSpace(self.transform, self.has_jacobian)

    # --- Rows in model space -----------------------------------------------------------------------------------------

    def batch(self, index: Index, noise: RowNoise | None = None, *, by_row: bool = False) -> Batch:
        """Some rows in model space, with the keys of `noise` for evaluation; see `batches` for `by_row`."""
        x = taken(self.rows, index).to(self.device)
        key = None if noise is None else noise.keys(index, x)
        seed = self.transform_seed if by_row or noise is not None else None
        return self._batch(index, *self.space(x, self.dtype, seed), key)

    def batches(self, indices: int | Iterable[Index], *, by_row: bool = False) -> Generator[Batch, None, None]:
        """Batches in model space, in turn; an int is the size of batches of all rows in their order.

        A random transform draws from torch's stream, anew for each batch, as in training; with `by_row`, as in
        evaluation, what it draws is a function of each row and `transform_seed`.
        Where the transform is fixed and the rows are few, all go through it at once, before the first batch: the dozen
        operations of a standardisation take as long as a tenth of a small model's step. Rows on disk are decoded ahead.
        """
        if isinstance(indices, int):
            indices = slices(len(self), indices)
        dtype, device = self.dtype, self.device
        whole, seed = self._whole.of(self.rows, self.space, dtype, device), self.transform_seed if by_row else None
        if whole is not None:
            for index in indices:
                yield self._batch(index, *(taken(part, index) for part in whole))
            return
        pending: list[Index] = []  # which rows are on their way

        def noted() -> Iterator[Index]:
            for index in indices:
                pending.append(index)
                yield index

        with closing(read(self.rows, noted())) as found:
            for x in found:
                with torch.no_grad():
                    pair = self.space(x.to(device, non_blocking=True), dtype, seed)
                yield self._batch(pending.pop(0), *pair)

    def _batch(self, index: Index, x: Tensor, log_det: Tensor, key: Tensor | None = None) -> Batch:
        weight, context = (None if values is None else values.to(x.device) for values in self._beside(index))
        return Batch(x, log_det, weight, context, key)

    # --- Importance weights ------------------------------------------------------------------------------------------

    def blocks(self, how: Sampling, keep_z: bool = False) -> Iterator[Block]:
        """Importance weights of all rows in bounded memory; the model is to be in eval mode. See `draws.blocks`."""
        return blocks(self, how, keep_z)

    def draws(
        self, num_samples: int, generator: torch.Generator | None = None, key: Key | None = None
    ) -> Iterator[Draw]:
        """Draws from q(z|x) with log p(x|z), log p(z), log q(z|x): (K, B) each for up to 64 rows and 512 draws.

        Args:
            num_samples: K.
            generator: source of the noise; None is torch's own stream.
            key: see `Sampling`.
        """
        found = blocks(self, Sampling(num_samples, generator, key=key), keep_z=True)
        while True:
            with engine.evaluating(self.model):  # not around the yield: what is done with the draws is the caller's
                block = next(found, None)
            if block is None:
                return
            yield block.draws
