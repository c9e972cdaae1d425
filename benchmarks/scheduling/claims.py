"""Taking leases without waiting: whether a silent owner on another machine lives takes a minute to find out."""

import threading
from pathlib import Path

from benchmarks.running.lease import HeldByAnotherError, Lease


class Claiming:
    """A lease on `path` that a thread tries to take.

    holder: who has it, once that is known
    error:  why nobody can have it
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder = ""
        self.error: OSError | None = None
        self._lease: Lease | None = None
        self._is_given_up, self._one_at_a_time = False, threading.Lock()
        self._thread = threading.Thread(target=self._take, name=f"claim of {path.parent.name}", daemon=True)
        self._thread.start()

    def is_over(self, seconds: float) -> bool:
        """Whether it is known who has the lease, waiting so long for that."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def take(self) -> Lease | None:
        """The lease, whose release is the caller's from now on; None if another has it. Raises OSError for `error`."""
        if self.error:
            raise self.error
        lease, self._lease = self._lease, None
        return lease

    def give_up(self) -> None:
        """Want it no more."""
        with self._one_at_a_time:
            self._is_given_up = True
            lease, self._lease = self._lease, None
        if lease:
            lease.release()

    def _take(self) -> None:
        try:
            lease = Lease(self.path)
        except HeldByAnotherError as owner:
            self.holder = str(owner)
            return
        except OSError as error:
            self.error = error
            return
        with self._one_at_a_time:
            if not self._is_given_up:
                self._lease = lease
                return
        lease.release()
