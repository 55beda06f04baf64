"""The life of a service: its socket, its signals, and how it ends without losing what it took."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import math
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from vaekit.errors import ConfigError, ReadingWarning, UnreliableEstimateWarning
from vaekit.serve import logs
from vaekit.serve.app import State, make_app
from vaekit.serve.limits import Limits
from vaekit.serve.served import Fleet

TOKEN = "VAEKIT_TOKEN"
"""The environment variable that holds the token."""
_BACKLOG = 1024
_DRAIN = 1.0  # seconds between TERM and the closed door: clients that keep connections are told in between
_KEEP_ALIVE = 75  # seconds, more than the 60 after which proxies close idle connections: the client closes first
_SWITCH = 5e-4  # seconds
_LINGER = 0.5  # seconds from there on, in which a connection that is open may still send its request


def token_of(file: Path | None) -> str | None:
    """The token in a file, or in the environment; None where neither has one.

    Raises:
        ConfigError: The file cannot be read, or the token is none that a header can hold.
    """
    if file is None:
        found, where = os.environ.get(TOKEN), f"${TOKEN}"
    else:
        where = str(file)
        try:
            found = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the token cannot be read from {file}: {error}") from error
    if found is None:
        return None
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise ConfigError(f"a token is printable ASCII without spaces, at least one character; {where} holds none")
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a port, 0 for any that is free.

    Raises:
        ConfigError: The port is in use or not for us, or there is no such host.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio sends small answers at once where a socket says that it is TCP; else they wait 40 ms for a receipt.
        door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ConfigError(f"there is no host {host}: {error.strerror or error}") from error
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen(_BACKLOG)
    except OSError as error:
        door.close()
        raise ConfigError(
            f"port {port} of {host} cannot be opened: {error.strerror or error}. Choose another: --port"
        ) from error
    return door


class Server(uvicorn.Server):
    """uvicorn, with signals that end it without a failure, or let the models read their weights anew.

    Args:
        config: of uvicorn.
        state: what the routes share.
    """

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state, self._tasks = state, set[asyncio.Task[None]]()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled in the event loop, and not raised again at the end: to end by TERM is no failure."""
        loop = asyncio.get_running_loop()
        handled = {signal.SIGTERM: self._end, signal.SIGINT: self._end}
        if hasattr(signal, "SIGHUP"):
            handled[signal.SIGHUP] = self._read_anew
        for number, handle in handled.items():
            loop.add_signal_handler(number, handle)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the door, and say so."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        seconds = round(time.time() - _process_start(), 2)
        self._state.fleet.metrics.start.set(seconds)
        logs.say("ready", host=host, port=port, models=list(self._state.fleet.models), seconds=seconds, pid=os.getpid())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door; connections that came in before it closed have a moment to send what they came for."""
        for server in self.servers:
            server.close()
        for door in sockets or []:
            door.close()
        await asyncio.sleep(_LINGER)
        await super().shutdown()

    def _end(self) -> None:
        if self._state.ends:
            self.force_exit = True
        self._state.ends = True
        self._start(self._drain())

    def _read_anew(self) -> None:
        self._start(self._reloaded())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        logs.say("ends", connections=len(self.server_state.connections))
        await asyncio.sleep(_DRAIN)
        self.should_exit = True

    async def _reloaded(self) -> None:
        await asyncio.to_thread(self._state.fleet.reload)


def _process_start() -> float:
    """When the process began, in seconds since 1970; now, where the system does not say."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.time()


def serve(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    log_level: str = "info",
) -> None:
    """Serve runs until TERM or INT; HUP reads their weights anew.

    Args:
        folders: the folders of the runs; the last part of each is the name of its model.
        host: where to listen; the loopback unless somebody says otherwise.
        port: 0 takes one that is free; the log says which.
        token: what requests have to bring; None asks for none.
        limits: what the service takes.
        threads: of torch for each model; None divides the cores among the models.
        log_level: "debug", "info", "warning" or "error".

    Raises:
        ConfigError: The port cannot be opened, or two runs have one name.
        ArtifactError: A folder holds no run, or a damaged one.
    """
    limits = limits or Limits()
    with contextlib.closing(listen(host, port)) as door, warnings.catch_warnings():
        # What is to be said of rows stands in answers and metrics.
        for category in (ReadingWarning, UnreliableEstimateWarning):
            warnings.simplefilter("ignore", category)
        # A thread that computes in Python gives way to the one that answers within half a millisecond, not after five.
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        fleet = Fleet(folders, limits, threads)
        gc.collect()
        gc.freeze()  # what is there for good is not looked through again, which takes longer than an answer
        stop = logs.start(log_level)
        if token is None and not ipaddress.ip_address(door.getsockname()[0]).is_loopback:
            logs.say("open to others without a token", level=logging.WARNING, host=host)
        try:
            app = make_app(fleet, token)
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=math.ceil(limits.grace),
            )
            Server(config, app.state.service).run([door])
            fleet.close()
            logs.say("ended")
        finally:
            gc.unfreeze()
            sys.setswitchinterval(before)
            stop()
