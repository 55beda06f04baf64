"""Requests that wait for a model share its passes; a request that finds the model idle is answered at once.

One thread for each model takes whatever waits, reads it, and asks about the rows of like questions together. Nothing
ever waits for company. What is wrong with a request is found before its rows stand beside those of others; where a pass
fails all the same, each of its requests is asked alone.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from vaekit.data import Dataset
from vaekit.runs import Run, Table
from vaekit.serve import answers
from vaekit.serve.bodies import Asked, Body, Reader
from vaekit.serve.limits import Limits
from vaekit.serve.questions import Question
from vaekit.serve.refusal import Refusal, check_of, of_error

_SMOOTHING = 0.1  # weight of the newest time in the running mean of seconds per request


@dataclass(frozen=True)
class Reply:
    """What a request got.

    Attributes:
        content: JSON.
        num_rows: rows that were asked about, or drawn.
        num_doubtful: rows without a number, or with one that is not to be believed.
        num_together: requests that shared the pass.
    """

    content: bytes
    num_rows: int
    num_doubtful: int
    num_together: int


@dataclass(eq=False)
class Job:
    """A request that waits for its model.

    Attributes:
        question: what it asks.
        body: what came.
        loop: the event loop that waits for `reply`.
        reply: gets a `Reply`, or a `Refusal` as its exception.
        given_up: whether nobody waits any longer.
    """

    question: Question
    body: Body
    loop: asyncio.AbstractEventLoop
    reply: "asyncio.Future[Reply]" = field(init=False)
    given_up: bool = False

    def __post_init__(self) -> None:
        self.reply = self.loop.create_future()


class Watch(Protocol):
    """What is told of the work of a model."""

    def passed(self, num_requests: int) -> None:
        """So many requests shared a pass."""

    def saw(self, rows: Dataset) -> None:
        """These rows were asked about; their answers are on their way."""

    def failed(self, error: Exception) -> None:
        """An error that is no refusal."""


class Worker:
    """The thread of a model, and the requests that wait for it.

    Args:
        run: the run.
        limits: how much waits, and how much is asked about together.
        watch: is told of the work.
        threads: of torch.
    """

    def __init__(self, run: Run, limits: Limits, watch: Watch, threads: int) -> None:
        self._limits, self._watch, self._threads = limits, watch, threads
        self._served = run, Reader(run, limits)
        self._waiting: deque[Job] = deque()
        self._num_bytes, self._seconds = 0, 0.0
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="vaekit-model", daemon=True)
        self._thread.start()

    @property
    def run(self) -> Run:
        """The run that new requests are answered by."""
        return self._served[0]

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def swap(self, run: Run) -> None:
        """Answer by another run from the next pass on; the present one ends on the old."""
        self._served = run, Reader(run, self._limits)

    def check_room(self, num_bytes: int = 0) -> None:
        """Raise a `Refusal` if a request with so many bytes could not wait: too much does (429)."""
        num_waiting = len(self._waiting)
        if num_waiting >= self._limits.waiting or self._num_bytes + num_bytes > self._limits.waiting_bytes:
            seconds = max(1, math.ceil(self._seconds * num_waiting))
            reason = f"{num_waiting} requests wait for this model; ask again in {seconds} s"
            raise Refusal(429, reason, headers={"Retry-After": str(seconds)})

    def submit(self, job: Job) -> None:
        """Let a request wait for its turn.

        Raises:
            Refusal: Too much waits (429), or the service ends (503).
        """
        with self._changed:
            if self._closed:
                raise Refusal(503, "the service ends; ask another one")
            self.check_room(len(job.body.content))
            self._waiting.append(job)
            self._num_bytes += len(job.body.content)
            self._changed.notify()

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(self._limits.grace)

    # --- In the thread of the model -----------------------------------------------------------------------------------

    def _take(self) -> list[Job]:
        """What waits, at most a batch of it; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._limits.batch_requests))]
            self._num_bytes -= sum(len(job.body.content) for job in taken)
        return taken

    def _work(self) -> None:
        torch.set_num_threads(self._threads)  # which holds for the thread that says it
        while jobs := self._take():
            start = time.perf_counter()
            run, reader = self._served
            try:
                wanted = [job for job in jobs if not job.given_up]
                for batch in self._batches(run, self._read(reader, wanted)):
                    self._answer(run, batch)
            except Exception as error:  # a mistake of the service: it goes on, and those that wait hear of it
                for job in jobs:
                    self._refuse(job, error)
            seconds = (time.perf_counter() - start) / len(jobs)
            self._seconds += _SMOOTHING * (seconds - self._seconds)

    def _read(self, reader: Reader, jobs: Iterable[Job]) -> Iterator[tuple[Job, Asked]]:
        for job in jobs:
            try:
                yield job, reader.read(job.question, job.body)
            except Exception as error:
                self._refuse(job, error)

    def _batches(self, run: Run, asked: Iterable[tuple[Job, Asked]]) -> Iterator[list[tuple[Job, Asked]]]:
        """Like questions together, each batch with at most so many rows, unless a request alone has more."""
        groups: dict[Any, list[tuple[Job, Asked]]] = {}
        for place, (job, what) in enumerate(asked):
            key = _kind(run, job.question, what)
            groups.setdefault(place if key is None else key, []).append((job, what))
        for group in groups.values():
            batch: list[tuple[Job, Asked]] = []
            for pair in group:
                if batch and sum(len(what) for _, what in batch) + len(pair[1]) > self._limits.batch_rows:
                    yield batch
                    batch = []
                batch.append(pair)
            yield batch

    def _answer(self, run: Run, batch: Sequence[tuple[Job, Asked]]) -> None:
        question, options = batch[0][0].question, batch[0][1].options
        try:
            replies = list(_replies(run, question, options, [what.rows for _, what in batch]))
        except Exception as error:
            if len(batch) > 1:
                for pair in batch:
                    self._answer(run, [pair])
                return
            job, what = batch[0]
            rows = what.rows
            check = None if rows is None else check_of(lambda some: question.ask(run, some, options), rows)
            self._refuse(job, error, check, len(what))
            return
        self._watch.passed(len(batch))
        for (job, _), reply in zip(batch, replies, strict=True):
            _tell(job, partial(job.reply.set_result, reply))
        for _, what in batch:
            if what.rows is not None:
                self._watch.saw(what.rows)

    def _refuse(self, job: Job, error: Exception, check: Any = None, num_rows: int = 0) -> None:
        refusal = of_error(error, check, num_rows)
        if refusal.status >= 500:
            self._watch.failed(error)
        _tell(job, partial(job.reply.set_exception, refusal))


