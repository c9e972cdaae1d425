"""Single runs under Slurm: several tasks under srun, and a batch script that puts itself back into the queue."""

from pathlib import Path

import yaml

from benchmarks.scheduling.folders import SuiteFolder
from tests.support.commands import comparable, metric_values, read_record, torchrun
from tests.support.in_process import run, success
from tests.support.slurm import MEETING, ROOT, preempt, restarts, slurm, state, wait_until

LONG = {"schedule__epochs": 40, "runtime__device": "cpu", "runtime__workers": 1}


def test_two_nodes_give_the_numbers_of_two_processes(mini: Path, tmp_path: Path) -> None:
    arguments = run(mini, tmp_path / "srun", runtime__device="cpu")
    slurm("srun", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "backbench", *arguments, **MEETING)
    torchrun(run(mini, tmp_path / "torchrun"))
    under_srun, under_torchrun = (read_record(tmp_path / name) for name in ("srun", "torchrun"))
    assert under_srun["world_size"] == 2
    assert metric_values(under_srun) == metric_values(under_torchrun)


EXAMPLES = ROOT / "examples" / "slurm"
SMALL = ["--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1", "--nodelist=one"]


def test_a_preempted_script_goes_on_from_its_checkpoint(mini: Path, tmp_path: Path) -> None:
    arguments, log = run(mini, tmp_path / "batch", **LONG), tmp_path / "log.txt"
    job = slurm("sbatch", "--parsable", *SMALL, f"--output={log}", str(EXAMPLES / "one_run.sbatch"), *arguments)
    wait_until(lambda: any((tmp_path / "batch").rglob("iteration_*.pth")), "there is a checkpoint")
    preempt("one")
    success(*run(mini, tmp_path / "undisturbed", **LONG))
    wait_until(lambda: not state(job), "the job ends")
    assert restarts(job) == 1
    assert "goes on: " in log.read_text()
    ours, undisturbed = (read_record(tmp_path / name) for name in ("batch", "undisturbed"))
    assert comparable(ours) == comparable(undisturbed)


def test_a_warned_suite_of_one_job_has_its_cell_save_and_goes_on(mini: Path, tmp_path: Path) -> None:
    """Slurm tells the cell as well as the suite, which tells the cell: it takes that for one word."""
    settings = {"schedule.epochs": 40, "schedule.warmup_epochs": 0}
    one = {"backbones": ["random_vit_mini"], "recipes": "mini_classification", "set": settings}
    suite = {"backbones": {"random_vit_mini": "random_vit_mini"}, "comparisons": {"one": one}}
    site = {"data": {"mini": str(mini)}, "runtime": {"all": {"device": "cpu", "workers": 1}}}
    for name, content in {"one": suite, "site": site}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    files = [str(tmp_path / "one.yaml"), "--site", str(tmp_path / "site.yaml"), "--out", str(tmp_path / "runs")]
    log = f"--output={tmp_path / 'log.txt'}"
    job = slurm("sbatch", "--parsable", *SMALL, log, str(EXAMPLES / "suite.sbatch"), *files)
    wait_until(lambda: any((tmp_path / "runs").rglob("iteration_*.pth")), "there is a checkpoint")
    slurm("scancel", "--signal=USR2", job)  # as Slurm does before the time limit
    wait_until(lambda: not state(job), "the job ends")
    cell = SuiteFolder(tmp_path / "runs", "one").cell("one-random_vit_mini-mini_classification-seed0")
    assert [attempt.status for attempt in cell.read().attempts] == [130, 0]
    assert cell.read().outcome == "finished"
    assert "goes on: " in cell.log.read_text()
