"""The exceptions for a call or an input that is wrong, each with the exit status that the command line ends with."""

import errno
import re
from typing import ClassVar

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where nothing more can be written until somebody makes room."""

_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED")
"""In the message of the RuntimeError that torch raises, on GPU and CPU; the last where cuBLAS finds no room."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, or the machine, had too little memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


class InputError(ValueError):
    """A mistake of the caller's: a key, a recipe, weights that cannot serve.

    Its message is all that the user sees. It names the file or the key, says what was expected and what to do.
    The command line prints it without a traceback and exits with `status`.
    """

    status: ClassVar[int] = 2


class DataError(InputError):
    """Data, or a folder to write into, that do not serve: missing, broken, not as their format has it."""

    status = 3


class DivergedError(InputError):
    """A training whose loss is no number any more."""

    status = 4


class TryAgainError(InputError):
    """What may go well another time: another process is at work, there is no room. (sysexits.h, EX_TEMPFAIL.)"""

    status = 75


class FirstFailedError(Exception):
    """In the other processes of a job: the first could not find out what all were to go by, and says why itself."""


def not_written(message: str, number: int | None) -> InputError:
    """The error for what could not be written, by the system's error number: worth trying again if room can be made."""
    return TryAgainError(message) if number in NO_ROOM else DataError(message)
