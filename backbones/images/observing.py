"""What was looked at on the disk to find something out: while nothing of that changes, what was found stays true."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SETTLED_NS = 2_000_000_000
"""What was changed within the last two seconds may be changed again without its modification time telling."""

CLOCKS_APART_NS = 60_000_000_000
"""A change that lies further ahead than the clocks of two machines in order are apart says nothing of when it was."""

State = list[int]
"""Of a file or folder, as git's index has it; empty where there is none, see `state_of`."""


class Observation:
    """The state of all that was looked at, each taken before it was looked at; what was read of each is another's.

    is_settled: whether none of it had just been changed
    """

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.is_settled = True

    def add(self, path: str) -> None:
        """To be called before a file is read or a folder is listed."""
        if path not in self.states:
            self.states[path] = state = state_of(path)
            if not is_settled(state):  # a thread beside this one may have found the same
                self.is_settled = False


_observations: list[Observation] = []


@contextmanager
def observing() -> Iterator[Observation]:
    """Within the block note what is looked at."""
    observation = Observation()
    _observations.append(observation)
    try:
        yield observation
    finally:
        _observations.remove(observation)


def looking_at(path: str | Path) -> None:
    """Say that a file is about to be read, or a folder to be listed, whether it is there or not."""
    for observation in _observations:
        observation.add(os.path.abspath(path))  # noqa: PTH100 - links are followed as they stand when it is looked at


def state_of(path: str | Path) -> State:
    """Size, times of modification and of any change, and inode; empty if there is nothing there."""
    with suppress(OSError):
        status = Path(path).stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return []


def is_settled(state: State) -> bool:
    """Whether a later change is sure to be seen; what is not there will have an inode.

    Anybody may set a modification time, and some archives set one that lies ahead: then it is the time of the last
    change of any kind that counts, which the file system sets by its own clock. Where that lies far ahead too, one of
    the clocks is wrong, for longer than anybody waits, and size, times and inode have to do.
    """
    if not state:
        return True
    now, modified, changed = time.time_ns(), state[1], state[2]
    ago = now - (modified if modified <= now else changed)
    return ago >= SETTLED_NS or ago < -CLOCKS_APART_NS
