"""Settings of a run in words, checked."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from vaekit import engine
from vaekit.errors import ConfigError
from vaekit.saving import spec

_MEMBER = 9  # place in the hash that makes seeds of members from the seed

STRUCTURE = frozenset(
    {"preset", "latent_dim", "hidden", "likelihood", "posterior", "prior", "transform", "num_models"}
    | {"conditions", "conditioning", "networks"}
)
"""Settings that make a model what it is: one that is fitted already keeps them."""


class Settings(BaseModel):
    """What a run can be told; None leaves a choice to the data and the preset."""

    model_config = ConfigDict(extra="forbid")

    preset: str | None = Field(
        None,
        description="named model; default: vae; table for tables with a schema; vamp for grey images of few levels, "
        "unless a part of it is named",
    )
    max_epochs: int | None = Field(
        None,
        ge=1,
        description="passes over the data; default: 30,000 updates, at most 2000 passes, 300 of images; of tables what "
        "600 to 3,000 updates take",
    )
    batch_size: int | None = Field(None, ge=1, description="rows per update; default: 128, more for large tables")
    learning_rate: float | None = Field(
        None, gt=0, description="of Adam, decayed to 0 along a cosine; default: 0.001, of tables 0.002"
    )
    latent_dim: int | None = Field(
        None,
        ge=1,
        description="dimensions of z; default: a quarter of those of x, 2 to 40; of tables by held-out log p",
    )
    hidden: tuple[PositiveInt, ...] | None = Field(None, description="widths of the hidden layers, such as 400,400")
    likelihood: str | None = Field(None, description="p(x|z), such as bernoulli or normal:scale=network")
    posterior: str | None = Field(None, description="q(z|x), such as diagonal-normal")
    prior: str | None = Field(None, description="p(z), such as standard-normal")
    objective: str | None = Field(None, description="what is minimised, such as elbo or iwae")
    beta: float | None = Field(None, ge=0, description="weight of the KL")
    num_samples: int | None = Field(None, ge=1, description="draws of z per point while training")
    conditions: tuple[str, ...] | None = Field(
        None, description="where a context enters: prior,posterior,likelihood or some of them; default: the last two"
    )
    conditioning: Literal["concat", "film"] | None = Field(
        None, description="a context beside the input, or in every hidden layer; default: concat"
    )
    networks: Literal["mlp", "conv"] | None = Field(None, description="networks of a conditional model; default: mlp")
    transform: str | None = Field(None, description="data to model space, such as scale,binarize:mode=fixed or none")
    num_models: int | None = Field(
        None, ge=1, description="models that are fitted, each with a seed of its own, and averaged; default: 1"
    )
    seed: int = Field(0, ge=0, description="source of all noise")
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="of matrix products in networks")
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile of the loss")
    device: str = Field("auto", description="auto, cpu, cuda, ...")
    patience: int | None = Field(
        None, ge=1, description="epochs without a better bound; default: a fifth of max_epochs; none with keep=last"
    )
    trim: float | None = Field(
        None, ge=0, lt=1, description="fit twice: the second time without this share of the rows, the oddest ones"
    )
    em_steps: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="updates of the encoder alone, then of the rest, in turn, such as 5,1; default: both at once"
    )
    keep: Literal["best", "last"] = Field("best", description="weights of the best validation bound, or the last ones")
    fit_prior: bool | None = Field(
        None,
        description="after training, put a mixture fitted to the codes in the place of p(z) = N(0, I), where held-out "
        "rows gain by it; default: of tables with a schema from 300 rows on",
    )
    row_noise: bool = Field(
        False,
        description="noise of each row by its number, so that any number of processes gives the loss curve of one; "
        "takes time",
    )
    checkpoint_every: int | None = Field(None, ge=1, description="epochs between checkpoints; default: ten seconds")

    def of_trainer(self) -> dict[str, Any]:
        """The settings that a trainer takes as they are."""
        names = {"keep", "em_steps", "precision", "compile", "device", "seed", "checkpoint_every", "row_noise"}
        return self.model_dump(include=names)

    def of_members(self) -> list["Settings"]:
        """The settings of each model of an ensemble: the first one has the seed, the others seeds derived from it."""
        seeds = [self.seed, *(engine.block_seed(self.seed, _MEMBER, i) for i in range(1, self.num_models or 1))]
        return [self.model_copy(update={"seed": seed}) for seed in seeds]

    @field_validator("em_steps", mode="before")
    @classmethod
    def _two_counts(cls, value: object) -> object:
        # Validators of this mode run in the reverse of their order: the words are counts by now.
        if isinstance(value, tuple | list) and len(value) != 2:
            raise ValueError(f"expected two counts, of encoder steps and of the others, such as 5,1; got {len(value)}")
        return value

    @field_validator("em_steps", "hidden", "conditions", mode="before")
    @classmethod
    def _counts(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


def settings(values: Mapping[str, object]) -> Settings:
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
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{key}={values.get(key)!r}: {message[0].lower()}{message[1:]}") from error
