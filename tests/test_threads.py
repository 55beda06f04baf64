"""Threads: each gets what it would get alone, and torch's stream and the modes of a model are left as they were."""

import os
import signal
import sys
import threading
import time

import pytest
import torch
from torch import nn

import vaekit as vk
from vaekit import engine
from vaekit.engine import streams
from vaekit.engine.speed import compilation, threads
from vaekit.errors import BusyError
from vaekit.evaluation import ais, log_marginal

X = torch.bernoulli(torch.full((40, 6), 0.4), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _switch_often():
    """Let Python change threads every few instructions: what can go wrong then goes wrong in a short test."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def network(size):
    return nn.Sequential(nn.Linear(size, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))


def noisy_vae(seed=0):
    """A model whose networks draw noise and change in train mode, in which it stands."""
    with engine.seeded(seed):
        encoder = vk.Conditional(network(6), vk.posteriors.DiagonalNormal(2), in_shape=6)
        decoder = vk.Conditional(network(2), vk.likelihoods.Bernoulli(6), in_shape=2)
        model = vk.VAE(encoder, decoder, vk.priors.StandardNormal(2))
    return model.train()


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def together(functions):
    """The results of all functions, each in a thread of its own, started at the same time."""
    results, errors = [None] * len(functions), []
    start = threading.Barrier(len(functions))

    def run(i):
        start.wait()
        try:
            results[i] = functions[i]()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers), "a thread waits for ever"
    if errors:
        raise errors[0]
    return results


def modes(model):
    return [module.training for module in model.modules()]


# --- Noise and modes -------------------------------------------------------------------------------------------------

QUESTIONS = {
    "log_marginal": lambda model, g: log_marginal(model, X, num_samples=70, generator=g).value,
    "sample": lambda model, g: model.sample(50, generator=g),
    "encode": lambda model, g: model.encode(X, mean=False, generator=g),
    "ais": lambda model, g: ais(model, X[:3], num_steps=2, num_leapfrog=1, num_chains=2, generator=g).value,
}


def test_eight_threads_with_one_model_get_what_each_gets_alone():
    """Each thread asks every question with noise of its own, and begins with another one."""
    model = noisy_vae()
    model.encoder.network[1].eval()  # a mode of its own, which comes back as well
    before, state = modes(model), torch.get_rng_state()
    questions = list(QUESTIONS.values())

    def answers(i):
        return [questions[(i + k) % 4](model, noise(100 * i + k)) for k in range(4)]

    alone = [answers(i) for i in range(8)]
    for theirs, expected in zip(together([lambda i=i: answers(i) for i in range(8)]), alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(theirs, expected, strict=True))
    assert modes(model) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_thread_on_torchs_own_stream_has_it_alone():
    """Without a generator a sample is the next part of torch's stream, which threads with generators do not move."""
    model = noisy_vae()

    def without():
        drawn = [model.sample(20) for _ in range(20)]
        with engine.fork_rng(None):  # what torch draws by itself takes its turn, too
            return [*drawn, torch.randint(9, ())]

    def with_one():
        return [model.sample(20, generator=noise(k)) for k in range(20)]

    with engine.seeded(3):
        alone = without()
    expected = with_one()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        theirs, *others = together([without, with_one, with_one, with_one])
    for results, wanted in ((theirs, alone), *((other, expected) for other in others)):
        assert all(torch.equal(a, b) for a, b in zip(results, wanted, strict=True))


def test_the_last_evaluation_restores_the_modes():
    model = noisy_vae()
    wrapped = vk.models.SemiAmortized(model, num_steps=1)  # shares all modules but itself
    first, second = engine.evaluating(model), engine.evaluating(wrapped)
    with torch.set_grad_enabled(True):  # entered and left crosswise, they leave gradients as two threads would not
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not any(modes(model)), "the second one goes on"
        second.__exit__(None, None, None)
    assert all(modes(wrapped))


# --- Training --------------------------------------------------------------------------------------------------------


def fit(seed, callbacks=(), **settings):
    """Epochs and weights of a run with dropout, batch norm and validation."""
    model = noisy_vae(seed)
    settings = {"max_epochs": 6, "batch_size": 8, "compile": "off", "progress": False, "seed": seed, **settings}
    history = vk.Trainer(**settings, callbacks=callbacks).fit(model, vk.objectives.ELBO(), X[:32], X[32:])
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in history.records]
    return records, model.state_dict()


def assert_same_run(run, other):
    assert run[0] == other[0]
    assert all(torch.equal(value, other[1][name]) for name, value in run[1].items())


