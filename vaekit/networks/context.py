"""Contexts in networks: labels and numbers as one vector, beside the input or in every hidden layer."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.networks.columns import ColumnsInput
from vaekit.shapes import Shape, as_image_shape, as_shape
from vaekit.traits import NetworkTraits, told


class ContextInput(nn.Module):
    """What a model is conditioned on as a vector: labels one-hot or embedded, standardised numbers, what is missing.

    Use it as the `context` of a `ConditionalVAE`. A context is a row of C entries: codes 0 ... L-1 of levels, and
    numbers. Levels beyond 50 are embedded. An entry may be missing (NaN) in the columns named in `holes` alone: there
    "unknown" is a value of its own, which the networks have to meet while they are trained.

    Args:
        levels: for each entry the number of its levels; 0 for numbers.
        holes: places of the entries that may be missing.
        loc: what is taken from numbers, one for each entry; None takes nothing.
        scale: what they are then divided by; None leaves them as they are.
        unknown: whether a single label may be unknown (NaN): the model sums over it then, and the networks never meet
            it.

    Attributes:
        like: a number of the dtype and on the device of the model.

    Raises:
        ConfigError: if loc or scale has another length, a scale is not above 0, or `unknown` is not about one label.

    Example:
        >>> import torch
        >>> ContextInput(levels=(3, 0), loc=(0.0, 10.0), scale=(1.0, 2.0))(torch.tensor([[2.0, 14.0]]))
        tensor([[2., 0., 0., 1.]])
    """

    like: Tensor
    _is_number: Tensor
    _loc: Tensor
    _scale: Tensor

    def __init__(
        self,
        levels: Sequence[int],
        holes: Sequence[int] = (),
        loc: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        unknown: bool = False,
    ) -> None:
        super().__init__()
        self.levels, self.holes, self.unknown = tuple(levels), tuple(holes), unknown
        self.loc, self.scale = None if loc is None else tuple(loc), None if scale is None else tuple(scale)
        size = len(self.levels)
        if unknown and (size != 1 or not self.levels[0] or self.holes):
            raise ConfigError(f"a label that may be unknown stands alone, as one of levels; got levels {self.levels}")
        shift = torch.tensor(self.loc or (0.0,) * size, dtype=torch.float64)
        unit = torch.tensor(self.scale or (1.0,) * size, dtype=torch.float64)
        if not size or len(shift) != size or len(unit) != size or not bool((unit > 0).all()):
            raise ConfigError(f"a context of {size} entries takes as many loc, scale above 0; got {loc} and {scale}")
        buffers = {"_loc": shift, "_scale": unit, "like": torch.zeros(())}
        buffers["_is_number"] = torch.tensor([levels == 0 for levels in self.levels])
        for name, values in buffers.items():
            self.register_buffer(name, values, persistent=False)
        self.columns = ColumnsInput(nn.Identity(), self.levels, holes=self.holes)
        self.in_shape, self.out_shape = (size,), (ColumnsInput.width(self.levels, self.holes),)

    def forward(self, context: Tensor) -> Tensor:
        """Contexts of shape (B, C) to (B, width)."""
        standard = ((context.double() - self._loc) / self._scale).to(context.dtype)
        return self.columns.inputs(torch.where(self._is_number, standard, context))

    def check(self, context: Tensor) -> None:
        """Raise unless each entry is one that the networks know.

        Args:
            context: shape (B, C).

        Raises:
            ShapeError: if there are more or fewer entries.
            DataError: if one is infinite, missing where none may be, or no code of a level; with row and entry.
        """
        if context.ndim != 2 or context.shape[1] != len(self.levels):
            raise ShapeError(
                f"contexts have shape (N, {len(self.levels)}) here, one row for each row of x; got "
                f"{tuple(context.shape)}"
            )
        values = context.double()
        for c, size in enumerate(self.levels):
            entry = values[:, c]
            missing = entry.isnan() & (c not in self.holes and not self.unknown)
            bad = missing | entry.isinf()
            if size:
                bad |= ~entry.isnan() & ((entry < 0) | (entry >= size) | (entry != entry.round()))
            if bool(bad.any()):
                row = int(bad.nonzero()[0])
                known = f"codes 0 ... {size - 1} of levels" if size else "finite numbers"
                also = ", or NaN for unknown" if c in self.holes or self.unknown else "; none was missing in the fit"
                raise DataError(f"entry {c} of a context holds {known}{also}; row {row} has {float(entry[row]):g}.")


class Concat(nn.Module):
    """Feeds the input and the context side by side to a network: a vector behind it, or planes behind an image's.

    Use it as the simplest way to condition a network; where the context should act on every hidden layer, networks
    with `context_dim` modulate those instead.

    Args:
        network: takes events of shape `Concat.widened(in_shape, context_dim)`.
        in_shape: event shape of the input; (C, H, W) is an image, (H, W) one of a channel where the network takes
            images, and all else is flattened.
        context_dim: E, entries of the context.

    Raises:
        ConfigError: if the network takes events of another shape.

    Example:
        >>> import torch
        >>> Concat(nn.Identity(), 2, 1)(torch.zeros(1, 2), torch.ones(1, 1))
        tensor([[0., 0., 1.]])
    """

    def __init__(self, network: nn.Module, in_shape: Shape, context_dim: int) -> None:
        super().__init__()
        self.network, self.in_shape, self.context_dim = network, as_shape(in_shape, "in_shape"), context_dim
        known = told(NetworkTraits, network)
        takes_image = known.in_shape is not None and len(known.in_shape) == 3
        self._image_shape = as_image_shape(in_shape, "in_shape") if takes_image or len(self.in_shape) == 3 else None
        wide = self.widened(self._image_shape or in_shape, context_dim)
        if known.in_shape is not None and tuple(known.in_shape) != wide:
            raise ConfigError(f"the network behind Concat takes events of shape {wide} here; got {known.in_shape}")
        self.out_shape, self.returns_features = known.out_shape, known.returns_features

    @staticmethod
    def widened(in_shape: Shape, context_dim: int) -> tuple[int, ...]:
        """The event shape of input and context together."""
        shape = as_shape(in_shape, "in_shape")
        return (shape[0] + context_dim, *shape[1:]) if len(shape) == 3 else (prod(shape) + context_dim,)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x of shape (B, *in_shape) and contexts of shape (B, E)."""
        beside = context.to(x.dtype)
        if self._image_shape is None:
            together = torch.cat([x.flatten(1), beside], 1)
        else:
            planes = beside[:, :, None, None].expand(-1, -1, *self._image_shape[1:])
            together = torch.cat([x.reshape(-1, *self._image_shape), planes], 1)
        result: Tensor = self.network(together)
        return result


