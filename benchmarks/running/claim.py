"""One call at a time works on a run's directory."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from backbones.errors import InputError
from backbones.training.machine import process_rank
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.writing import write_text

CLAIM, RECIPE = ".claim", "recipe.yaml"

WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What makes a run stop that could write at its beginning; Python often does not know of which file."""

_TRIES = 5
"""To make the directory and the claim in it, while another call may be taking the directory back."""


@contextmanager
def claimed(directory: Path, out: Path, recipe: str) -> Iterator[None]:
    """Keep a second call from training in `directory` at the same time, and put the recipe, as YAML, there.

    A claim whose owner is known to be dead is taken over at once, that of another host after a minute without a sign
    of life. Raises InputError if another process is at work there, or nothing can be written.
    """
    if process_rank() != 0:
        yield
        return
    claim = _take(directory, out)
    try:
        write_text(directory / RECIPE, recipe)
        yield
    except OSError as error:
        if error.errno not in WRITE_FAILURES:
            raise
        raise InputError(
            f"{error.filename or directory}: cannot be written ({error.strerror}). Make room and repeat the "
            "command: it goes on from the last checkpoint"
        ) from error
    finally:
        _give_back(claim, directory, out)


def _take(directory: Path, out: Path) -> Lease:
    def tell(sentence: str) -> None:
        print(f"backbench: {directory}: {sentence} for a sign that it is alive", file=sys.stderr)

    for _ in range(_TRIES):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return Lease(directory / CLAIM, tell=tell)
        except HeldByAnotherError as owner:
            raise InputError(_held(directory, owner)) from None
        except FileNotFoundError as error:  # its last owner took the directory back
            failure: OSError = error
        except OSError as error:
            failure = error
            break
    raise InputError(f"--out {out}: cannot be written to ({failure.strerror}). Choose another directory") from failure


def _held(directory: Path, owner: HeldByAnotherError) -> str:
    since = ""
    with suppress(FileNotFoundError):
        began = datetime.fromtimestamp((directory / RECIPE).stat().st_mtime)
        since = f" since {began:%Y-%m-%d %H:%M}"
    return (
        f"{directory}: {owner} is at work on this run{since}. Wait for it, or stop it; if there is no such process, "
        f"remove {directory / CLAIM}"
    )


def _give_back(claim: Lease, directory: Path, out: Path) -> None:
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
