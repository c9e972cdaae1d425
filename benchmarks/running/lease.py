"""A file that one process at a time holds, on whatever file system, for as long as it lives.

It has its owner in it (host, process, which start of the machine, a token), is made by `O_EXCL`, and is touched while
its owner lives. That needs neither locks of the file system (flock, fcntl) nor exchanges of two files, which network
file systems refuse: where there are none it is the same, so that there is nothing to warn of.

An owner that is stopped for long is followed, and may come back: before it writes it has to `check`.
"""

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from benchmarks.running.owners import Holder, holder_in, this_process
from results.rereading import reread

LEASE_SECONDS = 60.0
"""How long a lease without a sign of life is taken to be held."""

SIGNS = 6
"""Signs of life in that time."""

_MISSED_SIGNS = 2
"""After so many an owner is no longer taken to live without further watching."""

_LOOKS = 60
"""Looks in that time at a lease that another process holds, once the wait for it is long."""

_FIRST_PAUSE = 0.1
"""Seconds between the first two looks."""

_PUT_BACK = 0.05
"""Seconds in which a contender that has set aside another's marker than the one it judged has put that back."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is asleep, where there is such a clock."""


class HeldByAnotherError(Exception):
    """Another process, named in the message, holds the lease and lives."""


@dataclass(frozen=True)
class _Look:
    """What a marker says, and when it was last touched."""

    content: bytes
    touched_ns: int


class Lease:
    """A lease on `path`, taken by the call.

    A dead owner of this machine is followed at once, any other that gives no sign of life within `LEASE_SECONDS` in
    which this process really looked. A living one is waited for as many seconds as `patience` says. `tell` is called
    with a sentence before a longer wait; `lost` with one if the lease is found to be another's now, once, from
    whichever thread finds out: it may end the process.

    Raises HeldByAnotherError where a living owner outlasts patience, OSError where nothing can be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience: float = 0.0,
        tell: Callable[[str], None] = lambda sentence: None,
        lost: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.path, self.lost = path, lost
        self.holder = this_process()
        self._seconds = LEASE_SECONDS
        self._signed = _now()
        self._ended, self._is_lost, self._told = threading.Event(), threading.Event(), threading.Event()
        self._one_at_a_time, self._first_to_tell = threading.Lock(), threading.Lock()
        self._take(patience, tell)
        threading.Thread(target=self._beat, name=f"lease of {path.name}", daemon=True).start()

    def check(self) -> None:
        """Before something is written: find out whether the lease is lost. Costs nothing while the heart beats.

        Raises OSError where it cannot be known, for so long that another may have followed.
        """
        silent = _now() - self._signed
        if silent >= self._seconds / 2 and not self._is_lost.is_set():
            try:
                self._sign()
            except OSError:
                if silent >= self._seconds:
                    raise
        if self._is_lost.is_set():  # perhaps another thread has just found out, and is telling
            self._told.wait()

    def is_held(self) -> bool:
        """Whether the marker, as it is now, is this lease's. Raises OSError if it cannot be read."""
        if self._is_lost.is_set():
            self._told.wait()
            return False
        return self._is_ours(_look(self.path))

    def release(self) -> None:
        """Give it back; a successor's stays."""
        self._ended.set()
        if self._is_lost.is_set():
            return
        with self._one_at_a_time, suppress(OSError):
            look = _look(self.path)
            if look and self._is_ours(look):
                _set_aside(self.path, look)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _take(self, patience: float, tell: Callable[[str], None]) -> None:
        longest = self._seconds / _LOOKS
        pause = min(_FIRST_PAUSE, longest)
        seen = asked = None
        waited = silent = 0.0
        is_alive = has_told = False
        before = _now()
        while not self._make():
            look, now = _look(self.path), _now()
            watched, before = min(now - before, pause + longest), now  # not while this process, or the server, hung
            waited, silent = waited + watched, silent + watched
            if look != seen:
                is_alive = is_alive or (look is not None and seen is not None)
                seen, silent = look, 0.0
            holder = holder_in(look.content) if look else None
            if look and ((holder and holder.is_dead) or silent >= self._seconds):
                _set_aside(self.path, look)
                continue
            if waited >= patience:
                if is_alive or (look and holder and look != asked and self._lives_here(holder, look)):
                    raise HeldByAnotherError(_named(holder))
                asked = look
            if holder and not has_told:
                has_told = True
                tell(f"claimed by {holder.name}. Waiting up to {max(patience, self._seconds):.0f} s")
            time.sleep(pause)
            pause = min(1.5 * pause, longest)

    def _lives_here(self, holder: Holder, look: _Look) -> bool:
        """Whether it is of this machine, where it is not dead, and has touched the marker lately."""
        return holder.is_here and _age(self.path, look) < self._seconds / 2

    def _make(self) -> bool:
        """Make the marker, if there is none."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = reread(lambda: os.open(self.path, flags, 0o644))
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.holder.marker)
        except BaseException:
            with suppress(OSError):
                self.path.unlink()
            raise
        self._signed = _now()
        return True

    def _beat(self) -> None:
        """Give signs of life. That one fails is no loss: whoever follows leaves a marker of their own."""
        while not self._ended.wait(self._seconds / SIGNS) and not self._is_lost.is_set():
            with suppress(OSError):
                self._sign()

    def _sign(self) -> None:
        """Touch the marker if it is ours, or make it again if it is gone; tell if it is another's."""
        with self._one_at_a_time:
            if self._ended.is_set() or self._is_lost.is_set():
                return
            begin = _now()
            why = self._why_lost()
            if not why:
                os.utime(self.path)
                self._signed = begin
        if why:
            self._lose(why)

    def _why_lost(self) -> str:
        for pause in (_PUT_BACK, 0.0):
            look = _look(self.path)
            if self._is_ours(look):
                return ""
            time.sleep(pause)
        if look is None:
            try:
                is_made = self._make()
            except FileNotFoundError:
                return "the claim is lost: its directory has gone"
            if is_made:
                print(f"backbench: {self.path}: the claim was gone and is taken again", file=sys.stderr)
                return ""
            look = _look(self.path)
        return f"the claim is lost, and {_named(holder_in(look.content) if look else None)} has it now"

    def _lose(self, why: str) -> None:
        """Tell, or wait until another thread has."""
        with self._first_to_tell:
            is_first = not self._is_lost.is_set()
            self._is_lost.set()
        if is_first:
            self.lost(why)
            self._told.set()
        self._told.wait()

    def _is_ours(self, look: _Look | None) -> bool:
        holder = holder_in(look.content) if look else None
        return holder is not None and holder.token == self.holder.token


