"""Questions about rows under contexts: asked of the rows of each context alone, by the model that they share."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from vaekit import engine
from vaekit.errors import ConfigError
from vaekit.models.rows import contexts_beside
from vaekit.models.view import View
from vaekit.traits import Data

Answer = TypeVar("Answer")


def under_contexts(
    model: Any, x: Data, generator: torch.Generator | None, ask: Callable[[Any, Data, torch.Generator], Answer]
) -> list[tuple[Tensor, Answer]] | None:
    """What a question says of the rows of each context; None where rows have no contexts.

    The noise of a row is a function of its content and the seed, so that a row is answered as if it were alone.

    Args:
        model: the model.
        x: rows, which may be a view with contexts, or a data set that brings some.
        generator: source of the seed.
        ask: the question, of a model and rows without contexts.

    Raises:
        ConfigError: if the model is not vaekit's, and may take no context that rows share.
    """
    if not (isinstance(x, View) and x.context is not None) and contexts_beside(model, x) is None:
        return None
    parts = View.of(model, x).by_context()
    if not parts:
        raise ConfigError(f"ask {type(model).__name__}.given(context), for rows of one context")
    seed = engine.draw_seed(generator)
    return [(index, ask(part.model, part, torch.Generator().manual_seed(seed))) for index, part in parts]


def merged(answers: list[tuple[Tensor, Answer]], **dims: int) -> Answer:
    """Answers about some of the rows as one about all.

    Args:
        answers: which rows each is about, and a tensor or a data class of tensors.
        **dims: by the name of a field the dimension of its rows, where it is not the first.
    """
    first = answers[0][1]
    if isinstance(first, Tensor):
        return _joined([(index, answer) for index, answer in answers], 0)  # type: ignore[misc, return-value]
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(first)):  # type: ignore[arg-type]
        values = [(index, getattr(answer, name)) for index, answer in answers]
        is_tensor = isinstance(values[0][1], Tensor)
        found[name] = _joined(values, dims.get(name, 0)) if is_tensor else values[0][1]
    return type(first)(**found)


def _joined(parts: list[tuple[Tensor, Tensor]], dim: int) -> Tensor:
    order = torch.cat([index for index, _ in parts]).argsort()
    return torch.cat([values for _, values in parts], dim).index_select(dim, order)