def test_fits_in_threads_repeat():
    state = torch.get_rng_state()
    alone = [fit(seed) for seed in range(6)]
    for run, expected in zip(together([lambda s=s: fit(s) for s in range(6)]), alone, strict=True):
        assert_same_run(run, expected)
    assert torch.equal(torch.get_rng_state(), state)


class Until(vk.training.Callback):
    """Says that training runs, and ends training when asked to."""

    def __init__(self):
        self.runs, self.enough = threading.Event(), threading.Event()

    def on_step_end(self, loop):
        self.runs.set()
        loop.stop = self.enough.is_set()


def test_a_score_does_not_wait_for_the_end_of_a_fit():
    """The fit ends only when the scores are there; both are what they are alone."""
    model, callback = noisy_vae(7), Until()

    def scores():
        try:
            callback.runs.wait()
            return [log_marginal(model, X, num_samples=200, generator=noise(k)).value for k in range(5)]
        finally:
            callback.enough.set()

    (records, weights), found = together([lambda: fit(1, [callback], max_epochs=100_000), scores])
    expected = [log_marginal(model, X, num_samples=200, generator=noise(k)).value for k in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    alone = fit(1, [Until()], max_epochs=len(records))
    assert_same_run((records, weights), alone)


def test_a_model_in_training_is_refused_to_other_threads():
    model, callback = noisy_vae(), Until()
    settings = {"max_epochs": 100_000, "batch_size": 8, "compile": "off", "progress": False}

    def training():
        return vk.Trainer(**settings, callbacks=[callback]).fit(model, vk.objectives.ELBO(), X)

    def others():
        callback.runs.wait()
        try:
            with pytest.raises(BusyError, match="another thread trains this model"):
                model.encode(X)
            with pytest.raises(BusyError, match="another thread trains"):
                vk.Trainer(max_epochs=1, progress=False, compile="off").fit(model, vk.objectives.ELBO(), X)
            with pytest.raises(BusyError):
                log_marginal(vk.models.SemiAmortized(model), X, num_samples=2)  # other outside, the same inside
        finally:
            callback.enough.set()

    history, _ = together([training, others])
    assert len(history) >= 1
    assert model.encode(X).shape == (40, 2), "free again"


def test_an_objective_in_training_is_refused_to_other_threads():
    """It counts the updates of one run; a refused fit leaves its count alone."""
    callback, objective = Until(), vk.objectives.ELBO(beta=vk.schedules.Linear(0.0, 1.0, 100))
    settings = {"max_epochs": 100_000, "batch_size": 8, "compile": "off", "progress": False}

    def first():
        vk.Trainer(**settings, callbacks=[callback]).fit(noisy_vae(), objective, X)
        return int(objective.step)

    def second():
        callback.runs.wait()
        try:
            with pytest.raises(BusyError, match="objective is in use.*another thread trains"):
                vk.Trainer(max_epochs=1, progress=False).fit(noisy_vae(), objective, X)
        finally:
            callback.enough.set()

    num_steps, _ = together([first, second])
    assert num_steps % 5 == 0
    assert num_steps > 0
    vk.Trainer(max_epochs=1, batch_size=8, progress=False).fit(noisy_vae(), objective, X)
    assert int(objective.step) == 5, "free again"


def test_a_model_that_is_evaluated_is_not_trained():
    model = noisy_vae()
    with engine.evaluating(model):
        with pytest.raises(BusyError, match="copy"):
            vk.Trainer(max_epochs=1, progress=False).fit(model, vk.objectives.ELBO(), X)
        assert not any(modes(model))
    assert all(modes(model))
    vk.Trainer(max_epochs=1, progress=False).fit(model, vk.objectives.ELBO(), X)


# --- Precision -------------------------------------------------------------------------------------------------------


def both_precisions(model, compile):
    """Each precision, alone and beside the other one."""

    def value(precision):
        options = {"num_samples": 70, "precision": precision, "compile": compile}
        return torch.stack([log_marginal(model, X, generator=noise(k), **options).value for k in range(6)])

    alone = [value(precision) for precision in ("float32", "bf16")]
    assert not torch.equal(*alone)
    for _ in range(2):
        theirs = together([lambda p=p: value(p) for p in ("float32", "bf16", "float32", "bf16")])
        for found, expected in zip(theirs, alone * 2, strict=True):
            assert torch.equal(found, expected)


def test_each_thread_has_the_precision_that_it_asks_for():
    both_precisions(noisy_vae(), "off")


@pytest.mark.slow
def test_each_thread_has_its_precision_compiled():
    both_precisions(noisy_vae(), "on")


# --- What is shared by a process -------------------------------------------------------------------------------------


def test_a_waiting_thread_has_its_turn_first():
    """The owner gives the lock back and takes it again at once, over and over, as a training loop does."""
    turns, had = streams._Turns(), threading.Event()

    def wait():
        with turns:
            had.set()

    waiting, overtaken = threading.Thread(target=wait), 0
    with turns:
        waiting.start()
        while not turns._queue.locked():
            time.sleep(1e-3)
        time.sleep(0.01)
        with turns:
            assert not had.is_set(), "an inner body does not give it back"
    while not had.is_set() and overtaken < 1000:
        with turns:
            overtaken += not had.is_set()
    waiting.join()
    assert overtaken == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have():
    borrowed, enough = threading.Event(), threading.Event()

    def borrow():
        with engine.seeded(0):
            borrowed.set()
            enough.wait(10)

    thread = threading.Thread(target=borrow)
    thread.start()
    borrowed.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        with engine.seeded(1):
            os._exit(3)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    finally:
        enough.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_by_the_owner_keeps_the_stream_until_its_body_ends():
    """The thread that waited in the old process is not there; a new one waits for the end of the body."""

    def begin():
        had = threading.Event()

        def wait():
            with streams._turns:
                had.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while not streams._turns._queue.locked():
            time.sleep(1e-3)
        return thread, had

    body = engine.seeded(0)
    with body:
        waiting, _ = begin()
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            is_free = not streams._turns._queue.locked()
            _, had = begin()
            waited = not had.wait(0.05)
            body.__exit__()
            os._exit(3 if is_free and waited and had.wait(4) else 1)
    waiting.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def assert_another_thread_has_the_stream():
    """The lock was given back, so that nobody waits for ever."""
    together([lambda: engine.draw_seed(None)])


class Failing:
    """A stream of a device whose methods fail from some call on."""

    def __init__(self, method, after=0):
        self.method, self.after = method, after

    def __getattr__(self, name):
        def call(*_):
            if name == self.method:
                self.after -= 1
                if self.after < 0:
                    raise RuntimeError("the device is gone")

        return call


@pytest.mark.parametrize("failing", [Failing("get_state"), Failing("manual_seed"), Failing("get_state", after=1)])
def test_a_stream_that_fails_gives_back_what_it_borrowed(monkeypatch, failing):
    """At its state before the body, at its seed, and at its state after the body."""
    monkeypatch.setattr(streams, "_global_streams", lambda: {"cpu": torch.default_generator, "other": failing})
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="gone"), engine.seeded(0):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert_another_thread_has_the_stream()


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_at_the_lock_gives_it_back(when):
    """Before the thread has it, and right after, when nobody has noted yet who owns it."""

    class Interrupted:
        def acquire(self):
            if when == "after":
                lock.acquire()
            raise KeyboardInterrupt

        def release(self):
            lock.release()

    turns = streams._Turns()
    lock, turns._lock = turns._lock, Interrupted()
    with pytest.raises(KeyboardInterrupt), turns:
        pass
    assert together([lambda: lock.acquire(blocking=False)]) == [True]


