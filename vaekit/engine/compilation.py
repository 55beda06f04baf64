"""Compilation by torch.compile: on, off, or where it pays."""

from collections.abc import Callable
from typing import Literal, TypeVar

import torch

from vaekit.engine.devices import check_choice

Compile = Literal["auto", "on", "off"]
T = TypeVar("T")
_COMPILE = ("auto", "on", "off")


def compiled(function: Callable[..., T], compile: Compile) -> Callable[..., T]:
    """`function` compiled by torch where `compile` is `on`; as it is for `off` and `auto`.

    Each new shape gets a graph of its own (`dynamic=False`): which graph a batch meets then depends on its shape alone,
    never on what came before, so that a resumed run computes the same bits.
    """
    check_choice("compile", compile, _COMPILE)
    return torch.compile(function, dynamic=False) if compile == "on" else function
