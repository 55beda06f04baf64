"""What a reproduction returns: measured numbers, each beside the published one and its two-sided gate."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One number and its gate.

    Attributes:
        quantity: what was measured, with its unit.
        published: the figure in the source, or the exact value; None for a number that is only bounded.
        measured: ours.
        low: least value that passes.
        high: greatest value that passes. A number that is too good misses its gate, too.
    """

    quantity: str
    published: float | None
    measured: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the measured number lies within the gate; NaN does not."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Result:
    """All checks of one target.

    Attributes:
        checks: the numbers with gates.
        details: further numbers, for information.
        seconds: wall time; filled in by the runner, unless the work was done in parts that know theirs.
    """

    checks: tuple[Check, ...]
    details: dict[str, Any]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every number lies within its gate."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        checks = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return {"checks": checks, "details": self.details, "passed": self.passed, "seconds": round(self.seconds, 1)}
