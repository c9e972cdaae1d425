"""Real cells, killed at random."""

import random
from pathlib import Path

import pytest

from tests.support.kills import attempts, carry_out_with_kills, differences, start, write_suite


@pytest.mark.slow
def test_a_suite_that_is_killed_again_and_again_comes_to_the_same(mini: Path, tmp_path: Path) -> None:
    """`python -m tests.support.kills` does the same with as many kills as one has the patience for."""
    arguments, log = write_suite(tmp_path, mini, 2), tmp_path / "log.txt"
    assert start(arguments, tmp_path / "alone", log).wait() == 0, log.read_text()
    course = carry_out_with_kills(arguments, tmp_path / "killed", log, 6, random.Random(1), 5.0)
    assert course.kills.total() == 6 and course.starts >= 2
    assert differences(tmp_path / "killed", tmp_path / "alone", 2) == [], log.read_text()
    assert attempts(tmp_path / "killed")[0] <= 2
