"""Draws of z for many rows in bounded memory: blocks under seeds of their own, or rows under theirs.

A row then gets the same draws alone and among others, whatever the order, the block, the process or the machine's
number of processes. Of a distribution that turns given noise into draws (`Base.from_noise`), each row has a stream of
its own from a counter-based generator; any other distribution is drawn row by row, under a seed of the row.

References:
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, https://doi.org/10.1145/2063384.2063405.

Noise is drawn in fixed blocks of rows x samples, each from a seed of its own; a chunk only splits the decoder's work.
So memory is bounded whatever N and K, and two chunk sizes see the same draws. With keys, noise belongs to rows; see
`vaekit.models.draws`.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import Draw, LatentVariableModel, log_likelihood_at, log_prob_of
from vaekit.distributions.base import from_noise, noise_shape
from vaekit.engine import world
from vaekit.errors import ConfigError
from vaekit.models.checks import beside
from vaekit.models.rows import Batch, Index, given, slices, taken
from vaekit.progress import track
from vaekit.shapes import check_count

Key = Literal["row", "content"] | Tensor | Sequence[int]

GROUP = 64  # draws that are always made together where a seed stands for several of them
_POSTERIOR, _DRAWS = 2, 3  # places in the hash that makes seeds of the base seed and a key


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
        self.seed = seed
        self.numbers: Tensor | None = None  # where the key is the content
        if isinstance(key, str):
            is_known = key in ("row", "content")
            self.numbers = torch.arange(num_rows) if key == "row" else None
        else:
            self.numbers = beside(key, num_rows, "key").to("cpu")
            is_known = self.numbers.ndim == 1 and not self.numbers.is_floating_point() and not _is_bool(key)
        if not is_known:
            raise ConfigError(f'key is "row", "content" or integers, one for each row; got {key!r}')

    def keys(self, index: Index, x: Tensor) -> Tensor:
        """Keys of the rows x, shape (B,), int64, which stand at `index`."""
        return content_keys(x) if self.numbers is None else taken(self.numbers, index).to(torch.int64)

    def posterior(self, model: LatentVariableModel, batch: Batch) -> Distribution:
        """q(z|x) of the rows; under the seed of the row where it is a single one."""
        assert batch.key is not None
        with engine.seeded(row_seed(self.seed, int(batch.key[0]), _POSTERIOR)):
            result: Distribution = given(model, batch.context).posterior(batch.x)
            return result


def _is_bool(key: Tensor | Sequence[int]) -> bool:
    return str(key.dtype if isinstance(key, Tensor) else np.asarray(key).dtype).endswith("bool")


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
        self.q, self.model, self.batch, self.keys, self.seed = q, model, batch, batch.key.tolist(), seed
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
            row = self.batch.part(slice(i, i + 1))
            self.alone[i] = given(self.model, row.context).posterior(row.x)
        # A group of 64 at a time: torch's draws may depend on how many are made together.
        with engine.seeded(row_seed(self.seed, self.keys[i], _DRAWS, first // GROUP)):
            return self.alone[i].sample(torch.Size((GROUP,)))[:count]


BLOCK_ROWS, BLOCK_SAMPLES = 64, 64
_TOGETHER = 8  # blocks of the same rows that are handed over at once: sums over draws take as long for one as for eight
# Parameters of p(x|z) per decoder pass: 4 MiB of float32, which stay in the cache; half of it where a pass is not
# compiled, for temporaries of the same size then lie beside them.
_CHUNK_VALUES = 2**20
_WORTH_COMPILING = 2 * 10**9  # parameters of p(x|z) in all: at least half a minute without compilation


@dataclass(frozen=True)
class Sampling:
    """How draws from q(z|x) are made.

    Attributes:
        num_samples: K, draws per row.
        generator: source of the base seed; None is torch's own stream.
        compile: whether the decoder's pass is compiled.
        chunk_size: number of z per decoder pass; None keeps the parameters of p(x|z) within 4 MiB.
        progress: show a bar on stderr where that is a terminal.
        key: what a row's noise depends on beside the seed: "row" (its number), "content" (its values), integers of
            shape (N,), or None for noise in fixed blocks.
        is_shared: whether the processes of a group divide the rows, in whole blocks and in their order; each then
            draws for its own, and the noise is that of one process.

    Raises:
        ConfigError: if a count is none.
    """

    num_samples: int
    generator: torch.Generator | None = None
    compile: engine.Compile = "off"
    chunk_size: int | None = None
    progress: bool = False
    key: Key | None = None
    is_shared: bool = False

    def __post_init__(self) -> None:
        check_count(self.num_samples, "num_samples")
        if self.chunk_size is not None:
            check_count(self.chunk_size, "chunk_size")


class Block(NamedTuple):
    """The draws for some rows, of a few blocks together; `z` of `draws` is empty unless it was asked for."""

    rows: slice
    posterior: Distribution
    prior: Distribution
    draws: Draw
    log_det: Tensor


class Source(Protocol):
    """Rows that a model has met; `View` is one."""

    posterior_is_fixed: bool

    @property
    def num_values(self) -> int:
        """How many numbers p(x|z) holds for one z."""
        ...

    @property
    def model(self) -> LatentVariableModel:
        """The model."""
        ...

    def __len__(self) -> int: ...

    def batch(self, index: slice, noise: RowNoise | None = None, *, by_row: bool = False) -> Batch:
        """Some rows in model space."""
        ...


def chunk_size(num_values: int, limit: int = _CHUNK_VALUES) -> int:
    """How many z one decoder pass takes, so that the parameters of p(x|z), `num_values` each, stay within 4 MiB."""
    return max(1, min(BLOCK_ROWS * BLOCK_SAMPLES, limit // num_values))


def _log_likelihood(model: LatentVariableModel, z: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
    return log_likelihood_at(given(model, context), z, x)


def blocks(source: Source, how: Sampling, keep_z: bool = False) -> Iterator[Block]:
    """Yield the draws of at most 64 rows x 512 samples at a time: all N rows, and exactly K samples of each.

    Args:
        source: the rows and their model, which is in eval mode.
        how: number of draws, noise, and how they are computed.
        keep_z: hand z over, too.
    """
    model, num_rows, num_samples = source.model, len(source), how.num_samples
    engine.settle_heap()
    seed = engine.draw_seed(how.generator)
    noise = None if how.key is None else RowNoise(how.key, seed, num_rows)
    pays = _pays(model, how.compile, num_rows * num_samples * source.num_values)
    chunk = how.chunk_size or chunk_size(source.num_values, _CHUNK_VALUES if pays else _CHUNK_VALUES // 2)
    # A q that its model makes with noise is made of each row alone, where noise belongs to rows.
    block_rows = BLOCK_ROWS if noise is None or source.posterior_is_fixed else 1
    rows_at_once = min(num_rows, block_rows, chunk)
    passes = _Passes(model, rows_at_once, max(1, chunk // rows_at_once), pays)
    # Of few rows, several blocks of samples go through the decoder at once: a pass of one row costs its calls alone.
    together = BLOCK_SAMPLES if pays else max(1, passes.num_samples // BLOCK_SAMPLES) * BLOCK_SAMPLES
    row_blocks = list(enumerate(slices(num_rows, block_rows)))
    if how.is_shared:
        row_blocks = row_blocks[world.part(len(row_blocks))]
    prior: Distribution | None = None
    for i, rows in track(row_blocks, "evaluating") if how.progress and not world.rank() else row_blocks:
        with engine.seeded(engine.block_seed(seed, i)):
            batch = source.batch(rows, noise, by_row=True)
            # Seeded, too: a posterior that is refined draws noise.
            conditioned = given(model, batch.context)
            q = conditioned.posterior(batch.x) if noise is None else noise.posterior(model, batch)
            prior = conditioned.prior() if prior is None or batch.context is not None else prior
        draw = _BlockDraws(q, seed, i) if noise is None else KeyedDraws(q, model, batch, seed)
        for first in range(0, num_samples, _TOGETHER * BLOCK_SAMPLES):
            num_together = min(_TOGETHER * BLOCK_SAMPLES, num_samples - first)
            densities: list[Tensor] = []
            for samples in slices(num_together, together):
                z, log_posterior = _sampled(draw, q, first + samples.start, samples.stop - samples.start)
                parts = [
                    passes.log_likelihood(z, batch),
                    log_prob_of(prior, z),
                    log_posterior,
                    *([z] if keep_z else []),
                ]
                # Room for all of them at once: small tensors between the large ones of a pass would keep those apart.
                densities = densities or [part.new_empty(num_together, *part.shape[1:]) for part in parts]
                for density, part in zip(densities, parts, strict=True):
                    density[samples] = part
            yield Block(rows, q, prior, Draw(densities[3] if keep_z else z[:0], *densities[:3]), batch.log_det)


def _sampled(draw: "KeyedDraws | _BlockDraws", q: Distribution, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Draws number first, first + 1, ..., shape (count, B, *Z), in blocks of 64, and log q of each, shape (count, B).

    A flow knows the density of the draws that it made last, and of others only as far as it can be turned around.
    """
    parts = []
    for block in slices(count, BLOCK_SAMPLES):
        z = draw.sample(first + block.start, block.stop - block.start)
        parts.append((z, q.log_prob(z)))
    if len(parts) == 1:
        return parts[0]
    draws, densities = zip(*parts, strict=True)
    return torch.cat(draws), torch.cat(densities)


