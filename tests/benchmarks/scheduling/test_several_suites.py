"""Several suite processes in one store: they share the cells, and nothing is begun twice, whoever is hurt."""

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks.launching import processes, slots
from benchmarks.launching.slots import Slot, share_out, unlock
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.running import lease
from benchmarks.running.claim import CLAIM
from benchmarks.running.lease import Lease
from benchmarks.running.owners import Holder, this_process
from benchmarks.scheduling import work
from benchmarks.scheduling.folders import Job, SuiteFolder
from benchmarks.scheduling.work import work_on
from tests.support.suites import (
    Course,
    SuiteProcess,
    beginnings,
    carried_out,
    name_of,
    plan_cells,
    state_of,
    use_stand_in,
    wait_until,
)


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stand_in(monkeypatch, tmp_path)


def go(plan: SuitePlan) -> None:
    (plan.out / "go").touch()


def process_of(plan: SuitePlan, position: int = 0) -> int:
    """The number of a process that has begun with a cell."""
    return int((plan.out / "beginnings").read_text().splitlines()[position].split()[1])


def test_two_share_the_cells(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {seed: ["sleep 0.2 finish"] for seed in range(6)}, 6)
    first, second = SuiteProcess(tmp_path), SuiteProcess(tmp_path)
    with first, second:
        assert [first.end(), second.end()] == [0, 0]
    assert Counter(beginnings(plan.out)) == {name_of(seed): 1 for seed in range(6)}
    assert all("begins" in each.output.read_text() for each in (first, second))


def test_a_killed_suites_cell_is_waited_for_and_its_record_counts(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["sleep 60 finish"]})
    with SuiteProcess(tmp_path) as first:
        wait_until(lambda: beginnings(plan.out))
        first.send(signal.SIGKILL)
        first.end()
        course = Course(lambda job, what: go(plan) if what == "waits" else None)
        outcome = work_on(plan, on_change=course)
    assert not outcome.failed and not outcome.unfinished
    assert Counter(beginnings(plan.out)) == {name_of(0): 1, name_of(1): 1}
    state = state_of(plan, 0)
    assert state.outcome == "finished" and [attempt.status for attempt in state.attempts] == [0]
    assert any(f"process {process_of(plan)} on" in reason for reason in course.reasons("waits"))


def test_how_a_killed_suites_cell_ended_is_known_all_the_same(tmp_path: Path) -> None:
    """It says itself that the call is wrong: nobody tries that again."""
    plan = plan_cells(tmp_path, {0: ["say backbench:_wrong_key sleep 60 exit 2"]}, 1)
    with SuiteProcess(tmp_path) as first:
        wait_until(lambda: beginnings(plan.out))
        first.send(signal.SIGKILL)
        first.end()
        course = Course(lambda job, what: go(plan) if what == "waits" else None)
        outcome = work_on(plan, on_change=course)
    assert outcome.states[name_of(0)].reason == "wrong key" and len(beginnings(plan.out)) == 1
    assert [attempt.status for attempt in state_of(plan, 0).attempts] == [2]


def test_where_suite_and_cell_are_killed_the_cell_is_begun_anew_at_once(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["sleep 60 finish", "finish"]}, 1)
    with SuiteProcess(tmp_path) as first:
        wait_until(lambda: beginnings(plan.out))
        first.send(signal.SIGKILL)
        first.end()
        os.kill(process_of(plan), signal.SIGKILL)
        outcome, course = carried_out(plan)
    assert not outcome.unfinished and course.of("again") == [] and len(beginnings(plan.out)) == 2


