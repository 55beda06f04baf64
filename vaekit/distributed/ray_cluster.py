"""Ray as vaekit meets it: a cluster that is there already, or one of this machine that starts and is stopped again."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vaekit import errors
from vaekit.errors import ConfigError, GroupError, VaekitError

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to others
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what goes wrong comes as an exception, too
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def imported() -> Any:
    """The module `ray`.

    Raises:
        ConfigError: if it is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray, which is not installed: pip install 'vaekit[ray]'") from error
    return ray


@contextmanager
def cluster() -> Iterator[Any]:
    """The module `ray`, connected to a cluster.

    Where this process is connected, that stays so. Otherwise it joins the cluster that Ray's own settings name
    (`RAY_ADDRESS`, or the one that `ray start` began on this machine), or starts one of this machine; and leaves it, or
    stops it, at the end.

    Raises:
        ConfigError: if Ray is not installed.
        GroupError: if the cluster does not answer.
    """
    ray = imported()
    if ray.is_initialized():
        yield ray
        return
    try:
        with _silent():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS")
        where = f"the cluster at {address} (RAY_ADDRESS)" if address else "Ray on this machine"
        raise GroupError(f"{where} does not answer: {' '.join(str(error).split())[:300]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Let what the C++ part of Ray writes to stderr get lost; it says at which level it is silent."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.ArtifactError,
        errors.BusyError,
        errors.ConfigError,
        errors.DataError,
        errors.ShapeError,
        errors.SupportError,
        errors.TrainingError,
    )
}


def raised(kind: str, message: str) -> VaekitError:
    """An error that a worker has had, by the name of its class; one of data where that is another one."""
    return _KINDS.get(kind, errors.DataError)(message)
