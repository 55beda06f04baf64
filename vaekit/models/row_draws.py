"""Noise of training that belongs to rows: whatever draws from torch's stream gets, for each row, numbers of that row.

Heads, networks and objectives draw by torch's functions, all rows of a batch at once. `RowDraws` stands between these
functions and torch's stream. It finds the dimension of the rows in each draw, and fills the draw with numbers that
depend on the seed, the key of the row and the place of the draw in the step alone. So a row gets the same noise in a
batch of its own, in a share of a batch, and on another process.

References:
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, https://doi.org/10.1145/2063384.2063405.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from vaekit import engine
from vaekit.transforms.noise import hashed_noise, key_hashes

Arguments: TypeAlias = tuple[Any, ...]
"""Of an operation of torch, in its order: tensors, numbers and shapes."""
Options: TypeAlias = dict[str, Any]
"""Those by name."""
Kind: TypeAlias = tuple[str | int, ...]
"""Of a draw: its operation, and the shape for one row."""

_HALF = 2.0**-54  # moves numbers on the grid of 2**-53 in [0, 1) into its middle, so that none is 0


class RowDraws(TorchDispatchMode):
    """While this is entered, what is drawn for some rows is a function of the seed and of each row's key.

    A draw has the rows in its first dimension, behind K draws of z, or in both flattened to one; where two dimensions
    could be those of the rows, the first one counts. A draw without the rows among its dimensions, such as one for the
    pseudo-inputs of a prior, comes from torch's stream as it stands: seed it alike on all processes. So do the repeated
    proposals of a rejection sampler for some of the rows (q(z|x) on a sphere), and permutations.

    Args:
        keys: of the rows, shape (B,), int64: their numbers in the data set.
        seed: the seed of the step.
        num_samples: K, draws of z per row.
    """

    def __init__(self, keys: Tensor, seed: int, num_samples: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.hashes, self.num_rows, self.num_samples = key_hashes(keys, seed), len(keys), num_samples
        self._counts: dict[Kind, int] = {}  # of draws of one kind: loops may repeat one kind more often

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Arguments = (), kwargs: Options | None = None
    ) -> object:
        """What torch calls instead of each of its operations."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        shape = _shape(name, args)
        found = None if shape is None or name not in {*_LAWS, *_BY_ROW} else self._layout(shape)
        if shape is None or found is None:
            return func(*args, **kwargs)
        hashes = self._of_next((name, *found.others))
        if name in _BY_ROW:
            return self._each(func, args, found, shape, hashes)
        uniform = hashed_noise(hashes, 0, found.others, torch.float64).movedim(0, found.place).reshape(shape)
        if name == "native_dropout":
            return _dropped(uniform.to(args[0].device), *args[:2])
        like = _like(args, kwargs)
        values = _LAWS[name](uniform.to(like.device), args, kwargs)
        return args[0].copy_(values) if name.endswith("_") else values.to(like.dtype)

    def _layout(self, shape: Sequence[int]) -> "_Layout | None":
        """Where the rows stand in a draw of some shape; None where they do not."""
        num_rows, num_samples = self.num_rows, self.num_samples
        if num_samples > 1 and tuple(shape[:2]) == (num_samples, num_rows):
            return _Layout(tuple(shape), 1)
        if num_samples > 1 and shape and shape[0] == num_samples * num_rows:
            return _Layout((num_samples, num_rows, *shape[1:]), 1)
        place = next((i for i, size in enumerate(shape) if size == num_rows), None)
        return None if place is None else _Layout(tuple(shape), place)

    def _of_next(self, kind: Kind) -> Tensor:
        """A number for each row for the next draw of a kind, shape (B,), int64."""
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        return key_hashes(self.hashes, engine.block_seed(number, *map(_word, kind)))

    @staticmethod
    def _each(func: OpOverload, args: Arguments, found: "_Layout", shape: Sequence[int], hashes: Tensor) -> Tensor:
        """One row after the other, each under its own seed: laws that are no short function of uniform numbers."""
        tensors = [a.expand(shape).reshape(found.shape) for a in args if isinstance(a, Tensor)]
        drawn = torch.empty_like(tensors[0])
        for i, number in enumerate(hashes.tolist()):
            noise = torch.Generator(drawn.device).manual_seed(number % 2**63)
            own = func(*(a.select(found.place, i) for a in tensors), generator=noise)
            drawn.select(found.place, i).copy_(own)
        return drawn.reshape(shape)


