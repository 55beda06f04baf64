"""Programs that draw, made functions of noise that is handed in: which noise a program draws, and how it is given.

A graph that is exported has no stream of random numbers. Whatever a model draws on its way is therefore an input: every
call of torch that draws is caught while the program runs, and answered by a map of standard normal or uniform numbers.
The first run notes what is asked for (`noise_of`), the second one, which is traced, gets it (`Given`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Size, Tensor
from torch.overrides import TorchFunctionMode

from vaekit.errors import ConfigError

Kind = Literal["normal", "uniform"]
Axis = Literal["samples", "batch"]

_SIZES = (2, 3), (5, 7)  # (K, B) of two runs, which tell the axes of what is drawn apart


class NoNoiseError(ConfigError):
    """A program draws what is no function of a fixed number of normal or uniform numbers."""


@dataclass(frozen=True)
class Noise:
    """Noise that a program takes as one input of shape (K, B, size), (B, size) or (size,).

    Attributes:
        kind: standard normal, or uniform on [0, 1).
        axes: what it is drawn anew for: ("samples", "batch"), ("batch",) or ().
        size: how many numbers each has.
    """

    kind: Kind
    axes: tuple[Axis, ...]
    size: int

    def shape(self, num_samples: int, num_rows: int) -> tuple[int, ...]:
        """The shape of the input for K draws of B rows."""
        sizes = {"samples": num_samples, "batch": num_rows}
        return (*(sizes[axis] for axis in self.axes), self.size)


class Drawing(TorchFunctionMode):
    """While entered, each call of torch that draws takes its noise from a function of its kind, shape and dtype.

    Args:
        take: the function.
    """

    def __init__(self, take: Callable[[Kind, Size, torch.dtype], Tensor]) -> None:
        super().__init__()
        self.take = take

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        maker = _MAKERS.get(func)
        if maker is not None:
            return maker(self.take, *args, **(kwargs or {}))
        if func in _REFUSED:
            raise NoNoiseError(
                f"it draws by {getattr(func, '__name__', func)}, which is no map of a fixed number of normal or "
                "uniform numbers"
            )
        return func(*args, **(kwargs or {}))


class Given(Drawing):
    """Noise that is handed in, one tensor for each call that draws, in their order.

    Args:
        tensors: as `noise_of` says, of any shape with as many numbers as are asked for.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(self._next)
        self._left = list(tensors)

    def _next(self, kind: Kind, shape: Size, dtype: torch.dtype) -> Tensor:
        if not self._left:
            raise NoNoiseError("it draws where a mean is asked for, as a mean that is an average of draws does")
        return self._left.pop(0).reshape(shape).to(dtype)


def noise_of(program: Callable[[int, int], object]) -> list[Noise]:
    """What a program draws, found out by two runs.

    Args:
        program: runs for K draws of B rows.

    Raises:
        NoNoiseError: if it draws what is no function of a fixed number of normal or uniform numbers for each draw.
    """
    first, second = (_noted(program, *sizes) for sizes in _SIZES)
    if [kind for kind, _ in first] != [kind for kind, _ in second]:
        raise NoNoiseError("what it draws depends on what it drew before, as in sampling by rejection")
    return [_of_shapes(kind, a, b) for (kind, a), (_, b) in zip(first, second, strict=True)]


def _noted(program: Callable[[int, int], object], num_samples: int, num_rows: int) -> list[tuple[Kind, Size]]:
    """Kind and shape of all noise of one run."""
    found: list[tuple[Kind, Size]] = []
    generator = torch.Generator().manual_seed(0)

    def take(kind: Kind, shape: Size, dtype: torch.dtype) -> Tensor:
        found.append((kind, shape))
        values = torch.empty(shape, dtype=dtype)
        draw = values.normal_ if kind == "normal" else values.uniform_
        with torch._C.DisableTorchFunction():
            draw(generator=generator)
        return values

    with Drawing(take):
        program(num_samples, num_rows)
    return found


