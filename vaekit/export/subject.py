"""A model as something to export: its inputs, which noise it draws, and rows to hold its graphs against torch at."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from vaekit import engine
from vaekit.distributions.base import hooks
from vaekit.export import graphs
from vaekit.export.noise import Noise, noise_of
from vaekit.export.programs import BATCHES, Exported, ExportError, Input, Values, exported, quiet
from vaekit.models.rows import given
from vaekit.models.view import View
from vaekit.transforms import Binarize
from vaekit.transforms.base import as_floating, steps_of

_HOLES = 0.2  # share of cells that are hidden then, where a model takes holes


class Subject:
    """A model to export.

    Args:
        model: the model, in eval mode.
        dtype: of the rows, as numpy names it; None takes the model's.

    Attributes:
        view: the model.
        dtype: in which rows go into the graphs: floating, so that it holds those of the data.
        takes_holes: whether NaN in a row is a cell that was not observed.
        context_size: entries of a context; 0 for a model that is asked under none.
    """

    def __init__(self, model: Any, dtype: str | None = None) -> None:
        self.view = View.of(model)
        like = torch.zeros(0, dtype=self.view.dtype)
        rows = like if dtype is None else torch.from_numpy(np.zeros(0, np.dtype(dtype)))
        self.dtype = as_floating(rows).dtype
        self.takes_holes = self.view.has_likelihood and hooks(self.view.at_prior).missing == "observed-only"
        self._some_context = self.view._traits.some_context
        self.context_size = 0 if self._some_context is None else int(self._some_context.shape[-1])
        steps = steps_of(self.view.transform)
        self.fixed_bits = [i for i, s in enumerate(steps) if isinstance(s, Binarize) and s.mode == "fixed"]
        random = [step for step in steps if not step.is_fixed]
        if self.fixed_bits:
            raise ExportError("its transform fixes bits by what it sees, Binarize(mode='fixed')")
        if any(not step.takes_noise for step in random):
            raise ExportError(f"its transform, {type(random[0]).__name__}, draws noise that cannot be handed in")
        self.num_transform = len(random)

    @cached_property
    def rows(self) -> Tensor:
        """Rows in the units of the data, drawn from the model, shape (64, *X)."""
        with engine.evaluating(self.view.model):
            generator = torch.Generator().manual_seed(0)
            model = given(self.view.model, self.context(BATCHES[-1]))
            x = View.of(model).sample(BATCHES[-1], generator=generator).to(self.dtype)
        if self.takes_holes and x.is_floating_point():
            x = torch.where(torch.rand(x.shape, generator=generator) < _HOLES, torch.nan, x)
        return x

    def context(self, num_rows: int) -> Tensor | None:
        """Contexts that the model knows, shape (B, C), or None."""
        return None if self._some_context is None else self._some_context.expand(num_rows, -1).contiguous()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """X."""
        return tuple(self.view.event_shape)

    # --- Inputs ------------------------------------------------------------------------------------------------------

    def _row_inputs(self, rows: bool) -> list[Input]:
        """Rows, noise of their transform, and context; without rows the context alone."""
        found = []
        if rows:
            found.append(Input("x", ("batch",), self.event_shape, self.dtype))
            for i in range(self.num_transform):
                found.append(Input(f"transform_noise_{i}", ("batch",), self.event_shape, self.dtype))
        if self.context_size:
            found.append(Input("context", ("batch",), (self.context_size,), self.view.dtype))
        return found

    def _noise_inputs(self, noise: Sequence[Noise]) -> list[Input]:
        return [Input(f"{n.kind}_{i}", n.axes, (n.size,), self.view.dtype) for i, n in enumerate(noise)]

    def _values(self, inputs: Sequence[Input]) -> Values:
        """What to put into a graph at a number of rows."""

        def make(num_rows: int, num_samples: int) -> list[Tensor]:
            generator = torch.Generator().manual_seed(num_rows)
            found = []
            for each in inputs:
                shape = [{"batch": num_rows, "samples": num_samples}[axis] for axis in each.axes] + list(each.shape)
                context = self.context(num_rows)
                if each.name == "x":
                    found.append(self.rows[:num_rows])
                elif each.name == "context":
                    assert context is not None
                    found.append(context)
                elif each.name.startswith(("normal", "z")):
                    found.append(torch.randn(shape, generator=generator, dtype=each.dtype))
                else:
                    found.append(torch.rand(shape, generator=generator, dtype=each.dtype))
            return found

        return make

    @cached_property
    def _seen(self) -> Tensor:
        """The rows in model space, for finding out what the model draws."""
        with torch.no_grad():
            return self.view.space(self.rows, self.view.dtype, 0)[0]

    def _noise(self, program: Callable[[Any, int, int], object]) -> list[Noise]:
        """What a program draws; it is handed the model under contexts of its rows."""
        with engine.evaluating(self.view.model), quiet():
            return noise_of(lambda k, b: program(given(self.view.model, self.context(b)), k, b))

    # --- Graphs ------------------------------------------------------------------------------------------------------

    def _exported(
        self, kind: type[graphs.Graph], noise: list[Noise], output: str, rows: bool = True, **how: Any
    ) -> Exported:
        inputs = [*self._row_inputs(rows), *self._noise_inputs(noise)]
        graph = kind(self.view, self.num_transform if rows else 0, bool(self.context_size)).eval()
        return exported(graph, inputs, output, self._values(inputs), **how)

    def encoder(self) -> Exported:
        """See `graphs.Encoder`."""
        seen = self._seen
        noise = self._noise(lambda model, k, b: model.posterior(seen[:b]))
        return self._exported(graphs.Encoder, noise, "z")

    def score(self) -> Exported:
        """See `graphs.Score`."""
        seen = self._seen
        noise = self._noise(lambda model, k, b: graphs.draws_of(model.posterior(seen[:b]), k))
        return self._exported(graphs.Score, noise, "log_weights")

    def decoder(self) -> Exported:
        """See `graphs.Decoder`."""
        z = self._z_input()
        inputs = [z, *self._row_inputs(rows=False)]
        graph = graphs.Decoder(self.view, 0, bool(self.context_size)).eval()
        return exported(graph, inputs, "x", self._z_values(inputs))

    def _z_input(self) -> Input:
        return Input("z", ("batch",), tuple(self.view.latent_shape), self.view.dtype)

    def _z_values(self, inputs: Sequence[Input]) -> Values:
        """Draws from the prior, which any set of z holds."""
        others = self._values(inputs[1:])
        with engine.evaluating(self.view.model), engine.seeded(0):
            prior = given(self.view.model, self.context(BATCHES[-1])).prior()
            z = prior.sample(Size() if prior.batch_shape else Size((BATCHES[-1],)))
        return lambda num_rows, num_samples: [z[:num_rows], *others(num_rows, num_samples)]

    def sample(self) -> Exported:
        """See `graphs.Sample`."""
        noise = self._noise(lambda model, k, b: graphs.drawn_rows(model, b))
        if len(noise) > _MOST_STEPS:
            raise ExportError(f"a draw of a row takes {len(noise)} passes, one after the other")
        return self._exported(graphs.Sample, noise, "x", rows=False, may_flip=True)

    def fill(self, level_values: Mapping[int, Sequence[float]]) -> Exported:
        """See `graphs.Fill`."""
        if not self.takes_holes:
            raise ExportError("p(x|z) of this model takes no holes")
        seen = self._seen
        noise = self._noise(lambda model, k, b: graphs.draws_of(model.posterior(seen[:b]), k))
        inputs = [*self._row_inputs(rows=True), *self._noise_inputs(noise)]
        with quiet():
            graph = graphs.Fill(self.view, self.num_transform, bool(self.context_size), level_values).eval()
        return exported(graph, inputs, "fills", self._values(inputs), may_flip=True)


_MOST_STEPS = 32  # passes of a network that a graph may hold one after the other