class _Layout(NamedTuple):
    """The shape of a draw that has the rows as a dimension of its own, and which dimension that is."""

    shape: tuple[int, ...]
    place: int

    @property
    def others(self) -> tuple[int, ...]:
        """The shape of the draw of one row."""
        return (*self.shape[: self.place], *self.shape[self.place + 1 :])


def _dropped(u: Tensor, x: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """x without a share of its elements, the others larger by as much, and which ones these are."""
    kept = u >= share
    return x * kept / max(1 - share, torch.finfo(x.dtype).tiny), kept


def _word(part: str | int) -> int:
    return part if isinstance(part, int) else int.from_bytes(part.encode(), "little")


def _shape(name: str, args: Arguments) -> list[int] | None:
    """The shape of what a function draws."""
    if name == "multinomial":
        return [len(args[0]), args[1]] if args[0].ndim == 2 and (args[1] == 1 or args[2:3] == (True,)) else None
    if name == "normal" and not any(isinstance(a, Tensor) for a in args):
        return list(args[2])
    if name in ("rand", "randn"):
        return list(args[0])
    tensors = [a.shape for a in args if isinstance(a, Tensor)]
    return list(torch.broadcast_shapes(*tensors)) if tensors else None


def _like(args: Arguments, kwargs: Options) -> Tensor:
    """An empty tensor of the dtype and on the device of what is drawn."""
    found = next((a for a in args if isinstance(a, Tensor)), torch.empty(0))
    return torch.empty(0, dtype=kwargs.get("dtype") or found.dtype, device=kwargs.get("device") or found.device)


def _normal(u: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    quantile: Tensor = torch.special.ndtri(u + _HALF)
    return mean + std * quantile


def _below_one(u: Tensor, args: Arguments, kwargs: Options) -> Tensor:
    """Uniform numbers that stay below 1 in their dtype."""
    dtype = _like(args, kwargs).dtype
    return u.to(dtype).clamp(max=1 - torch.finfo(dtype).eps / 2)


def _argument(args: Arguments, kwargs: Options, place: int, name: str, default: float) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _between(u: Tensor, args: Arguments, kwargs: Options) -> Tensor:
    low, high = _argument(args, kwargs, 1, "from", 0.0), _argument(args, kwargs, 2, "to", 1.0)
    inside = torch.nextafter(torch.tensor(high, dtype=args[0].dtype), torch.tensor(low, dtype=args[0].dtype))
    result: Tensor = (low + (high - low) * u).to(args[0].dtype).clamp(max=float(inside))
    return result


def _category(u: Tensor, args: Arguments, kwargs: Options) -> Tensor:
    """Numbers of categories by their weights, (B, C) to (B, n), int64."""
    edges = args[0].double().cumsum(-1)
    return torch.searchsorted(edges, u * edges[:, -1:], right=True).clamp(max=args[0].shape[-1] - 1)


Law = Callable[[Tensor, Arguments, Options], Tensor]

_LAWS: dict[str, Law] = {
    "rand": _below_one,
    "rand_like": _below_one,
    "uniform_": _between,
    "randn": lambda u, a, k: _normal(u, 0.0, 1.0),
    "randn_like": lambda u, a, k: _normal(u, 0.0, 1.0),
    "normal_": lambda u, a, k: _normal(u, _argument(a, k, 1, "mean", 0.0), _argument(a, k, 2, "std", 1.0)),
    "normal": lambda u, a, k: _normal(u, _argument(a, k, 0, "mean", 0.0), _argument(a, k, 1, "std", 1.0)),
    "exponential_": lambda u, a, k: -torch.log1p(-u - _HALF) / _argument(a, k, 1, "lambd", 1.0),
    "cauchy_": lambda u, a, k: (
        _argument(a, k, 1, "median", 0.0) + _argument(a, k, 2, "sigma", 1.0) * torch.tan(math.pi * (u + _HALF - 0.5))
    ),
    "bernoulli": lambda u, a, k: u < (a[1] if len(a) > 1 else a[0]),
    "bernoulli_": lambda u, a, k: u < _argument(a, k, 1, "p", 0.5),
    "multinomial": _category,
    "native_dropout": lambda u, a, k: u,
}
"""What makes draws of uniform numbers: the inverse of the distribution function."""

_BY_ROW = frozenset({"_standard_gamma", "poisson", "binomial", "_sample_dirichlet"})