class _BlockDraws:
    """Draws from q(z|x) of the rows of block i, in blocks of 64 samples with seeds of their own."""

    def __init__(self, q: Distribution, seed: int, i: int) -> None:
        self.q, self.seed, self.i = q, seed, i

    def sample(self, first: int, count: int) -> Tensor:
        """Draws number first, first + 1, ..., shape (count, B, *Z)."""
        with engine.seeded(engine.block_seed(self.seed, self.i, first // BLOCK_SAMPLES)):
            return self.q.sample(torch.Size((count,)))


def _pays(model: LatentVariableModel, compile: engine.Compile, num_values: int) -> bool:
    """Whether to compile. `auto` goes by the amount of work, never by measured time: results repeat bit for bit."""
    engine.check_compile(compile)
    if compile != "auto":
        return compile == "on"
    if not isinstance(model, nn.Module) or engine.model_device(model).type != "cpu" or engine.compiler() is None:
        return False
    return num_values > _WORTH_COMPILING


class _Passes:
    """The decoder's passes: log p(y|z) for some rows and samples at a time, all of one shape where it is compiled.

    Args:
        model: the model.
        num_rows: rows per pass.
        num_samples: samples per pass, at most; a block is split evenly, and more than one is passed only uncompiled.
        compile: pad smaller passes, of the last rows or samples, so that nothing is compiled twice.
    """

    def __init__(self, model: LatentVariableModel, num_rows: int, num_samples: int, compile: bool) -> None:
        self.model, self.num_rows, self.compile = model, num_rows, compile
        self.num_samples = num_samples
        if compile or num_samples < BLOCK_SAMPLES:
            self.num_samples = math.ceil(BLOCK_SAMPLES / math.ceil(BLOCK_SAMPLES / num_samples))
        shape = (num_rows, self.num_samples)
        self.function = engine.compiled_once(model, _log_likelihood, *shape) if compile else _log_likelihood

    def log_likelihood(self, z: Tensor, batch: Batch) -> Tensor:
        """log p(y|z) for z of shape (K, B, *Z) and B rows: shape (K, B)."""
        if len(z) <= self.num_samples and len(batch) <= self.num_rows:
            return self._pass(z, batch.x, batch.context)
        columns = []
        for rows in slices(len(batch), self.num_rows):
            part = batch.part(rows)
            passes = [self._pass(z[k, rows], part.x, part.context) for k in slices(len(z), self.num_samples)]
            columns.append(torch.cat(passes))
        return torch.cat(columns, dim=1)

    def _pass(self, z: Tensor, y: Tensor, context: Tensor | None) -> Tensor:
        rows: tuple[Tensor, ...] = (y,) if context is None else (y, context)
        if not self.compile:
            return self.function(self.model, z, *rows)
        num_samples, num_rows = z.shape[:2]
        z = _padded(_padded(z, 0, self.num_samples), 1, self.num_rows)
        rows = tuple(_padded(part, 0, self.num_rows) for part in rows)
        return self.function(self.model, z, *rows)[:num_samples, :num_rows]


def _padded(values: Tensor, dim: int, size: int) -> Tensor:
    """The last entry repeated until there are `size` of them along `dim`."""
    if values.shape[dim] == size:
        return values
    index = torch.arange(size, device=values.device).clamp(max=values.shape[dim] - 1)
    return values.index_select(dim, index)
