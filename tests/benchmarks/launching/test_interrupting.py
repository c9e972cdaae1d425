"""Signals that interrupt, and those that are another library's."""

import signal

import pytest

from benchmarks.launching.interrupting import ignore_interruptions, interruptible


def test_a_signal_that_another_library_has_taken_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that had it before Python began Python knows no handler: the end of the block was a TypeError."""
    known, taken = signal.getsignal, signal.SIGHUP
    before = [known(number) for number in (signal.SIGINT, signal.SIGTERM, taken)]
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == taken else known(number))
    with interruptible():
        assert known(signal.SIGTERM) is signal.default_int_handler
        ignore_interruptions()
        assert known(signal.SIGTERM) == signal.SIG_IGN
        assert known(taken) == before[2]
    assert [known(number) for number in (signal.SIGINT, signal.SIGTERM, taken)] == before
