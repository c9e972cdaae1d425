"""A suite by jobs of Slurm: preempted, over its time, failing, on two nodes, and waiting for a pre-training."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from benchmarks.planning.recipe import FOLDER
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.slurm_cell import STOPPED
from tests.support.commands import comparable, metric_values, run_arguments
from tests.support.in_process import success
from tests.support.slurm import preempt, slurm, wait_until

QUICK = {"schedule.epochs": 1, "schedule.warmup_epochs": 0, "optimizer.batch_size": 16}
LONG = QUICK | {"schedule.epochs": 30}
TWO = QUICK | {"schedule.epochs": 2}
ENDLESS = QUICK | {"schedule.epochs": 100_000}

SUITE = {
    "pretraining": {"mae": {"recipe": "mae_vit_mini", "data": "mini-unlabelled", "set": QUICK}},
    "backbones": {
        "random": "random_vit_mini",
        "pretrained": {"backbone": "mae_vit_mini", "weights": "@mae"},
        **{name: {"backbone": "random_vit_mini", "method": name} for name in ("long", "endless", "two")},
    },
    "comparisons": {
        "quick": {"backbones": ["random", "pretrained"], "recipes": "mini_classification", "set": QUICK},
        "long": {"backbones": ["long"], "recipes": "long.yaml", "set": LONG},
        "endless": {"backbones": ["endless"], "recipes": "endless.yaml", "set": ENDLESS},
        "two": {"backbones": ["two"], "recipes": "two.yaml", "set": TWO},
        "broken": {"backbones": ["random"], "recipes": "mini_segmentation"},
    },
}
NAMES = {
    "random": "quick-random-mini_classification-seed0",
    "pretrained": "quick-pretrained-mini_classification-seed0",
    "broken": "broken-random-mini_segmentation-seed0",
    **{name: f"{name}-{name}-{name}-seed0" for name in ("long", "endless", "two")},
    "mae": "mae",
}
SLURM = {
    "partition": "cheap",
    "gpus_per_node": 1,
    "time": "00:20:00",
    "memory": "1G",
    "setup": ["export MASTER_ADDR=127.0.0.1"],
    "recipes": {
        "long.yaml": {"extra": {"nodelist": "one"}},
        "endless.yaml": {"extra": {"nodelist": "two"}, "time": "00:01:00", "signal_seconds": 20, "max_requeues": 1},
        "two.yaml": {"nodes": 2},
    },
}


def write_files(folder: Path, mini: Path) -> list[str]:
    """A suite and a site; the command that carries the suite out."""
    for name in ("long", "endless", "two"):
        (folder / f"{name}.yaml").write_text((FOLDER / "mini_classification.yaml").read_text())
    broken = shutil.copytree(mini / "ade20k", folder / "broken")
    next((broken / "images" / "validation").iterdir()).write_bytes(b"no image")
    data = {"mini": str(mini), "mini-unlabelled": str(mini / "unlabelled"), "mini-ade20k": "broken"}
    site = {"data": data, "runtime": {"all": {"device": "cpu", "workers": 0}}, "slurm": SLURM}
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    (folder / "seven.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    files = [str(folder / "seven.yaml"), "--site", str(folder / "site.yaml"), "--out", str(folder / "runs")]
    return ["backbench", "suite", *files, "--launcher", "slurm"]


def submit(command: list[str]) -> dict[str, str]:
    """How each cell stands after the command, by its name."""
    standing = {cell["cell"]: cell["state"] for cell in json.loads(slurm(*command, "--json"))["cells"]}
    return {name: standing[cell] for name, cell in NAMES.items()}


def queue() -> list[str]:
    return slurm("squeue", "--noheader", "--array", "--format=%i").split()


def record(folder: Path, cell: str) -> dict[str, Any]:
    run = SuiteFolder(folder / "runs", "seven").cell(NAMES[cell]).run
    assert run
    content: dict[str, Any] = json.loads((run / "record.json").read_text())
    return content


def undisturbed(mini: Path, folder: Path) -> dict[str, Any]:
    """The record of the cell `long` as one command."""
    settings = {key.replace(".", "__"): value for key, value in LONG.items()}
    own = {"runtime__workers": 0, "runtime__device": "cpu"}
    arguments = run_arguments(mini, folder / "alone", recipe=str(folder / "long.yaml"), **settings, **own)
    success(*arguments, "--method", "long")
    (path,) = (folder / "alone").rglob("record.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_every_cell_comes_to_its_end(mini: Path, tmp_path: Path) -> None:
    command = write_files(tmp_path, mini)
    cells = {name: SuiteFolder(tmp_path / "runs", "seven").cell(cell) for name, cell in NAMES.items()}
    long, endless, broken = (cells[name] for name in ("long", "endless", "broken"))

    slurm("scontrol", "update", "PartitionName=cheap", "State=DOWN")
    assert submit(command) == dict.fromkeys(NAMES, "submitted")
    assert len(queue()) == len(NAMES)
    assert submit(command) == dict.fromkeys(NAMES, "queued")
    assert len(queue()) == len(NAMES)
    slurm("scontrol", "update", "PartitionName=cheap", "State=UP")

    wait_until(lambda: bool(long.run) and any(long.run.glob("checkpoints/*.pth")), "there is a checkpoint")
    preempt("one")
    wait_until(lambda: not queue(), "all jobs end", 400)
    ended = {name: cell.read() for name, cell in cells.items()}
    failed = {"endless": "failed", "broken": "failed"}
    assert {name: state.outcome for name, state in ended.items()} == dict.fromkeys(NAMES, "finished") | failed
    assert [attempt.status for attempt in ended["long"].attempts] == [130, 0]
    assert [attempt.status in STOPPED for attempt in ended["endless"].attempts] == [True, True]
    assert ended["endless"].reason.startswith("its time was over 2 time(s), and slurm.max_requeues is 1.")
    assert (endless.path / "slurm.txt").read_text().count("DUE TO JOB REQUEUE") == 1
    assert str(tmp_path / "broken") in ended["broken"].reason
    assert ended["broken"].reason in broken.log.read_text()

    assert "goes on: " in long.log.read_text()
    suite = {"suite": "seven"}
    assert comparable(record(tmp_path, "long")) == comparable(undisturbed(mini, tmp_path)) | suite
    assert record(tmp_path, "two")["world_size"] == 2
    assert metric_values(record(tmp_path, "pretrained"))["top1"] > 0

    again = submit(command)
    slurm("scancel", "--me")
    assert again == dict.fromkeys(NAMES, "finished") | dict.fromkeys(failed, "submitted")
