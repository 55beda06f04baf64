"""What every run of chains shares: checks of its arguments and of the latents, the size of a block, a bar."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.models.draws import chunk_size
from vaekit.models.view import View
from vaekit.progress import track

NEEDS = ("prior", "likelihood")
"""The methods of a model that chains ask for: they owe nothing to q(z|x)."""


def check_latents(model: LatentVariableModel) -> None:
    """Raise a `ConfigError` unless p(z) lives on all of R^n, where HMC can move."""
    mend = "Use log_marginal (importance sampling), or latents that are real numbers."
    with engine.evaluating(model), engine.seeded(0):
        prior = model.prior()
        z = prior.sample(torch.Size((1,)))
    try:
        support: Any = prior.support
        discrete = support.is_discrete
        inside = discrete or all(bool(support.check(z + shift).all()) for shift in (-1e6, 1e6))
    except NotImplementedError:  # a distribution that does not say
        discrete, inside = not z.is_floating_point(), True
    if discrete:
        raise ConfigError(f"Hamiltonian Monte Carlo moves along gradients; the latents of {prior} are discrete. {mend}")
    if not inside:
        raise ConfigError(
            f"Hamiltonian Monte Carlo moves in all of R^n; the latents of {prior} are confined to a part. {mend}"
        )


def check_counts(**counts: int) -> None:
    """Raise a `ConfigError` that names the first count below 1."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} is at least 1; got {value}")


def block_rows(view: View, num_chains: int) -> int:
    """How many points are worked on at once: all chains of a block fit one decoder pass of 4 MiB, or one point does."""
    return max(1, chunk_size(view.num_values) // num_chains)


def ticking(num_ticks: int, label: str, progress: bool) -> Callable[[], object]:
    """A function to call once per transition, and once more at the end, which moves a bar."""
    steps = range(num_ticks)
    return partial(next, iter(track(steps, label) if progress else steps), None)
