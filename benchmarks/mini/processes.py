"""Doing independent pieces of work in several processes, which Ctrl-C ends in order."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def work_through(
    pieces: Sequence[Piece], work: Callable[[Piece], Result], processes: int
) -> Iterator[tuple[Piece, Result]]:
    """Yield each piece with what `work` made of it, in the order in which they end; with one process, in this one.

    With several, `work` and the pieces travel to them pickled. What is not begun when the iteration ends is dropped.
    """
    if processes == 1:
        for piece in pieces:
            yield piece, work(piece)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            with _ctrl_c_kept_for_this_process():
                submitted = {pool.submit(work, piece): piece for piece in pieces}
            for future in as_completed(submitted):
                yield submitted[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_kept_for_this_process() -> Iterator[None]:
    """Processes started within the block never see Ctrl-C, which a terminal sends to all; this one ends them in order.

    They inherit the blocked signal. Here it waits, and takes effect when the block ends.
    """
    resource_tracker.ensure_running()  # it would unblock the signal when the first process starts it
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
