"""After the end of a suite: tables, a summary, what deviates, what failed and what is left, and what it took."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.running.collecting import collect
from benchmarks.scheduling.ending import SUMMARY, TABLES, end_suite
from benchmarks.scheduling.folders import Attempt, Plan, SuiteFolder, with_others
from results import ResultsError
from tests.support.results_examples import DEVIATION
from tests.support.suite_stores import BEGAN, make_job, own, put_finished, put_run_of, put_state, put_suite

BASE, BOXES, BAD = (
    make_job("base"),
    make_job("boxes", 1, task="detection", dataset="coco2017", table="coco"),
    make_job("bad", 2),
)
NAMES = [job.name for job in (BASE, BOXES, BAD)]


@pytest.fixture
def suite(tmp_path: Path) -> SuiteFolder:
    folder = put_suite(tmp_path, BASE, BOXES, BAD)
    put_finished(folder, BASE, 83.5, deviations=[DEVIATION])
    put_finished(folder, BOXES, 50.1, metric="AP_box", cuda="13.0", world_size=2)
    put_state(folder, BAD, "failed", "out of memory")
    return folder


def test_tables_of_all_layouts_that_it_touched(suite: SuiteFolder) -> None:
    ending = end_suite(suite, NAMES)
    assert [table.name for table in ending.tables] == ["imagenet", "coco"]
    written = sorted(path.name for path in (suite.path / TABLES).iterdir())
    assert written == sorted(
        [f"{name}.{kind}" for name in ("imagenet", "coco") for kind in ("md", "csv", "tex")] + [SUMMARY]
    )
    assert "83.5" in (suite.path / "tables/imagenet.md").read_text()
    assert "50.1" in (suite.path / "tables/coco.csv").read_text()
    assert ending.results.read_text().count("\n") > 2


def test_only_the_suites_own_runs_stand_in_its_tables(suite: SuiteFolder) -> None:
    put_run_of(suite, make_job("another", 7), tells=False)
    other = put_suite(suite.out, make_job("of-another-suite", 8), name="other")
    put_finished(other, make_job("of-another-suite", 8), 77.7)
    end_suite(suite, NAMES)
    assert "77.7" not in (suite.path / "tables/imagenet.md").read_text()


def test_results_that_lost_rows_are_collected_again(suite: SuiteFolder) -> None:
    results = end_suite(suite, NAMES).results
    whole = results.read_bytes()
    for left in (whole[:200], whole[: whole.rstrip().rfind(b"\n") + 1], whole[:-5]):
        results.write_bytes(left)
        end_suite(suite, NAMES)
        assert results.read_bytes() == whole


def test_a_candidate_stands_beside_what_else_the_store_holds(suite: SuiteFolder) -> None:
    mine = make_job("mine", 9, method="Mine", backbone="my_vit")
    candidate = put_suite(suite.out, mine, name="paper-Mine")
    put_finished(candidate, mine, 84.2)
    (table,) = end_suite(candidate, ["mine"], beside_others=True).tables
    assert table.name == "imagenet"
    written = (candidate.path / "tables/imagenet.md").read_text()
    assert "84.2" in written and "83.5" in written
    end_suite(candidate, ["mine"])
    assert "83.5" not in (candidate.path / "tables/imagenet.md").read_text()


def test_what_is_not_as_it_should_be(suite: SuiteFolder) -> None:
    lost, begun = make_job("lost", 3, missing=("data coco2017: not in site.yaml",)), make_job("begun", 4)
    put_suite(suite.out, BASE, BOXES, BAD, lost, begun)
    put_run_of(suite, begun)
    put_state(suite, begun, "stopped")
    ending = end_suite(suite, [*NAMES, "lost", "begun"], repeat=lambda cells: f"again {' '.join(cells)}")
    assert ending.deviations == {(DEVIATION,): ["base"]}
    named = [[cell.job.name for cell in cells] for cells in (ending.failed, ending.missing, ending.unfinished)]
    assert named == [["bad"], ["lost"], ["begun"]]
    assert ending.again == "again bad"


def test_a_call_of_some_cells_tells_of_those_and_tables_have_all(suite: SuiteFolder) -> None:
    ending = end_suite(suite, ["base"])
    assert not ending.failed and [cell.job.name for cell in ending.ours.cells] == ["base"]
    assert [table.name for table in ending.tables] == ["imagenet", "coco"]


def test_hours_of_the_call_and_of_the_suite(suite: SuiteFolder) -> None:
    ending = end_suite(suite, NAMES, begun=["base"], wall_seconds=60.0)
    assert ending.spent == (0.0, pytest.approx(2.0))
    of_failed = 1.0  # which has no record
    assert (ending.whole.gpu_hours, ending.whole.cpu_hours) == (pytest.approx(4.0), pytest.approx(2.0 + of_failed))


def test_hours_of_the_call_are_those_of_its_own_processes(tmp_path: Path) -> None:
    """A cell that had taken days when this call went on with it, for half an hour on two GPUs."""
    suite = put_suite(tmp_path, BOXES)
    put_finished(suite, BOXES, 50.1, metric="AP_box", cuda="13.0", world_size=2, total_seconds=360_000.0)
    before = Attempt(by="another call", began=BEGAN, ended=BEGAN + timedelta(hours=99), status=130)
    since = BEGAN + timedelta(hours=100)
    ours = Attempt(by="this call", began=since, ended=since + timedelta(hours=0.5), status=0)
    put_state(suite, BOXES, "finished", attempts=(before, ours))
    ending = end_suite(suite, ["boxes"], begun=["boxes"], since=since)
    assert ending.spent == (pytest.approx(1.0), 0.0) and ending.whole.gpu_hours == pytest.approx(200.0)


def test_a_clock_that_was_set_back_takes_no_hours_from_others(tmp_path: Path) -> None:
    suite = put_suite(tmp_path, BOXES)
    put_finished(suite, BOXES, 50.1, metric="AP_box", total_seconds=60.0)
    killed = Attempt(by="this call", began=BEGAN, ended=BEGAN - timedelta(hours=9), status=-9)
    ours = Attempt(by="this call", began=BEGAN, ended=BEGAN + timedelta(hours=0.5), status=0)
    put_state(suite, BOXES, "finished", attempts=(killed, ours))
    ending = end_suite(suite, ["boxes"], begun=["boxes"], since=BEGAN)
    assert ending.spent[1] == pytest.approx(0.5) == ending.whole.cpu_hours


def test_the_suite_has_taken_no_less_than_the_call(tmp_path: Path) -> None:
    """A record's time leaves out what its process took to start."""
    suite = put_suite(tmp_path, BOXES)
    put_finished(suite, BOXES, 50.1, metric="AP_box", total_seconds=60.0)
    attempt = Attempt(by="this call", began=BEGAN, ended=BEGAN + timedelta(seconds=90), status=0)
    put_state(suite, BOXES, "finished", attempts=(attempt,))
    ending = end_suite(suite, ["boxes"], begun=["boxes"], since=BEGAN)
    assert ending.spent[1] == pytest.approx(90 / 3600) == ending.whole.cpu_hours


