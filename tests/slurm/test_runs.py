"""Single runs under Slurm: several tasks under srun, and a batch script that puts itself back into the queue."""

from pathlib import Path

from tests.support.commands import comparable, metric_values, read_record, torchrun
from tests.support.in_process import run, success
from tests.support.slurm import MEETING, ROOT, preempt, restarts, slurm, state, wait_until

LONG = {"schedule__epochs": 60, "runtime__checkpoint_every": 20, "runtime__device": "cpu"}


def test_two_nodes_give_the_numbers_of_two_processes(mini: Path, tmp_path: Path) -> None:
    arguments = run(mini, tmp_path / "srun", runtime__device="cpu")
    slurm("srun", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "backbench", *arguments, **MEETING)
    torchrun(run(mini, tmp_path / "torchrun"))
    under_srun, under_torchrun = (read_record(tmp_path / name) for name in ("srun", "torchrun"))
    assert under_srun["world_size"] == 2
    assert metric_values(under_srun) == metric_values(under_torchrun)


def test_a_preempted_script_goes_on_from_its_checkpoint(mini: Path, tmp_path: Path) -> None:
    arguments, log = run(mini, tmp_path / "batch", **LONG), tmp_path / "log.txt"
    script = ROOT / "examples" / "slurm" / "one_run.sbatch"
    small = ["--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1", "--nodelist=one", f"--output={log}"]
    job = slurm("sbatch", "--parsable", *small, str(script), *arguments)
    wait_until(lambda: any((tmp_path / "batch").rglob("iteration_*.pth")), "there is a checkpoint")
    preempt("one")
    success(*run(mini, tmp_path / "undisturbed", **LONG))
    wait_until(lambda: not state(job), "the job ends")
    assert restarts(job) == 1
    assert "goes on: " in log.read_text()
    ours, undisturbed = (read_record(tmp_path / name) for name in ("batch", "undisturbed"))
    assert comparable(ours) == comparable(undisturbed)
