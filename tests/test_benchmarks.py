"""The benchmark suite at tiny size: every measurement runs, ratios are right, tables and records have their form."""

import importlib
import json
import math
import queue
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the folder beside the library is no installed package

from benchmarks import (  # noqa: E402
    anomalies,
    conv,
    evaluation,
    gate,
    gpu,
    machine,
    memory,
    scaling,
    scoring,
    serve,
    small,
    startup,
    training,
    venv,
    wall,
)
from benchmarks.__main__ import NAMES, main  # noqa: E402
from benchmarks.common import (  # noqa: E402
    MLP,
    MODES,
    Options,
    bits,
    contestant,
    library,
    library_model,
    save_rows,
    save_weights,
    step_flops,
)
from benchmarks.race import Contestant, Ratio, Unavailable, costs, race, times_faster  # noqa: E402
from benchmarks.report import Result, Row, rows_of_race, table, to_record, write_record  # noqa: E402
from benchmarks.startup import import_seconds  # noqa: E402
from benchmarks.workers.bare import log_marginal  # noqa: E402
from benchmarks.workers.networks import load_weights, pair  # noqa: E402
from benchmarks.workers.turns import Turns, peak_rss_mib  # noqa: E402

RECORDS = sorted((ROOT / "benchmarks" / "records").glob("*/*.json"))


class InThread:
    """A contestant in a thread of this process instead of a process of its own, with the same worker and the same job.

    Starting Python and torch once per contestant would take longer than all the work of these tests.
    """

    def __init__(self, name, worker, job, **_):
        self.name, self._requests, self._answers = name, queue.SimpleQueue(), queue.Queue()
        arguments = dict(job)
        task = getattr(importlib.import_module(f"benchmarks.workers.{worker}"), arguments.pop("task"))
        self._thread = threading.Thread(target=self._work, args=(task, arguments))
        self._thread.start()

    def _work(self, task, arguments):
        try:
            task(Turns(self, self), **arguments)
        except SystemExit:
            pass
        except BaseException as error:
            self._answers.put(error)

    def readline(self):
        return self._requests.get()

    def write(self, line):
        self._answers.put(line)

    def flush(self):
        pass

    def turn(self, **arguments):
        self._requests.put(json.dumps(arguments) + "\n")
        answer = self._answers.get(timeout=120)
        if isinstance(answer, BaseException):
            raise answer
        return json.loads(answer)

    def close(self):
        self._requests.put("")
        self._thread.join()


@pytest.fixture
def quick(monkeypatch):
    """Tiny sizes, synthetic data, no peers; the global stream is as before afterwards."""
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    state = torch.get_rng_state()
    yield Options(quick=True, peers=False, start=InThread)
    torch.set_rng_state(state)


