"""One pass over data and draws: importance weights in blocks whose noise does not depend on how they are computed.

Noise is drawn in fixed blocks of rows x samples, each from a seed of its own; a chunk only splits the decoder's work.
So memory is bounded whatever N and K, and two chunk sizes see the same draws.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import Draw, LatentVariableModel
from vaekit.models import inputs
from vaekit.progress import track

BLOCK_ROWS, BLOCK_SAMPLES = 64, 64
_TOGETHER = 8  # blocks of the same rows that are handed over at once: sums over draws take as long for one as for eight
# Parameters of p(x|z) per decoder pass: 4 MiB of float32, which stay in the cache; half of it where a pass is not
# compiled, for temporaries of the same size then lie beside them.
_CHUNK_VALUES = 2**20
_WORTH_COMPILING = 2 * 10**9  # parameters of p(x|z) in all: at least half a minute without compilation


class Block(NamedTuple):
    """The draws for some rows, of a few blocks together: their log-densities alone, for the `z` of `draws` is empty."""

    rows: slice
    posterior: Distribution
    draws: Draw
    log_det: Tensor


def _num_parameters(distribution: Distribution) -> int:
    """How many numbers a distribution holds, for the size of a chunk."""
    base = getattr(distribution, "base", distribution)
    own = getattr(base, "num_values", 1)  # of a distribution whose log_prob makes far more than it holds
    return max([1, own, *(value.numel() for value in vars(base).values() if isinstance(value, Tensor))])


def default_chunk_size(model: LatentVariableModel) -> int:
    """How many z one decoder pass takes, so that the parameters of p(x|z) stay within 4 MiB of float32."""
    return _chunk_size(_num_parameters(inputs.likelihood_at_prior(model)), _CHUNK_VALUES)


def _chunk_size(num_parameters: int, num_values: int) -> int:
    return max(1, min(BLOCK_ROWS * BLOCK_SAMPLES, num_values // num_parameters))


def _log_likelihood(model: LatentVariableModel, z: Tensor, x: Tensor) -> Tensor:
    return model.likelihood(z).log_prob(x)


def weight_blocks(
    model: LatentVariableModel,
    x: inputs.Rows,
    num_samples: int,
    *,
    generator: torch.Generator | None,
    compile: engine.Compile,
    chunk_size: int | None,
    progress: bool = False,
) -> Iterator[Block]:
    """Yield the draws of at most 64 rows x 512 samples at a time: all N rows, and exactly K samples of each.

    Args:
        model: the model, in eval mode.
        x: checked data as handed in, shape (N, *X).
        num_samples: K.
        generator: source of the base seed.
        compile: whether the decoder's pass is compiled.
        chunk_size: number of z per decoder pass; None chooses.
        progress: show a bar on stderr where that is a terminal.
    """
    seed = engine.draw_seed(generator)
    device = engine.model_device(model)
    num_parameters = _num_parameters(inputs.likelihood_at_prior(model))
    pays = _pays(model, compile, len(x) * num_samples * num_parameters)
    chunk = chunk_size or _chunk_size(num_parameters, _CHUNK_VALUES if pays else _CHUNK_VALUES // 2)
    rows_at_once = min(len(x), BLOCK_ROWS, chunk)
    passes = _Passes(model, rows_at_once, max(1, chunk // rows_at_once), pays)
    row_blocks = list(inputs.batches(len(x), BLOCK_ROWS))
    for i, rows in enumerate(track(row_blocks, "evaluating") if progress else row_blocks):
        with engine.seeded(engine.block_seed(seed, i)):
            y, log_det = inputs.to_model_space(model, x[rows].to(device))
            q, prior = model.posterior(y), model.prior()  # seeded, too: a posterior that is refined draws noise
        for first in range(0, num_samples, _TOGETHER * BLOCK_SAMPLES):
            num_together = min(_TOGETHER * BLOCK_SAMPLES, num_samples - first)
            densities: list[Tensor] = []
            for samples in inputs.batches(num_together, BLOCK_SAMPLES):
                with engine.seeded(engine.block_seed(seed, i, (first + samples.start) // BLOCK_SAMPLES)):
                    z = q.sample(torch.Size((samples.stop - samples.start,)))
                parts = (passes.log_likelihood(z, y), prior.log_prob(z), q.log_prob(z))
                # Room for all of them at once: small tensors between the large ones of a pass would keep those apart.
                densities = densities or [part.new_empty(num_together, *part.shape[1:]) for part in parts]
                for density, part in zip(densities, parts, strict=True):
                    density[samples] = part
            yield Block(rows, q, Draw(z[:0], *densities), log_det)


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
        num_samples: samples per pass, at most; a block is split evenly.
        compile: pad smaller passes, of the last rows or samples, so that nothing is compiled twice.
    """

    def __init__(self, model: LatentVariableModel, num_rows: int, num_samples: int, compile: bool) -> None:
        self.model, self.num_rows, self.compile = model, num_rows, compile
        self.num_samples = math.ceil(BLOCK_SAMPLES / math.ceil(BLOCK_SAMPLES / num_samples))
        shape = (num_rows, self.num_samples)
        self.function = engine.compiled_once(model, _log_likelihood, *shape) if compile else _log_likelihood

    def log_likelihood(self, z: Tensor, y: Tensor) -> Tensor:
        """log p(y|z) for z of shape (K, B, *Z) and y of shape (B, *X): shape (K, B)."""
        columns = [
            torch.cat([self._pass(z[samples, rows], y[rows]) for samples in inputs.batches(len(z), self.num_samples)])
            for rows in inputs.batches(len(y), self.num_rows)
        ]
        return torch.cat(columns, dim=1)

    def _pass(self, z: Tensor, y: Tensor) -> Tensor:
        if not self.compile:
            return self.function(self.model, z, y)
        num_samples, num_rows = z.shape[:2]
        z = _padded(_padded(z, 0, self.num_samples), 1, self.num_rows)
        return self.function(self.model, z, _padded(y, 0, self.num_rows))[:num_samples, :num_rows]


def _padded(values: Tensor, dim: int, size: int) -> Tensor:
    """The last entry repeated until there are `size` of them along `dim`."""
    if values.shape[dim] == size:
        return values
    index = torch.arange(size, device=values.device).clamp(max=values.shape[dim] - 1)
    return values.index_select(dim, index)
