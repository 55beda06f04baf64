"""What a service takes at once."""

from dataclasses import dataclass, fields

from vaekit.errors import ConfigError

MOST_SAMPLES = 1_000
"""K, draws of z per row, that a request may ask for."""


@dataclass(frozen=True)
class Limits:
    """How much a service takes before it refuses, so that its memory is bounded.

    Args:
        body: bytes of a request's body.
        rows: rows of a request, and draws of one.
        waiting: requests that wait for a model; further ones are refused (429).
        waiting_bytes: bytes of their bodies.
        batch_rows: rows of several requests that share a pass of the model.
        batch_requests: requests that do.
        seconds: within which a request is answered, once its body has come, or refused (504).
        body_seconds: within which the body of a request has to come (408).
        grace: seconds that accepted requests have to be answered in when the service ends.

    Raises:
        ConfigError: if one of them is not above 0.
    """

    body: int = 16 * 2**20
    rows: int = 10_000
    waiting: int = 128
    waiting_bytes: int = 64 * 2**20
    batch_rows: int = 1_024
    batch_requests: int = 64
    seconds: float = 60.0
    body_seconds: float = 30.0
    grace: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"{field.name} is a limit above 0; got {getattr(self, field.name)}")
