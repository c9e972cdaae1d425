"""Cells as jobs of Slurm, without one: what a job does when its cell ends, and what a suite submits."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.scheduling.folders import CellState, SuiteFolder
from benchmarks.scheduling.slurm_cell import carry_out, waiting_state
from benchmarks.scheduling.slurm_suite import submit_suite
from tests.support.slurm_commands import put_commands
from tests.support.suite_stores import cell_of, make_job, put_state, put_suite

JOB = make_job("one")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuiteFolder:
    """Of one cell, which is job 7's, in whose process this is."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    folder = put_suite(tmp_path / "runs", JOB)
    put_state(folder, JOB, None, job="7", attempts=())
    return folder


class Controller:
    """Answers for scontrol: how the job stands; notes what is requeued."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch

    def says(self, state: str = "RUNNING", preempted: str = "None", left: float = 3600.0) -> None:
        end = (datetime.now() + timedelta(seconds=left)).isoformat(timespec="seconds")
        shown = f"JobId=7 JobState={state} EndTime={end} PreemptTime={preempted}"
        script = f'case $1 in show) echo "{shown}" ;; requeue) echo "$2" >> {self.folder}/requeued ;; esac'
        put_commands(self.folder, self.monkeypatch, scontrol=script)

    @property
    def requeued(self) -> str:
        path = self.folder / "requeued"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    return Controller(tmp_path, monkeypatch)


def end_of(suite: SuiteFolder, script: str, max_requeues: int = 1) -> tuple[int, CellState]:
    """The job's exit status and the cell's state, after a process in its cell's place that does what a script says."""
    with pytest.raises(SystemExit) as end:
        carry_out(str(suite.out), suite.name, JOB.model_dump_json(), ("sh", "-c", script), 120, max_requeues)
    assert isinstance(end.value.code, int)
    return end.value.code, cell_of(suite, JOB).read()


def test_a_preempted_cell_is_put_back_and_not_counted(suite: SuiteFolder, controller: Controller) -> None:
    controller.says(preempted="2026-11-26T18:36:55", left=30)
    status, state = end_of(suite, "exit 130")
    assert (status, state.outcome, state.times, controller.requeued) == (130, None, 0, "7\n")
    assert state.reason == "preempted; goes back into Slurm's queue"


def test_a_cell_whose_time_is_over_is_put_back_so_many_times(suite: SuiteFolder, controller: Controller) -> None:
    controller.says(left=100)
    status, state = end_of(suite, "exit 130")
    assert (status, state.outcome, state.times, controller.requeued) == (130, None, 1, "7\n")
    status, state = end_of(suite, "exit 140")
    assert (status, state.outcome, state.times, controller.requeued) == (140, "failed", 2, "7\n")
    assert state.reason.startswith("its time was over 2 time(s), and slurm.max_requeues is 1.")
    assert [attempt.status for attempt in state.attempts] == [130, 140]


def test_a_cell_that_something_else_stops_is_put_back_twice(suite: SuiteFolder, controller: Controller) -> None:
    """Its job runs, has time left and makes room for nobody: the third time it has failed, and says of what."""
    controller.says()
    for end in (130, 143):
        status, state = end_of(suite, f"exit {end}")
        assert (status, state.outcome, state.times) == (end, None, 0)
        assert state.reason == "told to end; goes back into Slurm's queue"
    status, state = end_of(suite, "echo backbench: DATA: stopped by SIGTERM; exit 143")
    assert (status, state.outcome, controller.requeued) == (143, "failed", "7\n7\n")
    assert state.reason.startswith("stopped 3 times, neither preempted nor out of time. The last time: ")
    assert "DATA: stopped by SIGTERM" in state.reason
    assert waiting_state(state, "8").stops == 0


def test_a_cancelled_cell_is_not_put_back(suite: SuiteFolder, controller: Controller) -> None:
    controller.says("COMPLETING")
    assert end_of(suite, "exit 130")[1].outcome == "stopped"
    assert end_of(suite, "kill -9 $$")[1].outcome == "stopped"  # and not begun again, in a job that ends
    assert controller.requeued == ""