class FiLM(nn.Module):
    r"""Feature-wise linear modulation: \( h \mapsto (1 + \gamma(c)) h + \beta(c) \), channel by channel.

    Linear in the context, and the identity at the start.

    References:
        Perez et al., "FiLM: visual reasoning with a general conditioning layer", 2018,
        https://arxiv.org/abs/1709.07871.

    Args:
        width: channels, or features, of h.
        context_dim: E, entries of the context.
    """

    def __init__(self, width: int, context_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context_dim, 2 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """h of shape (B, width, ...) and contexts of shape (B, E)."""
        gamma, beta = self.linear(context.to(self.linear.weight.dtype)).to(h.dtype).chunk(2, 1)
        sides = [1] * (h.ndim - 2)
        result: Tensor = h * (1 + gamma.reshape(*gamma.shape, *sides)) + beta.reshape(*beta.shape, *sides)
        return result


class Modulated(nn.Sequential):
    """Layers in turn, some of which are `FiLM` and get the context as well."""

    def forward(self, h: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        """h, and contexts of shape (B, E)."""
        for layer in self:
            h = layer(h, context) if isinstance(layer, FiLM) else layer(h)
        return h


def modulated(layers: Sequence[nn.Module], context_dim: int) -> nn.Sequential:
    """The layers in turn, with a `FiLM` in front of each activation where there is a context.

    Args:
        layers: weights, normalisations and activations; whatever has no weights and stands behind a layer that has is
            taken for an activation, dropout aside.
        context_dim: E; 0 leaves the layers as they are.
    """
    if not context_dim:
        return nn.Sequential(*layers)
    found: list[nn.Module] = list(layers[:1])
    width = _width(layers[0])
    for before, layer in pairwise(layers):
        width = _width(before) or width
        if width and list(before.parameters()) and not list(layer.parameters()) and not isinstance(layer, nn.Dropout):
            found.append(FiLM(width, context_dim))
        found.append(layer)
    return Modulated(*found)


def _width(layer: nn.Module) -> int:
    """Features that a layer of weights gives; 0 for others."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else 0


def run(layers: nn.Sequential, h: Tensor, context: Tensor | None) -> Tensor:
    """The output of layers that `modulated` made."""
    result: Tensor = layers(h, context) if isinstance(layers, Modulated) else layers(h)
    return result
