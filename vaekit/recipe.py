"""From settings in words to a model, an objective and a trainer that suit the data at hand."""

import inspect
import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator
from torch.distributions import constraints

from vaekit import presets, spec, transforms
from vaekit.conditional import ConditionalDistribution
from vaekit.data import Dataset, StoredDataset
from vaekit.distributions import element_support
from vaekit.errors import ConfigError
from vaekit.models.base import GenerativeModel
from vaekit.models.rows import as_rows, as_tensor
from vaekit.objectives import Objective
from vaekit.training import CollapseWarning, Trainer

AnyDataset = Dataset | StoredDataset

_UPDATES = 30_000  # default length of a run; enough for MNIST, patience ends small sets earlier


class Settings(BaseModel):
    """What a run can be told; None leaves a choice to the data and the preset."""

    model_config = ConfigDict(extra="forbid")

    preset: str = "vae"
    max_epochs: int | None = Field(None, ge=1, description="passes over the data; default: 30,000 updates")
    batch_size: int = Field(128, ge=1, description="rows per update")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, decayed to 0 along a cosine")
    latent_dim: int | None = Field(None, ge=1, description="dimensions of z; default: a quarter of those of x, 2 to 40")
    hidden: tuple[PositiveInt, ...] | None = Field(None, description="widths of the hidden layers, such as 400,400")
    likelihood: str | None = Field(None, description="p(x|z), such as bernoulli or normal:scale=network")
    posterior: str | None = Field(None, description="q(z|x), such as diagonal-normal")
    prior: str | None = Field(None, description="p(z), such as standard-normal")
    objective: str | None = Field(None, description="what is minimised, such as elbo or iwae")
    beta: float | None = Field(None, ge=0, description="weight of the KL")
    num_samples: int | None = Field(None, ge=1, description="draws of z per point while training")
    transform: str | None = Field(None, description="data to model space, such as scale,binarize:mode=fixed or none")
    seed: int = Field(0, ge=0, description="source of all noise")
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="of matrix products in networks")
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile of the loss")
    device: str = Field("auto", description="auto, cpu, cuda, ...")
    patience: int | None = Field(
        None, ge=1, description="epochs without a better bound; default: a fifth of max_epochs"
    )
    checkpoint_every: int | None = Field(None, ge=1, description="epochs between checkpoints; default: ten seconds")

    @field_validator("hidden", mode="before")
    @classmethod
    def _widths(cls, value: Any) -> Any:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


