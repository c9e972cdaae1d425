"""`runs`, `clean`, `table`, `collect` and `compare` where a suite keeps its state beside the runs."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.running.inventory import SUITES
from benchmarks.scheduling.ending import end_suite
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.nights import prune
from tests.support.in_process import call, success
from tests.support.paired_runs import BAD, GOOD, write_cell
from tests.support.suite_stores import contents, make_job, own, put_finished, put_run_of, put_state, put_suite

DONE, AT_WORK, FAILED = make_job("done"), make_job("at-work", 1), make_job("failed", 2)


@pytest.fixture
def suite(tmp_path: Path) -> SuiteFolder:
    folder = put_suite(tmp_path / "store", DONE, AT_WORK, FAILED)
    put_finished(folder, DONE)
    own(folder, AT_WORK, here=False)
    (put_run_of(folder, AT_WORK) / ".claim").write_bytes((folder.cell("at-work").owner).read_bytes())
    put_state(folder, FAILED, "failed", "out of memory")
    (folder.cell("failed").path / "log.txt").write_text("backbench: out of memory\n")
    end_suite(folder, ["done", "at-work", "failed"])
    return folder


@pytest.mark.parametrize("command", [("runs", "--json"), ("runs",), ("table",), ("clean", "--dry-run"), ("collect",)])
def test_the_suites_folder_changes_nothing(suite: SuiteFolder, command: tuple[str, ...]) -> None:
    with_suite = call(command[0], suite.out, *command[1:])
    shutil.rmtree(suite.out / SUITES)
    without = call(command[0], suite.out, *command[1:])
    assert with_suite.exit_code == without.exit_code == 0
    assert with_suite.output == without.output


def test_no_file_of_a_suite_is_taken_for_a_run_s(suite: SuiteFolder) -> None:
    names = {path.name for path in (suite.out / SUITES).rglob("*")}
    assert names.isdisjoint({"record.json", "recipe.yaml", ".claim"})


def test_clean_leaves_a_suite_and_what_is_at_work(suite: SuiteFolder) -> None:
    before = contents(suite.out / SUITES)
    (AT_WORK_RUN,) = (path.parent for path in suite.out.rglob(".claim"))
    success("clean", suite.out, "--yes")
    assert contents(suite.out / SUITES) == before
    assert list((AT_WORK_RUN / "checkpoints").iterdir())


def test_clean_takes_what_dead_processes_left_of_a_suite_s_files(suite: SuiteFolder) -> None:
    old, new = (suite.cell("failed").path / f".state.json.{digit * 12}" for digit in "01")
    for partial in (old, new):
        partial.write_text("{")
    os.utime(old, (0, 0))
    success("clean", suite.out, "--yes")
    assert not old.exists() and new.exists()


def test_two_nights_are_compared(tmp_path: Path) -> None:
    nights = [tmp_path / day for day in ("2026-11-25", "2026-11-26")]
    for night, accuracy in zip(nights, (GOOD, BAD), strict=True):
        write_cell(night, "mae_vit_base", accuracy, seeds=(0, 1))
        end_suite(put_suite(night, make_job("mae"), name="nightly"), ["mae"])
    assert "mae_vit_base" in success("compare", *nights).stdout


def test_nights_of_which_one_has_lost_its_answers_by_image_say_so(tmp_path: Path) -> None:
    nights = [tmp_path / day for day in ("2026-11-25", "2026-11-26")]
    for night in nights:
        folder = put_suite(night, DONE, name="nightly")
        (put_finished(folder, DONE) / "per_image.csv").write_text("image,labels,top1,top5,loss\na.png,1,100,100,0.1\n")
    prune(tmp_path, nights[1], keep=1)
    done = call("compare", *nights)
    assert done.exit_code != 0 and "per_image.csv" in done.output and "Traceback" not in done.output
