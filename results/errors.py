"""The exceptions of this room, each with the exit status that the command line ends with."""

from typing import ClassVar


class ResultsError(ValueError):
    """A request for a table or a comparison that cannot be met.

    Its message is all that the user sees. It names the file or the field, says what was expected and what to do.
    """

    status: ClassVar[int] = 2


class StoreError(ResultsError):
    """A record, a file or a directory of runs that does not serve: missing, broken, of another kind."""

    status = 3


class NotFiniteError(ResultsError):
    """A number that is none: that of a run that diverged."""

    status = 4


class NoRoomError(ResultsError):
    """A disk that is full, or a quota that is used up: worth trying again."""

    status = 75
