"""A suite process: what it begins, tries again, leaves, and says at its end."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from backbones.training.writing import written_whole
from benchmarks.launching.slots import Slot, Slots
from benchmarks.planning.suites.plan import plan_suite
from benchmarks.running.lease import Lease
from benchmarks.running.of_suite import read_end
from benchmarks.scheduling import carrying, judging, work
from benchmarks.scheduling.folders import Plan, SuiteFolder
from tests.support.suites import (
    Course,
    beginnings,
    carried_out,
    name_of,
    plan_cells,
    state_of,
    use_stand_in,
    wait_until,
    write_suite,
)


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stand_in(monkeypatch, tmp_path)


def test_a_finished_cell_is_not_begun_again(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path)
    outcome, course = carried_out(plan)
    assert course.of("begins") == course.of("ended") == [name_of(0), name_of(1)]
    assert not outcome.failed and not outcome.unfinished and not outcome.interrupted
    assert [attempt.status for attempt in state_of(plan, 0).attempts] == [0]
    again, course = carried_out(plan)
    assert course.told == [] and not again.unfinished and len(beginnings(plan.out)) == 2
    (plan.out / json.loads((plan.out / "script").read_text())["cells"][name_of(1)]["run"] / "record.json").unlink()
    carried_out(plan)
    assert beginnings(plan.out)[2:] == [name_of(1)]


def test_what_finished_is_asked_of_the_store_once_the_suite_has_changed(tmp_path: Path) -> None:
    """Another setting, another root of the data: the run that the cell made then is not what is asked for now."""
    plan = plan_cells(tmp_path, cells=1)
    carried_out(plan)
    suite = tmp_path / "small.yaml"
    suite.write_text(
        suite.read_text().replace("mini_classification,", "{recipe: mini_classification, set: {schedule.epochs: 3}},")
    )
    changed = plan_suite(str(suite), plan.out, site=tmp_path / "site.yaml")
    assert carried_out(changed)[1].of("begins") == [name_of(0)]
    write_suite(tmp_path, 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "site.yaml").write_text("data: {mini: other}\n")
    moved = plan_suite(str(suite), plan.out, site=tmp_path / "site.yaml")
    assert carried_out(moved)[1].of("begins") == [name_of(0)]
    assert carried_out(moved)[1].of("begins") == []
    (tmp_path / "other").rmdir()
    gone = plan_suite(str(suite), plan.out, site=tmp_path / "site.yaml")
    assert gone.cells[0].missing and not carried_out(gone)[0].unfinished


def test_a_link_to_the_data_that_leads_elsewhere_is_another_root(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v2").mkdir()
    (tmp_path / "data").symlink_to("v1")
    plan = plan_cells(tmp_path, cells=1)
    carried_out(plan)
    assert carried_out(plan)[1].of("begins") == []
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("v2")
    assert carried_out(plan)[1].of("begins") == [name_of(0)]
    assert carried_out(plan)[1].of("begins") == []


def test_names_that_are_declared_anew_are_for_the_cells_process_to_write(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, cells=1)
    carried_out(plan)
    suite = tmp_path / "small.yaml"
    suite.write_text(
        suite.read_text().replace("{b: random_vit_mini}", "{b: {backbone: random_vit_mini, method: Mine}}")
    )
    renamed = plan_suite(str(suite), plan.out, site=tmp_path / "site.yaml")
    assert carried_out(renamed)[1].of("begins") == [name_of(0)]


ENDS = (
    ("say backbench:_wrong_key exit 2", 1, "wrong key"),
    ("say backbench:_no_images exit 3", 1, "no images"),
    ("say backbench:_the_loss_is_nan exit 4", 1, "the loss is nan"),
    ("say ValueError:_a_mistake exit 1", 2, "ValueError: a mistake"),
    ("say backbench:_out_of_memory exit 75", 3, "out of memory"),
    ("say step_7 kill 9", 3, "killed by signal 9, by the system if memory ran out. The last it said: step 7"),
    ("kill 15", 3, "killed by signal 15"),
    ("exit 137", 3, "killed by signal 9, by the system if memory ran out"),
    ("exit 255", 2, "exit status 255"),
    ("exit 0", 1, "its process ended without a fault, and no record is there"),
)
"""What a process does, how often its cell is tried, and the reason that is told."""


def test_the_exit_status_says_how_often_a_cell_is_tried(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {seed: [do] for seed, (do, _, _) in enumerate(ENDS)}, len(ENDS) + 1)
    outcome, _ = carried_out(plan, slots=Slots((Slot(),) * 3, 3))
    assert sorted(outcome.failed) == [name_of(seed) for seed in range(len(ENDS))] and outcome.unfinished == []
    assert beginnings(plan.out).count(name_of(len(ENDS))) == 1
    for seed, (_, times, reason) in enumerate(ENDS):
        state = state_of(plan, seed)
        assert (state.outcome, state.reason) == ("failed", reason)
        assert beginnings(plan.out).count(name_of(seed)) == len(state.attempts) == times
        assert all(attempt.ended for attempt in state.attempts)
        log = SuiteFolder(plan.out, plan.name).cell(name_of(seed)).log.read_text()
        assert log.count("BACKBENCH_SUITE=small backbench run --recipe mini_classification") == times


def test_a_repeated_command_tries_again_what_has_failed(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["exit 2", "finish"]})
    assert carried_out(plan)[0].failed == [name_of(0)]
    outcome, course = carried_out(plan)
    assert course.of("begins") == [name_of(0)] and not outcome.failed and not outcome.unfinished


def test_retries_are_the_callers_to_say(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["exit 75"]}, cells=1)
    carried_out(plan, retries=0)
    assert len(beginnings(plan.out)) == 1


def test_a_kill_between_the_record_and_the_end_costs_no_training(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["finish kill 9"]}, cells=1)
    outcome, _ = carried_out(plan)
    assert not outcome.failed and len(beginnings(plan.out)) == 1
    assert state_of(plan, 0).outcome == "finished"
    assert "random_vit_mini" in (plan.out / "results.csv").read_text()


def test_memory_that_ran_out_is_said_where_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter(range(100))
    monkeypatch.setattr(carrying, "kills_for_memory", lambda: next(kills))
    plan = plan_cells(tmp_path, {0: ["kill 9", "finish"]}, cells=1)
    _, course = carried_out(plan)
    (reason,) = course.reasons("again")
    assert reason.startswith(judging.KILLED_FOR_MEMORY)
    assert judging.kills_for_memory() >= 0


def test_a_full_disk_ends_the_suite_and_burns_no_tries(tmp_path: Path) -> None:
    plan = plan_cells(
        tmp_path, {0: ["say backbench:_f:_cannot_be_written_(No_space_left_on_device)._Make_room exit 75", "finish"]}, 3
    )
    outcome, _ = carried_out(plan)
    assert len(beginnings(plan.out)) == 1 and outcome.no_room == "f: cannot be written (No space left on device)"
    assert len(outcome.unfinished) == 3 and not outcome.failed
    outcome, _ = carried_out(plan)
    assert not outcome.no_room and not outcome.unfinished


def test_a_full_disk_under_the_suites_own_files_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_cells(tmp_path, {0: ["save sleep 60"]}, 2)
    course = Course(lambda job, what: full.append(what))
    full: list[str] = []

    def written(path: Path, **options: object) -> object:
        if full and path.name == "state.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written_whole(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("benchmarks.scheduling.folders.written_whole", written)
    outcome = work.work_on(plan, Slots((Slot(), Slot()), 2), course)
    assert outcome.no_room.endswith("state.json: No space left on device") and name_of(0) in outcome.unfinished
    monkeypatch.undo()
    use_stand_in(monkeypatch, tmp_path)
    (plan.out / "go").touch()
    assert isinstance(SuiteFolder(plan.out, plan.name).read(), Plan)
    state_of(plan, 0)


def test_what_needs_a_failed_cells_weights_is_not_begun(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["exit 2"]})
    needing = replace(plan.cells[1], needs=name_of(0))
    outcome, _ = carried_out(replace(plan, cells=(plan.cells[0], needing)))
    assert outcome.failed == [name_of(0), name_of(1)] and beginnings(plan.out) == [name_of(0)]
    assert outcome.states[name_of(1)].reason == f"{name_of(0)}, which makes its weights, has failed"


def test_a_cell_that_misses_something_fails_without_a_process(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, cells=1)
    lacking = replace(plan.cells[0], missing=("data mini: not in site.yaml",))
    outcome, _ = carried_out(replace(plan, cells=(lacking,)))
    assert outcome.states[name_of(0)].reason == "missing: data mini: not in site.yaml" and not beginnings(plan.out)


def test_several_cells_at_a_time_each_have_a_slot(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {seed: ["sleep 60 finish"] for seed in range(3)}, 3)
    at_work: list[int] = []

    def react(job: object, what: str) -> None:
        at_work.append({"begins": 1, "ended": -1}.get(what, 0))
        if sum(at_work) == 2:
            (plan.out / "go").touch()

    slots = Slots((Slot(environment={"OMP_NUM_THREADS": "1"}), Slot(environment={"OMP_NUM_THREADS": "1"})), 2)
    outcome = work.work_on(plan, slots, Course(react))
    assert not outcome.unfinished
    assert max(sum(at_work[:end]) for end in range(len(at_work))) == 2


def test_the_hours_end_a_suite_whose_cells_save(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["save sleep 60"], 1: ["finish"]})
    outcome, _ = carried_out(plan, hours=0.3 / 3600)
    assert outcome.over_budget and not outcome.interrupted and outcome.unfinished == [name_of(0), name_of(1)]
    state = state_of(plan, 0)
    assert (state.outcome, state.reason) == ("stopped", "the hours of the suite were over")
    (plan.out / "go").touch()
    script = json.loads((plan.out / "script").read_text())
    script["cells"][name_of(0)]["do"] = ["finish"]
    (plan.out / "script").write_text(json.dumps(script))
    assert not carried_out(plan)[0].unfinished


def test_a_cell_is_no_process_of_the_suites_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One suite process on each machine, as srun or torchrun starts them: each of their cells is a job of its own."""
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    plan = plan_cells(tmp_path, {0: ["say backbench:_wrong_key exit 2"]}, 1)
    carried_out(plan)
    cell = SuiteFolder(plan.out, plan.name).cell(name_of(0))
    assert read_end(cell.path, cell.read().attempts[0].token) == 2  # which the first process of a job alone says


