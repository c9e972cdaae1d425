"""What is told to Slurm and asked of it, without one: its commands are scripts that answer as it does."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from backbones.errors import InputError, TryAgainError
from benchmarks.launching import slurm
from benchmarks.planning.suites.slurm_settings import SlurmRequest
from benchmarks.scheduling.slurm_suite import launcher_of, options_of
from tests.support.in_process import refusal
from tests.support.slurm_commands import put_commands

Commands = Callable[..., None]
RUNNING = (
    "JobId=7 ArrayJobId=5 ArrayTaskId=2 JobState=RUNNING Reason=None StartTime=2026-11-26T18:36:50 "
    "EndTime=2026-11-26T18:46:50 Deadline=N/A PreemptEligibleTime=2026-11-26T18:36:50 PreemptTime={}"
)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Puts scripts in the place of Slurm's commands: `commands(squeue="echo …")`."""
    return partial(put_commands, tmp_path, monkeypatch)


def test_the_queue_has_the_jobs_of_arrays(commands: Commands) -> None:
    commands(squeue='echo "5_0 PENDING"; echo "5_1 RUNNING"; echo "8 COMPLETING"; echo "$@" >&2')
    assert slurm.find_queued(["5_1", "5_2", "8", "9"]) == {"5_1": "RUNNING", "8": "COMPLETING"}
    assert slurm.find_queued([]) == {}


