"""A baseline's folder: what of a night it keeps, which nights count, and what no mishap takes from it."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from backbones.errors import InputError, TryAgainError
from backbones.training import writing
from benchmarks.running import baselines
from benchmarks.running.baseline_file import author, read_baseline
from benchmarks.running.baselines import (
    IMAGES,
    counting_nights,
    counting_results,
    describe_nights,
    is_baseline,
    nights_of,
    pin,
    promote,
    tidy,
    unpin,
)
from benchmarks.running.collecting import collect
from benchmarks.running.comparison import compare_cells
from benchmarks.running.lease import Lease
from benchmarks.running.trace import compare_traces
from benchmarks.scheduling.nights import LARGE
from results import Metric, find_records, load_results, read_results_csv
from results.errors import StoreError
from tasks.detection.matches import matches_file
from tasks.detection.paired import AVERAGE_PRECISIONS
from tasks.segmentation.areas import AREAS
from tests.support.baselines import put_run
from tests.support.in_process import success
from tests.support.suite_stores import contents

RUN = "classification/imagenet1k/mae_vit_base/seed0-000000000000"


def put_night(root: Path, day: int, value: float = 83.0) -> Path:
    put_run(root / f"nights/2026-01-{day:02}", value, day=day)
    return root / f"nights/2026-01-{day:02}"


def promote_days(root: Path, *days: int, **options: object) -> Path:
    for day in days:
        promote(root / "baseline", put_night(root, day), who="Ann", **options)  # type: ignore[arg-type]
    return root / "baseline"


def counting(baseline: Path) -> list[str]:
    return [night.name for night in counting_nights(baseline)]


def test_it_is_a_store_of_pruned_runs(tmp_path: Path) -> None:
    done = promote(tmp_path / "baseline", night := put_night(tmp_path, 2), who="Ann", why="the first")
    baseline = tmp_path / "baseline"
    files = {path.relative_to(baseline).as_posix() for path in baseline.rglob("*") if path.is_file()}
    of_run = {f"2026-01-02/{RUN}/{name}" for name in ("record.json", "log.jsonl", "recipe.yaml")}
    assert files == {".gitignore", "baseline.yaml", "results.csv", *of_run}
    assert (done.night, done.runs, done.counts, done.dropped) == ("2026-01-02", 1, ("2026-01-02",), ())
    assert [record.metrics[0].value for _, record in find_records(baseline)] == [83.0]
    rows = read_results_csv(baseline / "results.csv")
    assert rows[["value", "directory"]].to_dict("records") == [{"value": 83.0, "directory": f"2026-01-02/{RUN}"}]
    assert compare_traces(counting_nights(baseline)[0], night).are_the_same
    assert is_baseline(baseline) and not is_baseline(night)


def test_its_file_says_who_when_and_why(tmp_path: Path) -> None:
    promote(tmp_path / "baseline", night := put_night(tmp_path, 2), who="Ann", why="the first: of many")
    document = yaml.safe_load((tmp_path / "baseline/baseline.yaml").read_text())
    (entry,) = document["entries"]
    assert entry.pop("when").startswith("20") and document["counts"] == ["2026-01-02"]
    assert entry == {
        "action": "promote",
        "nights": ["2026-01-02"],
        "who": "Ann",
        "why": "the first: of many",
        "from": str(night),
    }


def test_results_are_written_as_collecting_does(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1, 2)
    before = (baseline / "results.csv").read_bytes()
    collect(baseline)
    assert (baseline / "results.csv").read_bytes() == before
    assert before.count(b"\n") == 3


def test_images_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    metrics = [Metric(name=name, value=1.0, split="val") for name in ("top1", "loss")]
    put_run(night := tmp_path / "nights/2026-01-02", metrics=metrics)
    promote(baseline := tmp_path / "baseline", night, with_images=True, who="Ann")
    assert compare_cells(night, counting_nights(baseline)[0]).images == 1
    assert not (baseline / "2026-01-02" / RUN / "weights.safetensors").exists()
    assert {*IMAGES} == {"per_image.csv", AREAS, *map(matches_file, AVERAGE_PRECISIONS)} and {*IMAGES} < LARGE


def test_images_can_be_added_later(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 2)
    before = contents(baseline / "2026-01-02")
    assert promote(baseline, tmp_path / "nights/2026-01-02", with_images=True, who="Ann").runs == 1
    after = contents(baseline / "2026-01-02")
    assert {*after} - {*before} == {f"{RUN}/per_image.csv"} and before.items() <= after.items()


def test_the_newest_nights_count_and_stay(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1, 2, 4, keep=2)
    assert counting(baseline) == nights_of(baseline) == ["2026-01-02", "2026-01-04"]
    assert {*load_results(baseline)["directory"]} == {*read_results_csv(baseline / "results.csv")["directory"]}
    promote_days(tmp_path, 3, keep=2)
    assert counting(baseline) == nights_of(baseline) == ["2026-01-03", "2026-01-04"]
    with pytest.raises(InputError, match="2026-01-01 is older than the 2 newest nights"):
        promote_days(tmp_path, 1, keep=2)


def test_fourteen_nights_stay_by_default(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, *range(1, 16))
    assert len(counting(baseline)) == len(nights_of(baseline)) == 14


def test_a_night_that_alone_has_other_seeds_stays(tmp_path: Path) -> None:
    """As the first one, where every later night has the same seed: none could be judged without it."""
    for seed in (1, 2):
        put_run(tmp_path / "nights/2026-01-02", 83.0 + seed, day=2, seed=seed)
    baseline = promote_days(tmp_path, 1, 2, 3, 4, 5, keep=2)
    assert counting(baseline) == nights_of(baseline) == ["2026-01-02", "2026-01-04", "2026-01-05"]
    put_run(tmp_path / "nights/2026-01-06", 83.0, day=6, seed=7)
    promote_days(tmp_path, 6, keep=2)
    assert counting(baseline) == nights_of(baseline) == ["2026-01-05", "2026-01-06"]


def test_a_night_with_other_seeds_of_what_is_no_longer_run_goes(tmp_path: Path) -> None:
    put_run(tmp_path / "nights/2026-01-01", day=1, seed=1, recipe="imagenet_former")
    put_run(tmp_path / "nights/2026-01-02", day=2, seed=0, recipe="imagenet_former")
    baseline = promote_days(tmp_path, 1, 2, 3, 4, keep=2)
    assert counting(baseline) == ["2026-01-03", "2026-01-04"]


def test_a_wanted_change_begins_anew(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1, 2)
    with pytest.raises(InputError, match="--fresh takes a reason"):
        promote(baseline, put_night(tmp_path, 3), fresh=True, who="Ann")
    promote(baseline, put_night(tmp_path, 3), fresh=True, who="Ann", why="new crop")
    assert counting(baseline) == ["2026-01-03"] and nights_of(baseline) == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert counting_results(baseline)["directory"].tolist() == [f"2026-01-03/{RUN}"]
    promote_days(tmp_path, 4)
    assert counting(baseline) == ["2026-01-03", "2026-01-04"]
    shutil.rmtree(baseline / "2026-01-02")
    with pytest.raises(InputError, match="before 2026-01-03, from which on"):
        promote_days(tmp_path, 2)


def test_a_wanted_change_of_an_earlier_night_leaves_the_later_ones(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1, 2, 4)
    promote(baseline, put_night(tmp_path, 3), fresh=True, why="new crop", who="Ann")
    assert counting(baseline) == ["2026-01-03", "2026-01-04"]


def test_pinned_nights_count_whatever_is_promoted(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1, 2, 3)
    assert pin(baseline, ["2026-01-01"], why="release", who="Ann") == ("2026-01-01",)
    promote_days(tmp_path, 4, 5, keep=2)
    assert counting(baseline) == ["2026-01-01"]
    assert nights_of(baseline) == ["2026-01-01", "2026-01-04", "2026-01-05"]
    with pytest.raises(InputError, match=r"2026-01-01 are pinned.*unpin"):
        promote(baseline, put_night(tmp_path, 6), fresh=True, why="new crop", who="Ann")
    assert unpin(baseline, who="Ann") == ("2026-01-01", "2026-01-04", "2026-01-05")
    assert [entry.action for entry in read_baseline(baseline).entries[-4:]] == ["pin", "promote", "promote", "unpin"]
    with pytest.raises(InputError, match="no nights are pinned"):
        unpin(baseline, who="Ann")


def test_what_was_before_a_wanted_change_does_not_count_once_it_is_unpinned(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    promote(baseline, put_night(tmp_path, 2), fresh=True, why="new crop", who="Ann")
    pin(baseline, ["2026-01-01"], why="to look at it", who="Ann")
    assert unpin(baseline, who="Ann") == ("2026-01-02",)


def test_what_cannot_be_pinned(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    with pytest.raises(InputError, match=r"2026-02-01: no night of .*There are: 2026-01-01"):
        pin(baseline, ["2026-02-01"], why="release", who="Ann")
    with pytest.raises(InputError, match="takes a reason"):
        pin(baseline, ["2026-01-01"], why=" ", who="Ann")
    with pytest.raises(InputError, match=r"baseline\.yaml: no such file.*promote NIGHT --to"):
        pin(tmp_path / "none", ["2026-01-01"], why="release", who="Ann")
    assert not (tmp_path / "none").exists()


def test_a_night_is_promoted_once(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    before = contents(baseline)
    assert not promote(baseline, tmp_path / "nights/2026-01-01", who="Ann").is_new
    assert contents(baseline) == before
    with pytest.raises(InputError, match=r"other numbers: .*seed0-0+ has top1 83\.0, and in .*top1 82\.0"):
        promote(baseline, put_night(tmp_path, 1, 82.0), who="Ann")
    assert contents(baseline) == before


def test_no_reason_for_a_night_is_dropped(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    for why in ("release 1.0", "", "release 1.0", "checked by hand"):
        promote(baseline, tmp_path / "nights/2026-01-01", who="Ann", why=why)
    assert [entry.why for entry in read_baseline(baseline).entries] == ["", "release 1.0", "checked by hand"]
    assert counting(baseline) == ["2026-01-01"]


def test_a_night_that_was_removed_can_be_promoted_anew(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    shutil.rmtree(baseline / "2026-01-01")
    promote(baseline, put_night(tmp_path, 1, 82.0), who="Ann")
    assert counting_results(baseline)["value"].tolist() == [82.0]


def test_one_process_at_a_time_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = promote_days(tmp_path, 1, 2)
    before = contents(baseline)
    monkeypatch.setattr(baselines, "_PATIENCE", 0.0)
    with Lease(baseline / baselines._CLAIM), pytest.raises(TryAgainError, match="is changing it"):
        pin(baseline, ["2026-01-01"], why="release", who="Ann")
    assert contents(baseline) == before


@pytest.mark.parametrize("is_claimed_again", [False, True])
@pytest.mark.parametrize("where", ["shutil.copyfile", "collect", "write_baseline", "_drop"])
def test_who_was_suspended_for_long_takes_nothing_from_who_followed(
    where: str, is_claimed_again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suspended by a scheduler, a process is taken for dead; its heart, that beats again, may take the claim first."""
    baseline, claim = promote_days(tmp_path, 1, 2, keep=2), tmp_path / "baseline" / baselines._CLAIM
    place, _, name = where.rpartition(".")
    module = shutil if place else baselines
    continued = getattr(module, name)

    def suspended(*arguments: object) -> object:
        monkeypatch.undo()
        marker = claim.read_bytes()
        claim.unlink()
        with monkeypatch.context() as patch:  # in another process
            patch.setattr(writing, "_checks", [])
            promote(baseline, put_night(tmp_path, 4), who="Bob", keep=1)
        if is_claimed_again:
            claim.write_bytes(marker)
        return continued(*arguments)

    monkeypatch.setattr(module, name, suspended)
    with pytest.raises(TryAgainError, match="has changed it meanwhile"):
        promote(baseline, put_night(tmp_path, 3), who="Ann", keep=2)
    assert [entry.who for entry in read_baseline(baseline).entries][-1] == "Bob"
    assert counting(baseline) == ["2026-01-04"]