def test_the_same_for_programs(suite: SuiteFolder) -> None:
    end_suite(suite, NAMES, begun=["boxes"], wall_seconds=60.0, repeat=lambda cells: "backbench suite …")
    summary = json.loads((suite.path / TABLES / SUMMARY).read_text())
    assert summary["failed"] == ["bad"] and summary["again"] == "backbench suite …"
    assert summary["spent_gpu_hours"] == pytest.approx(4.0) and summary["wall_seconds"] == 60.0
    assert [cell["state"] for cell in summary["cells"]] == ["finished", "finished", "failed"]
    assert all(Path(path).is_file() for path in [*summary["tables"], summary["results"]])
    page = (Path(__file__).parents[3] / "docs/status.md").read_text()
    assert all(f"`{field}`" in page for field in summary)


def test_nothing_has_finished(tmp_path: Path) -> None:
    folder = put_suite(tmp_path, BASE)
    ending = end_suite(folder, ["base"])
    assert not ending.tables and (folder.path / TABLES / SUMMARY).is_file()
    assert not ending.results.exists()


def test_pretraining_stands_in_no_table(tmp_path: Path) -> None:
    mae = make_job("mae", task="pretraining", dataset="mini", table="", backbone="mae_vit_mini_patch8")
    folder = put_suite(tmp_path, mae)
    put_finished(folder, mae, 0.5, metric="reconstruction_loss")
    assert not end_suite(folder, ["mae"]).tables


def test_tables_that_cannot_be_written_are_told(suite: SuiteFolder) -> None:
    (suite.path / TABLES).write_text("in the way")
    with pytest.raises(ResultsError, match="tables"):
        end_suite(suite, NAMES)


def test_a_record_that_went_meanwhile(suite: SuiteFolder) -> None:
    own(suite, BAD, here=False)
    put_finished(suite, BAD, 82.0)
    collect(suite.out)
    assert not end_suite(suite, NAMES).failed


def test_a_plan_of_some_cells_keeps_the_others(suite: SuiteFolder) -> None:
    changed = make_job("base", missing=("data imagenet1k: not in site.yaml",))
    added = make_job("mine")
    plan = with_others(Plan(suite="paper", jobs=(changed, added)), suite.read())
    assert [job.name for job in plan.jobs] == ["base", "boxes", "bad", "mine"]
    assert plan.jobs[0].missing and with_others(plan, None) == plan
