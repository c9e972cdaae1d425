"""Files that another host replaces while this one reads them."""

import errno
import os
from collections.abc import Callable
from typing import TypeVar

_Read = TypeVar("_Read")

_TRIES = 3


def reread(read: Callable[[], _Read]) -> _Read:
    """What `read` gives, which opens a file and reads it: again if NFS says meanwhile that it is no more (ESTALE).

    Raises FileNotFoundError if that is said every time, else what `read` does.
    """
    for _ in range(_TRIES):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