def test_a_failure_is_the_jobs_with_its_reason(suite: SuiteFolder, controller: Controller) -> None:
    controller.says()
    status, state = end_of(suite, "echo backbench: DATA: no such folder; exit 3")
    assert (status, state.outcome, state.reason) == (3, "failed", "DATA: no such folder")


def test_what_has_finished_meanwhile_is_left_alone(suite: SuiteFolder, controller: Controller) -> None:
    put_state(suite, JOB, "finished", job="7", attempts=())
    assert end_of(suite, "exit 3")[0] == 0


def test_a_job_of_settings_of_before_does_nothing(suite: SuiteFolder, controller: Controller) -> None:
    put_suite(suite.out, JOB.model_copy(update={"settings": "{}"}))
    status, state = end_of(suite, "exit 3")
    assert (status, state.attempts, state.job) == (75, (), "7")


@pytest.fixture
def plan(mini: Path, tmp_path: Path) -> SuitePlan:
    """A pre-training, its encoder and random weights."""
    content = {
        "pretraining": {"mae": {"recipe": "mae_vit_mini", "data": "mini-unlabelled"}},
        "backbones": {"random": "random_vit_mini", "pretrained": {"backbone": "mae_vit_mini", "weights": "@mae"}},
        "comparisons": {"one": {"backbones": ["random", "pretrained"], "recipes": "mini_classification"}},
    }
    site = {"data": {"mini": str(mini), "mini-unlabelled": str(mini / "unlabelled")}, "slurm": {"partition": "gpu"}}
    for name, text in {"small": content, "site": site}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    return plan_suite(str(tmp_path / "small.yaml"), tmp_path / "runs", site=tmp_path / "site.yaml")


def test_nothing_is_submitted_twice(plan: SuitePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = f'cat "$1" >> {tmp_path}/scripts; n=$(grep -c "^#!" {tmp_path}/scripts); echo "Submitted batch job $n"'
    put_commands(tmp_path, monkeypatch, sbatch=count, srun="", squeue="exit 1")
    answers = submit_suite(plan)
    mae, random, pretrained = (answer.words for answer in answers.values())
    assert (mae, random, pretrained) == ("job 1_0", "job 1_1", "job 2, after job 1_0")
    scripts = (tmp_path / "scripts").read_text()
    assert scripts.count("--partition=gpu") == 2 and scripts.count("--dependency=afterok:1_0") == 1
    cells = SuiteFolder(plan.out, plan.name)
    assert [cells.cell(name).read().job for name in answers] == ["1_0", "1_1", "2"]

    put_commands(tmp_path, monkeypatch, squeue='echo "1_0 RUNNING"; echo "1_1 PENDING"; echo "2 PENDING"')
    assert {answer.standing for answer in submit_suite(plan).values()} == {"queued"}
    assert (tmp_path / "scripts").read_text() == scripts

    put_commands(tmp_path, monkeypatch, squeue='echo "1_0 RUNNING"')
    again = submit_suite(plan)
    assert [answer.words for answer in again.values()] == ["job 1_0, running", "job 3", "job 4, after job 1_0"]

    suite = tmp_path / "small.yaml"
    suite.write_text(
        suite.read_text().replace("recipe: mae_vit_mini", "recipe: mae_vit_mini\n    set: {schedule.epochs: 3}")
    )
    edited = plan_suite(str(suite), plan.out, site=tmp_path / "site.yaml")
    put_commands(tmp_path, monkeypatch, squeue='echo "1_0 PENDING"; echo "3 PENDING"; echo "4 PENDING"')
    mae, random, pretrained = (answer.words for answer in submit_suite(edited).values())
    assert mae == "job 1_0, pending, with other settings: `scancel 1_0`, and repeat the command"
    assert (random, pretrained) == ("job 3, pending", mae.replace("1_0", "4"))
