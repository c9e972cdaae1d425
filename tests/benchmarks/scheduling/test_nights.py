"""A folder of nights: what goes of the older ones, what stays, and what is never touched."""

from datetime import date
from pathlib import Path

import pytest

from backbones.errors import InputError
from backbones.trained import WEIGHTS
from benchmarks.running.lease import Lease
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.nights import LARGE, night_in, old_nights, prune
from tasks.detection.matches import matches_file
from tasks.detection.paired import AVERAGE_PRECISIONS
from tasks.detection.task import DETECTIONS
from tasks.segmentation.areas import AREAS
from tests.support.stores import claim_from_elsewhere
from tests.support.suite_stores import contents, make_job, own, put_finished, put_run_of, put_state, put_suite

JOB, STOPPED = make_job("one"), make_job("two", 1)
DAYS = ("2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26")
TONIGHT = DAYS[-1]


def put_night(nights: Path, day: str) -> SuiteFolder:
    folder = put_suite(nights / day, JOB, STOPPED, name="nightly")
    run = put_finished(folder, JOB)
    for name in ("pictures", "tensorboard/deeper"):
        (run / name).mkdir(parents=True)
    for name in (WEIGHTS, "per_image.csv", "pictures/a.png", "tensorboard/deeper/events"):
        (run / name).write_bytes(b"x" * 1000)
    put_run_of(folder, STOPPED)
    put_state(folder, STOPPED, "stopped")
    for name in ("tables/imagenet.md", "tables/summary.json", "../../results.csv"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text("83.5")
    return folder


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    for day in DAYS:
        put_night(tmp_path, day)
    return tmp_path


def runs(night: Path) -> list[Path]:
    return sorted(path.parent for path in night.rglob("recipe.yaml"))


def has_large(night: Path) -> bool:
    return any((run / name).exists() for run in runs(night) for name in LARGE)


def test_what_goes_and_what_stays(nights: Path) -> None:
    before = {day: contents(nights / day) for day in DAYS}
    done = prune(nights, nights / TONIGHT, keep=2)
    assert [(one.night.name, one.runs, one.freed, one.left) for one in done] == [
        (day, 2, 4000 + 2 * 1024, []) for day in DAYS[:2]
    ]
    assert {day: contents(nights / day) for day in DAYS[2:]} == {day: before[day] for day in DAYS[2:]}
    for day in DAYS[:2]:
        assert not has_large(nights / day)
        kept = {path: file for path, file in before[day].items() if LARGE.isdisjoint(Path(path).parts)}
        assert contents(nights / day) == kept
        names = {Path(path).name for path in kept}
        assert {"record.json", "log.jsonl", "recipe.yaml", "results.csv", "summary.json", "imagenet.md"} <= names
        assert {"state.json", "plan.json"} <= names


def test_further_seeds_before_a_verdict_are_of_the_night(nights: Path) -> None:
    """They are no cells of the suite, whose name they have."""
    further = make_job("one", 7)
    run = put_finished(SuiteFolder(nights / DAYS[0], "nightly"), further)
    (nights / DAYS[0] / "suites/nightly/cells/one/run").unlink()
    (run / WEIGHTS).write_bytes(b"x")
    prune(nights, nights / TONIGHT, keep=3)
    assert not (run / WEIGHTS).exists() and not (run / "checkpoints").exists() and (run / "record.json").exists()


def test_it_is_done_once(nights: Path) -> None:
    prune(nights, nights / TONIGHT, keep=2)
    assert [one.runs for one in prune(nights, nights / TONIGHT, keep=2)] == [0, 0]


def test_tonight_stays_though_it_is_the_oldest(nights: Path) -> None:
    done = prune(nights, nights / DAYS[0], keep=2)
    assert [one.night.name for one in done] == [DAYS[1]] and has_large(nights / DAYS[0])


@pytest.mark.parametrize("silent_for", [5.0, 3600.0])
def test_a_night_at_work_is_left_alone(nights: Path, silent_for: float) -> None:
    cell, run = nights / DAYS[0], nights / DAYS[1]
    own(SuiteFolder(cell, "nightly"), STOPPED, here=False, silent_for=silent_for)
    claim_from_elsewhere(runs(run)[0], silent_for)
    done = prune(nights, nights / TONIGHT, keep=2)
    assert all("node7" in one.left[0] and not one.runs for one in done)
    assert has_large(cell) and has_large(run)


def test_who_was_silent_for_a_day_is_gone(nights: Path) -> None:
    own(SuiteFolder(nights / DAYS[0], "nightly"), STOPPED, here=False, silent_for=100_000)
    assert prune(nights, nights / TONIGHT, keep=3)[0].runs == 2


def test_a_run_that_somebody_takes_meanwhile(nights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scheduling.nights.why_at_work", lambda run: "")
    with Lease(runs(nights / DAYS[0])[0] / ".claim"):
        (done,) = prune(nights, nights / TONIGHT, keep=3)
    assert done.runs == 1 and "is at work on the run" in done.left[0]


def test_what_no_night_of_a_suite_made_stays(nights: Path) -> None:
    night = nights / DAYS[0]
    by_hand = put_run_of(SuiteFolder(night, "nightly"), make_job("by hand", 5), tells=False)
    record = next(night.rglob("record.json"))
    record.write_text(record.read_text().replace('"suite": "nightly"', '"suite": ""'))
    (nights / "2026-01-01").mkdir()
    (nights / "2026-01-02").symlink_to(night)
    put_suite(nights / "not a night", JOB)
    assert [path.name for path in old_nights(nights, 3)] == [DAYS[0]]
    (done,) = prune(nights, nights / TONIGHT, keep=3)
    assert done.runs == 1
    assert (by_hand / "checkpoints").is_dir() and (record.parent / WEIGHTS).is_file()


def test_nothing_is_removed_through_a_link(nights: Path, tmp_path: Path) -> None:
    night, elsewhere = nights / DAYS[0], tmp_path / "elsewhere"
    first, second = runs(night)
    first.rename(elsewhere)
    first.symlink_to(elsewhere)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.pth").write_bytes(b"x")
    (second / "checkpoints" / "linked").symlink_to(outside)
    prune(nights, nights / TONIGHT, keep=3)
    assert (elsewhere / "checkpoints").is_dir() and (outside / "precious.pth").is_file()
    assert not (second / "checkpoints").exists()


def test_a_night_whose_plan_cannot_be_read_stays(nights: Path) -> None:
    (nights / DAYS[0] / "suites/nightly/plan.json").write_text("{")
    (done,) = prune(nights, nights / TONIGHT, keep=3)
    assert "plan.json" in done.left[0] and has_large(nights / DAYS[0])


def test_files_of_each_image_are_known_by_their_names() -> None:
    assert {DETECTIONS, AREAS, WEIGHTS, *map(matches_file, AVERAGE_PRECISIONS)} <= LARGE


def test_which_night(tmp_path: Path) -> None:
    assert night_in(tmp_path, "2026-11-26") == tmp_path / TONIGHT
    assert night_in(tmp_path, None).name == date.today().isoformat()
    for wrong in ("yesterday", "2026-13-01", "20261126", "../2026-11-26"):
        with pytest.raises(InputError, match="expected a date"):
            night_in(tmp_path, wrong)
