"""One way to be interrupted, whichever signal asks for it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does; nohup's choice stays."""
    former = {number: signal.getsignal(number) for number in _ours()}
    for number, handler in former.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def ignore_interruptions() -> None:
    """Let no second signal cut short what is done about the first, until the end of `interruptible`'s block."""
    for number in _ours():
        signal.signal(number, signal.SIG_IGN)


def _ours() -> list[signal.Signals]:
    """Those that Python has: what another library had installed before Python began could not be put back."""
    return [number for number in INTERRUPTING if signal.getsignal(number) is not None]
