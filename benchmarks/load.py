"""Clients over HTTP in one thread: they ask one after another, or at a rate, and note when each answer came."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

_CONNECTIONS = 512


@dataclass
class Told:
    """What clients saw.

    Attributes:
        seconds: from each request to its answer, of status 200.
        statuses: how many answers had each status.
        lost: requests whose connection ended before the answer.
        duration: of all together, in seconds.
        cpu_seconds: what each answer cost the service, as far as somebody has looked.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    duration: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers of status 200 per second."""
        return len(self.seconds) / self.duration

    def quantile(self, level: float) -> float:
        """A quantile of the seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


def request(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client:
    """One connection, which is kept.

    Args:
        port: on the loopback.
    """

    def __init__(self, port: int) -> None:
        self.port, self._streams = port, None

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        if self._streams is None or self._streams[0].at_eof():  # idle for so long that the service closed it
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        reader, writer = self._streams
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line[15:]) for line in fields if line.startswith("content-length:"))
        body = await reader.readexactly(length)
        if "connection: close" in fields:
            self.close()
        return int(fields[0].split()[1]), body

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _closed_loop(port: int, messages: list[bytes], clients: int, seconds: float, told: Told) -> None:
    end = time.perf_counter() + seconds

    async def ask(first: int) -> None:
        client, number = Client(port), first
        while time.perf_counter() < end:
            await _once(client, messages[number % len(messages)], told)
            number += clients
        client.close()

    await asyncio.gather(*(ask(i) for i in range(clients)))


async def _open_loop(port: int, messages: list[bytes], rate: float, seconds: float, told: Told) -> None:
    idle = [Client(port) for _ in range(_CONNECTIONS)]
    tasks: set[asyncio.Task[None]] = set()
    started = time.perf_counter()

    async def ask(number: int) -> None:
        client = idle.pop()
        await _once(client, messages[number % len(messages)], told)
        idle.append(client)

    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        while not idle:
            await asyncio.sleep(0.001)
        if time.perf_counter() - started > seconds:
            break
        task = asyncio.create_task(ask(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for client in idle:
        client.close()


async def _once(client: Client, message: bytes, told: Told) -> None:
    started = time.perf_counter()
    try:
        status, _ = await client.ask(message)
    except (OSError, asyncio.IncompleteReadError):
        told.lost += 1
        client.close()
        return
    told.statuses[status] += 1
    if status == 200:
        told.seconds.append(time.perf_counter() - started)


def one_after_another(port: int, messages: list[bytes], clients: int, seconds: float) -> Told:
    """Clients that each wait for their answer before they ask again."""
    told, started = Told(), time.perf_counter()
    asyncio.run(_closed_loop(port, messages, clients, seconds, told))
    told.duration = time.perf_counter() - started
    return told


def at_a_rate(port: int, messages: list[bytes], rate: float, seconds: float) -> Told:
    """Requests that come so many per second, whatever becomes of them, over at most 512 connections."""
    told, started = Told(), time.perf_counter()
    asyncio.run(_open_loop(port, messages, rate, seconds, told))
    told.duration = time.perf_counter() - started
    return told
