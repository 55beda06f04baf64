"""A service over fitted runs: HTTP requests are answered by the questions of `vaekit.runs.Run`, and by nothing else.

`limits` says what a service takes; `bodies` reads the rows of a request; `questions` asks a run; `answers` writes what
came. `batching` lets waiting requests share a pass of the model; `app` routes; `lifetime` starts, reloads and ends.
FastAPI, uvicorn and prometheus_client come with the extra `vaekit[serve]`.
"""

from vaekit.serve.limits import Limits
from vaekit.serve.refusal import Refusal

__all__ = ["Limits", "Refusal", "require_packages"]


def require_packages() -> None:
    """Raise a `ConfigError` unless the packages of the extra are installed."""
    from importlib.util import find_spec

    from vaekit.errors import ConfigError

    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"vaekit serve needs {', '.join(missing)}, not installed here: pip install 'vaekit[serve]'")
