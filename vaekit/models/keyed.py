"""Noise that belongs to a row: a function of the seed, the row's key and the number of the draw, and of nothing else.

A row then gets the same draws alone and among others, whatever the order, the block, the process or the machine's
number of processes. Of a distribution that turns given noise into draws (`Base.from_noise`), each row has a stream of
its own from a counter-based generator; any other distribution is drawn row by row, under a seed of the row.

References:
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, https://doi.org/10.1145/2063384.2063405.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions.base import from_noise, noise_shape
from vaekit.errors import ConfigError
from vaekit.models.checks import beside
from vaekit.models.rows import Batch

Key = Literal["row", "content"] | Tensor | Sequence[int]

GROUP = 64  # draws that are always made together where a seed stands for several of them
_TRANSFORM, _POSTERIOR, _DRAWS = 1, 2, 3  # places in the hash that makes seeds of the base seed and a key


def content_keys(x: Tensor) -> Tensor:
    """A key for each row that depends on its numbers alone, shape (N,), int64: 8 and 8.0 are one number, so are zeros.

    Args:
        x: rows as handed in, shape (N, *X).
    """
    rows = x.detach().cpu().double().flatten(1).numpy() + 0.0  # -0.0 becomes 0.0
    rows = np.where(np.isnan(rows), np.nan, rows)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in np.ascontiguousarray(rows))
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


def row_seed(seed: int, key: int, *place: int) -> int:
    """The seed of a row's noise: a hash of the base seed, the key and the place."""
    return engine.block_seed(seed, key % 2**64, *place)


def transformed(
    transform: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, keys: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """`transform` of one row after the other, each under its own seed: y of shape (B, *X), log|det| of shape (B,)."""
    parts = []
    for i, key in enumerate(keys.tolist()):
        with engine.seeded(row_seed(seed, key, _TRANSFORM)):
            parts.append(transform(x[i : i + 1]))
    y, log_det = zip(*parts, strict=True)
    return torch.cat(y), torch.cat(log_det)


class RowNoise:
    """The keys of some rows, and the seed that goes with them.

    Args:
        key: "row" (the number of the row), "content" (its values; equal rows get equal noise), or integers, shape (N,).
        seed: the base seed.
        num_rows: N.

    Raises:
        ConfigError: for another word, or numbers that are no integers.
        ShapeError: unless there is one key for each row.
    """

    def __init__(self, key: Key, seed: int, num_rows: int) -> None:
        self.seed, self.key = seed, key if isinstance(key, str) else beside(key, num_rows, "key")
        if self.key not in ("row", "content") if isinstance(self.key, str) else not _is_integers(self.key):
            raise ConfigError(f'key is "row", "content" or integers, one for each row; got {key!r}')

    def keys(self, rows: slice, x: Tensor) -> Tensor:
        """Keys of the rows x, shape (B,), int64, which stand at `rows`."""
        if isinstance(self.key, Tensor):
            return self.key[rows].to("cpu", torch.int64)
        return torch.arange(rows.start, rows.stop) if self.key == "row" else content_keys(x)

    def posterior(self, model: LatentVariableModel, batch: Batch) -> Distribution:
        """q(z|x) of the rows; under the seed of the row where it is a single one."""
        assert batch.key is not None
        with engine.seeded(row_seed(self.seed, int(batch.key[0]), _POSTERIOR)):
            return model.posterior(batch.x)


def _is_integers(key: Tensor) -> bool:
    return key.ndim == 1 and not key.is_floating_point()


class KeyedDraws:
    """Draws from q(z|x) of some rows, each with the noise of its own row, a few at a time.

    Args:
        q: the posterior of the rows, batch shape (B,).
        model: the model, for a q that takes no noise: it is then made of each row alone.
        batch: the rows, with their keys.
        seed: the base seed.
    """

    def __init__(self, q: Distribution, model: LatentVariableModel, batch: Batch, seed: int) -> None:
        assert batch.key is not None
        self.q, self.model, self.x, self.keys, self.seed = q, model, batch.x, batch.key.tolist(), seed
        self.shape = noise_shape(q)
        words = [[seed % 2**64, key % 2**64] for key in self.keys] if self.shape is not None else []
        self.alone: dict[int, Distribution] = {0: q} if len(self.keys) == 1 else {}  # posteriors of single rows
        self.streams = [np.random.Generator(np.random.Philox(key=np.array(word, dtype=np.uint64))) for word in words]

    def sample(self, first: int, count: int) -> Tensor:
        """Draws number first, first + 1, ... of every row, shape (count, B, *Z); to be asked for in their order.

        `first` is a multiple of 64, and `count` at most 64.
        """
        if self.shape is None:
            return torch.cat([self._of_row(i, first, count) for i in range(len(self.keys))], dim=1)
        noise = np.stack([stream.standard_normal((count, *self.shape)) for stream in self.streams], axis=1)
        return from_noise(self.q, torch.from_numpy(noise))

    def _of_row(self, i: int, first: int, count: int) -> Tensor:
        if i not in self.alone:
            self.alone[i] = self.model.posterior(self.x[i : i + 1])
        # A group of 64 at a time: torch's draws may depend on how many are made together.
        with engine.seeded(row_seed(self.seed, self.keys[i], _DRAWS, first // GROUP)):
            return self.alone[i].sample(torch.Size((GROUP,)))[:count]
