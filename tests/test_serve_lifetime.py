"""Signals, back-pressure and what becomes of requests under way: a service loses nothing that it took."""

import asyncio
import dataclasses
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from serving import TINY, fit_people, records, service

import vaekit as vk
from vaekit.serve.batching import Job, Worker
from vaekit.serve.bodies import JSON, Body
from vaekit.serve.limits import Limits
from vaekit.serve.questions import QUESTIONS
from vaekit.serve.refusal import Refusal

pytestmark = pytest.mark.filterwarnings("ignore::vaekit.errors.ReadingWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fit_people(tmp_path_factory.mktemp("lifetime"))


class Load:
    """Clients that ask one after another until they are told to stop, or refused."""

    def __init__(self, url, num_clients, keep=True):
        self.url, self.keep, self.stop = url, keep, threading.Event()
        self.statuses, self.lost, self.answers = [], [], []
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(num_clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, seed):
        row = records(1, seed=seed)
        client = httpx.Client(base_url=self.url, timeout=60)
        while not self.stop.is_set():
            try:
                answer = client.post("/v1/models/people/score", json={"rows": row})
            except httpx.ConnectError:
                break  # the door is closed: nothing was taken
            except httpx.HTTPError as error:
                self.lost.append(repr(error))
                break
            self.statuses.append(answer.status_code)
            if answer.status_code == 200:
                self.answers.append((seed, answer.json()["log_p"][0]))
            if not self.keep:
                client.close()
                client = httpx.Client(base_url=self.url, timeout=60)
        client.close()

    def join(self):
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("keep", [True, False], ids=["kept connections", "new connections"])
def test_an_end_under_load_loses_nothing(folder, keep):
    with service(folder / "people") as found:
        load = Load(found.url, 16, keep)
        while len(load.statuses) < 32:
            time.sleep(0.01)
        found.send(signal.SIGTERM)
        code = found.process.wait(60)
        load.stop.set()
        load.join()
        assert code == 0
        assert load.lost == []
        assert set(load.statuses) <= {200}
        assert len(load.statuses) >= 32


def test_new_weights_come_without_a_lost_request(folder, tmp_path):
    rows = records(8, seed=7)
    run = vk.runs.open(folder / "people")
    run.save(tmp_path / "people")
    old = run.score(run.rows(rows)).to_dict()["log_p"]
    with service(tmp_path / "people") as found:
        load = Load(found.url, 4)
        time.sleep(0.5)
        settings = {**TINY, "seed": 9}
        vk.runs.fit(str(folder / "people.csv"), tmp_path / "people", settings, overwrite=True, progress=False)
        run = vk.runs.open(tmp_path / "people")
        new = run.score(run.rows(rows)).to_dict()["log_p"]
        found.send(signal.SIGHUP)
        found.wait("reloaded")
        with httpx.Client(base_url=found.url) as client:
            now = client.post("/v1/models/people/score", json={"rows": rows}).json()["log_p"]
        (tmp_path / "people" / "model.safetensors").write_bytes(b"nothing")
        found.send(signal.SIGHUP)
        assert "altered" in found.wait("reload failed")["reason"]
        time.sleep(0.3)
        load.stop.set()
        load.join()
    assert load.lost == []
    assert set(load.statuses) == {200}
    np.testing.assert_allclose(now, new, rtol=1e-5)
    assert not np.allclose(now, old)


def test_more_than_waits_is_refused_at_once_and_the_rest_is_answered(folder):
    body = {"rows": records(100, seed=3)}
    with service(folder / "people", "--waiting", 4) as found, httpx.Client(base_url=found.url, timeout=60) as client:
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: client.post("/v1/models/people/score", json=body), range(24)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        scores = [answer.json()["log_p"] for answer in answers if answer.status_code == 200]
        np.testing.assert_allclose(scores, [scores[0]] * len(scores), rtol=1e-5)
        assert client.post("/v1/models/people/score", json=body).status_code == 200


class Watch:
    """Notes what a worker tells; `saw` fails where it is told to."""

    def __init__(self):
        self.passes, self.failures, self.breaks = [], [], False

    def passed(self, num_requests):
        self.passes.append(num_requests)

    def saw(self, rows):
        if self.breaks:
            raise RuntimeError("the watch broke")

    def failed(self, error):
        self.failures.append(error)


def asked(worker, questions, row):
    """The replies and refusals to some questions about a row, asked at once."""
    content = json.dumps({"rows": row}).encode()

    async def ask():
        jobs = [Job(question, Body(JSON, content), asyncio.get_running_loop()) for question in questions]
        for job in jobs:
            worker.submit(job)
        return await asyncio.gather(*(job.reply for job in jobs), return_exceptions=True)

    return asyncio.run(ask())


def test_a_mistake_of_the_service_is_a_failure_of_its_request_alone(folder):
    run, watch = vk.runs.open(folder / "people").in_memory(), Watch()

    def breaks(run, rows, how):
        raise ValueError("cell 31415 of somebody")

    score, broken = QUESTIONS["score"], dataclasses.replace(QUESTIONS["score"], ask=breaks)
    worker = Worker(run, Limits(), watch, 1)
    try:
        replies = asked(worker, [score, broken, broken, score], records(1))
        assert [getattr(reply, "status", 200) for reply in replies] == [200, 500, 500, 200]
        assert "31415" not in replies[1].reason
        assert [type(error) for error in watch.failures] == [ValueError, ValueError]
        watch.breaks = True
        assert asked(worker, [score], records(1))[0].num_rows == 1
        watch.breaks = False
        assert asked(worker, [score], records(1))[0].num_rows == 1
        assert sum(watch.passes) == 4
    finally:
        worker.close()
    with pytest.raises(Refusal, match="ends"):
        asked(worker, [score], records(1))


def test_an_answer_that_takes_too_long_is_given_up(folder):
    body = {"rows": records(300, seed=3) * 30, "num_samples": 1000}
    with service(folder / "people", "--timeout", 0.3) as found, httpx.Client(base_url=found.url, timeout=60) as client:
        started = time.monotonic()
        answer = client.post("/v1/models/people/score", json=body)
        assert answer.status_code == 504
        assert time.monotonic() - started < 5
        found.process.kill()
