"""What pictures ask of a model: codes, decoded means and draws, in the units of the data.

A `VAE` answers with its own methods. Any other latent-variable model answers through `posterior`, `prior` and
`likelihood`, and through `transform` where it has one; an `encode` of its own may mean anything, and is not asked.
"""

from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.distributions import centre, known_support
from vaekit.distributions import nearest as nearest_in_support
from vaekit.errors import ConfigError, ShapeError
from vaekit.models import VAE, inputs

_ROWS = 1024  # rows per pass, to bound memory


def _method(model: Any, name: str) -> Any:
    method = getattr(model, name, None)
    if method is None:
        raise ConfigError(
            f"this picture needs {name}() of the model, and {type(model).__name__} has none. A latent-variable model "
            "has the methods posterior(x), prior() and likelihood(z)."
        )
    return method


def fixed(generator: torch.Generator | None, seed: int = 0) -> torch.Generator:
    """The generator handed in, or a fresh one of a fixed seed: the same picture each time."""
    return torch.Generator().manual_seed(seed) if generator is None else generator


def rows_of(model: Any, x: Any) -> Tensor:
    """x as a tensor of shape (N, *X), checked; a single row may come without the batch dimension."""
    for name in ("posterior", "prior", "likelihood"):
        _method(model, name)
    x = inputs.as_tensor(x)
    if tuple(x.shape) == event_shape(model):
        x = x[None]
    inputs.check_data(model, x)
    return x


def event_shape(model: Any) -> tuple[int, ...]:
    """X, the shape of one row of data."""
    if isinstance(model, VAE):
        return model.event_shape
    _method(model, "prior"), _method(model, "likelihood")
    return tuple(inputs.likelihood_at_prior(model).event_shape)


def latent_shape(model: Any) -> tuple[int, ...]:
    """Z, the shape of one latent."""
    with torch.no_grad():
        return tuple(_method(model, "prior")().event_shape)


def num_latents(model: Any) -> int:
    """The number of latent dimensions."""
    return int(torch.Size(latent_shape(model)).numel())


def encode(model: Any, x: Tensor) -> Tensor:
    """E[z|x], shape (N, D): one row per point, whatever the shape of z."""
    if isinstance(model, VAE):
        return model.encode(x).detach().cpu().flatten(1)
    _method(model, "posterior")
    with engine.evaluating(model), engine.seeded(0):
        codes = [_posterior_mean(model, x[rows]) for rows in inputs.batches(len(x), _ROWS)]
    return torch.cat(codes).detach().cpu().flatten(1)


def _posterior_mean(model: Any, x: Tensor) -> Tensor:
    y, _ = inputs.to_model_space(model, x.to(engine.model_device(model)))
    return centre(model.posterior(y))


def decode(model: Any, z: Tensor, mean: bool = True, generator: torch.Generator | None = None) -> Tensor:
    """E[x|z], or a draw of x, for z of shape (N, D): shape (N, *X), in the units of the data."""
    dtype, device = engine.model_dtype(model), engine.model_device(model)
    z = z.reshape(len(z), *latent_shape(model)).to(device, dtype or z.dtype)
    if isinstance(model, VAE):
        return model.decode(z, mean=mean, generator=generator).detach().cpu()
    _method(model, "likelihood")
    transform = inputs.transform_of(model)
    with engine.evaluating(model), engine.fork_rng(generator):
        chunks = []
        for rows in inputs.batches(len(z), _ROWS):
            p = model.likelihood(z[rows])
            y = p.mean if mean else p.sample()
            chunks.append(y if transform is None else transform.inverse(y))
    return torch.cat(chunks).detach().cpu()


def sample(model: Any, n: int, mean: bool, generator: torch.Generator | None) -> Tensor:
    """Ancestral samples of x, or E[x|z] at draws from the prior, shape (n, *X)."""
    if n < 1:
        raise ConfigError(f"n is at least 1; got {n}")
    if isinstance(model, VAE):
        return model.sample(n, mean=mean, generator=generator).detach().cpu()
    prior = _method(model, "prior")
    with engine.evaluating(model), engine.fork_rng(generator):
        z = prior().sample(torch.Size((n,)))
    return decode(model, z.flatten(1), mean, generator)


def reconstruct(model: Any, x: Tensor) -> Tensor:
    """E[x'|z] at z = E[z|x], shape (N, *X)."""
    return decode(model, encode(model, x))


def seen_by_model(model: Any, x: Tensor) -> Tensor | None:
    """What a transform that binarises hands to the model, in the units of the data; None where there is none."""
    transform = inputs.transform_of(model)
    if not getattr(transform, "discretizes", False):
        return None
    with engine.evaluating(model), engine.seeded(0):
        y, _ = inputs.to_model_space(model, x.to(engine.model_device(model)))
        return transform.inverse(y).detach().cpu()


def base_point(model: Any) -> Tensor:
    """The mean of the prior, shape (D,); zero where it has none."""
    with torch.no_grad():
        prior = _method(model, "prior")()
        try:
            mean = prior.mean
        except NotImplementedError:
            mean = torch.zeros(latent_shape(model))
    mean = mean.detach().cpu().flatten()
    if mean.numel() != num_latents(model):
        raise ShapeError(f"the prior's mean has {mean.numel()} values for {num_latents(model)} latent dimensions")
    return mean


def nearest(model: Any, z: Tensor) -> Tensor:
    """Points between codes, shape (N, D), moved onto the set of the latents where that is a sphere."""
    with torch.no_grad():
        return nearest_in_support(_method(model, "prior")(), z.reshape(len(z), *latent_shape(model))).flatten(1)


def confined(model: Any) -> str | None:
    """The set of the latents in words, where it is known and is not all of R^D."""
    with torch.no_grad():
        support = known_support(_method(model, "prior")())
    return None if support == "the real numbers" else support


def check_unconfined(model: Any, picture: str) -> None:
    """Raise a `ConfigError` where the latents do not fill R^D, through which a picture walks."""
    support = confined(model)
    if support is not None:
        raise ConfigError(
            f"a {picture} walks through all values of z, and those of this model lie in {support}, elsewhere the "
            "decoder has learned nothing. Look at samples, reconstructions, or an interpolation between rows."
        )


def column_names(columns: Any, x: Any, num_columns: int) -> list[str]:
    """The names handed in, those that x brings (a data set, a data frame), or x1, x2, ..."""
    found = columns if columns is not None else getattr(x, "columns", None)
    names = [f"x{i + 1}" for i in range(num_columns)] if found is None else [str(name) for name in found]
    if len(names) != num_columns:
        raise ShapeError(f"columns names each of the {num_columns} columns; got {len(names)} names")
    return names
