"""Errors and warnings for what a caller can mend.

Each message says what was expected, what came, where, and how to mend it.
"""


class VaekitError(Exception):
    """Base class of every error that vaekit raises on purpose."""


class ShapeError(VaekitError, ValueError):
    """A tensor, an event shape or a network output has the wrong shape."""


class SupportError(VaekitError, ValueError):
    """A value lies outside the support of the distribution that should explain it."""


class DataError(VaekitError, ValueError):
    """A data source cannot be found, read or used."""


class ColumnError(DataError):
    """Labels or keys were asked for by a name that the data do not have.

    Args:
        message: the message.
        option: what the name was given as: "label" or "key".
    """

    def __init__(self, message: str, option: str) -> None:
        super().__init__(message)
        self.option = option


class WordsError(DataError):
    """Columns of a table hold words where numbers are asked for; a schema gives them codes.

    Args:
        message: the message.
        mark: a word that stands among the numbers of a column, where there is one.
    """

    def __init__(self, message: str, mark: str | None = None) -> None:
        super().__init__(message)
        self.mark = mark


class CellError(DataError):
    """A cell of a table is none that its column can hold.

    Args:
        message: the message.
        row: number of the first such row, from 0.
        column: name of the column.
    """

    def __init__(self, message: str, row: int, column: str) -> None:
        super().__init__(message)
        self.row, self.column = row, column


class NonFiniteError(DataError):
    """Rows hold values that are NaN or infinite and not allowed to be."""


class ArtifactError(VaekitError):
    """A saved run is missing, truncated, altered, too new, or cannot be written."""


class ConfigError(VaekitError, ValueError):
    """A setting, a component name or a combination of components does not exist or does not fit."""


class ArgumentTypeError(ConfigError, TypeError):
    """An argument is of another type than it takes, such as text for a count."""


class TrainingError(VaekitError, RuntimeError):
    """Training cannot go on: the loss or its gradient stopped being finite."""


class BusyError(VaekitError, RuntimeError):
    """A model is trained by one thread while another trains or evaluates it, or two processes write into one folder."""


class GroupError(VaekitError, RuntimeError):
    """Processes that compute together do not agree, or one of them ended or hangs."""


class ArtifactWarning(UserWarning):
    """A saved run is of an older format, in which something means another thing than today."""


class ReadingWarning(UserWarning):
    """A file was read by a guess that may be wrong, or a part of it was left out; an option says how to read it."""


class DataChangedWarning(ReadingWarning):
    """The data of a run were read again, and are elsewhere or others than at the time of the fit."""


class DriftWarning(ReadingWarning):
    """Rows differ, as a whole, from those that a run was fitted to: their columns have other distributions."""


class UnreliableEstimateWarning(UserWarning):
    """An estimate came with a standard error that is not to be believed."""


class OwnDrawsOnlyError(VaekitError):
    """A density that is known only at a distribution's own draws was asked for at another point."""