def test_a_suite_that_was_stopped_for_long_spoils_nothing_when_it_wakes(tmp_path: Path) -> None:
    """Its cell goes on, the other suite waits for that, and what either sees of it in the end is the same."""
    plan = plan_cells(tmp_path, {0: ["sleep 60 finish"]}, 2, lease_seconds=0.5)
    with SuiteProcess(tmp_path, 0.5) as first:
        wait_until(lambda: beginnings(plan.out))
        first.send(signal.SIGSTOP)
        owner = SuiteFolder(plan.out, plan.name).cell(name_of(0)).owner
        with SuiteProcess(tmp_path, 0.5) as second:
            wait_until(lambda: f"pid={second.pid}\n" in _content(owner))
            first.send(signal.SIGCONT)
            go(plan)
            assert [first.end(), second.end()] == [0, 0]
    assert Counter(beginnings(plan.out)) == {name_of(0): 1, name_of(1): 1}
    state = state_of(plan, 0)
    assert state.outcome == "finished" and len(state.attempts) == 1


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_silent_owner_elsewhere_is_watched_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    plan = plan_cells(tmp_path, cells=3)
    cell = SuiteFolder(plan.out, plan.name).cell(name_of(0))
    cell.path.mkdir(parents=True)
    cell.owner.write_bytes(Holder("node7", 77, boot="another").marker)
    outcome, course = carried_out(plan)
    assert not outcome.unfinished
    assert course.of("ended") == [name_of(1), name_of(2), name_of(0)]


def test_a_living_owner_is_waited_for_and_named(tmp_path: Path) -> None:
    """This process stands for another, which has the claim until it is seen that it is waited for."""
    plan = plan_cells(tmp_path, cells=2)
    cell = SuiteFolder(plan.out, plan.name).cell(name_of(0))
    cell.path.mkdir(parents=True)
    claim = Lease(cell.owner)
    course = Course(lambda job, what: claim.release() if what == "waits" else None)
    assert not work_on(plan, on_change=course).unfinished
    assert course.reasons("waits") == [this_process().name] and course.of("begins") == [name_of(1), name_of(0)]


def test_waiting_for_many_cells_of_others_asks_little_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of processes may wait so, on one file server: no record is looked for, and no owner often."""
    plan = plan_cells(tmp_path, cells=30)
    for seed in range(30):
        cell = SuiteFolder(plan.out, plan.name).cell(name_of(seed))
        cell.path.mkdir(parents=True)
        cell.owner.write_bytes(Holder("node7", 77, boot="another").marker)
    finished, looks = Mock(wraps=work.find_finished), Mock(wraps=lease._look)
    monkeypatch.setattr(work, "find_finished", finished)
    monkeypatch.setattr(lease, "_look", looks)
    monkeypatch.setattr(work, "Claiming", Mock(side_effect=AssertionError))
    outcome, course = carried_out(plan, hours=0.5 / 3600)
    assert len(outcome.unfinished) == 30 and course.reasons("waits") == ["process 77 on node7"] * 30
    assert finished.call_count == 30  # at the beginning
    assert 30 <= looks.call_count <= 40


def test_what_fails_in_one_process_the_others_of_the_call_do_not_try(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["sleep 60 exit 2"]}, 2)
    with SuiteProcess(tmp_path) as first:
        wait_until(lambda: beginnings(plan.out))
        with SuiteProcess(tmp_path) as second:
            wait_until(lambda: name_of(1) in beginnings(plan.out))
            go(plan)
            assert [first.end(), second.end()] == [1, 1]
    assert Counter(beginnings(plan.out)) == {name_of(0): 1, name_of(1): 1}


def test_a_run_that_another_suite_is_at_work_on_is_waited_for(tmp_path: Path) -> None:
    """Two suites of one store have a cell in common; the second's process ends with 75, and that is no failure."""
    plan = plan_cells(tmp_path, {0: ["exit 75", "finish"]}, 1)
    run = plan.out / json.loads((plan.out / "script").read_text())["cells"][name_of(0)]["run"]
    run.mkdir(parents=True)
    claim = Lease(run / CLAIM)
    course = Course(lambda job, what: claim.release() if what == "waits" else None)
    outcome = work_on(plan, on_change=course, retries=0)
    assert not outcome.failed and not outcome.unfinished
    assert len(course.of("waits")) == 1 and course.of("again") == []


