"""Where the processes of a job meet: one of them, or torchrun's agent, has a store, and each attempt a part of it.

The agent's outlives an attempt, with all that was written there by processes that have died; and where a job meets
another may already be.
"""

import hashlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backbones.errors import InputError, TryAgainError
from backbones.training.launching import TO_BE_ALONE, Place

MEETING = timedelta(minutes=15)
"""For which processes wait for one another to come. Importing from a slow file system takes minutes."""

SILENCE = timedelta(seconds=30)
"""After which it is told whom one waits for: a launcher may leave alone those that wait for one that has died."""

TALKING = timedelta(days=30)
"""For which a process waits for another's word, which may be at work, as long as a regression takes on a slow machine:
that it has gone is told otherwise."""

COMPUTING = timedelta(hours=1)
"""For which a GPU waits for another's share of a step, whose process may be saving a checkpoint to a slow disk."""

_SECONDS_BETWEEN_LOOKS = 0.1
_END_OF_ALL = "Where one of them has ended, end the others too; srun does so with --kill-on-bad-exit"
_JOB, _ALL = "backbench/job", "backbench/all"


@dataclass(frozen=True)
class Meeting:
    """Where this attempt of the job has met, and its name there, under which nothing of an earlier one's lies."""

    place: Place
    attempt: str
    store: Any

    def connect_again(self, patience: timedelta) -> Any:
        """The store over a connection of its own, for another thread: on each of them, one call waits for another."""
        import torch.distributed

        own = torch.distributed.TCPStore(self.place.address, self.place.port, is_master=False, timeout=patience)
        return torch.distributed.PrefixStore(self.attempt, own)


def keeps_store(place: Place) -> bool:
    """Whether the store is this process's, and ends with it; torchrun's agent has one."""
    return place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def meet(place: Place) -> Meeting:
    """Wait until all processes of the job are there.

    Raises InputError where the meeting place is another's, TryAgainError if not all come.
    """
    import torch.distributed

    store = _open(place)
    attempt = f"backbench/{_agree_on_attempt(store, place)}"
    return Meeting(place, attempt, torch.distributed.PrefixStore(attempt, store))


def _open(place: Place) -> Any:
    """Raises InputError if somebody else listens there, or nobody."""
    import torch.distributed

    patience = MEETING.total_seconds() / 60
    nobody = f"{socket.gethostname()} waits for the first process to listen at {place.address}, port {place.port}"
    saying = threading.Timer(
        SILENCE.total_seconds(), _say, [f"{nobody}, {patience:g} minutes at most. {_advice(place)}"]
    )
    saying.daemon = True
    if place.rank == 1 or (place.local_rank == 0 and place.rank):
        saying.start()
    where = f"the processes of this job cannot meet at {place.address}, port {place.port}"
    what_to_do = "Set MASTER_ADDR to the first process's machine, and MASTER_PORT to a free port there, for all"
    try:
        store = torch.distributed.TCPStore(
            place.address, place.port, is_master=keeps_store(place), timeout=MEETING, wait_for_workers=False
        )
        if place.rank == 0:
            store.set(_JOB, place.job)
        job = store.get(_JOB).decode()
    except (RuntimeError, ValueError) as error:
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise InputError(f"{where}: another program listens there. {what_to_do}") from error
        raise InputError(f"{where}: {str(error).splitlines()[0]}. {what_to_do}") from error
    finally:
        saying.cancel()
    if job != place.job:
        raise InputError(f"{where}: job {job or 'of no name'} meets there, and this is {place.job}. {what_to_do}")
    return store


def _agree_on_attempt(store: Any, place: Place) -> str:
    """A name that living processes agree on, and nobody else: what one that has died wrote is not answered.

    Each draws a name, and the first calls out the list of all. It counts once every process has answered to that very
    list, with its own name in it. Raises TryAgainError if that does not happen.
    """
    own, ranks = secrets.token_hex(8), range(place.processes)
    names, answers = [f"backbench/here/{rank}" for rank in ranks], list[str]()
    where, minutes = f"{place.address}, port {place.port}", f"{MEETING.total_seconds() / 60:g} minutes"
    store.set(names[place.rank], own)
    started, is_told = time.monotonic(), place.rank != 0
    while (waited := time.monotonic() - started) < MEETING.total_seconds():
        if place.rank == 0 and store.check(names):
            store.set(_ALL, json.dumps([name.decode() for name in store.multi_get(names)]))
        listed = store.get(_ALL) if store.check([_ALL]) else b"[]"
        if json.loads(listed)[place.rank : place.rank + 1] == [own]:
            attempt = hashlib.sha256(listed).hexdigest()[:16]
            answers = [f"backbench/{attempt}/answer/{rank}" for rank in ranks]
            complete = f"backbench/{attempt}/complete"
            store.set(answers[place.rank], "")
            if place.rank == 0 and store.check(answers):
                store.set(complete, "")
            if store.check([complete]):
                return attempt
        if waited >= SILENCE.total_seconds() and not is_told:
            is_told = True
            missing = _missing(store, place, answers or names)
            _say(f"{missing} has not come yet to {where}, and is waited for {minutes} at most. {_advice(place)}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    raise TryAgainError(
        f"{_missing(store, place, answers or names)} did not come to {where}, within {minutes}. See what became of "
        "it, and repeat the command"
    )


def _advice(place: Place) -> str:
    """For who waits in vain: the others have ended, or there are none, as in a shell that srun has opened."""
    variable = TO_BE_ALONE.get(place.launcher)
    alone = f". {place.launcher} says that there are {place.processes}; to run one process alone, unset {variable}"
    return f"{_END_OF_ALL}{alone if variable else ''}"


def _missing(store: Any, place: Place, expected: Sequence[str]) -> str:
    """In words, the processes that have not written to the store what is expected of each."""
    missing = ", ".join(str(rank) for rank, name in enumerate(expected) if not store.check([name]))
    return f"of the {place.processes} processes of this job, number {missing}"


def _say(sentence: str) -> None:
    print(f"backbench: {sentence}", file=sys.stderr, flush=True)
