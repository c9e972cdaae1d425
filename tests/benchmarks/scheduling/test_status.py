"""How far the suites of a store are: every state of a cell, speeds, hours, and stores that are damaged or elsewhere."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.running.claim import CLAIM
from benchmarks.running.of_suite import RUN
from benchmarks.scheduling.documents import status_document
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.status import CellStatus, Reader, SuiteStatus
from results.errors import ResultsError
from tests.support.slurm_commands import put_commands
from tests.support.stores import ELSEWHERE
from tests.support.suite_stores import (
    BEGAN,
    cell_of,
    contents,
    make_job,
    own,
    put_finished,
    put_run_of,
    put_state,
    put_suite,
)

JOB, OTHER = make_job("one"), make_job("two", 1)


@pytest.fixture
def suite(tmp_path: Path) -> SuiteFolder:
    return put_suite(tmp_path, JOB, OTHER)


def read(suite: SuiteFolder) -> SuiteStatus:
    return Reader(suite.out).read(suite)


def first(suite: SuiteFolder) -> CellStatus:
    return read(suite).cells[0]


def test_nothing_has_begun(suite: SuiteFolder) -> None:
    status = read(suite)
    assert status.counts == {"to do": 2}
    assert (status.seconds_left, status.gpu_hours, status.cpu_hours) == (None, 0.0, 0.0)


def test_a_finished_cell_is_one_whose_run_has_a_record(suite: SuiteFolder) -> None:
    put_finished(suite, JOB, 83.5, deviations=["schedule.epochs=25 (reference 100)"])
    cell = first(suite)
    assert (cell.state, cell.result and cell.result.metrics) == ("finished", {"top1": 83.5})
    assert cell.result and cell.result.deviations == ("schedule.epochs=25 (reference 100)",)


def test_a_record_counts_whatever_the_state_says(suite: SuiteFolder) -> None:
    put_finished(suite, JOB)
    put_state(suite, JOB, "failed", "killed by signal 9")
    assert first(suite).state == "finished"


@pytest.mark.parametrize(("outcome", "state"), [(None, "at work"), ("failed", "failed"), ("stopped", "stopped")])
def test_a_record_of_earlier_data_does_not_count(suite: SuiteFolder, outcome: str | None, state: str) -> None:
    record = put_finished(suite, JOB) / "record.json"
    os.utime(record, (BEGAN.timestamp() - 60,) * 2)
    put_state(suite, JOB, outcome, "diverged")
    if outcome is None:
        assert first(suite).state == "finished"
        own(suite, JOB, here=False)
    assert first(suite).state == state and first(suite).result is None
    put_state(suite, JOB, "finished")
    assert first(suite).state == "finished"


def test_a_cell_that_finished_and_lost_its_record(suite: SuiteFolder) -> None:
    (put_finished(suite, JOB) / "record.json").unlink()
    assert first(suite).state == "damaged" and "no record any more" in first(suite).reason


def test_progress_speed_and_owner_of_a_cell_at_work(suite: SuiteFolder) -> None:
    put_run_of(suite, JOB, update=50, of=100)
    own(suite, JOB, here=False, silent_for=5)
    cell = first(suite)
    assert (cell.state, cell.owner) == ("at work", ELSEWHERE.name)
    assert cell.progress and (cell.progress.update, cell.progress.updates, cell.progress.loss) == (50, 100, 0.95)
    assert cell.seconds_left == pytest.approx(100.0)


def test_speed_is_that_of_the_last_lines(suite: SuiteFolder) -> None:
    run = put_run_of(suite, JOB, update=50, of=100)
    own(suite, JOB)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    slow = [line | {"seconds": line["seconds"] * 10} for line in lines]
    (run / "log.jsonl").write_text("x" * 9000 + "\n" + "".join(json.dumps(line) + "\n" for line in slow) + '{"upd')
    assert first(suite).seconds_left == pytest.approx(1000.0)


def test_an_owner_without_a_sign_of_life(suite: SuiteFolder) -> None:
    put_run_of(suite, JOB)
    own(suite, JOB, here=False, silent_for=600)
    assert first(suite).state == "unfinished" and "no sign of life" in first(suite).reason


def test_a_run_outlives_the_suite_process_that_began_it(suite: SuiteFolder) -> None:
    run = put_run_of(suite, JOB)
    own(suite, JOB, here=False, silent_for=600)
    (run / CLAIM).write_bytes(ELSEWHERE.marker)
    assert first(suite).state == "at work"


def test_a_process_outlives_it_before_its_run_has_a_directory(suite: SuiteFolder) -> None:
    (cell_of(suite, JOB).path / "process").write_bytes(ELSEWHERE.marker)
    assert (first(suite).state, first(suite).owner) == ("at work", ELSEWHERE.name)


def test_states_of_cells_that_nobody_has(suite: SuiteFolder) -> None:
    put_run_of(suite, JOB)
    put_state(suite, JOB, "stopped")
    put_state(suite, OTHER, "failed", "out of memory")
    assert [(cell.state, cell.reason) for cell in read(suite).cells] == [("stopped", ""), ("failed", "out of memory")]
    put_state(suite, JOB, None)
    put_state(suite, OTHER, None, job="12345", attempts=())
    assert [cell.state for cell in read(suite).cells] == ["unfinished", "queued"]
    assert read(suite).cells[1].reason == "Slurm job 12345"


def test_cells_in_slurms_queue_where_it_can_be_asked(
    suite: SuiteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was put back into it, the other's job has gone before it began."""
    put_run_of(suite, JOB)
    put_state(suite, JOB, None, job="12_0")
    put_state(suite, OTHER, None, job="12_1", attempts=())
    put_commands(tmp_path, monkeypatch, squeue="echo 12_0 PENDING")
    there, gone = read(suite).cells
    assert (there.state, there.reason) == ("queued", "Slurm job 12_0, pending")
    assert (gone.state, gone.reason) == ("unfinished", "Slurm job 12_1 is gone; the suite's command submits another")