def test_a_damaged_state_is_begun_anew(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, cells=1)
    cell = SuiteFolder(plan.out, plan.name).cell(name_of(0))
    cell.path.mkdir(parents=True)
    cell.state.write_text("")
    assert not carried_out(plan)[0].unfinished and state_of(plan, 0).outcome == "finished"


def test_nobody_reading_what_is_told_stops_no_suite(tmp_path: Path) -> None:
    def react(job: object, what: str) -> None:
        raise BrokenPipeError

    assert not work.work_on(plan_cells(tmp_path), on_change=Course(react)).unfinished


def test_an_error_of_the_suites_own_leaves_no_cell_behind(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, {0: ["save sleep 60"]}, 1)

    def react(job: object, what: str) -> None:
        if what == "begins":
            wait_until(lambda: beginnings(plan.out))
            raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        work.work_on(plan, on_change=Course(react))
    assert state_of(plan, 0).outcome == "stopped"
    Lease(SuiteFolder(plan.out, plan.name).cell(name_of(0)).owner).release()


def test_the_store_may_be_told_as_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_cells(tmp_path, cells=1)
    monkeypatch.chdir(tmp_path)
    outcome, _ = carried_out(replace(plan, out=Path("out")))
    assert not outcome.unfinished
    arguments = SuiteFolder(plan.out, plan.name).read().jobs[0].arguments  # type: ignore[union-attr]
    assert str(plan.out) in arguments


