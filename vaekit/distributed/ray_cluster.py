"""Ray as vaekit meets it: a cluster that is there already, or one of this machine that starts and is stopped again."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vaekit.errors import ConfigError, GroupError

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def imported() -> Any:
    """The module `ray`.

    Raises:
        ConfigError: if it is not installed.
    """
    for name, value in _QUIET.items():
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
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS")
        where = f"the cluster at {address} (RAY_ADDRESS)" if address else "Ray on this machine"
        raise GroupError(f"{where} does not answer: {' '.join(str(error).split())[:300]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
