"""(n) The cost of messages between machines: four network namespaces joined by a bridge, each with a limited bandwidth.

Each namespace runs one process of a group that trains the MLP (784-512-20, batch 128). The model of the communication
part of a step is that of a ring (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
workstations", 2009, https://doi.org/10.1016/j.jpdc.2008.09.002): of W processes each one sends 2 (W - 1) / W of the
gradient, in 2 (W - 1) messages,

    seconds = 2 (W - 1) (latency + bytes / (W bandwidth)),

the bytes with the headers of Ethernet and TCP. It is to be right within 20% at each of three bandwidths. Latency is
what `ping` measures. Root and the programs `ip` and `tc` are needed: elsewhere this benchmark says so.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vaekit as vk
from benchmarks.common import MLP, Options
from benchmarks.race import Unavailable
from benchmarks.report import Result, Row

WORLD, MEGABITS, WITHIN = 4, (50, 100, 200), 0.2
_HEADERS = 1514 / 1448  # bytes of a frame by bytes of its load
_WORKER = Path(__file__).parent / "workers" / "group_training.py"
_BRIDGE = "vkbridge"


def run(options: Options) -> Result:
    """The three bandwidths, one after the other."""
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
        raise Unavailable("network namespaces need root, and the programs ip and tc")
    model, _ = vk.presets.vae((784,), latent_dim=MLP["latent"], hidden=tuple(MLP["hidden"]))
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    rows = []
    for megabits in options.size(MEGABITS, MEGABITS[-1:]):
        with _machines(megabits):
            latency = _latency()
            said = _trained(options.size(1280, 256))
        measured = 1e-3 * said["step_ms"] * said["share"]
        predicted = predict(size, megabits, latency)
        measures = {"predicted ms": 1e3 * predicted, "off": measured / predicted - 1, "ms per step": said["step_ms"]}
        measures |= {"latency ms": 1e3 * latency}
        case = f"messages of a step, {megabits} Mbit/s"
        rows.append(Row(case, f"{WORLD} processes", 1e3 * measured, "ms", measures=measures, bars={"off": WITHIN}))
    return Result("n", rows, {"bytes of a gradient": size, "processes": WORLD, "net": MLP})


def predict(num_bytes: float, megabits: float, latency: float, world: int = WORLD) -> float:
    """Seconds that a ring takes to sum `num_bytes` over `world` processes."""
    per_second = megabits * 1e6 / 8
    return 2 * (world - 1) * (latency + num_bytes * _HEADERS / (world * per_second))


@contextmanager
def _machines(megabits: int) -> Iterator[None]:
    """Namespaces vk0, vk1, ... with the addresses 10.77.0.1, 10.77.0.2, ... and so much bandwidth each."""
    _remove()
    try:
        _ip("link add", _BRIDGE, "type bridge")
        _ip("link set", _BRIDGE, "up")
        for i in range(WORLD):
            _ip(f"netns add vk{i}")
            _ip(f"link add vkout{i} type veth peer name vkin netns vk{i}")
            _ip(f"link set vkout{i} master {_BRIDGE} up")
            _ip(f"-n vk{i} addr add 10.77.0.{i + 1}/24 dev vkin")
            _ip(f"-n vk{i} link set vkin up")
            _ip(f"-n vk{i} link set lo up")
            limit = f"tc qdisc add dev vkin root tbf rate {megabits}mbit burst 32kb latency 200ms"
            _do(f"ip netns exec vk{i} {limit}")
        yield
    finally:
        _remove()


def _remove() -> None:
    for words in [f"ip netns del vk{i}" for i in range(WORLD)] + [f"ip link del {_BRIDGE}"]:
        subprocess.run(words.split(), capture_output=True, check=False)


def _ip(*words: str) -> None:
    _do("ip " + " ".join(words))


def _do(words: str) -> None:
    done = subprocess.run(words.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{words}: {done.stderr.strip()}")


def _latency() -> float:
    """Seconds of one way between two namespaces; 0.1 ms where there is no ping."""
    if shutil.which("ping") is None:
        return 1e-4
    words = "ip netns exec vk0 ping -q -c 20 -i 0.05 10.77.0.2"
    said = subprocess.run(words.split(), capture_output=True, text=True, check=False).stdout
    found = re.search(r"= [\d.]+/([\d.]+)/", said)
    return 1e-4 if found is None else float(found[1]) / 2e3


def _trained(num_rows: int) -> dict[str, float]:
    """What process 0 says of its steps."""
    processes = []
    for rank in range(WORLD):
        about = {"RANK": str(rank), "WORLD_SIZE": str(WORLD), "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29777"}
        about |= {"GLOO_SOCKET_IFNAME": "vkin", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
        words = ["ip", "netns", "exec", f"vk{rank}", sys.executable, str(_WORKER), "mlp", str(num_rows), "2"]
        pipe = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
        processes.append(subprocess.Popen(words, env={**os.environ, **about}, stdout=pipe, stderr=subprocess.DEVNULL))
    said, _ = processes[0].communicate(timeout=600)
    if any(process.wait() for process in processes):
        raise RuntimeError("a process of the group failed")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found