def test_a_night_that_was_put_elsewhere_is_dropped_by_its_link(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    (baseline / "2026-01-01").rename(tmp_path / "large")
    (baseline / "2026-01-01").symlink_to(tmp_path / "large")
    promote_days(tmp_path, 2, keep=1)
    assert nights_of(baseline) == ["2026-01-02"] and find_records(tmp_path / "large")


def test_a_night_is_named_by_a_link_too(tmp_path: Path) -> None:
    put_run(tmp_path / "scratch/run17", day=5)
    (tmp_path / "2026-01-09").symlink_to(tmp_path / "scratch/run17")
    put_run(tmp_path / "2026-01-10", day=5)
    (tmp_path / "newest").symlink_to(tmp_path / "2026-01-10")
    baseline = tmp_path / "baseline"
    assert promote(baseline, tmp_path / "2026-01-09", who="Ann").night == "2026-01-09"
    assert promote(baseline, tmp_path / "newest", who="Ann").night == "2026-01-10"


def test_a_night_gains_the_runs_that_it_lacks(tmp_path: Path) -> None:
    baseline, night = promote_days(tmp_path, 1), tmp_path / "nights/2026-01-01"
    put_run(night, seed=1)
    assert promote(baseline, night, who="Ann").runs == 1
    assert load_results(baseline)["seed"].tolist() == [0, 1] and counting(baseline) == ["2026-01-01"]


def test_the_night_of_a_store_that_is_none(tmp_path: Path) -> None:
    put_run(tmp_path / "runs", day=5)
    put_run(tmp_path / "runs", day=7, seed=1)
    assert promote(tmp_path / "baseline", tmp_path / "runs", who="Ann").night == "2026-01-07"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("empty", "no finished run"),
        ("nights", r"a folder of nights.*nights/2026-01-01"),
        (f"nights/2026-01-01/{RUN}", "a single run"),
        (".", "one lies in the other"),
    ],
)
def test_what_is_no_night_is_refused(given: str, told: str, tmp_path: Path) -> None:
    put_night(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=told):
        promote(tmp_path / "baseline", tmp_path / given, who="Ann")
    assert not (tmp_path / "baseline").exists()


