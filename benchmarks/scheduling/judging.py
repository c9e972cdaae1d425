"""How a cell's process ended: what that means, and whether the cell is worth another try."""

import re
import secrets
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import NO_ROOM, DataError, DivergedError, InputError, TryAgainError

RETRIES = 2
"""How often a cell is begun again whose process was killed, or says that it is worth trying again."""

FINAL = (InputError.status, DataError.status, DivergedError.status)
"""Exit statuses that another try would end with, too: the call is wrong, the data are, the training diverged."""

PASSING = (TryAgainError.status, 128 + signal.SIGINT)
"""Exit statuses of what may go well another time, or was interrupted."""

CRASHED_RETRIES = 1
"""How often after a crash: a GPU's fault and a mistake in the code look the same, and only one of them goes away."""

_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 5.0, 6.0, 600.0
"""Seconds before the first further try, how they grow, and up to what."""

_END_OF_LOG = 64 << 10
"""Bytes of a log in which the reason of a failure is looked for."""

_HEADING = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, by .*$", re.MULTILINE)
"""The first line of an attempt."""

_OURS = re.compile(r"^backbench: (.+)$", re.MULTILINE)
_NO_ROOM = re.compile(r"no space (is )?left|disk quota exceeded", re.IGNORECASE)

_ROOM = 1 << 20
"""Bytes for which there has to be room, else that is why a process failed: its message may have found none, either."""

KILLED_FOR_MEMORY = "killed by the system, because memory ran out"
_KILL, _LAST_SIGNAL = 9, 64


@dataclass(frozen=True)
class Verdict:
    """What became of a cell's process that did not finish it.

    retries: how many further tries it is worth
    no_room: whether the disk is full
    """

    reason: str
    retries: int
    no_room: bool = False


def judge(status: int | None, log: Path, *, retries: int = RETRIES, memory_ran_out: bool = False) -> Verdict:
    """Judge by an exit status as `Popen` has it, None where nobody saw the end, and by the end of its log.

    memory_ran_out: whether the system has killed a process of this machine for that meanwhile
    """
    said, last = _last_words(log)
    if status in FINAL:
        return Verdict(said or last or f"exit status {status}", 0)
    if status == 0:
        return Verdict("its process ended without a fault, and no record is there", 0)
    if _NO_ROOM.search(said or last) or not _has_room(log.parent):
        return Verdict(said or f"no space left in {log.parent}", retries, no_room=True)
    number = signal_of(status)
    if number is not None or status is None:
        killed = f"killed by signal {number}" if number else "its process has gone without a word"
        if number == _KILL:
            killed = KILLED_FOR_MEMORY if memory_ran_out else f"{killed}, by the system if memory ran out"
        return Verdict(f"{killed}. The last it said: {last}" if last else killed, retries)
    if status in PASSING:
        return Verdict(said or last or f"exit status {status}", retries)
    return Verdict(said or last or f"exit status {status}", min(retries, CRASHED_RETRIES))


def pause_before(tries: int) -> float:
    """Seconds before a cell is tried again that has failed so often."""
    return min(_FIRST_PAUSE * _GROWTH ** (tries - 1), _LONGEST_PAUSE)


def kills_for_memory() -> int:
    """How many processes the system has killed since it started because memory ran out; 0 where it does not say."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
    return 0


def signal_of(status: int | None) -> int | None:
    """The signal that killed a process, the one started, or, as launchers and shells say it, one of its own; else None.

    status: as `Popen` has it, None where nobody saw the end
    """
    if status is None or 0 <= status <= 128 or status in PASSING or status > 128 + _LAST_SIGNAL:
        return None
    return -status if status < 0 else status - 128


def _last_words(log: Path) -> tuple[str, str]:
    """A process's own last message, and its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _END_OF_LOG))
            text = _HEADING.split(file.read().decode(errors="replace"))[-1]
    except OSError:
        return "", ""
    said: Sequence[str] = _OURS.findall(text)
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return (said[-1] if said else ""), (lines[-1] if lines else "")


def _has_room(folder: Path) -> bool:
    path = folder / f".room.{secrets.token_hex(4)}"
    try:
        path.write_bytes(bytes(_ROOM))
    except OSError as error:
        return error.errno not in NO_ROOM
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return True