class Fake:
    """Takes as long as it was told to."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log, self.closed = name, list(seconds), log, False

    def turn(self):
        self.log.append(self.name)
        return {"seconds": self.seconds.pop(0), "steps": 2}

    def close(self):
        self.closed = True


# --- Turns and ratios ------------------------------------------------------------------------------------------------


def test_contestants_alternate_forwards_and_backwards_after_a_warm_up():
    log = []
    racers = {name: Fake(name, [9.0, 1.0, 2.0, 3.0], log) for name in "ab"}
    turns, missing = race({name: lambda name=name: racers[name] for name in racers}, num_rounds=3)
    assert "".join(log) == "ab" + "abbaab"
    assert [turn["seconds"] for turn in turns["a"]] == [1.0, 2.0, 3.0]
    assert not missing
    assert all(racer.closed for racer in racers.values())


def test_ratios_are_taken_within_rounds():
    # The machine is four times slower in the second round: a ratio of medians over all turns would move, these do not.
    own, other = [1.0, 4.0, 1.0], [3.0, 12.0, 3.0]
    assert times_faster(own, other) == Ratio(3.0, 3.0, 3.0)
    assert times_faster(other, own).median == pytest.approx(1 / 3)


def test_quartiles_of_ratios():
    assert Ratio.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Ratio(3.0, 2.0, 4.0)
    assert Ratio.of([2.0]) == Ratio(2.0, 2.0, 2.0)


def test_rows_of_a_race_on_fake_timers():
    turns = {
        "vaekit": [{"seconds": s, "steps": 2} for s in (2.0, 2.0, 8.0)],
        "peer": [{"seconds": s, "steps": 4} for s in (12.0, 16.0, 48.0)],
    }
    assert costs(turns["peer"], "steps") == [3.0, 4.0, 12.0]
    bars = {"vaekit": {"peer": 3.5}}
    rows = rows_of_race(
        "step", turns, {"gone": "why"}, per="steps", unit="ms", scale=1e3, references=("peer",), bars=bars
    )
    ours, peer, gone = rows
    assert (ours.value, peer.value, gone.value) == (1000.0, 4000.0, None)
    assert ours.faster_than["peer"].median == 3.0  # of 3, 4, 3
    assert ours.verdicts() == {"peer": False}
    assert peer.faster_than == {}
    assert gone.note == "why"


def test_a_bar_on_a_value_is_an_upper_limit():
    row = Row("c", "vaekit", 5.0, "MiB", bars={"MiB": 4.0, "gap": 0.1}, measures={"gap": -0.05})
    assert row.verdicts() == {"MiB": False, "gap": True}


def test_a_peer_that_is_missing_costs_its_own_row_only():
    def gone():
        raise Unavailable("not installed")

    turns, missing = race({"peer": gone, "a": lambda: Fake("a", [1.0, 1.0], [])}, num_rounds=1)
    assert list(turns) == ["a"]
    assert missing == {"peer": "not installed"}


# --- Processes -------------------------------------------------------------------------------------------------------


def test_a_contestant_is_a_process_that_answers_line_by_line():
    racer = Contestant("copy", "peak", {"task": "copy", "mib": 1, "seconds": 0.001})
    try:
        first, second = racer.turn(), racer.turn()
    finally:
        racer.close()
    assert racer.process.returncode == 0
    for turn in (first, second):
        assert turn["work"] % 2**21 == 0
        assert turn["seconds"] > 0
        assert turn["peak_rss_mib"] > 50


def test_a_process_that_fails_says_why_without_paths():
    with pytest.raises(Unavailable) as caught:
        Contestant("copy", "no_such_worker", {"task": "copy"}).turn()
    assert "no_such_worker" in str(caught.value)
    assert str(Path(sys.prefix)) not in str(caught.value)


def test_a_missing_interpreter_is_a_peer_that_is_not_installed(tmp_path):
    with pytest.raises(Unavailable, match="not installed"):
        Contestant("pythae", "pythae_peer", {}, python=tmp_path / "python")


def test_peers_are_pinned_and_torch_is_not_among_them():
    names = [line.partition("==")[0] for line in venv.pinned()]
    assert all("==" in line for line in venv.pinned())
    assert {"pythae", "ctgan", "pyod"} <= set(names)
    assert not {"torch", "torchvision"} & set(names)
    assert venv.torch_requirement().startswith("torch==")


def test_peak_memory_is_that_of_this_process():
    before = peak_rss_mib()
    block = np.ones(2**24)  # 128 MiB
    assert peak_rss_mib() >= before
    assert peak_rss_mib() > block.nbytes / 2**20


# --- The contestants compute the same --------------------------------------------------------------------------------


def test_weights_reach_the_bare_networks(tmp_path):
    model = library_model()
    encoder, decoder = pair(MLP)
    load_weights((encoder, decoder), save_weights(tmp_path / "weights.npz", model))
    x = bits(8)[0].float()
    torch.testing.assert_close(encoder(x.flatten(1)), model.encoder.params(x).flatten(1))
    z = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(decoder(z), model.decoder.params(z).flatten(1))


def test_the_bare_loop_estimates_the_same_log_p():
    import vaekit as vk

    model, (encoder, decoder) = library_model(), pair(MLP)
    for target, source in zip([*encoder.parameters(), *decoder.parameters()], model.parameters(), strict=True):
        target.data.copy_(source.data)
    x = bits(4)[0].float()
    ours = vk.evaluation.log_marginal(model, x, num_samples=2000, generator=torch.Generator().manual_seed(0))
    with vk.engine.seeded(1):
        bare = log_marginal(encoder, decoder, x.flatten(1), 2000)
    assert abs(ours.mean - float(bare.double().mean())) < 1.0  # untrained: q is far off, so the weights vary


def test_operations_of_a_step():
    forward = 128 * 2 * (784 * 512 + 512 * 40 + 20 * 512 + 512 * 784)
    first_layer = 128 * 2 * 784 * 512  # needs no gradient of its input
    assert step_flops(MLP, 128) == 3 * forward - first_layer


# --- Every benchmark, tiny -------------------------------------------------------------------------------------------


def _check(result, part, contestants):
    assert result.part == part
    assert contestants <= {row.contestant for row in result.rows}
    for row in result.rows:
        assert row.value is not None, row.note
        assert math.isfinite(row.value)
    json.dumps(to_record("x", result))
    return result


EAGER = {"bare", "vaekit eager float32"}


def test_training(quick):
    result = _check(training.run(quick), "a", {*EAGER, "vaekit eager bf16"})
    ours = next(row for row in result.rows if row.contestant == "vaekit eager float32")
    assert set(ours.faster_than) == {"bare"}
    assert ours.unit == "ms/step"
    bare = next(row for row in result.rows if row.contestant == "bare")
    assert ours.measures["elbo"] == pytest.approx(bare.measures["elbo"], rel=0.05)  # the same weights and rows
    assert ours.measures["s/epoch of 60,000"] == pytest.approx(ours.value * 0.469)


def test_rooflines():
    rows = [Row("", "vaekit eager bf16", 2.0, "ms/step"), Row("", "bare", 4.0, "ms/step")]
    training.add_rooflines(rows, {"peak float32": 1e-11, "peak bfloat16": 1e-12}, flops=1e8)
    assert rows[0].roofline == pytest.approx(1e8 / 2e-3 / 1e12)
    assert rows[1].roofline == pytest.approx(1e8 / 4e-3 / 1e11)


def test_conv(quick):
    _check(conv.run(quick), "b", {*EAGER, "vaekit eager bf16"})


def test_evaluation(quick):
    result = _check(evaluation.run(quick), "c", {*EAGER, "vaekit eager bf16"})
    low = next(row for row in result.rows if row.contestant == "vaekit eager bf16")
    assert abs(low.measures["bf16 gap"]) < 1
    assert low.measures["samples/s"] == pytest.approx(1e6 / low.value)


def test_wall_needs_mnist(quick):
    (row,) = wall.run(quick).rows
    assert row.value is None
    assert "MNIST" in row.note


def test_wall_counts_from_the_start_of_the_process(quick, tmp_path):
    grey = bits(64)[0].numpy() * 255
    files = {name: save_rows(tmp_path / f"{name}.npy", grey) for name in ("train", "test")}
    job = {"task": "reach", "net": MLP, "batch": 32, "target": -1e4, "max_epochs": 3, **files}
    for worker in ("bare", "library"):
        turn = wall.timed(quick, worker, worker, job, tmp_path)
        assert (turn["epochs"], turn["runs"]) == (1, 1)
        assert -1e4 < turn["elbo"] < 0


def test_small_models_on_tables(quick):
    result = _check(small.run(quick), "e", EAGER)
    assert len({row.case for row in result.rows}) == 3
    assert small.encoded_rows(7).shape == (7, 95)


def test_scaling(quick):
    result = _check(scaling.run(quick), "f", {"vaekit eager float32"})
    assert len(result.rows) == 8
    assert {row.unit for row in result.rows} == {"slope"}
    assert scaling.slope([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)


def test_memory(quick):
    result = _check(memory.run(quick), "g", EAGER)
    assert {row.unit for row in result.rows} == {"MiB"}


def test_machine(quick):
    result = _check(machine.run(quick), "", {"torch float32", "torch bfloat16"})
    assert {row.unit for row in result.rows} == {"GFLOP/s", "GB/s"}


def test_quick_never_compiles(quick, monkeypatch):
    assert set(library(quick)) == {"vaekit eager float32", "vaekit eager bf16"}
    for is_fast in (True, False):
        monkeypatch.setattr("vaekit.engine.has_fast_bf16", lambda device, is_fast=is_fast: is_fast)
        assert set(library(Options())) == {name for name in MODES if is_fast or not name.endswith("bf16")}


def test_peers_stay_out_where_they_are_not_asked_for(quick):
    assert contestant(quick, "pythae", "pythae_peer", task="train") == {}
    assert list(contestant(Options(), "pythae", "pythae_peer", task="train")) == ["pythae"]


# --- Table, records, gate --------------------------------------------------------------------------------------------


def test_the_table_has_one_line_per_row_in_the_order_of_the_letters():
    rows = [Row("step", "vaekit", 2.0, "ms", {"peer": Ratio(3.0, 2.5, 3.5)}, {"peer": 4.0}, 0.5, "a note")]
    missing = [Row("step", "peer", None, "ms", note="not installed")]
    text = table({"late": Result("b", missing, {}), "early": Result("a", rows, {})}).splitlines()
    assert [line[0] for line in text] == [" ", "a", "b"]
    assert "3.00 [2.50, 3.50]" in text[1]
    assert "peer 4 SHORT" in text[1]
    assert "not installed" in text[2]


def test_a_record_has_the_machine_and_every_row(tmp_path):
    row = Row("step", "vaekit", 1.23456, "ms", {"peer": Ratio(3.0, 2.5, 3.5)})
    path = write_record("x", to_record("x", Result("a", [row], {"batch": 128})), tmp_path)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record) == {"name", "part", "quick", "machine", "settings", "rows"}
    assert {"cpu", "threads", "versions"} <= set(record["machine"])
    assert record["rows"][0]["value"] == 1.235
    assert record["rows"][0]["faster_than"]["peer"] == {"median": 3.0, "low": 2.5, "high": 3.5}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_records_in_the_repository(path):
    text = path.read_text(encoding="utf-8")
    record = json.loads(text)
    assert record["name"] == path.stem
    assert path.stem in (*NAMES, "gpu")
    assert not record["quick"]
    assert not any(word in text for word in ("/home", "/work", "/tmp", "/root", "http"))
    assert record["rows"]


def test_the_command_refuses_unknown_names(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "no benchmark nothing" in capsys.readouterr().err


def test_the_gate_at_tiny_size(quick):
    for measure in (gate.training, gate.evaluation, gate.small_training, gate.compiled_evaluation):
        check = measure(quick, 1)
        assert check.ratio > 0
        assert check.name in str(check)


@pytest.mark.parametrize(("gain", "asked"), [(1.0, [3]), (0.5, [3, 6]), (0.25, [3, 6, 6]), (0.1, [3, 6, 6])])
def test_the_gate_looks_three_times_before_it_fails(gain, asked):
    rounds = []

    def measure(options, num_rounds):
        rounds.append(num_rounds)
        return gate.Check("x", gain * len(rounds), 0.75)

    assert gate.settled(measure, Options(), 3).passed == (gain * len(asked) >= 0.75)
    assert rounds == asked


def test_the_gate_compares_the_fastest_turns(quick, monkeypatch):
    """A turn beside a busy neighbour says nothing of the code."""
    slow, fast = {"seconds": 9.0, "steps": 3}, {"seconds": 3.0, "steps": 3}
    turns = {gate.EAGER: [slow, fast, slow], "bare": [fast, slow, fast]}
    monkeypatch.setattr(gate, "race", lambda *arguments: (turns, {}))
    assert gate.training(quick, 3).ratio == 1.0


def test_a_gate_has_a_right_side():
    assert not gate.Check("x", 0.2, 0.1, least=False).passed


# --- One GPU ---------------------------------------------------------------------------------------------------------


def test_everything_of_the_gpu_script_runs_on_a_cpu(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "tests", lambda budget: Row(gpu.TESTS, "pytest", 3.0, "passed"))
    monkeypatch.setattr(gpu, "CONV", {"kind": "conv", "width": 2})
    path = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--quick", "-o", str(path)], start=InThread) == 0
    record = json.loads(path.read_text())
    assert (record["name"], record["settings"]["device"], record["machine"]["gpu"]) == ("gpu", "cpu", None)
    found = {(row["case"], row["contestant"]): row.get("value") for row in record["rows"]}
    cases = {case for case, _ in found} - {gpu.TESTS}
    assert len(cases) == 3
    for case in cases:
        for name in ("bare", "vaekit eager float32", "vaekit eager bf16"):
            assert found[case, name] > 0
    assert "bare" in capsys.readouterr().out


def test_the_gpu_script_keeps_its_time(quick):
    spent = gpu.Budget(1.0, time.monotonic() - 2.0)
    assert gpu.tests(spent).note == "no time left"
    rows = gpu.training(quick, spent, MLP, "a case")
    assert {(row.value, row.note) for row in rows} == {(None, "no time left")}
    limits = []

    class Fast:
        timeout = None

        def turn(self):
            limits.append(self.timeout)
            return {"seconds": 1.0}

    racer = gpu.Punctual("x", "bare", {}, gpu.Budget(100.0, time.monotonic()), lambda *job: Fast())
    racer.turn(), racer.turn()
    assert 70 < limits[0] < 80.001  # the warm-up leaves time for the rounds
    assert 90 < limits[1] < 100.001


@pytest.mark.parametrize(("code", "passed", "failed"), [("True", 1, 0), ("False", 0, 1)])
def test_the_gpu_script_counts_tests(monkeypatch, tmp_path, code, passed, failed):
    path = tmp_path / "test_it.py"
    path.write_text(f"def test_it():\n    assert {code}\n")
    monkeypatch.setattr(gpu, "TESTS", str(path))
    row = gpu.tests(gpu.Budget(100.0, time.monotonic()))
    assert (row.value, row.measures["failed"]) == (passed, failed)
    assert row.verdicts() == {"failed": not failed}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_record_says_so(monkeypatch, capsys):
    def version(name):
        if name == "pydantic":
            raise gpu.metadata.PackageNotFoundError
        return "1"

    monkeypatch.setattr(gpu.metadata, "version", version)
    assert gpu.main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("GPU: none here; missing wheels: pydantic\n")
    record = json.loads(out[out.index("{") :])
    assert (record["machine"]["gpu"], record["machine"]["missing_wheels"]) == (None, ["pydantic"])
    assert [row["note"] for row in record["rows"]] == ["there is no GPU here"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_gate_passes(capsys):
    assert gate.main() == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_runs_everything_in_processes(capsys, monkeypatch):
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    assert main(["--quick", "--no-peers"]) == 0
    letters = {line[0] for line in capsys.readouterr().out.splitlines()}
    assert set("abcdefg") <= letters


@pytest.mark.slow
def test_import_times():
    own, of_torch = import_seconds(1)
    assert 0 < own < of_torch


@pytest.mark.slow
def test_the_time_of_commands_is_measured(quick):
    seconds = {row.contestant: row.value for row in startup.run(quick).rows if row.unit == "s"}
    assert set(seconds) == {"vaekit --help", "vaekit score RUN, 2 rows", "vaekit info RUN"}
    assert all(value < 3 for value in seconds.values())


@pytest.mark.slow
def test_a_service_is_set_beside_a_bare_program(quick):
    rows = serve.run(quick).rows
    assert [row.contestant for row in rows[:2]] == [serve.OURS, serve.BARE]
    assert all(row.value > 0 for row in rows)
    assert rows[-1].measures["lost"] == rows[-1].measures["other"] == 0


def test_scoring_is_set_beside_the_products_alone(quick, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCKS", (256, 512))
    rows = {row.contestant: row for row in scoring.run(quick).rows}
    assert rows["products in float32"].roofline == 1.0
    assert rows["vaekit eager float32"].case == "500 x 10, K = 100"
    assert 0 < rows["vaekit eager float32"].roofline < 1


def test_anomalous_rows_are_found_and_believed_once_their_z_are_searched_for(quick, monkeypatch):
    monkeypatch.setattr(anomalies, "ORDINARY", {"shuttle": anomalies.ORDINARY["shuttle"]})
    before, after = anomalies.run(quick).rows
    assert before.measures["AUROC"] == after.measures["AUROC"] == 1.0
    assert before.measures["anomalous rows warned"] == 1.0
    assert after.measures["anomalous rows warned"] < 0.5
    assert after.measures["mean of anomalous rows"] > before.measures["mean of anomalous rows"] + 100
    # After one epoch some ordinary rows have a q that is far too narrow; those are searched for as well.
    change = after.measures["mean of ordinary rows"] - before.measures["mean of ordinary rows"]
    assert 0 <= change < 0.1
    assert after.measures["ordinary rows warned"] <= before.measures["ordinary rows warned"]