class Watch:
    """A lease that others may have, seen from outside: a look costs one opened file.

    It tells when it is worth trying to take it; `Lease` alone says whether it can be had.

    holder:  who had it at the last look, in words; empty for nobody
    is_here: whether that was a process of this machine
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder, self.is_here = "", False
        self._seen: _Look | None = None
        self._changed = 0.0

    def has_living_owner(self) -> bool:
        """Look: whether somebody has it who has given a sign of life lately, and is not known to be dead."""
        look, now = _look(self.path), _now()
        holder = holder_in(look.content) if look else None
        self.holder, self.is_here = _named(holder) if look else "", holder is not None and holder.is_here
        before, self._seen = self._seen, look
        if look is None or (holder and holder.is_dead):
            return False
        if before is None:
            self._changed = now
            return _age(self.path, look) < LEASE_SECONDS / 2
        if look != before:
            self._changed = now
        return now - self._changed < _MISSED_SIGNS * LEASE_SECONDS / SIGNS


@dataclass(frozen=True)
class Owner:
    """Who holds a lease: in words, and whether they are known to live, or to be gone, or neither (None)."""

    name: str
    lives: bool | None


def find_owner(path: Path, *, writes: bool = True) -> Owner | None:
    """Who holds the lease on `path`, without waiting for a sign of life; None if nobody does.

    writes: whether the file server may be asked for its time, by writing a file; without that this machine's counts
    """
    try:
        look = _look(path)
    except OSError:  # another user's
        return Owner(_named(None), None)
    if look is None:
        return None
    holder = holder_in(look.content)
    if holder and holder.is_dead:
        return Owner(holder.name, False)
    return Owner(_named(holder), True if _age(path, look, writes=writes) < 2 * LEASE_SECONDS else None)


def _now() -> float:
    return time.clock_gettime(_CLOCK)


def _look(path: Path) -> _Look | None:
    """What there is, None if nothing. Opening it asks the file server anew."""

    def look() -> _Look:
        with path.open("rb") as file:
            return _Look(file.read(), os.fstat(file.fileno()).st_mtime_ns)

    try:
        return reread(look)
    except FileNotFoundError:
        return None


def _age(path: Path, look: _Look, *, writes: bool = True) -> float:
    """Seconds since the marker was touched, by the file server's clock where that can be asked by writing a file."""
    if not writes:
        return (time.time_ns() - look.touched_ns) / 1e9
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as file:
            now = os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        now = time.time_ns()
    return (now - look.touched_ns) / 1e9


def _set_aside(path: Path, judged: _Look) -> None:
    """Remove the marker that was judged; one that was touched, or has come in its place, meanwhile is put back."""
    if _look(path) != judged:
        return
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _look(aside) != judged:
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # no links on this file system
            aside.rename(path)
            return
    aside.unlink()


def _named(holder: Holder | None) -> str:
    return holder.name if holder else "another process"
