"""What pictures ask of a view: flat codes, decoded means and draws on the CPU, and where the latents live."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import known_support
from vaekit.distributions import nearest as nearest_in_support
from vaekit.errors import ConfigError, ShapeError
from vaekit.models.checks import require
from vaekit.models.rows import as_tensor, contexts_beside
from vaekit.models.view import View
from vaekit.traits import Data, ModelTraits, RowTraits, told

_NEEDS = ("prior", "likelihood")


def fixed(generator: torch.Generator | None, seed: int = 0) -> torch.Generator:
    """The generator handed in, or a fresh one of a fixed seed: the same picture each time."""
    return torch.Generator().manual_seed(seed) if generator is None else generator


def view_of(model: LatentVariableModel, x: Data = None) -> View:
    """The model with rows of shape (N, *X), or without any; a single row may come without the batch dimension."""
    require(model, _NEEDS if x is None else ("posterior", *_NEEDS), "this picture")
    if x is None or isinstance(x, View):
        return View.of(model, x, requires=_NEEDS if x is None else ("posterior", *_NEEDS))
    rows, context = as_tensor(x), contexts_beside(model, x)
    return View.of(model, rows[None] if tuple(rows.shape) == View.of(model).event_shape else rows, context=context)


def under_one(view: View) -> View:
    """The model under the context of the first row, for pictures of z alone; as it is where rows have no contexts."""
    return view if view.context is None else View.of(view.model.given(view.context[0]), view.rows)


def under_some(view: View, x: Data, n: int) -> View:
    """What n samples are drawn from: the model, or one that needs contexts under those of rows, over and over."""
    if told(ModelTraits, view.model).some_context is None:
        return view
    contexts = x.context if isinstance(x, View) else contexts_beside(view.model, x)
    if contexts is None:
        return view
    known = as_tensor(contexts)
    return View.of(view.model.given(known[torch.arange(n) % len(known)]))


def repeated(view: View, num: int) -> View:
    """Each row several times, one after another, so that as many latents can be decoded under its context."""
    return view.take(torch.arange(len(view)).repeat_interleave(num)) if view.context is not None else view


def num_latents(view: View) -> int:
    """The number of latent dimensions."""
    return torch.Size(view.latent_shape).numel()


def encode(view: View) -> Tensor:
    """E[z|x], shape (N, D): one row per point, whatever the shape of z."""
    return view.encode().detach().cpu().flatten(1)


def decode(view: View, z: Tensor) -> Tensor:
    """E[x|z] for z of shape (N, D): shape (N, *X), in the units of the data."""
    return view.decode(z.reshape(len(z), *view.latent_shape)).detach().cpu()


def sample(view: View, n: int, mean: bool, generator: torch.Generator | None) -> Tensor:
    """Ancestral samples of x, or E[x|z] at draws from the prior, shape (n, *X)."""
    if n < 1:
        raise ConfigError(f"n is at least 1; got {n}")
    return view.sample(n, mean, generator).detach().cpu()


def seen_by_model(view: View) -> Tensor | None:
    """What a transform that binarises hands to the model, in the units of the data; None where there is none."""
    if view.transform is None or not view.transform.discretizes:
        return None
    with engine.evaluating(view.model):
        return view.transform.inverse(view.batch(slice(0, len(view)), by_row=True).x).detach().cpu()


def base_point(view: View) -> Tensor:
    """The mean of the prior, shape (D,); zero where it has none."""
    with torch.no_grad():
        prior = view.as_one.prior()
        try:
            mean: Tensor = prior.mean
        except NotImplementedError:
            mean = torch.zeros(view.latent_shape)
    mean = mean.detach().cpu().flatten()
    if mean.numel() != num_latents(view):
        raise ShapeError(f"the prior's mean has {mean.numel()} values for {num_latents(view)} latent dimensions")
    return mean


def nearest(view: View, z: Tensor) -> Tensor:
    """Points between codes, shape (N, D), moved onto the set of the latents where that is a sphere."""
    with torch.no_grad():
        return nearest_in_support(view.as_one.prior(), z.reshape(len(z), *view.latent_shape)).flatten(1)


def confined(view: View) -> str | None:
    """The set of the latents in words, where it is known and is not all of R^D."""
    with torch.no_grad():
        support = known_support(view.as_one.prior())
    return None if support == "the real numbers" else support


def check_unconfined(view: View, picture: str) -> None:
    """Raise a `ConfigError` where the latents do not fill R^D, through which a picture walks."""
    support = confined(view)
    if support is not None:
        raise ConfigError(
            f"a {picture} walks through all values of z, and those of this model lie in {support}, elsewhere the "
            "decoder has learned nothing. Look at samples, reconstructions, or an interpolation between rows."
        )


def column_names(columns: Sequence[str] | None, x: Data, num_columns: int) -> list[str]:
    """The names handed in, those that x brings (a data set, a data frame), or x1, x2, ..."""
    found = columns if columns is not None else told(RowTraits, x).columns
    names = [f"x{i + 1}" for i in range(num_columns)] if found is None else [str(name) for name in found]
    if len(names) != num_columns:
        raise ShapeError(f"columns names each of the {num_columns} columns; got {len(names)} names")
    return names
