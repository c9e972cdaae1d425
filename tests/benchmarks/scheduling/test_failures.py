"""Cells of suites without a number, as the verdict on a night is told of them."""

from pathlib import Path

from benchmarks.scheduling.failures import failures_of
from results.regression.findings import Severity
from tests.support.stores import ELSEWHERE
from tests.support.suite_stores import make_job, own, put_finished, put_run_of, put_state, put_suite

DONE = make_job("done")
AGAIN, FAILED = make_job("again", 2), make_job("failed", 1)
BOXES = make_job("boxes", task="detection", dataset="coco2017", recipe="coco_fpn_vit_base")
LOST = make_job("lost", backbone="beit_vit_base", missing=("weights beit.pth: in /weights",))
TO_DO = make_job("to-do", backbone="dino_vit_base")


def put_night(store: Path) -> None:
    folder = put_suite(store, DONE, AGAIN, FAILED, BOXES, LOST, TO_DO)
    put_finished(folder, DONE)
    put_state(folder, FAILED, "failed", "out of memory")
    put_run_of(folder, AGAIN)
    put_run_of(folder, BOXES)
    own(folder, BOXES, here=False)


def test_what_has_not_finished_is_told_by_cell(tmp_path: Path) -> None:
    put_night(tmp_path)
    found = {failure.backbone if failure.task == "classification" else failure.task: failure
             for failure in failures_of([tmp_path])}  # fmt: skip
    assert [*found] == ["mae_vit_base", "detection", "beit_vit_base", "dino_vit_base"]
    both = found["mae_vit_base"]
    assert (both.task, both.dataset, both.recipe) == ("classification", "imagenet1k", "imagenet_vit_base")
    log = tmp_path / "suites/paper/cells/failed/log.txt"
    assert both.reason.startswith(f"seed 1 failed: out of memory (log: {log}); seed 2 unfinished: ")
    assert both.severity is Severity.regression
    assert found["detection"].reason == f"seed 0 at work: {ELSEWHERE.name}"
    assert found["beit_vit_base"].reason == "seed 0 missing: weights beit.pth: in /weights"
    assert found["dino_vit_base"].reason == "seed 0 to do: not begun"
    assert {found[name].severity for name in ("detection", "beit_vit_base", "dino_vit_base")} == {Severity.unclear}


def test_a_cell_of_which_a_seed_has_only_not_ended_is_not_clear(tmp_path: Path) -> None:
    folder = put_suite(tmp_path, DONE, AGAIN)
    put_finished(folder, DONE)
    (failure,) = failures_of([tmp_path])
    assert failure.severity is Severity.unclear and failure.reason == "seed 2 to do: not begun"


def test_what_has_finished_is_no_failure(tmp_path: Path) -> None:
    put_finished(put_suite(tmp_path, DONE), DONE)
    assert failures_of([tmp_path]) == []


def test_stores_are_found_in_nights_and_elsewhere_below(tmp_path: Path) -> None:
    for place in ("nights/2026-01-01", "nights/2026-01-02", "deeper/below/store"):
        put_suite(tmp_path / place, FAILED)
        put_state(put_suite(tmp_path / place, FAILED), FAILED, "failed", place)
    (nights,) = failures_of([tmp_path / "nights"])
    assert "2026-01-01" in nights.reason and "2026-01-02" in nights.reason
    (deeper,) = failures_of([tmp_path / "deeper"])
    assert deeper.reason.startswith("seed 1 failed: deeper/below/store (log: ")


def test_a_suite_whose_plan_is_damaged_is_told(tmp_path: Path) -> None:
    folder = put_suite(tmp_path, DONE)
    folder.plan.write_text("{")
    (failure,) = failures_of([tmp_path])
    assert (failure.backbone, failure.severity) == ("suite paper", Severity.unclear)
    assert failure.reason.startswith(f"{folder.plan}: ")


def test_files_and_stores_without_suites_have_none(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    assert failures_of([tmp_path / "results.csv", tmp_path]) == []