def test_a_gpu_that_another_suites_cell_is_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That cell's process has the lock open, whatever has become of its suite."""
    monkeypatch.setattr(slots, "_folder", lambda: tmp_path / "gpus")
    monkeypatch.setattr(slots, "_known_uuids", dict)
    plan = plan_cells(tmp_path, {0: ["sleep 60 finish"]}, 1)
    gpu = share_out("gpu", ["0"])
    held = gpu.slots[0].lock()
    assert held
    course = Course(lambda job, what: unlock(held) if what == "waits" else go(plan) if what == "begins" else None)
    assert not work_on(plan, gpu, course).unfinished
    assert course.reasons("waits") == ["a GPU: other suites have them all"]
    assert "CUDA_VISIBLE_DEVICES=0" in SuiteFolder(plan.out, plan.name).cell(name_of(0)).log.read_text()


def test_a_cell_on_several_gpus_has_them_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a process on each, which the command itself starts."""
    monkeypatch.setattr(slots, "_folder", lambda: tmp_path / "gpus")
    monkeypatch.setattr(slots, "_known_uuids", dict)
    plan = plan_cells(tmp_path, {seed: ["sleep 60 finish"] for seed in range(2)}, 2)
    free: list[bool] = []

    def react(job: Job, what: str) -> None:
        if what == "begins":
            free.append(any(Slot(gpus=(gpu,)).lock() for gpu in job_gpus[len(free)]))
            if len(free) == 2:
                go(plan)

    job_gpus = [("0", "1"), ("2", "3")]
    outcome = work_on(plan, share_out("2", ["0", "1", "2", "3"]), Course(react))
    assert not outcome.unfinished and not outcome.failed and free == [False, False]
    log = SuiteFolder(plan.out, plan.name).cell(name_of(0)).log.read_text()
    assert "CUDA_VISIBLE_DEVICES=0,1 backbench run" in log and "--processes 2\n" in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_lets_cells_save(tmp_path: Path, number: signal.Signals) -> None:
    plan = plan_cells(tmp_path, {0: ["save sleep 60"]}, 2)
    with SuiteProcess(tmp_path) as suite:
        wait_until(lambda: beginnings(plan.out))
        _wait_for_handler(process_of(plan))
        suite.send(number)
        assert suite.end() == 130 and "unfinished 2" in suite.output.read_text()
    state = state_of(plan, 0)
    assert (state.outcome, state.reason, state.attempts[0].status) == ("stopped", "interrupted", 130)
    assert list((plan.out / "suites").rglob("owner")) == []


@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)])
def test_a_signal_lets_cells_save_in_a_job_of_slurm(tmp_path: Path, ignored: tuple[signal.Signals, ...]) -> None:
    """By another word than Slurm's own, which a second time would end them unsaved; under nohup, too."""
    plan = plan_cells(tmp_path, {0: ["save_at_hangup sleep 60"]}, 1)
    with SuiteProcess(tmp_path, ignoring=ignored, environment={"SLURM_JOB_ID": "77"}) as suite:
        wait_until(lambda: beginnings(plan.out))
        _wait_for_handler(process_of(plan))
        suite.send(signal.SIGTERM)
        assert suite.end() == 130
    assert state_of(plan, 0).attempts[0].status == 130


def test_what_ignores_a_hangup_is_asked_by_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite in a thread of a program under nohup cannot do anything about what its cells ignore."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
            processes.stop(process)
            assert process.wait(30) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, former)


def test_the_second_ctrl_c_waits_for_nobody(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["stubborn sleep 60"]}, 1)
    with SuiteProcess(tmp_path) as suite:
        wait_until(lambda: beginnings(plan.out))
        _wait_for_handler(process_of(plan))
        suite.send(signal.SIGINT)
        assert suite.end(0.3) is None
        suite.send(signal.SIGINT)
        assert suite.end() == 130
    assert state_of(plan, 0).attempts[0].status == -9


def test_nohup_keeps_a_suite_from_its_terminals_end(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["sleep 60 finish"]}, 1)
    with SuiteProcess(tmp_path, ignoring=(signal.SIGHUP,)) as suite:
        wait_until(lambda: beginnings(plan.out))
        suite.send(signal.SIGHUP)
        go(plan)
        assert suite.end() == 0


def _wait_for_handler(process: int) -> None:
    """Until a process handles, or ignores, SIGTERM."""
    bit = 1 << (signal.SIGTERM - 1)

    def is_there() -> bool:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt", "SigIgn"))]
        return any(mask & bit for mask in masks)

    wait_until(is_there)