def test_folders_and_suites_may_have_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "a b'ü $(x)"
    plan = plan_cells(folder, cells=1, name="große suite+1")
    assert not carried_out(plan)[0].unfinished
    assert "große suite+1" in SuiteFolder(plan.out, plan.name).cell(name_of(0)).log.read_text()


def test_signals_are_the_former_handlers_again(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    carried_out(plan_cells(tmp_path, cells=1))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_suite_may_be_worked_on_in_a_thread(tmp_path: Path) -> None:
    plan, outcomes = plan_cells(tmp_path, cells=1), []
    thread = threading.Thread(target=lambda: outcomes.append(carried_out(plan)[0]))
    thread.start()
    thread.join(60)
    assert not outcomes[0].unfinished


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "out"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        plan = plan_cells(tmp_path, {0: ["sleep 60 finish"]})

        def react(job: object, what: str) -> None:
            if what == "begins":
                wait_until(lambda: beginnings(disk))
                with suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:
                    while file.write(bytes(512)):
                        pass
                (disk / "go").touch()

        outcome = work.work_on(plan, on_change=Course(react))
        assert "o space left" in outcome.no_room and len(outcome.unfinished) == 2
        assert not [path for path in disk.rglob(".*") if path.stat().st_size]
        (disk / "ballast").unlink()
        assert not carried_out(plan)[0].unfinished
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