def settings(values: dict[str, Any]) -> Settings:
    """Checked settings.

    Raises:
        ConfigError: for an unknown key, with the nearest ones, or a value that does not fit its key.
    """
    known = Settings.model_fields
    for key in values:
        if key not in known:
            raise ConfigError(f"there is no key {key!r}. {spec.nearest(key, known)}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise ConfigError(f"{key}={values.get(key)!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


# --- Components in words ---------------------------------------------------------------------------------------------


def _value(text: str) -> Any:
    """true, false, a number, or a word."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def component(axis: str, text: str, **defaults: Any) -> Any:
    """A component from `name` or `name:argument=value:argument=value`.

    Args:
        axis: "likelihoods", "transforms", ...
        text: the name and its arguments.
        **defaults: arguments used where the component has them and the text does not set them.

    Raises:
        ConfigError: for an unknown name or argument, or a value that does not fit.
    """
    name, *rest = text.split(":")
    kind = spec.resolve(axis, name)
    known = [n for n in inspect.signature(kind.__init__).parameters if n != "self"]
    given = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise ConfigError(f"{text!r}: expected argument=value, got {part!r}. {spec.nearest(key, known)}")
        given[key] = _value(value)
    arguments = {key: value for key, value in defaults.items() if key in known} | given
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{text!r} cannot be made: {error}") from error


# --- Defaults that follow the data -----------------------------------------------------------------------------------


def _is_bits(data: AnyDataset) -> bool:
    return data.value_range in (None, (0, 1)) and all(bool(np.isin(x, (0, 1)).all()) for x in data.blocks())


def default_likelihood(data: AnyDataset) -> str:
    """Bits and grey images (as drawn bits): Bernoulli; colour images: discretised logistic; numbers: Normal."""
    grey = data.value_range is not None and (len(data.event_shape) == 2 or data.event_shape[0] == 1)
    if _is_bits(data) or grey:
        return "bernoulli"
    return "normal" if data.value_range is None else "discretized-logistic"


def _greatest(data: AnyDataset) -> float:
    return float(np.nanmax([np.fmax.reduce(x, axis=None) for x in data.blocks()]))


def make_likelihood(data: AnyDataset, text: str) -> ConditionalDistribution:
    """The likelihood of that name for the data; heads over integers learn the number of levels from the data."""
    highest = data.value_range[1] if data.value_range is not None else _greatest(data)
    levels = max(2, int(highest) + 1) if math.isfinite(highest) and highest < 2**16 else 256
    return component(
        "likelihoods", text, event_shape=data.event_shape, num_classes=levels, num_levels=levels, num_tokens=levels
    )


def _default_chain(data: AnyDataset, head: ConditionalDistribution) -> str:
    """What leads the data into the support of p(x|z), whatever the family: read off the support, not off a name."""
    integers = data.value_range is not None and not _is_bits(data)
    with torch.no_grad():
        likelihood = head(torch.zeros(1, *head.param_shape))
    support = element_support(likelihood)
    is_density = getattr(likelihood, "quantity", "density") == "density"
    if support is constraints.boolean or not (support.is_discrete or is_density):  # bits, or grey values as if bits
        scale = ["scale"] if integers else []
        bits = [] if support is not constraints.boolean or _is_bits(data) else ["binarize"]
        return ",".join([*scale, *bits]) or "none"
    if support.is_discrete:  # levels and counts
        return "none"
    into_interval = ["dequantize"] if integers else []
    # Real numbers have no unit of their own; positive ones and proportions have a zero that a shift would lose.
    shift = ["standardize"] if support is constraints.real else []
    return ",".join([*into_interval, *shift]) or "none"


def make_transform(data: AnyDataset, head: ConditionalDistribution, text: str | None) -> transforms.Transform | None:
    """The transform in words, or the one that leads these data into the support of the likelihood; not fitted yet."""
    chain = _default_chain(data, head) if text is None else text
    if spec.normalized(chain) == "none":
        return None
    low, high = data.value_range or (0.0, 1.0)
    defaults = {"low": low, "high": high, "num_levels": int(high) + 1, "event_shape": data.event_shape}
    parts = [component("transforms", part, **defaults) for part in chain.split(",")]
    return parts[0] if len(parts) == 1 else transforms.Compose(parts)


def _rows_for(transform: transforms.Transform, data: AnyDataset) -> Any:
    """What a transform learns from; only a chain needs all rows at once, for each part sees what the last one made."""
    return as_tensor(data) if isinstance(transform, transforms.Compose) else as_rows(data)


def default_latent_dim(data: AnyDataset) -> int:
    """A quarter of the number of elements, at least 2 and at most 40."""
    return min(40, max(2, math.prod(data.event_shape) // 4))


# --- Model, objective, trainer ---------------------------------------------------------------------------------------


def _preset(name: str) -> Any:
    by_name = {spec.normalized(key): value for key, value in presets.available().items()}
    if spec.normalized(name) not in by_name:
        raise ConfigError(f"there is no preset {name!r}. {spec.nearest(name.lower(), presets.available())}")
    return by_name[spec.normalized(name)]


def _accepted(preset: Any) -> set[str]:
    """Arguments of a preset, with those of `vae` or `conv_vae` where it hands them on."""
    names = set(inspect.signature(preset).parameters)
    if "parts" in names:
        onward = presets.conv_vae if preset is presets.conv_mnist else presets.vae
        names |= set(inspect.signature(onward).parameters)
    return names


def _likelihood_of(preset: Any, data: AnyDataset) -> str:
    """The family that a preset is about, where it is about one; else the one that suits the data."""
    own = inspect.signature(preset).parameters.get("likelihood")
    general = inspect.signature(presets.vae).parameters["likelihood"].default
    return default_likelihood(data) if own is None or own.default == general else own.default


def _objective(default: Objective, wanted: Settings) -> Objective:
    """The preset's objective, or the one asked for, with the arguments asked for."""
    given = {k: v for k, v in {"beta": wanted.beta, "num_samples": wanted.num_samples}.items() if v is not None}
    if wanted.objective is None and not given:
        return default
    kind = type(default) if wanted.objective is None else spec.resolve("objectives", wanted.objective.partition(":")[0])
    known = inspect.signature(kind.__init__).parameters
    for key in given:
        if key not in known:
            raise ConfigError(f"the objective {spec.hyphened(kind.__name__)} has no {key}")
    kept = spec.describe(default)["arguments"] if kind is type(default) else {}
    name = wanted.objective or spec.hyphened(kind.__name__)
    return component("objectives", name, **{**kept, **given})


def build(wanted: Settings, data: AnyDataset) -> tuple[GenerativeModel, Objective]:
    """A model and an objective for the data; a transform that learns constants is fitted to them.

    Args:
        wanted: the settings.
        data: the training rows.

    Raises:
        ConfigError: for names and combinations that do not exist.
    """
    preset = _preset(wanted.preset)
    accepted, head = _accepted(preset), make_likelihood(data, wanted.likelihood or _likelihood_of(preset, data))
    own_default = inspect.signature(preset).parameters["latent_dim"].default
    # A preset that asks for few latents, for pictures or for a curved space, has a reason; 16 and more are a guess.
    latent_dim = wanted.latent_dim or (own_default if own_default < 16 else default_latent_dim(data))
    transform = make_transform(data, head, wanted.transform)
    if transform is not None:
        with torch.no_grad():
            transform.fit(_rows_for(transform, data))
    parts: dict[str, Any] = {"likelihood": head, "latent_dim": latent_dim, "transform": transform}
    if wanted.hidden is not None:
        if "hidden" not in accepted:
            raise ConfigError(f"the preset {wanted.preset} has no hidden layers to set; use --preset vae")
        parts["hidden"] = wanted.hidden
    shape = {"event_shape": latent_dim, "code_shape": latent_dim}  # codes have classes as one more dimension
    if wanted.posterior is not None:
        parts["posterior"] = component("posteriors", wanted.posterior, **shape)
    if wanted.prior is not None:
        parts["prior"] = component("priors", wanted.prior, **shape)
    model, objective = preset(data.event_shape, **parts)
    return model, _objective(objective, wanted)


def make_trainer(wanted: Settings, num_rows: int, **options: Any) -> Trainer:
    """A trainer with the settings' values; the defaults that depend on the number of training rows are filled in."""
    max_epochs = wanted.max_epochs or min(2000, math.ceil(_UPDATES / math.ceil(num_rows / wanted.batch_size)))
    patience = wanted.patience or max(10, max_epochs // 5)
    names = ("batch_size", "learning_rate", "precision", "compile", "device", "seed", "checkpoint_every")

    def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)

    values = {name: getattr(wanted, name) for name in names}
    watch = [CollapseWarning()]
    return Trainer(max_epochs=max_epochs, patience=patience, scheduler=cosine, callbacks=watch, **values, **options)
