"""Which cells run side by side: the GPUs that are there, shared out, and locked as long as a cell's process lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backbones.errors import InputError
from benchmarks.launching import slots
from benchmarks.launching.slots import Slot, find_gpus, share_out, unlock


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slots, "_folder", lambda: tmp_path / "gpus")
    monkeypatch.setattr(slots, "_known_uuids", lambda: {"0": "GPU-aa-1", "1": "GPU-bb-2"})


def test_one_cell_a_gpu() -> None:
    shared = share_out("gpu", ["0", "1", "2"])
    assert shared.at_once == 3 and [slot.gpus for slot in shared.slots] == [("0",), ("1",), ("2",)]
    assert shared.slots[1] == Slot(environment={"CUDA_VISIBLE_DEVICES": "1"}, gpus=("1",))
    assert share_out("3", ["0", "1", "2"]) == shared


def test_fewer_cells_than_gpus_have_several_each() -> None:
    shared = share_out("2", ["4", "5", "6", "7"])
    assert [slot.gpus for slot in shared.slots] == [("4", "5"), ("6", "7")]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in shared.slots] == ["4,5", "6,7"]
    assert {slot.arguments for slot in shared.slots} == {("--processes", "2")}
    assert {slot.launcher for slot in shared.slots} == {()}
    (whole,) = share_out("1", [str(number) for number in range(8)]).slots
    assert whole.arguments == ("--processes", "8") and len(whole.gpus) == 8


def test_a_mig_instance_is_one_cells() -> None:
    """CUDA shows a process the first of several alone."""
    shared = share_out("gpu", ["MIG-a", "MIG-b"])
    assert [slot.gpus for slot in shared.slots] == [("MIG-a",), ("MIG-b",)]
    assert share_out("2", ["MIG-a", "MIG-b"]) == shared


def test_without_a_word_one_cell_at_a_time_takes_any_gpu() -> None:
    shared = share_out(None, ["0", "1"])
    assert shared.at_once == 1 and len(shared.slots) == 2
    assert share_out(None, []).slots == (Slot(),)


def test_cells_without_gpus_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert share_out("3", []).slots == (Slot(environment={"OMP_NUM_THREADS": "2"}),) * 3
    assert share_out("1", []).slots == (Slot(),)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert share_out("2", []).slots == (Slot(),) * 2


@pytest.mark.parametrize(
    ("jobs", "gpus", "message"),
    [
        ("gpu", [], "--jobs gpu: there is no GPU here. Give a number of cells"),
        ("4", ["0", "1"], "--jobs 4: there are 2 GPUs here, .* Give one of: 1, 2"),
        ("3", ["0", "1", "2", "3"], "--jobs 3: there are 4 GPUs here, .* Give one of: 1, 2, 4"),
        ("0", [], '--jobs 0: expected "gpu"'),
        ("many", [], '--jobs many: expected "gpu"'),
        ("2", ["MIG-a", "MIG-b", "MIG-c", "MIG-d"], "--jobs 2: .* 4 MIG instances, .* Give --jobs gpu"),
        ("3", ["MIG-a", "MIG-b"], "--jobs 3: .* 2 MIG instances, .* Give --jobs gpu"),
    ],
)
def test_what_does_not_come_out_even_is_refused(jobs: str, gpus: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        share_out(jobs, gpus)


@pytest.mark.parametrize(
    ("visible", "count", "found"),
    [
        (None, 2, ("0", "1")),
        ("", 0, ()),
        ("3, 1", 2, ("3", "1")),
        ("1,-1,0", 1, ("1",)),  # what follows a number that there is not, CUDA does not see
        ("GPU-aa,GPU-bb", 2, ("GPU-aa", "GPU-bb")),
        ("MIG-x,MIG-y", 1, ("MIG-x", "MIG-y")),
    ],
)
def test_what_is_visible_stays_so(
    visible: str | None, count: int, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert find_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == found


def test_a_gpu_is_locked_as_long_as_any_process_has_the_lock_open() -> None:
    """By number here and by UUID there: it is the same GPU."""
    here, there = Slot(gpus=("1", "0")), Slot(gpus=("GPU-aa",))
    locks = here.lock()
    assert locks and len(locks) == 2 and there.lock() is None
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=locks) as cell:
        unlock(locks)
        assert there.lock() is None
        cell.kill()
        cell.wait()
    free = there.lock()
    assert free is not None
    unlock(free)


def test_where_nothing_can_be_locked_nobody_is_kept_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(slots, "_folder", lambda: tmp_path / "file")
    assert Slot(gpus=("0",)).lock() == ()
