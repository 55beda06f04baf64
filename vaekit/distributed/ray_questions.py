"""Questions about a table in parts on Ray: actors that hold the model take the parts as they come."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

from vaekit import runs
from vaekit.distributed.ray_cluster import cluster, raised
from vaekit.errors import GroupError, VaekitError
from vaekit.runs.asking import Question
from vaekit.runs.by_part import Answered, Part, PartAnswered, answer_part, made, num_rows_of, of_all_parts


def answer_on_ray(
    run: str | Path,
    parts: Sequence[str | Path],
    folder: str | Path,
    question: Question,
    *,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> Answered:
    """Ask a run of the parts of a table on Ray, and write a parquet file for each; as `runs.by_part.answer_by_part`.

    Ray Data hands each part to one of the actors, which reads the part, asks its copy of the run, and writes the
    answer as a whole. Rows and their order, their noise and the files are those of one process. A part whose answer
    stands is not asked again; an actor that dies is replaced, and its part asked anew. On a cluster of several machines
    the run, the parts and the folder lie where all machines see them.

    Args:
        run: the folder of the run.
        parts: files, in their order.
        folder: where to write; made where it does not exist.
        question: what is asked.
        options: keywords of `Run.rows`, by which parts are read.
        workers: how many actors there are at most, each with one core; None takes as many as the cluster has cores.

    Raises:
        ConfigError: if Ray is not installed, or the folder holds answers to another question, or of another run.
        DataError: if parts cannot be read, with the first of them. All others are answered; where rows have no keys,
            those before it, since the rows behind it cannot be numbered.
        GroupError: if the cluster does not answer, or a part ends the process of its actor each time.

    Example:
        Scores of a table that is larger than memory::

            question = Question("score", {"num_samples": 10, "seed": 0})
            vk.distributed.answer_on_ray("RUN", sorted(Path("parts").glob("*.parquet")), "out", question, workers=8)
    """
    place = made(folder).resolve()
    opened = runs.open(run)
    reads = dict(options or {})
    question = of_all_parts(question, parts, reads.get("reading"))
    shared = {"run": str(Path(run).resolve()), "folder": str(place), "question": question, "options": reads}
    has_keys = bool(opened.data.key or reads.get("key"))
    files = [Path(part).resolve() for part in parts]
    with cluster() as ray:
        from ray.exceptions import RayError

        workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            starts = [0] * len(files) if has_keys else _starts(ray, files, reads)
            items = [
                {"number": i, "path": str(path), "start": start}
                for i, (path, start) in enumerate(
                    zip(files, starts, strict=False)
                )  # without a start rows have no numbers
            ]
            said = _mapped(ray, items, shared, workers)
        except RayError as error:
            raise GroupError(f"the work on Ray did not end: {' '.join(str(error).split())[:500]}") from error
    return Answered.of(Path(folder), parts, _in_order(said, len(parts)))


def _in_order(said: list[dict[str, Any]], num_parts: int) -> list[PartAnswered]:
    """What became of the parts, in their order; raises the error of the first one that has one."""
    said = sorted(said, key=lambda row: int(row["number"]))
    wrong = [row for row in said if row["error"]]
    if wrong:
        others = f" ({len(said) - len(wrong)} of {num_parts} parts are answered, and are not asked again)"
        raise raised(wrong[0]["kind"], wrong[0]["error"] + others)
    return [
        PartAnswered(int(r["num_rows"]), bool(r["is_known"]), int(r["num_missing"]), tuple(r["notes"])) for r in said
    ]


def _starts(ray: Any, files: Sequence[Path], options: Mapping[str, Any]) -> list[int]:
    """How many rows lie before each part, by which rows without keys are numbered; as far as parts can be read."""
    count = ray.remote(num_cpus=1)(_num_rows)
    lengths = ray.get([count.remote(path, options) for path in files])
    return [0, *accumulate(takewhile(lambda length: length is not None, lengths))][: len(files)]


def _num_rows(path: Path, options: Mapping[str, Any]) -> int | None:
    return num_rows_of(path, options.get("reading"))


def _mapped(ray: Any, items: list[dict[str, Any]], shared: dict[str, Any], workers: int) -> list[dict[str, Any]]:
    """What became of each part: its number, and what was answered or the error."""
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    pool = ActorPoolStrategy(min_size=1, max_size=min(workers, len(items)))
    rows = ray.data.from_items(items, override_num_blocks=len(items))
    answered = rows.map_batches(
        _Answering, batch_size=1, batch_format="numpy", compute=pool, num_cpus=1, fn_constructor_args=(shared,)
    )
    return list(answered.take_all())


class _Answering:
    """An actor: a run, which one part after another is asked of."""

    def __init__(self, shared: dict[str, Any]) -> None:
        self._run = runs.open(shared["run"])
        self._folder, self._question = Path(shared["folder"]), shared["question"]
        self._options = shared["options"]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        number, path, start = int(batch["number"][0]), Path(str(batch["path"][0])), int(batch["start"][0])
        found, error = PartAnswered(0), None
        try:
            found = answer_part(
                self._run,
                Part(number, path),
                start,
                self._folder,
                self._question,
                lambda file: self._run.rows(file, **self._options),
            )
        except VaekitError as wrong:  # the other parts are asked all the same
            error = wrong
        said = {"number": number, **asdict(found), "notes": list(found.notes)}
        said |= {"error": "" if error is None else str(error), "kind": type(error).__name__}
        return {name: [value] for name, value in said.items()}