def _tell(job: Job, tell: Callable[[], None]) -> None:
    """Hand a result to the event loop that waits for it."""

    def unless_done() -> None:
        if not job.reply.done():
            tell()

    try:
        job.loop.call_soon_threadsafe(unless_done)
    except RuntimeError:  # the loop was closed: nobody waits
        return


def _kind(run: Run, question: Question, asked: Asked) -> Any:
    """What requests have in common that may share a pass; None where there is none such."""
    if asked.rows is None or not question.shares_passes(run, asked.options):
        return None
    rows = asked.rows
    return question, asked.options, rows.dtype.str, rows.event_shape, rows.contexts is None


def _replies(run: Run, question: Question, options: Any, rows: Sequence[Dataset | None]) -> Iterator[Reply]:
    alone = len(rows) == 1
    together = rows[0] if alone else joined([part for part in rows if part is not None])
    table = question.ask(run, together, options)
    lengths = [len(table)] if alone else [len(part) for part in rows if part is not None]
    for part, own in zip(answers.parts(table, lengths), rows, strict=True):
        table = part if alone or own is None else _with_own(part, own, question)
        content = answers.encoded(table, question.answers_rows, run.data.event_shape)
        yield Reply(content, len(table), answers.num_doubtful(table), len(rows))


def _with_own(table: Table, rows: Dataset, question: Question) -> Table:
    """The answer with what is beside the rows of one request, which took no part in the pass."""
    own: dict[str, Any] = {"frame": rows.frame} if question.keeps_frame and rows.schema is not None else {}
    return replace(table, key=rows.key, keys=rows.row_keys, **own)


def joined(parts: Sequence[Dataset]) -> Dataset:
    """The rows of several requests one after another, without their keys, labels and frames."""
    first, excluded, contexts = parts[0], None, None
    if any(part.excluded is not None for part in parts):
        none = (np.zeros(part.x.shape, dtype=bool) for part in parts)
        excluded = np.concatenate(
            [no if part.excluded is None else part.excluded for part, no in zip(parts, none, strict=True)]
        )
    if first.contexts is not None:
        contexts = np.concatenate([part.contexts for part in parts if part.contexts is not None])
    about: dict[str, Any] = {"columns": first.columns, "value_range": first.value_range, "kind": first.kind}
    about |= {"schema": first.schema, "context_schema": first.context_schema, "reading": first.reading}
    return Dataset(np.concatenate([part.x for part in parts]), excluded=excluded, contexts=contexts, **about)