def test_a_job_that_slurm_has_forgotten_is_not_queued(commands: Commands) -> None:
    commands(squeue='echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    assert slurm.find_queued(["5_1"]) == {}


def test_a_silent_slurm_is_no_empty_queue(commands: Commands) -> None:
    commands(squeue='echo "squeue: error: Unable to contact slurm controller" >&2; exit 1')
    with pytest.raises(TryAgainError, match=r"squeue: squeue: error: Unable to contact slurm controller$"):
        slurm.find_queued(["5_1"])


@pytest.mark.parametrize(
    ("preempted", "now", "is_over"),
    [("None", "18:45:00", True), ("None", "18:40:00", False), ("2026-11-26T18:45:00", "18:45:00", False)],
)
def test_whether_its_time_is_over(preempted: str, now: str, is_over: bool) -> None:
    standing = slurm.standing_in(RUNNING.format(preempted), datetime.fromisoformat(f"2026-11-26T{now}"))
    assert standing.is_running
    assert standing.is_over(signal_seconds=120) is is_over


def test_a_job_without_a_limit_is_never_over() -> None:
    standing = slurm.standing_in("JobState=COMPLETING EndTime=Unknown PreemptTime=None", datetime.now())
    assert standing == slurm.Standing(is_running=False, is_preempted=False, seconds_left=None)
    assert not standing.is_over(120)


def test_a_job_of_an_array_is_asked_for_by_its_place_there() -> None:
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm.own_number(array) == "5_2"
    assert slurm.own_number({"SLURM_JOB_ID": "7"}) == "7"
    assert slurm.own_number({}) == ""


def test_an_array_of_several_cells(commands: Commands, tmp_path: Path) -> None:
    commands(sbatch='cat "$1" > "$0.script"; echo "Submitted batch job 12"', srun="")
    request = SlurmRequest.model_validate(
        {"partition": "gpu", "time": "24:00:00", "gpus_per_node": 4, "nodes": 2, "cpus_per_task": 12, "memory": "128G"}
        | {"array_parallelism": 3, "setup": ["module load cuda"], "extra": {"mail-type": "FAIL", "exclusive": True}}
    )
    jobs = slurm.submit(print, [("a",), ("b",)], tmp_path / "jobs", options_of(request, "paper"), after="9_0")
    assert [job.number for job in jobs] == ["12_0", "12_1"]
    assert jobs[1].log == tmp_path / "jobs" / "12_1_0_log.out"
    script = (tmp_path / "sbatch.script").read_text().splitlines()
    options = {line.removeprefix("#SBATCH ") for line in script if line.startswith("#SBATCH")}
    assert options >= {
        *("--partition=gpu", "--time=24:00:00", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4"),
        *("--cpus-per-task=12", "--mem=128G", "--array=0-1%2", "--signal=USR2@120", "--dependency=afterok:9_0"),
        *("--job-name=backbench-paper", "--requeue", "--exclusive", "--mail-type=FAIL", "--kill-on-invalid-dep=yes"),
    }
    assert not any(option.startswith(("--wckey", "--account", "--error")) for option in options)
    assert "module load cuda" in script
    assert script[-1].startswith("exec ") and "srun" not in script[-1]
    assert launcher_of(request) == ("srun", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=12")


def test_what_sbatch_says_is_told(commands: Commands, tmp_path: Path) -> None:
    commands(sbatch='echo "sbatch: error: invalid partition specified: gpus" >&2; exit 1', srun="")
    with pytest.raises(InputError, match=r"^sbatch refuses: sbatch: error: invalid partition specified: gpus$"):
        slurm.submit(print, [("a",)], tmp_path / "jobs", {})


def test_a_machine_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^--launcher slurm: there are no commands sbatch and srun here"):
        slurm.submit(print, [("a",)], tmp_path / "jobs", {})
    assert not slurm.has_queue()


def test_cells_of_one_recipe_may_ask_for_more(tmp_path: Path) -> None:
    from benchmarks.planning.suites.site import load_site

    file = tmp_path / "site.yaml"
    file.write_text("slurm:\n  time: 24:00:00\n  gpus_per_node: 8\n  recipes:\n    mae_vit_huge: {nodes: 8}\n")
    site = load_site(file, {})
    assert site.slurm.of_recipe("ade20k_vit_base").nodes == 1
    request = site.slurm.of_recipe("mae_vit_huge")
    assert (request.nodes, request.gpus_per_node, request.time) == (8, 8, "24:00:00")
    assert json.loads(request.model_dump_json())["nodes"] == 8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("time: 90", 'key "slurm.time": expected HH:MM:SS or D-HH:MM:SS; found 90 (int)'),
        ("memory: 5 GB", "key \"slurm.memory\": expected such as 128G, of a node; found '5 GB' (str)"),
        ("extra: {output: log.txt}", 'key "slurm.extra": --output is not for `extra`: it is set for every cell'),
        ("extra: {cpus_per_task: 4}", "--cpus-per-task is not for `extra`: set slurm.cpus_per_task instead"),
        ("extra: {gres: [gpu]}", "--gres: expected a text, a number, or true for an option without a value"),
        ("recipes: {coco_fpn_vit_bas: {nodes: 2}}", 'key "slurm.recipes.coco_fpn_vit_bas": no such recipe.'),
        ("recipes: {mae_vit_huge: {nods: 2}}", 'no such setting. Did you mean "nodes"?'),
        ("partitions: gpu", 'key "slurm.partitions": no such setting. Did you mean "partition"?'),
    ],
)
def test_what_cannot_be_asked_for_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    from benchmarks.planning.suites.site import load_site

    file = tmp_path / "site.yaml"
    file.write_text(f"# a site\nslurm:\n  {line}\n")
    with pytest.raises(InputError) as caught:
        load_site(file, {})
    assert str(caught.value).startswith(f"{file}, line 3, ") and message in str(caught.value)


def test_limits_of_this_machine_are_none_of_slurms(tmp_path: Path) -> None:
    message = refusal("suite", "demo", "--out", tmp_path, "--launcher", "slurm", "--hours", "4")
    assert message.startswith("--launcher slurm: --jobs and --hours are of this machine.")


def test_the_site_file_of_the_documentation_is_one(tmp_path: Path) -> None:
    from benchmarks.planning.suites.site import load_site

    page = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (tmp_path / "site.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    assert load_site(tmp_path / "site.yaml", {}).slurm.of_recipe("mae_vit_huge").nodes == 8
