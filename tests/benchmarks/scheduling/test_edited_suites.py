"""A suite that was edited: what the settings before left is none of its numbers, and their processes do no harm."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.scheduling.ending import end_suite
from benchmarks.scheduling.folders import Job, SuiteFolder, write_plan
from benchmarks.scheduling.status import CellStatus, Reader, SuiteStatus
from benchmarks.scheduling.work import work_on
from results import cell_key
from tests.support.suite_stores import make_job, put_finished, put_state, put_suite
from tests.support.suites import Course, beginnings, carried_out, name_of, plan_cells, use_stand_in

EDITED = "schedule.epochs: 3"


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stand_in(monkeypatch, tmp_path)


def seen(plan: SuitePlan) -> SuiteStatus:
    return Reader(plan.out).read(SuiteFolder(plan.out, plan.name))


def test_what_finished_before_a_suite_was_edited_does_not_count(tmp_path: Path) -> None:
    carried_out(plan_cells(tmp_path))
    edited = plan_cells(tmp_path, settings=EDITED)
    outcome, _ = carried_out(edited, hours=0)
    assert outcome.unfinished == [name_of(0), name_of(1)]
    assert seen(edited).counts == {"to do": 2}
    ending = end_suite(SuiteFolder(edited.out, edited.name), outcome.unfinished)
    assert len(ending.unfinished) == 2 and not ending.tables
    carried_out(edited)
    assert seen(edited).counts == {"finished": 2}
    carried_out(plan_cells(tmp_path), hours=0)
    assert seen(edited).counts == {"to do": 2}


def test_nor_does_it_where_the_data_are_gone(tmp_path: Path) -> None:
    carried_out(plan_cells(tmp_path, cells=1))
    edited = plan_cells(tmp_path, cells=1, settings=EDITED)
    shutil.rmtree(tmp_path / "data")
    edited = plan_suite(str(tmp_path / "small.yaml"), edited.out, site=tmp_path / "site.yaml")
    assert carried_out(edited)[0].failed == [name_of(0)]
    (cell,) = seen(edited).cells
    assert (cell.state, cell.run, cell.result) == ("missing", None, None)


def test_nor_does_it_by_the_clock_of_a_file_server(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, cells=1)
    carried_out(plan)
    record = next(plan.out.rglob("record.json"))
    os.utime(record, (time.time() + 300,) * 2)
    edited = plan_cells(tmp_path, {0: ["say backbench:_diverged exit 4"]}, 1, settings=EDITED)
    script = json.loads((plan.out / "script").read_text())
    script["cells"][name_of(0)]["run"] = str(record.parent.relative_to(plan.out))  # it ends before it has another
    (plan.out / "script").write_text(json.dumps(script))
    assert carried_out(edited)[0].failed == [name_of(0)]
    (cell,) = seen(edited).cells
    assert (cell.state, cell.reason, cell.result) == ("failed", "diverged", None)


def put_made(out: Path, **changes: object) -> tuple[CellStatus, CellStatus]:
    """A pre-training and a cell of its weights, both finished; and how they stand in a plan that has changed since."""
    mae = make_job("mae", task="pretraining", table="")
    settings = '{"backbone": "b", "checkpoint": null, "seed": 0}'
    tuned = make_job("tuned", plan="", settings=settings, needs="mae", declared={"method": "Mine"})
    suite = put_suite(out, mae, tuned)
    put_finished(suite, mae, checkpoint_sha256="a" * 64, method="MAE")
    plan = cell_key({"backbone": "b", "checkpoint": "a" * 64, "seed": 0})
    put_finished(suite, tuned.model_copy(update={"plan": plan}), checkpoint_sha256="a" * 64, declared=tuned.declared)
    mae = mae.model_copy(update=changes.pop("mae", {}))  # type: ignore[call-overload]
    put_suite(out, mae, tuned.model_copy(update=changes))
    if mae.missing:
        put_state(suite, mae, "failed", "no data")
    first, second = Reader(out).read(suite).cells
    return first, second


def test_a_cell_of_weights_that_the_suite_makes_answers_to_their_record(tmp_path: Path) -> None:
    states = [cell.state for cell in put_made(tmp_path / "same")]
    assert states == ["finished", "finished"]
    states = [cell.state for cell in put_made(tmp_path / "settings", settings='{"backbone": "b", "seed": 1}')]
    assert states == ["finished", "to do"]
    states = [cell.state for cell in put_made(tmp_path / "names", declared={"method": "Another"})]
    assert states == ["finished", "to do"]
    states = [cell.state for cell in put_made(tmp_path / "weights", mae={"plan": "f" * 12})]
    assert states == ["to do", "waiting"]
    states = [cell.state for cell in put_made(tmp_path / "failed", mae={"plan": "f" * 12, "missing": ("data",)})]
    assert states == ["failed", "failed"]


def test_settings_of_before_that_come_back_without_data_have_their_own_numbers(tmp_path: Path) -> None:
    plan = plan_cells(tmp_path, cells=1)
    carried_out(plan)
    first = seen(plan).cells[0].run
    edited = plan_cells(tmp_path, cells=1, settings=EDITED)
    carried_out(edited)
    assert seen(edited).cells[0].run != first
    plan_cells(tmp_path, cells=1)
    shutil.rmtree(tmp_path / "data")
    back = plan_suite(str(tmp_path / "small.yaml"), plan.out, site=tmp_path / "site.yaml")
    outcome, course = carried_out(back)
    assert not outcome.failed and not outcome.unfinished and not course.of("begins")
    (cell,) = seen(back).cells
    assert (cell.state, cell.run) == ("finished", first)


def test_a_process_of_the_suite_before_leaves_the_rest_to_the_edited_one(tmp_path: Path) -> None:
    former, edited = plan_cells(tmp_path), list[SuitePlan]()

    def edit(job: Job, what: str) -> None:  # another process has the edited suite, and finishes seed 1
        if what == "begins" and not edited:
            edited.append(plan_cells(tmp_path, settings=EDITED))
            other = replace(edited[0], cells=edited[0].cells[1:], is_part=True)
            write_plan(SuiteFolder(former.out, former.name), edited[0])
            assert carried_out(other)[0].states[name_of(1)].outcome == "finished"

    outcome = work_on(former, on_change=Course(edit))
    assert outcome.changed == outcome.unfinished == [name_of(1)] and not outcome.failed
    assert beginnings(former.out).count(name_of(1)) == 1
    carried_out(edited[0])
    cells = seen(edited[0]).cells
    assert [cell.result and cell.result.plan for cell in cells] == [cell.planned.digest for cell in edited[0].cells]
