"""A file that one process at a time holds, on whatever file system, for as long as it lives.

It has its owner in it (host, process, when that began and since which boot), is made by `O_EXCL` and touched while its
owner lives: filelock's lease, which needs no locks of the file system. filelock follows a dead owner by exchanging two
files at once, which network file systems refuse; there `Lease` sets the file aside by a plain rename.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from filelock import LeaseCompromise, OwnerRecord, SoftFileLease, Timeout

LEASE_SECONDS = 60.0
"""How long a lease without a sign of life is taken to be held."""

SIGNS = 6
"""Signs of life in that time."""

TRY_AGAIN = 75
"""Exit status of what is worth trying again (sysexits.h, EX_TEMPFAIL)."""

_PAUSE = 0.1
"""Seconds between two looks at a lease that another process holds."""


class HeldByAnotherError(Exception):
    """Another process, named in the message, holds the lease and lives."""


class Lease:
    """A lease on `path`, taken by the call.

    A dead owner of this host is followed at once, any other that gives no sign of life after `LEASE_SECONDS`. A living
    one is waited for as many seconds as `patience` says. `tell` is called with a sentence before a longer wait.

    Raises HeldByAnotherError where a living owner outlasts patience, OSError where nothing can be written.
    """

    def __init__(
        self, path: Path, *, patience: float = 0.0, tell: Callable[[str], None] = lambda sentence: None
    ) -> None:
        self.path = path
        self._held = [self._new()]
        begin = time.monotonic()
        seen, since, is_alive, has_told = _look(path), begin, False, False
        while not _acquired(self._held[0]):
            now, look = time.monotonic(), _look(path)
            if look != seen:
                is_alive = is_alive or (look is not None and seen is not None)
                seen, since = look, now
            owner = self._held[0].owner
            if seen is not None and (_is_dead(owner) or now - since >= LEASE_SECONDS):
                _set_aside(path, seen[0])
                continue
            if (is_alive or _lives_here(owner, path)) and now - begin >= patience:
                raise HeldByAnotherError(_named(owner))
            if owner and not has_told:
                has_told = True
                tell(f"claimed by {_named(owner)}. Waiting up to {max(patience, LEASE_SECONDS):.0f} s")
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Give it back; a successor's stays."""
        for held in self._held:
            held.release()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _new(self) -> SoftFileLease:
        return SoftFileLease(
            self.path,
            lease_duration=LEASE_SECONDS,
            heartbeat_interval=LEASE_SECONDS / SIGNS,
            on_compromise=self._lost,
            thread_local=False,
        )

    def _lost(self, loss: LeaseCompromise) -> None:
        """Take it again if nobody has, else end this process at once: whatever it still wrote would be another's."""
        again = self._new()
        with suppress(OSError):
            if _acquired(again):
                self._held.append(again)
                print(f"backbench: {self.path}: the claim was gone ({loss.reason}) and is taken again", file=sys.stderr)
                return
        successor = f"{_named(again.owner)} has it now" if again.owner else "it cannot be taken again"
        print(
            f"backbench: {self.path}: the claim is lost ({loss.reason}), and {successor}. Ending at once, unsaved",
            file=sys.stderr,
            flush=True,
        )
        os._exit(TRY_AGAIN)


def _acquired(lease: SoftFileLease) -> bool:
    try:
        lease.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _look(path: Path) -> tuple[bytes, int] | None:
    """What a lease says and when it was last touched; None if there is none. Opening it asks the file server anew."""
    try:
        with path.open("rb") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _is_dead(owner: OwnerRecord | None) -> bool:
    """Whether it is a process of this host that is no more."""
    if owner is None or owner.hostname != _this_host():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _lives_here(owner: OwnerRecord | None, path: Path) -> bool:
    """Whether a process of this host has that number and has touched the lease lately, by the file system's clock."""
    if owner is None or owner.hostname != _this_host() or _is_dead(owner):
        return False
    look = _look(path)
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    return look is not None and now - look[1] < LEASE_SECONDS / 2 * 1e9


@cache
def _this_host() -> str:
    """How filelock calls this host, which is more than its name where processes are numbered in containers."""
    with TemporaryDirectory() as folder, SoftFileLease(Path(folder) / "lease") as lease:
        owner = lease.owner
    assert owner is not None
    return owner.hostname


def _set_aside(path: Path, judged: bytes) -> None:
    """Remove the lease that was judged to be left; one that has come in its place meanwhile is put back."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if aside.read_bytes() != judged:
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # no links on this file system
            aside.rename(path)
            return
    aside.unlink()


def _named(owner: OwnerRecord | None) -> str:
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}" if owner else "another process"
