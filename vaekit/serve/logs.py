"""Logs: one object of JSON in each line, with what happened and never with what the rows hold."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

LOG = logging.getLogger("vaekit.serve")


class JsonLines(logging.Formatter):
    """Records as objects; what a call hands over as `extra={"about": {...}}` stands in them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {"time": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        said["event"] = record.getMessage()
        return json.dumps(said | record.__dict__.get("about", {}), ensure_ascii=False, default=str)


def start(level: str = "info", stream: TextIO | None = None) -> Callable[[], None]:
    """Write what the service and uvicorn say to a stream, stderr by default; returns what undoes that."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = [(LOG, level.upper()), (logging.getLogger("uvicorn.error"), "WARNING")]
    for logger, least in loggers:
        logger.addHandler(handler)
        logger.setLevel(least)
        logger.propagate = False

    def stop() -> None:
        for logger, _ in loggers:
            logger.removeHandler(handler)
            logger.propagate = True

    return stop


def say(event: str, *, level: int = logging.INFO, **about: object) -> None:
    """One line."""
    if LOG.isEnabledFor(level):
        LOG.log(level, event, extra={"about": about})


def say_failure(event: str, error: Exception, **about: object) -> None:
    """An error by its type and its place in the code: its message may hold cells."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    say(event, level=logging.ERROR, error=type(error).__name__, places=places, **about)
