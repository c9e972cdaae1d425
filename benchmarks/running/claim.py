"""One call at a time works on a run's directory, and on a store's results.csv.

A claim is a file with its owner in it (host, process, when that began and since which boot), made by `O_EXCL` and
refreshed while its owner lives: filelock's lease, which needs no locks of the file system, and so works over network
file systems that have none, or have them on one host only.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import LeaseCompromise, OwnerRecord, SoftFileLease, Timeout

from backbones.errors import TryAgainError, not_written
from backbones.training.machine import process_rank
from benchmarks.running.together import together
from benchmarks.running.writing import write_text

CLAIM, RECIPE = ".claim", "recipe.yaml"

LEASE_SECONDS = 60.0
"""How long a claim without a sign of life from another host is taken to be alive; signs come three times as often."""

WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What makes a run stop that could write at its beginning; Python often does not know of which file."""

_PAUSE = 0.1
"""Seconds between two looks at a claim."""

_TRIES = 5
"""To make the directory and the claim in it, while another call may be taking the directory back."""


@contextmanager
def claimed(directory: Path, out: Path, recipe: str) -> Iterator[None]:
    """Keep a second call from training in `directory` at the same time, and put the recipe, as YAML, there.

    A claim whose owner is known to be dead is taken over at once, that of another host after `LEASE_SECONDS` without a
    sign of life. Raises TryAgainError if another process is at work there, and what `not_written` gives if nothing can
    be written.
    """
    if process_rank() != 0:
        with together():
            yield
        return
    claim = lease(directory / CLAIM, on_loss=_stop)
    with together(claim.release), _held_claim(claim, directory, out, recipe):
        yield


@contextmanager
def _held_claim(claim: SoftFileLease, directory: Path, out: Path, recipe: str) -> Iterator[None]:
    _take(claim, directory, out)
    try:
        write_text(directory / RECIPE, recipe)
        yield
    except OSError as error:
        if error.errno not in WRITE_FAILURES:
            raise
        raise not_written(
            f"{error.filename or directory}: cannot be written ({error.strerror}). Make room and repeat the "
            "command: it goes on from the last checkpoint",
            error.errno,
        ) from error
    finally:
        _give_back(claim, directory, out)


def lease(path: Path, on_loss: Callable[[LeaseCompromise], None] | None = None) -> SoftFileLease:
    """A claim that can be made by the file `path`; `on_loss` is called from a thread if it is lost while it is held."""
    return SoftFileLease(path, lease_duration=LEASE_SECONDS, on_compromise=on_loss, thread_local=False)


def _stop(loss: LeaseCompromise) -> None:
    print(
        f"backbench: {loss.lock_file}: the claim on this run is lost ({loss.reason}): another process may be at work "
        "in the directory. Stopping",
        file=sys.stderr,
    )
    os.kill(os.getpid(), signal.SIGTERM)


def _take(claim: SoftFileLease, directory: Path, out: Path) -> None:
    for _ in range(_TRIES):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _acquire(claim, directory)
            return
        except FileNotFoundError as error:  # its last owner took the directory back
            failure: OSError = error
        except OSError as error:
            failure = error
            break
    message = f"--out {out}: cannot be written to ({failure.strerror}). Choose another directory"
    raise not_written(message, failure.errno) from failure


def _acquire(claim: SoftFileLease, directory: Path) -> None:
    """Take the claim, watching another host's for a sign of life first. Raises TryAgainError if its owner lives."""
    begin, first_sign = time.monotonic(), None
    while True:
        try:
            claim.acquire(blocking=False)
            return
        except Timeout:
            owner, sign = claim.owner, _last_sign(claim)
        waited = time.monotonic() - begin
        # Of a process on this host filelock has seen that it lives, or it would have taken over.
        is_alive = (owner and owner.hostname == _this_host()) or (first_sign and sign not in (None, first_sign))
        if owner and (is_alive or waited > 2 * LEASE_SECONDS):
            raise TryAgainError(_held(directory, owner))
        if owner and first_sign is None:
            first_sign = sign
            print(
                f"backbench: {directory}: claimed by {_named(owner)}. Waiting up to {LEASE_SECONDS:.0f} s for a sign "
                "that it is alive",
                file=sys.stderr,
            )
        time.sleep(_PAUSE)


@dataclass(frozen=True)
class Owner:
    """Who has a claim: in words, and whether they are known to be gone, or alive, or neither (None)."""

    name: str
    lives: bool | None


def find_owner(directory: Path) -> Owner | None:
    """Who has claimed a run's directory, without waiting for a sign of life; None if nobody has."""
    claim = lease(directory / CLAIM)
    owner, sign = claim.owner, _last_sign(claim)
    if owner is None or sign is None:
        return None
    lives = True if time.time() - sign / 1e9 < 2 * LEASE_SECONDS else None
    if owner.hostname == _this_host() and not _exists(owner.pid):
        lives = False
    return Owner(_named(owner), lives)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _last_sign(claim: SoftFileLease) -> int | None:
    """When the owner of a claim was last heard of, by the file system's clock; None if there is no claim."""
    with suppress(FileNotFoundError):
        return Path(claim.lock_file).stat().st_mtime_ns
    return None


@cache
def _this_host() -> str:
    """How filelock calls this host, which is more than its name where processes are numbered in containers."""
    with TemporaryDirectory() as folder, SoftFileLease(Path(folder) / CLAIM) as claim:
        owner = claim.owner
    assert owner is not None
    return owner.hostname


def _named(owner: OwnerRecord) -> str:
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}"


def _held(directory: Path, owner: OwnerRecord) -> str:
    since = ""
    with suppress(FileNotFoundError):
        began = datetime.fromtimestamp((directory / RECIPE).stat().st_mtime)
        since = f" since {began:%Y-%m-%d %H:%M}"
    return f"{directory}: {_named(owner)} is at work on this run{since}. Wait for it, or stop it"


def _give_back(claim: SoftFileLease, directory: Path, out: Path) -> None:
    """End the claim, and take back the directories below `out` of a call that failed before it began to train."""
    nothing_came_of_it = {path.name for path in directory.iterdir()} <= {CLAIM, RECIPE}
    if nothing_came_of_it:
        (directory / RECIPE).unlink(missing_ok=True)
    claim.release()
    if nothing_came_of_it:
        with suppress(OSError):  # the first that is not empty, or that another call works in by now
            for place in (directory, *directory.parents):
                if place == out:
                    break
                place.rmdir()
