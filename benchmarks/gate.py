"""The regression gate: `python -m benchmarks.gate`, two minutes, ratios only; exits with 1 where one is missed.

Eager training, compiled training of a small model, and K = 5,000 evaluation, eager and compiled, against the bare loop;
and the time that `import vaekit` adds to `import torch`, as a fraction of it. Both sides of a ratio take turns in the
same rounds, and the fastest turn of each counts: neighbours on the machine only ever add time, and to passes over
memory more than to products. A ratio that misses its threshold is measured twice more with more rounds, so that a busy
machine does not fail a change that is innocent. The thresholds lie a quarter or more below what is recorded: what they
find is a copy too many, a graph that breaks, or a function that is compiled anew each time.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import vaekit as vk
from benchmarks.common import MLP, Options, Start, bits, contestant, job_of, library, library_model
from benchmarks.race import costs, race
from benchmarks.small import PYOD_NET, table
from benchmarks.startup import import_seconds

TRAINING, SMALL, EVALUATION, COMPILED_EVALUATION, IMPORT = 0.75, 1.4, 0.75, 0.57, 0.1
Job = Mapping[str, Any]
NOTHING: Job = MappingProxyType({})
EAGER, COMPILED = "vaekit eager float32", "vaekit compiled float32"


@dataclass(frozen=True)
class Check:
    """A ratio and its threshold; `least` says whether it must reach it or stay below it."""

    name: str
    ratio: float
    threshold: float
    least: bool = True

    @property
    def passed(self) -> bool:
        """Whether the ratio is on the right side."""
        return self.ratio >= self.threshold if self.least else self.ratio <= self.threshold

    def __str__(self) -> str:
        sign = ">=" if self.least else "<="
        return (
            f"{'ok  ' if self.passed else 'MISS'}  {self.name}: {self.ratio:.2f} (asked: {sign} {self.threshold:.2f})"
        )


def training(options: Options, rounds: int) -> Check:
    """vaekit's eager epochs beside the bare loop's; 1 is as fast."""
    x, _ = bits(options.size(128 * 40, 256), options.data_dir)
    with job_of(x, library_model(), task="train", net=MLP, batch=128) as job:
        ratio = _ratio(_pair(options, EAGER, job), "steps", rounds)
    return Check("training, rate over the bare loop's", ratio, TRAINING)


def small_training(options: Options, rounds: int) -> Check:
    """vaekit's compiled epochs of a table beside the bare loop's, where most of a step is not arithmetic."""
    x, _ = table(options, "satellite", options.size(3_200, 96))
    with job_of(x, task="train", net=PYOD_NET, batch=32) as job:
        own, bare = {"likelihood": "normal-1"}, {"net": {**PYOD_NET, "width": x.shape[1]}, "squared": True}
        ratio = _ratio(_pair(options, options.size(COMPILED, EAGER), job, own, bare), "steps", rounds)
    return Check("small training, compiled, rate over the bare loop's", ratio, SMALL)


def evaluation(options: Options, rounds: int) -> Check:
    """vaekit's log p beside the bare loop's; 1 is as fast."""
    return Check("evaluation, rate over the bare loop's", _evaluation(options, EAGER, 16, rounds), EVALUATION)


def compiled_evaluation(options: Options, rounds: int) -> Check:
    """The same, compiled, for so few images that a call which traces the model anew takes more than twice the time."""
    ratio = _evaluation(options, options.size(COMPILED, EAGER), 4, rounds)
    return Check("evaluation, compiled, rate over the bare loop's", ratio, COMPILED_EVALUATION)


def _evaluation(options: Options, name: str, num_rows: int, rounds: int) -> float:
    x, _ = bits(options.size(num_rows, 2), options.data_dir)
    with job_of(x, library_model(), task="evaluate", net=MLP, num_samples=options.size(5_000, 100)) as job:
        return _ratio(_pair(options, name, job), "samples", rounds)


def _pair(options: Options, name: str, job: Job, own: Job = NOTHING, bare: Job = NOTHING) -> dict[str, Start]:
    """vaekit in the mode `name` and the bare loop; `own` and `bare` are what their jobs have besides."""
    others = contestant(options, "bare", "bare", **{**job, **bare})
    return {**library(options, [name], **{**job, **own}), **others}


def _ratio(starters: dict[str, Start], per: str, rounds: int) -> float:
    turns, missing = race(starters, rounds)
    if missing:
        raise RuntimeError(f"could not be measured: {missing}")
    own = next(name for name in starters if name != "bare")
    return min(costs(turns["bare"], per)) / min(costs(turns[own], per))


def importing(options: Options, rounds: int) -> Check:
    """What `import vaekit` adds to `import torch`, as a fraction of the latter."""
    own, torch = import_seconds(min(rounds, 3))
    return Check("import vaekit over import torch", own / torch, IMPORT, least=False)


def settled(measure: Callable[[Options, int], Check], options: Options, rounds: int) -> Check:
    """Measure; where the threshold is missed, up to twice more with twice as many rounds, the last of which counts."""
    check = measure(options, rounds)
    for _ in range(2):
        if not check.passed:
            check = measure(options, 2 * rounds)
    return check


def main() -> int:
    """Print one line per check; 1 where one is missed."""
    options = Options(peers=False)
    measures = [training, evaluation, importing]
    if vk.engine.can_compile():
        measures += [small_training, compiled_evaluation]
    checks = [settled(measure, options, 5) for measure in measures]
    for check in checks:
        print(check)
    return int(not all(check.passed for check in checks))


if __name__ == "__main__":
    sys.exit(main())
