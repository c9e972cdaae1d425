"""Files that appear whole: several writers of the same one, what the killed left, and who may write no more."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from backbones.training.checkpointing import CheckpointHook, Tally, save_atomically
from backbones.training.writing import check_before_writing, checked_before_writing, written_whole


class TurnedDownError(Exception):
    """This process may write no more."""


def test_two_writers_of_one_file_each_write_their_own(tmp_path: Path) -> None:
    """A process that was stopped for long, and the one that took it for dead."""
    path = tmp_path / "iteration_1.pth"
    with written_whole(path) as old:
        old.write(b"old " * 1000)
        old.flush()
        with written_whole(path) as new:
            new.write(b"new " * 1000)
            old.write(b"old " * 1000)
            old.flush()
        assert path.read_bytes() == b"new " * 1000
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_process_left_of_a_checkpoint_goes_with_the_next_try(tmp_path: Path) -> None:
    for name in (".iteration_1.pth.0123456789ab", ".iteration_1.pth.partial", ".iteration_10.pth.0123456789ab"):
        (tmp_path / name).write_bytes(b"half")
    save_atomically({"model": torch.ones(3)}, tmp_path / "iteration_1.pth")
    assert {one.name for one in tmp_path.iterdir()} == {"iteration_1.pth", ".iteration_10.pth.0123456789ab"}


def test_what_killed_processes_left_of_checkpoints_goes_where_a_run_goes_on(tmp_path: Path) -> None:
    """Each stop of a preempted run is at another update, so no save came by their names again."""
    for name in (".iteration_1034.pth.0123456789ab", ".iteration_1177.pth.0123456789ab", "encoder.pth"):
        (tmp_path / name).write_bytes(b"half")
    hook = CheckpointHook(tmp_path, every=1, keep=1, tally=Tally())
    assert hook.restore(Mock()) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["encoder.pth"]


@pytest.mark.parametrize("answers", [[False], [True, False]])
def test_who_may_write_no_more_leaves_all_as_it_is(tmp_path: Path, answers: list[bool]) -> None:
    """It is asked before anything is written, and again before that replaces what is there."""
    (tmp_path / "file").write_text("another's")
    asked = iter(answers)

    def check() -> None:
        if not next(asked):
            raise TurnedDownError

    with checked_before_writing(check), pytest.raises(TurnedDownError), written_whole(tmp_path / "file") as file:
        file.write(b"mine")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "another's"
    assert list(asked) == []
    check_before_writing()