def test_a_seed_from_torchs_stream_waits_for_its_turn():
    """While another stream stands in the place of torch's, a seed would come out of the wrong one."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        expected = engine.draw_seed(None)
        torch.manual_seed(3)
        found = []
        thread = threading.Thread(target=lambda: found.append(engine.draw_seed(None)))
        with engine.seeded(0):
            thread.start()
            thread.join(0.05)
            assert not found
        thread.join()
    assert found == [expected]


def test_threads_compile_a_function_once(monkeypatch):
    made = []

    def compile(function, **_):
        made.append(function)
        time.sleep(0.05)
        return function

    monkeypatch.setattr(compilation.torch, "compile", compile)
    owner = nn.Linear(1, 1)
    functions = together([lambda: compilation.compiled_once(owner, torch.square, 3)] * 8)
    assert len(made) == len(set(functions)) == 1
    assert functions[0](torch.tensor(3.0)) == 9


def test_threads_that_start_meanwhile_keep_their_number_of_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inside = engine.run_flushing_denormals(lambda: (torch.get_num_threads(), *together([torch.get_num_threads])), 1)
        assert inside == (1, 2)
        assert (torch.get_num_threads(), *together([torch.get_num_threads])) == (2, 2)
    finally:
        torch.set_num_threads(before)
    assert threads._elsewhere(torch.get_num_threads) == before
