"""The regression gate: `python -m benchmarks.gate`, under a minute, ratios only; exits with 1 where one is missed.

Eager training against the bare loop, K = 5,000 evaluation against the bare loop, and the time that `import vaekit` adds
to `import torch`, as a fraction of it. Both sides of a ratio take turns in the same rounds, and a ratio that misses its
threshold is measured again with more rounds, so that a busy machine does not fail a change that is innocent.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.common import MLP, Options, bits, contestant, library_model, save_rows, save_weights, scratch
from benchmarks.race import costs, race, times_faster
from benchmarks.startup import import_seconds

TRAINING, EVALUATION, IMPORT = 0.75, 1 / 1.5, 0.1
OWN = "vaekit eager float32"


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
    with scratch() as folder:
        weights = save_weights(folder / "weights.npz", library_model())
        job = {"task": "train", "net": MLP, "batch": 128, "data": save_rows(folder / "x.npy", x), "weights": weights}
        ratio = _ratio(options, job, "steps", rounds)
    return Check("training, rate over the bare loop's", ratio, TRAINING)


def evaluation(options: Options, rounds: int) -> Check:
    """vaekit's log p beside the bare loop's; 1 is as fast."""
    x, _ = bits(options.size(16, 2), options.data_dir)
    with scratch() as folder:
        weights, data = save_weights(folder / "weights.npz", library_model()), save_rows(folder / "x.npy", x)
        draws = options.size(5_000, 100)
        job = {"task": "evaluate", "net": MLP, "num_samples": draws, "data": data, "weights": weights}
        ratio = _ratio(options, job, "samples", rounds)
    return Check("evaluation, rate over the bare loop's", ratio, EVALUATION)


def _ratio(options: Options, job: dict, per: str, rounds: int) -> float:
    starters = {**contestant(options, OWN, "library", **job), **contestant(options, "bare", "bare", **job)}
    turns, missing = race(starters, rounds)
    if missing:
        raise RuntimeError(f"could not be measured: {missing}")
    return times_faster(costs(turns[OWN], per), costs(turns["bare"], per)).median


def importing(options: Options, rounds: int) -> Check:
    """What `import vaekit` adds to `import torch`, as a fraction of the latter."""
    own, torch = import_seconds(min(rounds, 3))
    return Check("import vaekit over import torch", own / torch, IMPORT, least=False)


def settled(measure: Callable[[Options, int], Check], options: Options, rounds: int) -> Check:
    """Measure; where the threshold is missed, once more with twice as many rounds, which then counts."""
    check = measure(options, rounds)
    return check if check.passed else measure(options, 2 * rounds)


def main() -> int:
    """Print one line per check; 1 where one is missed."""
    options = Options(peers=False)
    checks = [settled(measure, options, 5) for measure in (training, evaluation, importing)]
    for check in checks:
        print(check)
    return int(not all(check.passed for check in checks))


if __name__ == "__main__":
    sys.exit(main())