def _of_shapes(kind: Kind, first: Size, second: Size) -> Noise:
    """The axes of noise that had these shapes in the two runs."""
    sizes = [math.prod(first), math.prod(second)]
    axes: tuple[Axis, ...]
    for axes, each in (
        (("samples", "batch"), [k * b for k, b in _SIZES]),
        (("batch",), [b for _, b in _SIZES]),
        ((), [1, 1]),
    ):
        if sizes[0] * each[1] == sizes[1] * each[0] and sizes[0] % each[0] == 0:
            return Noise(kind, axes, sizes[0] // each[0])
    raise NoNoiseError(f"it draws noise of shapes {tuple(first)} and {tuple(second)}, which are those of no rows")


# --- The maps, one for each way in which torch draws -----------------------------------------------------------------

_Take = Callable[[Kind, Size, torch.dtype], Tensor]


def _normal(take: _Take, mean: Any, std: Any = 1.0, *args: Any, generator: Any = None, **options: Any) -> Tensor:
    loc, scale = torch.as_tensor(mean), torch.as_tensor(std)
    shape = torch.broadcast_shapes(loc.shape, scale.shape)
    return loc + scale * take("normal", Size(shape), loc.dtype if isinstance(mean, Tensor) else scale.dtype)


def _shaped(kind: Kind) -> Callable[..., Tensor]:
    """`torch.randn` and `torch.rand`."""

    def make(take: _Take, *size: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
        given: Any = options.get("size", size)
        shape = given[0] if len(given) == 1 and not isinstance(given[0], int | torch.SymInt) else given
        return take(kind, Size(shape), dtype or torch.get_default_dtype())

    return make


def _like(kind: Kind) -> Callable[..., Tensor]:
    """`torch.randn_like` and `torch.rand_like`."""

    def make(take: _Take, like: Tensor, *, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
        return take(kind, like.shape, dtype or like.dtype)

    return make


def _normal_in(take: _Take, out: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    return out.copy_(mean + std * take("normal", out.shape, out.dtype))


def _uniform_in(take: _Take, out: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Tensor:
    return out.copy_(low + (high - low) * take("uniform", out.shape, out.dtype))


def _exponential_in(take: _Take, out: Tensor, rate: float = 1.0, *, generator: Any = None) -> Tensor:
    return out.copy_(-torch.log1p(-take("uniform", out.shape, out.dtype)) / rate)


def _bernoulli(take: _Take, probs: Tensor, *, generator: Any = None, **options: Any) -> Tensor:
    return (take("uniform", probs.shape, probs.dtype) < probs).to(probs.dtype)


def _multinomial(
    take: _Take, probs: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None, **options: Any
) -> Tensor:
    if num_samples != 1 and not replacement:
        raise NoNoiseError("it draws without putting back")
    reached = probs.cumsum(-1)
    reached = (reached / reached[..., -1:]).unsqueeze(-2)
    noise = take("uniform", Size((*probs.shape[:-1], num_samples)), probs.dtype)
    return (reached <= noise.unsqueeze(-1)).sum(-1)  # categories without mass are stepped over


def _gamma(take: _Take, concentration: Tensor, generator: Any = None) -> Tensor:
    """Gamma variables of scale 1: the first of 24 tries that is accepted (Marsaglia & Tsang 2000), each by 95%.

    For a concentration below 1, one of it plus 1 times a power of a uniform number.
    """
    shape, dtype = concentration.shape, concentration.dtype
    tries = Size((*shape, _TRIES))
    normal, uniform = take("normal", tries, dtype).double(), take("uniform", tries, dtype).double()
    last = take("uniform", shape, dtype).double()
    a = concentration.double()
    d = torch.where(a < 1, a + 1, a) - 1 / 3
    wide = d.unsqueeze(-1)
    v = (1 + normal / (9 * wide).sqrt()) ** 3
    safe = v.clamp(min=1e-30)
    accepted = (v > 0) & (uniform.log() < 0.5 * normal.square() + wide * (1 - safe + safe.log()))
    chosen = (safe * _first(accepted)).sum(-1)
    power = torch.where(a < 1, last.clamp(min=1e-30).log() / a, 0.0).exp()
    return (d * chosen * power).to(dtype).clamp(min=torch.finfo(dtype).tiny)


def _first(accepted: Tensor) -> Tensor:
    """1 at the first try that is accepted, and at the last one where none is, else 0, shape (..., T), float64."""
    size = accepted.shape[-1]
    tries = torch.arange(size, dtype=torch.float64)
    first = torch.where(accepted, tries, float(size - 1)).amin(-1, keepdim=True)
    return (tries == first).double()


def _dirichlet(take: _Take, concentration: Tensor, generator: Any = None) -> Tensor:
    gamma = _gamma(take, concentration)
    return gamma / gamma.sum(-1, keepdim=True)


def _poisson(take: _Take, rate: Tensor, generator: Any = None) -> Tensor:
    """Poisson counts: below a rate of 16 by the inverse of the distribution function, above by 24 tries.

    References:
        Hormann, "The transformed rejection method for generating Poisson random variables", 1993,
        https://doi.org/10.1016/0167-6687(93)90997-4, algorithm PTRS.
    """
    shape, dtype = rate.shape, rate.dtype
    one = take("uniform", shape, dtype).double()
    u, v = (take("uniform", Size((*shape, _TRIES)), dtype).double() for _ in range(2))
    low = rate.double().clamp(max=_LOW_RATE).unsqueeze(-1)
    counts = torch.arange(_MOST_LOW, dtype=torch.float64)
    reached = (counts * low.clamp(min=1e-300).log() - low - torch.lgamma(counts + 1)).exp().cumsum(-1)
    of_low = (reached <= one.unsqueeze(-1)).sum(-1).double()
    high = rate.double().clamp(min=_LOW_RATE).unsqueeze(-1)
    b = 0.931 + 2.53 * high.sqrt()
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    u = u - 0.5
    us = (0.5 - u.abs()).clamp(min=1e-12)
    k = torch.floor((2 * a / us + b) * u + high + 0.43)
    bound = (v.clamp(min=1e-30) * inverse_alpha / (a / (us * us) + b)).log()
    inside = k.clamp(min=0)
    accepted = (k >= 0) & (bound <= inside * high.log() - high - torch.lgamma(inside + 1))
    of_high = (inside * _first(accepted)).sum(-1)
    return torch.where(rate < _LOW_RATE, of_low, of_high).to(dtype)


_TRIES = 24
_LOW_RATE, _MOST_LOW = 16.0, 64  # P(x >= 64) at a rate of 16 is 1e-18

_MAKERS: dict[Any, Callable[..., Tensor]] = {
    torch.normal: _normal,
    torch.randn: _shaped("normal"),
    torch.rand: _shaped("uniform"),
    torch.randn_like: _like("normal"),
    torch.rand_like: _like("uniform"),
    torch.bernoulli: _bernoulli,
    torch.multinomial: _multinomial,
    torch._standard_gamma: _gamma,
    torch._sample_dirichlet: _dirichlet,
    torch.poisson: _poisson,
    Tensor.normal_: _normal_in,
    Tensor.uniform_: _uniform_in,
    Tensor.exponential_: _exponential_in,
    Tensor.multinomial: _multinomial,
    Tensor.bernoulli: _bernoulli,
}
_REFUSED = {
    torch.binomial,
    torch.randint,
    torch.randperm,
    Tensor.cauchy_,
    Tensor.geometric_,
    Tensor.log_normal_,
    Tensor.bernoulli_,
    Tensor.random_,
}
