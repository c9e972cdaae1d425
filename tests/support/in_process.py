"""Running backbench's commands in this process, looking at what they say, and disks that fill up."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from benchmarks.commands.cli import app
from tests.support.commands import comparable, pretrain_arguments, read_record, run_arguments, run_directory

QUICK: dict[str, Any] = {
    "schedule__epochs": 1,
    "schedule__warmup_epochs": 0,
    "optimizer__batch_size": 16,
    "runtime__workers": 0,
}


def call(*arguments: object) -> Result:
    """One command, in this process; whatever is not handled is raised here."""
    result = CliRunner(env={"COLUMNS": "400"}).invoke(
        app, [str(argument) for argument in arguments], prog_name="backbench"
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def success(*arguments: object) -> Result:
    """A command that has to end well."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refusal(*arguments: object, status: int = 2) -> str:
    """The message of a command that ends with that status: all that it prints, but for its first line and progress."""
    result = call(*arguments)
    assert result.exit_code == status, result.output
    lines = [
        line
        for line in result.output.splitlines()
        if not line.startswith(("starts: ", "goes on: ", "evaluates: ", "probes: "))
    ]
    message = "\n".join(line for line in lines if not line.endswith(" s left"))
    assert message.startswith("backbench: ") and message.count("backbench: ") == 1, result.output
    return message.removeprefix("backbench: ")


def usage_refusal(*arguments: object) -> str:
    """The message of a command that is not even a call."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.replace("│", " ").split())


def pretrain(data: Path, out: Path, **changes: object) -> list[str]:
    """The arguments of a pre-training that takes a second."""
    return pretrain_arguments(data, out, **QUICK | changes)


def run(data: Path, out: Path, backbone: str = "random_vit_mini", **changes: object) -> list[str]:
    """The arguments of a fine-tuning that takes a second."""
    return run_arguments(data, out, backbone, **QUICK | changes)


def hide_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a single step of training fail the test."""

    def train(*arguments: object, **options: object) -> None:
        raise AssertionError("trained anew")

    monkeypatch.setattr("torch.optim.AdamW.step", train)


def refusal_before_training(*arguments: object, status: int = 2) -> str:
    """The message of a command that has to be refused before the first step of training."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        hide_training(monkeypatch)
        return refusal(*arguments, status=status)


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
        genuine = io.open

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            path = "" if isinstance(file, int) else os.fsdecode(file)
            if path.startswith(self.root) and self.name in path and set(mode) & set("wax"):
                self.hits += 1
                with genuine(file, mode, *arguments, **options):
                    pass
                return genuine("/dev/full", mode.replace("x", "w"), *arguments, **options)
            return genuine(file, mode, *arguments, **options)

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


def refusal_on_a_full_disk(arguments: list[str], out: Path, full: str) -> str:
    """The message of a command that finds no space left for a file with that in its path; nothing is half-written."""
    with FullDisk(out, full) as disk:
        message = refusal(*arguments, status=75)
    assert disk.hits, "nothing of that name was written"
    assert_nothing_is_half_written(out)
    return message


def assert_found_by_run_and_check(arguments: list[str], data_set: str, root: Path, expected: str) -> None:
    """The one mistake in a data set is refused by a run and found by `backbench data check`, in the same words."""
    message = refusal(*arguments, status=3)
    assert message.startswith(expected), message
    assert "\n" not in message
    check = call("data", "check", data_set, "--data", root)
    assert check.exit_code == 1
    assert [line.strip() for line in check.output.splitlines()][-2:] == [message, "1 problem(s)"]


def assert_evaluated_once_there_is_room(
    arguments: list[str], finished: Path, out: Path, full: str, product: str, *others: str
) -> None:
    """A trained run whose evaluation finds no space left is refused; repeated, it evaluates, and ends like `finished`.

    finished: the `--out` of the same run, done; `out` becomes a copy without its record and what the evaluation writes
    full:     in the path of the file that there is no space for
    product:  a file that the evaluation writes, which has to be the same in the end; the patterns of the others follow
    """
    shutil.copytree(finished, out)
    directory = run_directory(out)
    for pattern in ("record.json", product, *others):
        for path in directory.glob(pattern):
            path.unlink()
    with pytest.MonkeyPatch.context() as monkeypatch:
        hide_training(monkeypatch)
        message = refusal_on_a_full_disk(arguments, out, full)
        assert str(directory) in message and "No space left" in message and "Make room" in message
        assert not (directory / "record.json").exists()
        success(*arguments)
    assert_nothing_is_half_written(out)
    assert comparable(read_record(out)) == comparable(read_record(finished))
    assert (directory / product).read_bytes() == (run_directory(finished) / product).read_bytes()
