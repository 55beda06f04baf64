"""One pass over data and draws: importance weights in blocks whose noise does not depend on how they are computed.

Noise is drawn in fixed blocks of rows x samples, each from a seed of its own; a chunk only splits the decoder's work.
So memory is bounded whatever N and K, and two chunk sizes see the same draws.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import Draw, LatentVariableModel
from vaekit.models import inputs
from vaekit.progress import track

BLOCK_ROWS, BLOCK_SAMPLES = 64, 64
_CHUNK_VALUES = 2**20  # parameters of p(x|z) per decoder pass: 4 MiB of float32, which stay in the cache


class Block(NamedTuple):
    """The draws for some rows: those of one block."""

    rows: slice
    posterior: Distribution
    draws: Draw
    log_det: Tensor


def _num_parameters(distribution: Distribution) -> int:
    """How many numbers a distribution holds, for the size of a chunk."""
    base = getattr(distribution, "base", distribution)
    return max([1, *(value.numel() for value in vars(base).values() if isinstance(value, Tensor))])


def default_chunk_size(model: LatentVariableModel) -> int:
    """How many z one decoder pass takes, so that the parameters of p(x|z) stay within 4 MiB of float32."""
    return max(1, min(BLOCK_ROWS * BLOCK_SAMPLES, _CHUNK_VALUES // _num_parameters(inputs.likelihood_at_prior(model))))


def _log_likelihood(model: LatentVariableModel, z: Tensor, x: Tensor) -> Tensor:
    return model.likelihood(z).log_prob(x)


def weight_blocks(
    model: LatentVariableModel,
    x: Tensor,
    num_samples: int,
    *,
    generator: torch.Generator | None,
    compile: engine.Compile,
    chunk_size: int | None,
    progress: bool = False,
) -> Iterator[Block]:
    """Yield blocks of at most 64 rows x 64 samples that cover all N rows and exactly K samples of each.

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
    chunk = chunk_size or default_chunk_size(model)
    log_likelihood = engine.compiled(_log_likelihood, compile)
    row_blocks = list(inputs.batches(len(x), BLOCK_ROWS))
    for i, rows in enumerate(track(row_blocks, "evaluating") if progress else row_blocks):
        with engine.seeded(engine.block_seed(seed, i)):
            y, log_det = inputs.to_model_space(model, x[rows].to(device))
        q, prior = model.posterior(y), model.prior()
        for j, samples in enumerate(inputs.batches(num_samples, BLOCK_SAMPLES)):
            with engine.seeded(engine.block_seed(seed, i, j)):
                z = q.sample(torch.Size((samples.stop - samples.start,)))
            parts = _in_chunks(model, log_likelihood, z, y, chunk)
            yield Block(rows, q, Draw(z, parts, prior.log_prob(z), q.log_prob(z)), log_det)


def _in_chunks(model: LatentVariableModel, log_likelihood: object, z: Tensor, y: Tensor, chunk: int) -> Tensor:
    """log p(y|z) for z of shape (K, B, *Z), at most `chunk` of the K x B at a time."""
    num_rows = len(y)
    rows_at_once = min(num_rows, chunk)
    samples_at_once = max(1, chunk // num_rows)
    columns = [
        torch.cat(
            [
                log_likelihood(model, z[samples, rows], y[rows])  # type: ignore[operator]
                for samples in inputs.batches(len(z), samples_at_once)
            ]
        )
        for rows in inputs.batches(num_rows, rows_at_once)
    ]
    return torch.cat(columns, dim=1)
