"""One call at a time works on a run's directory."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from backbones.errors import TryAgainError, not_written
from backbones.training.machine import process_rank
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.together import together
from benchmarks.running.writing import write_text

CLAIM, RECIPE, CODE = ".claim", "recipe.yaml", "code.json"

WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What makes a run stop that could write at its beginning; Python often does not know of which file."""

_TRIES = 5
"""To make the directory and the claim in it, while another call may be taking the directory back."""


@contextmanager
def claimed(directory: Path, out: Path, begin: Callable[[], str | None]) -> Iterator[None]:
    """Keep a second call from training in `directory` at the same time, and put the recipe there.

    `begin` is called once the directory is this call's, in the first process, and gives the recipe as YAML, or None.
    A claim whose owner is known to be dead is taken over at once, that of another host after a minute without a sign
    of life. Raises TryAgainError if another process is at work there, and what `not_written` gives if nothing can be
    written.
    """
    if process_rank() != 0:
        with together():
            yield
        return
    taken: list[Lease] = []

    def give_back() -> None:
        for claim in taken:
            claim.release()

    with together(give_back):
        taken.append(_take(directory, out))
        with _written(taken[0], directory, out, begin):
            yield


@contextmanager
def _written(claim: Lease, directory: Path, out: Path, begin: Callable[[], str | None]) -> Iterator[None]:
    """Put the recipe there for the block, tell what it cannot write, and end the claim."""
    try:
        recipe = begin()
        if recipe is not None:
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


def _take(directory: Path, out: Path) -> Lease:
    def tell(sentence: str) -> None:
        print(f"backbench: {directory}: {sentence} for a sign that it is alive", file=sys.stderr)

    for _ in range(_TRIES):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return Lease(directory / CLAIM, tell=tell)
        except HeldByAnotherError as owner:
            raise TryAgainError(_held(directory, owner)) from None
        except FileNotFoundError as error:  # its last owner took the directory back
            failure: OSError = error
        except OSError as error:
            failure = error
            break
    message = f"--out {out}: cannot be written to ({failure.strerror}). Choose another directory"
    raise not_written(message, failure.errno) from failure


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
    nothing_came_of_it = {path.name for path in directory.iterdir()} <= {CLAIM, RECIPE, CODE}
    if nothing_came_of_it:
        for name in (RECIPE, CODE):
            (directory / name).unlink(missing_ok=True)
    claim.release()
    if nothing_came_of_it:
        with suppress(OSError):  # the first that is not empty, or that another call works in by now
            for place in (directory, *directory.parents):
                if place == out:
                    break
                place.rmdir()
