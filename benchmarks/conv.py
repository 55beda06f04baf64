"""(b) A convolutional training step at the size of pythae's MNIST networks, batch 100, z = 16, in turns.

The same layers for all: four 4 x 4 convolutions of stride 2 with 128 to 1,024 channels, batch norm and ReLU; a linear
layer to 1,024 x 4 x 4 and three 3 x 3 transposed convolutions back. vaekit takes them as a user's own modules, not as
its `ConvEncoder`; the bare loop runs the same modules eagerly. pythae's decoder ends in a sigmoid, the others' in
logits. Value: ms per step; roofline as for the MLP. Not here: `compile="auto"`, which decides after a hundred steps.
"""

from benchmarks.common import CONV, MODES, Options, bits, job_of
from benchmarks.report import Result
from benchmarks.training import race_steps

BARS = {f"vaekit {mode} bf16": {"pythae": 1.5} for mode in ("eager", "compiled")}


def run(options: Options) -> Result:
    """All contestants, in turns of a few steps; `quick` takes narrow networks, which pythae has not."""
    (batch, num_steps), rounds = options.size((100, 3), (4, 1)), options.num_rounds(3)
    net = options.size(CONV, {**CONV, "width": 4})
    x, data = bits(batch * num_steps, options.data_dir)
    modes = [name for name in MODES if name != "vaekit auto"]
    with job_of(x, task="train", net=net, batch=batch) as job:
        rows = race_steps(options, f"convolutions, batch {batch}", job, rounds, BARS, modes, peer=not options.quick)
    return Result("b", rows, {"data": data, "batch": batch, "steps_per_turn": num_steps, "rounds": rounds})
