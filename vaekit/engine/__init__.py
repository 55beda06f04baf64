"""Where numbers are computed: random streams, device, precision, compilation, threads.

The one package that touches global state of torch (its random streams, denormals of a thread), and restores it; threads
take turns where the state is that of the whole process.
"""

from vaekit.engine import world
from vaekit.engine.batch_norm import batch_norm_together, has_batch_norm
from vaekit.engine.caches import cache_dir
from vaekit.engine.description import describe, describe_run
from vaekit.engine.devices import (
    NetworkDtype,
    Precision,
    autocast,
    autocast_dtype,
    check_choice,
    check_precision,
    evaluating_in,
    has_fast_bf16,
    network_precision,
    resident,
    resolve_device,
)
from vaekit.engine.group import is_launched, is_restarted, join, launched_rank
from vaekit.engine.modes import evaluating, model_device, model_dtype, training
from vaekit.engine.speed.adam import Adam
from vaekit.engine.speed.compilation import (
    Compile,
    PayingCompilation,
    can_compile,
    check_compile,
    compile_cache,
    compiled,
    compiled_once,
    compiler,
)
from vaekit.engine.speed.heap import settle_heap
from vaekit.engine.speed.threads import calls_matter, in_notebook, is_small_step, run_flushing_denormals, threads_for
from vaekit.engine.streams import Stream, block_seed, draw_seed, fork_rng, seeded

__all__ = [
    "Adam",
    "batch_norm_together",
    "has_batch_norm",
    "Compile",
    "NetworkDtype",
    "PayingCompilation",
    "Precision",
    "Stream",
    "autocast",
    "autocast_dtype",
    "block_seed",
    "can_compile",
    "cache_dir",
    "calls_matter",
    "check_choice",
    "check_compile",
    "check_precision",
    "compile_cache",
    "compiled",
    "compiled_once",
    "compiler",
    "describe",
    "describe_run",
    "draw_seed",
    "evaluating",
    "evaluating_in",
    "fork_rng",
    "has_fast_bf16",
    "in_notebook",
    "is_launched",
    "is_restarted",
    "is_small_step",
    "join",
    "launched_rank",
    "model_device",
    "model_dtype",
    "network_precision",
    "resident",
    "resolve_device",
    "run_flushing_denormals",
    "seeded",
    "settle_heap",
    "threads_for",
    "training",
    "world",
]