def test_missing_files_and_cells_that_wait_for_weights(tmp_path: Path) -> None:
    jobs = [
        make_job("mae"),
        make_job("after", needs="mae"),
        make_job("lost", missing=("data coco2017: not in site.yaml",)),
        make_job("after-lost", needs="lost"),
    ]
    suite = put_suite(tmp_path, *jobs)
    states = {cell.job.name: (cell.state, cell.reason) for cell in read(suite).cells}
    assert states["after"] == ("waiting", "for mae")
    assert states["lost"] == ("missing", "data coco2017: not in site.yaml")
    assert states["after-lost"][0] == "missing"
    put_state(suite, jobs[0], "failed", "out of memory")
    assert read(suite).cells[1].state == "failed"
    put_finished(suite, jobs[0])
    assert read(suite).cells[1].state == "to do"


def test_time_left_of_the_whole_where_all_speeds_are_known(tmp_path: Path) -> None:
    jobs = [make_job(str(seed), seed) for seed in range(4)]
    suite = put_suite(tmp_path, *jobs)
    assert read(suite).seconds_left is None
    put_run_of(suite, jobs[1], update=50, of=100)
    own(suite, jobs[1], here=False)
    assert read(suite).seconds_left == pytest.approx(100.0 + 3 * 200.0)
    put_finished(suite, jobs[0])
    assert read(suite).seconds_left == pytest.approx(100.0 + 2 * 7200.0)
    own(suite, jobs[2], here=False)
    assert read(suite).seconds_left == pytest.approx(max(7200.0, (100.0 + 2 * 7200.0) / 2))


def test_time_left_is_not_told_where_a_speed_is_not_known(tmp_path: Path) -> None:
    jobs = make_job("known"), make_job("another recipe", 1, recipe="imagenet_vit_large")
    suite = put_suite(tmp_path, *jobs)
    put_run_of(suite, jobs[0], update=50, of=100)
    own(suite, jobs[0], here=False)
    assert read(suite).seconds_left is None


def test_hours_of_gpus_and_processors(suite: SuiteFolder) -> None:
    put_finished(suite, JOB, cuda="13.0", device="NVIDIA H100", world_size=4)
    put_run_of(suite, OTHER, update=90, of=100)
    status = read(suite)
    assert status.gpu_hours == pytest.approx(8.0) and status.cpu_hours == pytest.approx(180 / 3600)
    assert status.seconds_at_work == pytest.approx(7200.0)


def test_hours_of_several_gpus_before_there_is_a_record(suite: SuiteFolder) -> None:
    """Whoever has started them: its log says how many there are; that of an earlier version does not."""
    log = put_run_of(suite, JOB, update=90, of=100) / "log.jsonl"
    lines = [json.loads(line) | {"device": "cuda"} for line in log.read_text().splitlines()]
    for told, count in (({}, 1), ({"processes": 16}, 16)):
        log.write_text("".join(json.dumps(line | told) + "\n" for line in lines))
        assert read(suite).gpu_hours == pytest.approx(count * 180 / 3600)


