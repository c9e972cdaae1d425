"""Which device a job's processes run on, and what is refused instead of running slowly, or not at all."""

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

from backbones.errors import InputError
from backbones.training import machine
from backbones.training.machine import choose_device, device_type, join_processes, loader_workers, meet_processes
from backbones.training.precision import resolve_precision


@pytest.fixture(autouse=True)
def _undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No device is chosen, and this machine's own GPUs are none."""
    monkeypatch.setattr(machine, "_chosen", "auto")
    monkeypatch.setattr(machine, "DEVICE_FILES", tmp_path / "no device files")
    monkeypatch.setattr(machine, "_driver_status", lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def show_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def show_broken_driver(monkeypatch: pytest.MonkeyPatch, devices: Path, status: int | None = None) -> None:
    """A GPU's device file lies in `devices`; the driver's library answers so."""
    show_gpus(monkeypatch, 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(machine, "DEVICE_FILES", devices)
    monkeypatch.setattr(machine, "_driver_status", lambda: status)

    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). More.\nAnd more.")

    monkeypatch.setattr(torch.cuda, "init", fail)


def test_one_process_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, expected in ((0, "cpu"), (1, "cuda")):
        show_gpus(monkeypatch, count)
        choose_device("auto")
        assert device_type() == expected


def test_the_cpu_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    show_gpus(monkeypatch, 1)
    choose_device("cpu")
    assert device_type() == "cpu"


def test_a_gpu_that_is_asked_for_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    show_gpus(monkeypatch, 0)
    with pytest.raises(InputError, match=r'key "runtime.device": "cuda", and PyTorch .* finds no GPU'):
        choose_device("cuda")


def test_several_processes_on_a_cpu_have_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    show_gpus(monkeypatch, 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"2 processes and no GPU.*runtime\.device=cpu"):
        choose_device("auto")
    choose_device("cpu")


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_driver_that_does_not_serve_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str) -> None:
    """Hours on the CPU were the answer."""
    (tmp_path / "nvidia0").touch()
    show_broken_driver(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"no usable driver .*: The NVIDIA driver on your system is too old .*=cpu"):
        choose_device(wanted)  # type: ignore[arg-type]
    choose_device("cpu")


def test_a_driver_without_device_files_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    show_broken_driver(monkeypatch, tmp_path, status=803)
    with pytest.raises(InputError, match="no usable driver"):
        choose_device("auto")


@pytest.mark.parametrize("status", [None, machine.NO_DEVICE, machine.STUB_LIBRARY])
def test_a_machine_without_a_gpu_runs_on_its_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int | None
) -> None:
    """PyTorch's usual build is that for CUDA, everywhere."""
    show_broken_driver(monkeypatch, tmp_path, status)
    (tmp_path / "nvidiactl").touch()
    choose_device("auto")
    assert device_type() == "cpu"


def test_gpus_that_are_hidden_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    show_broken_driver(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    choose_device("auto")


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    show_gpus(monkeypatch, 4)
    for name, value in {"WORLD_SIZE": "8", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    choose_device("auto")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(InputError, match=r"8 processes on .* has 4 GPU\(s\)"):
        choose_device("auto")


def test_slurm_may_show_each_process_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    show_gpus(monkeypatch, 1)
    step = {"STEP_ID": "0", "NTASKS": "4", "PROCID": "3", "LOCALID": "3", "NODELIST": "node1", "CPUS_PER_TASK": "1"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    choose_device("auto")
    assert loader_workers(None) == 1


@pytest.mark.parametrize(
    ("bound_to", "on_node", "per_task", "workers"),
    [
        (2, "16", None, 2),
        (1, "8", None, 1),
        (16, "16", None, 2),
        (4, "4", None, 1),
        (16, "16", "2", 2),
        (64, "64", "32", 10),
    ],
)
def test_a_task_that_slurm_has_bound_to_its_share_has_all_of_it(
    monkeypatch: pytest.MonkeyPatch, bound_to: int, on_node: str, per_task: str | None, workers: int
) -> None:
    """It was divided by the number of tasks once more, and no loader was left."""
    step = {"STEP_ID": "0", "NTASKS": "8", "PROCID": "3", "LOCALID": "3", "NODELIST": "node1", "CPUS_ON_NODE": on_node}
    for name, value in (step | ({"CPUS_PER_TASK": per_task} if per_task else {})).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound_to)))
    assert loader_workers(None) == workers
    assert loader_workers(0) == 0


@pytest.mark.parametrize(("device", "fast", "expected"), [("cuda", True, "bf16"), ("cuda", False, "fp16")])
def test_a_gpu_without_fast_bf16_computes_in_fp16(
    monkeypatch: pytest.MonkeyPatch, device: str, fast: bool, expected: str
) -> None:
    """It was fp32, at an eighth of the speed."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast or including_emulation)
    assert resolve_precision("auto", device) == expected


def join_as_one_of_two(
    rank: int, port: int, complaint: str, answers: "multiprocessing.Queue[str]", gpu: str = ""
) -> None:
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    os.environ.update(place, LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    machine._gpu_identity = lambda: gpu
    try:
        choose_device("cpu")
        meet_processes(complaint)
        join_processes()
        MMLogger(f"of process {rank}")
        torch.distributed.barrier()  # else one may go while the other still connects to it
        torch.distributed.destroy_process_group()
        answers.put("met")
    except InputError as error:
        answers.put(str(error))


def answers_of_two(complaints: tuple[str, str], gpus: tuple[str, str] = ("", "")) -> list[str]:
    """What two processes that meet say, in any order."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [
        context.Process(target=join_as_one_of_two, args=(rank, port, complaints[rank], answers, gpus[rank]))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    said = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return said


@pytest.mark.parametrize("complaint", ["", "recipe here.yaml: No such file"])
def test_what_one_process_finds_wrong_ends_all(monkeypatch: pytest.MonkeyPatch, complaint: str) -> None:
    """The others waited for it at the meeting place. That there is one GPU, and it is not used, is no matter."""
    show_gpus(monkeypatch, 1)
    said = f"on {socket.gethostname()}: {complaint}" if complaint else "met"
    assert answers_of_two(("", complaint)) == [said] * 2


@pytest.mark.parametrize(("gpus", "is_shared"), [(("GPU-a", "GPU-a"), True), (("GPU-a", "GPU-b"), False)])
def test_one_gpu_is_not_shared(gpus: tuple[str, str], is_shared: bool) -> None:
    """Under srun two processes on a machine with one GPU each took it for their own."""
    told = f"2 processes on {socket.gethostname()} would share one GPU (GPU-a)."
    assert [said.startswith(told) for said in answers_of_two(("", ""), gpus)] == [is_shared] * 2
