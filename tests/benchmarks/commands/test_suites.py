"""What `backbench suite` prints while it runs and after its end, with work that is made up."""

import io
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.commands import suites
from benchmarks.launching.slots import share_out
from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.scheduling import suites as suites_of_scheduling
from benchmarks.scheduling.folders import CellState, Job, SuiteFolder, jobs_of
from benchmarks.scheduling.work import SuiteOutcome
from tests.support.in_process import call, success, usage_refusal
from tests.support.suite_stores import put_finished, put_run_of, put_state

TEXT = """\
about: two seeds
backbones: {random: random_vit_mini}
comparisons:
  shapes: {backbones: [random], recipes: mini_classification, seeds: [0, 1]}
"""
FIRST, SECOND = "shapes-random-mini_classification-seed0", "shapes-random-mini_classification-seed1"

Turn = Callable[[SuiteFolder, Job], CellState | None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two seeds.yaml"
    path.write_text(TEXT)
    return path


def finish(folder: SuiteFolder, job: Job) -> CellState:
    put_finished(folder, job, 12.5 + job.seed, cuda="")
    return CellState(outcome="finished")


def fail(folder: SuiteFolder, job: Job) -> CellState:
    put_state(folder, job, "failed", "out of memory")
    return CellState(outcome="failed", reason="out of memory")


def leave(folder: SuiteFolder, job: Job) -> None:
    put_run_of(folder, job)
    put_state(folder, job, "stopped")


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Lets `suite` do this with each cell, in the place of its work."""

    def choose(*turns: Turn, interrupted: bool = False) -> None:
        def work_on(plan: SuitePlan, slots: Any, on_change: Any, **options: Any) -> SuiteOutcome:
            folder = SuiteFolder(plan.out, plan.name)
            folder.path.mkdir(parents=True, exist_ok=True)
            jobs = [job.model_copy(update={"missing": ()}) for job in jobs_of(plan).jobs]
            folder.write(jobs_of(plan).model_copy(update={"jobs": tuple(jobs)}))
            outcome = SuiteOutcome(interrupted=interrupted)
            for job, turn in zip(jobs, turns, strict=False):
                on_change(job, "begins", None)
                if state := turn(folder, job):
                    outcome.states[job.name] = state
                    on_change(job, "ended", state)
            return outcome

        monkeypatch.setattr(suites_of_scheduling, "work_on", work_on)

    yield choose


def test_lines_of_the_course_and_the_end(file: Path, tmp_path: Path, do: Callable[..., None]) -> None:
    do(finish, finish)
    done = success("suite", file, "--out", tmp_path / "runs")
    lines = [line[9:] for line in done.stdout.splitlines() if line[:2].isdigit()]
    assert lines[:4] == [
        f"begins {FIRST}",
        f"finished {FIRST}: top-1 12.5 (1 of 2)",
        f"begins {SECOND}",
        f"finished {SECOND}: top-1 13.5 (2 of 2)",
    ]
    assert "| data set   | method   |" in done.stdout
    assert "2 of 2 cells finished; this call took" in done.stdout and "4.0 CPU hours" in done.stdout
    assert str(tmp_path / "runs/results.csv") in done.stdout
    assert (tmp_path / "runs/suites/two seeds/tables/transfer.tex").is_file()


def test_what_failed_and_the_command_that_repeats_just_that(
    file: Path, tmp_path: Path, do: Callable[..., None]
) -> None:
    do(finish, fail)
    out = tmp_path / "runs"
    done = call(
        "suite",
        file,
        "--out",
        out,
        "--only",
        "task=classification",
        "--method",
        "Mine",
        "--backbone",
        "random_vit_mini",
    )
    assert done.exit_code == 1
    (command,) = (line.strip() for line in done.stdout.splitlines() if line.startswith("  backbench suite"))
    words = shlex.split(command)
    assert words[:3] == ["backbench", "suite", str(file)] and "task=classification" not in words
    (cell,) = (word for word in words if word.startswith("cell="))
    assert cell.endswith("seed1") and words[words.index("--method") + 1] == "Mine"
    assert f"failed: {cell.removeprefix('cell=')}: out of memory" in done.stdout
    do(finish)
    success(*words[1:])


def test_unfinished_missing_and_interrupted(file: Path, tmp_path: Path, do: Callable[..., None]) -> None:
    do(finish, leave)
    done = call("suite", file, "--out", tmp_path / "runs")
    assert done.exit_code == 75 and f"unfinished: {SECOND}: stopped" in done.stdout
    assert "repeat the command to go on with them" in done.stdout
    do(leave, interrupted=True)
    assert call("suite", file, "--out", tmp_path / "other").exit_code == 130


def test_one_document(file: Path, tmp_path: Path, do: Callable[..., None]) -> None:
    do(finish, fail)
    done = call("suite", file, "--out", tmp_path / "runs", "--json")
    document = json.loads(done.stdout)
    assert document["failed"] == [SECOND] and document["again"].endswith(f"--only cell={SECOND}")
    assert f"failed {SECOND}: out of memory" in done.stderr


def test_on_a_terminal_what_is_at_work_is_shown_below(file: Path, tmp_path: Path, do: Callable[..., None]) -> None:
    do(finish, fail)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=30, highlight=False, markup=False)
    course = suites._Course(plan_suite(str(file), tmp_path / "runs"), console)
    with course.shown():
        suites_of_scheduling.work_on(plan_suite(str(file), tmp_path / "runs"), share_out(None), course.tell)
    shown = screen.getvalue()
    assert f"finished {FIRST}: top-1 12.5 (1 of 2)" in shown and "begins" not in shown
    assert "1 of 2 finished" in shown and "out of memory" in shown


def test_nights(file: Path, tmp_path: Path, do: Callable[..., None]) -> None:
    do(finish, finish)
    nights = tmp_path / "nights"
    for day in ("2026-11-24", "2026-11-25"):
        done = success("suite", file, "--out", nights, "--keep-nights", 1, "--night", day)
    assert "2 runs removed, 2.0 KiB; numbers and logs stay" in done.stderr
    assert [bool(list((nights / day).rglob("*.pth"))) for day in ("2026-11-24", "2026-11-25")] == [False, True]
    do(finish, fail)
    done = call("suite", file, "--out", nights, "--keep-nights", 1, "--night", "2026-11-26")
    assert done.exit_code == 1 and list((nights / "2026-11-25").rglob("*.pth"))


def test_a_night_that_is_no_date_and_one_without_a_folder_of_nights(file: Path, tmp_path: Path) -> None:
    arguments = ("suite", file, "--out", tmp_path, "--night", "today")
    assert "expected a date" in call(*arguments, "--keep-nights", 3).stderr
    assert "only with --keep-nights" in call(*arguments).stderr
    assert "--keep-nights" in usage_refusal(*map(str, arguments), "--keep-nights", "0")