class CutOffError(BaseException):
    """As a signal ends a process: nothing handles it."""


def cut_off(*_: object) -> None:
    raise CutOffError


@pytest.mark.parametrize("where", ["shutil.copyfile", "collect", "write_baseline"])
def test_a_promotion_that_is_cut_off_leaves_the_earlier_baseline(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = promote_days(tmp_path, 1, 2, keep=2)
    before = contents(baseline)
    with monkeypatch.context() as patch:
        patch.setattr(f"benchmarks.running.baselines.{where}", cut_off)
        with pytest.raises(CutOffError):
            promote_days(tmp_path, 3, keep=2)
    assert counting(baseline) == ["2026-01-01", "2026-01-02"]
    after = contents(baseline)
    assert {name: after[name] for name in before if name != "results.csv"} == {
        name: file for name, file in before.items() if name != "results.csv"
    }
    assert {*counting_results(baseline)["directory"]} == {f"2026-01-0{day}/{RUN}" for day in (1, 2)}
    promote_days(tmp_path, 3, keep=2)
    assert counting(baseline) == nights_of(baseline) == ["2026-01-02", "2026-01-03"]


def test_what_a_killed_promotion_left_goes(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    shutil.copytree(baseline / "2026-01-01", baseline / f"{baselines._PARTIAL}0123")
    promote_days(tmp_path, 2)
    assert len(load_results(baseline)) == 2 and [path.name for path in baseline.glob(".*")] == [".gitignore"]


def kill_within_promotion(baseline: Path, store: Path) -> None:
    """Promote a night in a process that is killed in the midst of the copy."""
    program = (
        "import os, pathlib, shutil, signal, sys\n"
        "from benchmarks.running.baselines import promote\n"
        "shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "promote(*map(pathlib.Path, sys.argv[1:]), who='Ann')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(baseline), str(store)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_of_a_killed_promotion_git_sees_nothing_and_whoever_looks_removes_it(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(baseline), "-c", "user.name=Ann", "-c", "user.email=ann@localhost", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-q", "-m", "Add a baseline")
    kill_within_promotion(baseline, put_night(tmp_path, 2))
    (baseline / ".baseline.yaml.0123456789ab").touch()
    assert list(baseline.glob(f"{baselines._PARTIAL}*")) and (baseline / baselines._CLAIM).exists()
    assert git("status", "--porcelain") == "" and "promoting" not in git("ls-files")
    success("baseline", "show", baseline)
    assert {path.name for path in baseline.glob(".*")} == {".git", ".gitignore"}


def test_who_looks_leaves_what_a_living_process_is_at_work_on(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    (baseline / f"{baselines._PARTIAL}0123").mkdir()
    with Lease(baseline / baselines._CLAIM):
        tidy(baseline)
        assert (baseline / f"{baselines._PARTIAL}0123").is_dir()
    tidy(baseline)
    assert {path.name for path in baseline.glob(".*")} == {".gitignore"}


def test_what_git_is_to_pass_over_is_the_users_where_they_say_so(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    (baseline / ".gitignore").write_text("notes.txt\n")
    promote_days(tmp_path, 2)
    assert (baseline / ".gitignore").read_text() == "notes.txt\n"


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    baseline = promote_days(tmp_path, 1)
    monkeypatch.setattr("benchmarks.running.baselines.shutil.copyfile", full)
    with pytest.raises(InputError, match=r"2026-01-02 cannot be added: .*No space left.*counts as it did") as raised:
        promote_days(tmp_path, 2)
    assert raised.value.status == 75 and nights_of(baseline) == counting(baseline) == ["2026-01-01"]
    with pytest.raises(InputError, match="cannot be added"):
        promote(tmp_path / "new", tmp_path / "nights/2026-01-02", who="Ann")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda text: text.replace("counts:", "count:"),
            r'baseline\.yaml, line 2, key "count": no such setting. Did you',
        ),
        (lambda text: text.replace("- '2026-01-01'", "- yesterday", 1), r"line 3, key .counts\.0.: expected a date"),
        (lambda text: text.replace("action: promote", "action: demote"), r"line 5, key .entries\.0\.action."),
        (
            lambda text: text.replace("who: Ann", "whom: Ann"),
            r"key .entries\.0\.whom.: no such setting. Did you mean .who",
        ),
        (lambda text: text.replace("from: ", "form: "), r"key .entries\.0\.form.: no such setting. Did you mean .from"),
        (
            lambda text: text.replace("- '2026-01-01'", "- '2026-02-01'", 1),
            r"line 3, key .*2026-02-01 counts, and .*folder",
        ),
        (lambda text: text + "\t{", r"line \d+: cannot be read as YAML"),
        (lambda text: "", "an empty file"),
    ],
)
def test_a_damaged_file_is_named(damage: Callable[[str], str], told: str, tmp_path: Path) -> None:
    path = promote_days(tmp_path, 1) / "baseline.yaml"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=told):
        counting_nights(path.parent)
    with pytest.raises(InputError, match=told):
        promote_days(tmp_path, 2)


def test_it_may_be_written_by_hand(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1, 2)
    (baseline / "baseline.yaml").write_text("counts: 2026-01-02\n")
    assert counting(baseline) == ["2026-01-02"]
    assert [(one.night, one.counts, one.runs) for one in describe_nights(baseline)] == [
        ("2026-01-01", False, 1),
        ("2026-01-02", True, 1),
    ]


def test_the_author_is_gits_or_the_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LOGNAME", "bob")
    assert author(tmp_path / "not/yet/there") == "bob"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "config", "user.name", "Ann Ö."], check=True)
    assert author(tmp_path / "not/yet/there") == "Ann Ö."
    baseline = tmp_path / "baseline"
    promote(baseline, put_night(tmp_path, 1))
    assert read_baseline(baseline).entries[0].who == "Ann Ö."


def test_a_store_that_is_called_like_a_night_and_is_none_is_refused(tmp_path: Path) -> None:
    put_run(tmp_path / "2026-13-45")
    with pytest.raises(StoreError, match=r"2026-13-45 is no date. A night's folder is named by one"):
        promote(tmp_path / "baseline", tmp_path / "2026-13-45", who="Ann")
    assert not (tmp_path / "baseline").exists()


def test_its_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    baseline = promote_days(tmp_path, 1)
    theirs, ours = (next(place.rglob("record.json")) for place in (tmp_path / "nights", baseline))
    assert json.loads(theirs.read_text()) == json.loads(ours.read_text())
