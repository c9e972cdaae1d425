"""One call at a time works on a run's directory."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from backbones.errors import TryAgainError, not_written
from backbones.training.machine import process_rank
from backbones.training.writing import checked_before_writing
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.together import leave, together
from benchmarks.running.writing import write_text

CLAIM, RECIPE, CODE = ".claim", "recipe.yaml", "code.json"

EVALUATES = "# Evaluates alone, without a training, what was trained by: "
"""With what the recipe of such a run begins; the key of the run that trained it follows, or "elsewhere"."""

WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What makes a run stop that could write at its beginning; Python often does not know of which file."""

_TRIES = 5
"""To make the directory and the claim in it, while another call may be taking the directory back."""


def of_what(trained: str) -> str:
    """What an evaluation is of, in words, from what its record has in `trained`."""
    return f"an evaluation of {'what was trained elsewhere' if trained == 'elsewhere' else f'the run {trained}'}"


def evaluated(directory: Path) -> str:
    """What a run is to evaluate, or has evaluated, that does not train, in words; empty where it trains."""
    try:
        with (directory / RECIPE).open(encoding="utf-8") as file:
            line = file.readline()
    except (OSError, ValueError):
        return ""
    return of_what(line.removeprefix(EVALUATES).strip()) if line.startswith(EVALUATES) else ""


@contextmanager
def claimed(directory: Path, out: Path, begin: Callable[[], str | None]) -> Iterator[None]:
    """Keep a second call from training in `directory` at the same time, and put the recipe there.

    `begin` is called once the directory is this call's, in the first process, and gives the recipe as YAML, or None.
    A claim whose owner is known to be dead is taken over at once, that of another host after a minute without a sign
    of life. A process that comes back after such a minute writes nothing more within the block: it ends, and with it
    the others of its job. Raises TryAgainError if another process is at work there, and what `not_written` gives if
    nothing can be written.
    """
    if process_rank() != 0:
        with together():
            yield
        return
    taken: list[Lease] = []

    def give_back() -> None:
        for claim in taken:
            _give_back(claim, directory, out)

    with together(give_back):
        taken.append(_take(directory, out))
        with checked_before_writing(taken[0].check), _written(taken[0], directory, out, begin):
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

    def end(why: str) -> None:
        message = f"backbench: {directory / CLAIM}: {why}. Ending at once, unsaved"
        os._exit(leave(TryAgainError.status, message))  # unwinding would write what is another's by now

    for _ in range(_TRIES):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return Lease(directory / CLAIM, tell=tell, lost=end)
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
    nothing_came_of_it = False
    with suppress(OSError):  # the directory has gone; what the block raises is what matters
        names = {path.name for path in directory.iterdir() if not path.name.startswith(f"{CLAIM}.")}
        nothing_came_of_it = names <= {CLAIM, RECIPE, CODE} and claim.is_held()
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
