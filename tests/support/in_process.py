"""Running backbench's commands in this process, looking at what they say and leave behind, and disks that fill up."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from benchmarks.commands.cli import app

QUICK = {
    "schedule.epochs": 1,
    "schedule.warmup_epochs": 0,
    "optimizer.batch_size": 16,
    "runtime.workers": 0,
}


def call(*arguments: object) -> Result:
    """One command, in this process; whatever is not handled is raised here."""
    result = CliRunner(env={"COLUMNS": "400"}).invoke(
        app, [str(argument) for argument in arguments], prog_name="backbench"
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refusal(*arguments: object) -> str:
    """The message of a command that has to be refused: all that it prints, but for its progress."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    message = "\n".join(line for line in result.output.splitlines() if not line.endswith(" s left"))
    assert message.startswith("backbench: ") and message.count("backbench: ") == 1, result.output
    return message.removeprefix("backbench: ")


def usage_refusal(*arguments: object) -> str:
    """The message of a command that is not even a call."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.replace("│", " ").split())


def sets(**changes: object) -> list[str]:
    """`model__image_size=96` becomes `--set model.image_size=96`, over the settings of a quick run."""
    settings = QUICK | {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def pretrain(data: Path, out: Path, **changes: object) -> list[object]:
    return ["pretrain", "--recipe", "mae_vit_mini", "--data", data, "--out", out, *sets(**changes)]


def run(data: Path, out: Path, backbone: object = "random_vit_mini", **changes: object) -> list[object]:
    recipe = ["run", "--recipe", "mini_classification", "--backbone", backbone]
    return [*recipe, "--data", data, "--out", out, *sets(**changes)]


def directory_of(out: Path) -> Path:
    (recipe,) = out.glob("*/*/*/*/recipe.yaml")
    return recipe.parent


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((directory_of(out) / "record.json").read_text())
    return record


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs between two runs of the same thing."""
    times = {"train_images_per_second", "peak_memory_mb", "wall_seconds", "finished_at", "command"}
    return {name: value for name, value in record.items() if name not in times}


def hide_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a single step of training fail the test."""

    def train(*arguments: object, **options: object) -> None:
        raise AssertionError("trained anew")

    monkeypatch.setattr("torch.optim.AdamW.step", train)


class FullDisk:
    """Within the block every file whose path contains `name`, below `root`, takes no more bytes.

    The file that `open` gives writes to /dev/full, where the kernel itself says that there is no space left.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name, self.hits = str(root), name, 0

    def __enter__(self) -> "FullDisk":
        import builtins
        import io

        self.patch = pytest.MonkeyPatch()
        genuine, sync = io.open, os.fsync

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            path = os.fsdecode(Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else file)
            if path.startswith(self.root) and self.name in path and set(mode) & set("wax"):
                self.hits += 1
                with genuine(file, mode, *arguments, **options):
                    pass
                return genuine("/dev/full", mode.replace("x", "w"), *arguments, **options)
            return genuine(file, mode, *arguments, **options)

        def synced(descriptor: int) -> None:
            if not stat.S_ISCHR(os.fstat(descriptor).st_mode):  # /dev/full takes none, unlike a disk that is full
                sync(descriptor)

        self.patch.setattr(os, "fsync", synced)
        self.patch.setattr(io, "open", opened)
        self.patch.setattr(builtins, "open", opened)
        return self

    def __exit__(self, *arguments: object) -> None:
        self.patch.undo()


def assert_nothing_is_half_written(out: Path) -> None:
    """Whatever bears a final name can be read."""
    for path in out.rglob("*"):
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".pth":
                torch.load(path, weights_only=True)
            case ".png":
                Image.open(path).load()
            case ".csv":
                assert len(pd.read_csv(path)) > 0
