"""Why a request is not answered: the status, the reason, and where in its rows the reason stands."""

from collections.abc import Mapping
from typing import Any

from vaekit.data import Dataset
from vaekit.errors import CellError, ConfigError, VaekitError


class Refusal(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        reason: a sentence: what was expected, what came, how to mend it.
        row: number of the first row that is to blame, from 0, where one is.
        column: name of its column.
        headers: further headers of the response.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        row: int | None = None,
        column: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.row, self.column, self.headers = status, reason, row, column, dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """What the response holds."""
        return {"reason": self.reason, "row": self.row, "column": self.column}


def of_error(error: Exception, check: Any = None, num_rows: int = 0) -> Refusal:
    """The refusal of rows, options or a body that the library refused, or a failure (500) for any other error.

    Args:
        error: what was raised.
        check: raises for the rows with the numbers lo to hi; tells which row is to blame where `error` does not say.
        num_rows: N.
    """
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, VaekitError):
        return Refusal(500, f"the service failed ({type(error).__name__}); its log says where")
    row, column = (error.row, error.column) if isinstance(error, CellError) else (None, None)
    if row is None and check is not None and num_rows and not isinstance(error, ConfigError):
        row = _first_bad(check, num_rows)
    return Refusal(422, " ".join(str(error).split()), row, column)


def _first_bad(check: Any, num_rows: int) -> int | None:
    """The number of the first row that is refused alone, by halves; None where rows are refused only together."""
    low, high = 0, num_rows
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _refused(check, low, middle) else (middle, high)
    return low if _refused(check, low, high) else None


def _refused(check: Any, low: int, high: int) -> bool:
    try:
        check(low, high)
    except VaekitError:
        return True
    return False


def check_of(ask: Any, rows: Dataset) -> Any:
    """A function that asks for some of the rows, by their numbers."""
    return lambda low, high: ask(rows.take(list(range(low, high))))
