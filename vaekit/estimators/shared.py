"""The parameters that all estimators share, written once."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict

import numpy as np

from vaekit.data.schema import Kind, Schema
from vaekit.recipes import Settings

NOT_SHARED = ("seed", "checkpoint_every", "row_noise", "trim", "conditions", "conditioning", "networks")
"""Settings that estimators have under another name, no use for, or not all: `random_state`, files, contexts."""


class Shared(TypedDict, total=False):
    """Keyword arguments of every estimator; `VAEEstimator` says what they mean."""

    preset: str | None
    max_epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    latent_dim: int | None
    hidden: int | tuple[int, ...] | None
    likelihood: str | None
    posterior: str | None
    prior: str | None
    objective: str | None
    beta: float | None
    num_samples: int | None
    data_transform: str | None
    num_models: int | None
    precision: str | None
    compile: str | None
    device: str | None
    patience: int | None
    em_steps: tuple[int, int] | None
    keep: str | None
    fit_prior: bool | None
    schema: Schema | str | Path | Mapping[str, Kind] | None
    model_holes: bool | Literal["self"] | None
    validation_fraction: float | None
    num_importance_samples: int | None
    warm_start: bool
    verbose: bool
    random_state: int | np.random.RandomState | None


RENAMED = {"transform": "data_transform"}
"""Settings whose name an estimator has a method of."""
KEYS = {RENAMED.get(name, name): name for name in Settings.model_fields if name not in NOT_SHARED}
"""Parameter of estimators to the setting of `vaekit fit` that it is."""
DEFAULTS: dict[str, Any] = dict.fromkeys(Shared.__annotations__) | {"warm_start": False, "verbose": False}

_Arguments = ParamSpec("_Arguments")


def spelled_out(init: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Let a constructor that ends in `**shared` show each of these in its signature, where scikit-learn reads them."""
    signature = inspect.signature(init)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    kind = inspect.Parameter.KEYWORD_ONLY
    named = [inspect.Parameter(name, kind, default=default) for name, default in DEFAULTS.items()]
    init.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
    return init