def test_hours_of_a_run_that_several_cells_have_are_counted_once(tmp_path: Path) -> None:
    """Of this suite or of another in the store: `paper-25ep` has the cells of `paper` on ADE20K."""
    again = make_job("again", plan=JOB.plan)
    suite, other = put_suite(tmp_path, JOB, again), put_suite(tmp_path, JOB, name="paper-25ep")
    run = put_finished(suite, JOB, cuda="13.0", device="NVIDIA H100", world_size=4)
    for folder, job in ((suite, again), (other, JOB)):
        (cell_of(folder, job).path / RUN).write_text(f"{run.relative_to(suite.out)}\n/data/imagenet\n")
        put_state(folder, job, "finished", attempts=())
    suites = Reader(suite.out).read_all()
    assert [each.counts for each in suites] == [{"finished": 2}, {"finished": 1}]
    assert [each.gpu_hours for each in suites] == [pytest.approx(8.0)] * 2
    assert status_document(suite.out, suites)["gpu_hours"] == pytest.approx(8.0)


def test_damaged_and_half_copied_folders(suite: SuiteFolder) -> None:
    run = put_finished(suite, JOB)
    (run / "record.json").write_text('{"metrics": [')
    cell = cell_of(suite, OTHER).path
    (cell / "state.json").write_text("{")
    (cell / RUN).write_bytes(b"\xff\x00../..")
    states = [(cell.state, str(run) in cell.reason or "state.json" in cell.reason) for cell in read(suite).cells]
    assert states == [("damaged", True), ("damaged", True)]
    (suite.path / "plan.json").write_text("[1]")
    (suite.out / "suites/half").mkdir()
    half, broken = Reader(suite.out).read_all()
    assert "has no plan.json" in half.fault and "plan.json" in broken.fault and "\n" not in broken.fault


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"metrics": 1}',
        '{"metrics": [{"name": "top1"}]}',
        '{"metrics": [{"name": "top1", "value": NaN}]}',
        "\xff",
    ],
)
def test_what_is_no_record(suite: SuiteFolder, content: str) -> None:
    (put_finished(suite, JOB) / "record.json").write_text(content, encoding="latin-1")
    damaged = first(suite)
    assert damaged.state == "damaged" and damaged.reason.endswith(". Remove it and repeat the suite's command")


def test_a_path_of_a_run_leads_nowhere_else(suite: SuiteFolder) -> None:
    run = put_finished(suite, JOB)
    for told in (str(run), "../elsewhere", "", "a\tb", "."):
        (cell_of(suite, JOB).path / RUN).write_text(told)
        assert first(suite).result is None


def test_the_same_from_another_place_and_nothing_is_written(suite: SuiteFolder, tmp_path: Path) -> None:
    put_finished(suite, JOB)
    put_run_of(suite, OTHER)
    own(suite, OTHER, here=False)
    copy = tmp_path / "mounted"
    shutil.copytree(suite.out, copy, ignore=shutil.ignore_patterns("mounted"))
    before = contents(copy)
    (status,) = Reader(copy).read_all()
    assert status.counts == {"finished": 1, "at work": 1}
    assert status.cells[0].run and status.cells[0].run.is_relative_to(copy)
    assert contents(copy) == before


def test_a_reader_reads_a_record_once_and_sees_another_one(suite: SuiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = put_finished(suite, JOB, 83.5)
    reader = Reader(suite.out)
    reader.read(suite)
    read_bytes = Path.read_bytes
    opened = list[Path]()
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path), read_bytes(path))[1])
    reader.read(suite)
    assert run / "record.json" not in opened
    shutil.rmtree(run)
    put_finished(suite, JOB, 84.25)
    result = reader.read(suite).cells[0].result
    assert result and result.metrics == {"top1": 84.25}


def test_some_of_the_cells(suite: SuiteFolder) -> None:
    assert [cell.job.name for cell in Reader(suite.out).read(suite, only=["two"]).cells] == ["two"]


def test_no_such_store_and_a_store_without_suites(tmp_path: Path) -> None:
    assert Reader(tmp_path).read_all() == []
    with pytest.raises(ResultsError, match="nowhere: no such directory"):
        Reader(tmp_path / "nowhere").read_all()


def test_many_cells_in_no_time(tmp_path: Path) -> None:
    jobs = [make_job(f"cell-{seed}", seed, plan="0" * 12) for seed in range(300)]
    suite = put_suite(tmp_path, *jobs)
    source = put_finished(suite, jobs[0], per_class={f"class{number}": 50.1234 for number in range(100)})
    for job in jobs[1:]:
        (cell_of(suite, job).path / RUN).write_text(f"{source.relative_to(tmp_path)}\n")
    reader = Reader(tmp_path)
    begin = time.process_time()
    assert reader.read(suite).counts == {"finished": 300}
    assert time.process_time() - begin < 0.6
