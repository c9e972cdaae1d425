"""Two processes of a job end together, with one message and one status, whatever happens to one of them."""

import time
from pathlib import Path

import pytest

from backbones.training.agreement import each_says, first_decides
from benchmarks.running import together as ending
from benchmarks.running.together import together
from tests.support.two_processes import end_of_two


def fail(rank: int, failing: tuple[int, ...]) -> None:
    with together():
        each_says(rank)
        if rank in failing:
            raise TypeError("a model's own mistake")
        each_says(rank)


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1)])
def test_a_fault_of_our_own_is_one_traceback(tmp_path: Path, failing: tuple[int, ...]) -> None:
    """The others said that a machine had gone, with status 75; where all failed each printed its traceback."""
    assert end_of_two(fail, tmp_path / "log", failing) == [1, 1]
    text = (tmp_path / "log").read_text()
    assert text.count("Traceback") == 1 and text.rstrip().endswith("TypeError: a model's own mistake"), text
    assert "backbench: " not in text


def fail_before_they_meet(rank: int) -> None:
    ending._PATIENCE = 1.0
    if rank == 1:
        raise TypeError("before")


def test_a_fault_before_they_meet_is_told_too(tmp_path: Path) -> None:
    assert end_of_two(fail_before_they_meet, tmp_path / "log") == [0, 1]
    assert (tmp_path / "log").read_text().rstrip().endswith("TypeError: before")


def interrupt_decision(rank: int) -> None:
    def decide() -> None:
        raise KeyboardInterrupt

    with together():
        first_decides(decide)


def test_ctrl_c_in_one_process_ends_all(tmp_path: Path) -> None:
    """The first ended with 130, the others with 1, after waiting for a word for ten seconds."""
    started = time.monotonic()
    assert end_of_two(interrupt_decision, tmp_path / "log") == [130, 130]
    assert (tmp_path / "log").read_text().strip().count("backbench: interrupted") == 1
    assert time.monotonic() - started < 60
