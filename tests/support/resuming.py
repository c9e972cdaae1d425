"""Killing and interrupting runs at any moment, repeating them, and comparing what comes out with a run left alone."""

import signal
from pathlib import Path

import torch

from tests.support.commands import (
    Moment,
    backbench,
    checkpoint_tensors,
    last_checkpoint,
    log_lines,
    read_record,
    run_directory,
)

LOG = "backbones.training.progress.ProgressHook._log"
WRITE = "torch.save"
WRITE_WEIGHTS = Moment("benchmarks.running.finishing.write_weights")
WRITE_RECORD = Moment("benchmarks.running.finishing.write_record")
WRITE_RESULTS = Moment("benchmarks.running.collecting.write_results_csv")


def _shown(directory: Path) -> set[str]:
    """The names in a directory but for hidden ones, such as the claim that a killed run leaves."""
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}


def finish_after(arguments: list[str], out: Path, moments: list[Moment]) -> list[int]:
    """Repeat a command, killing it at one moment after the other, then let it finish; all exit statuses.

    What it prints goes to the file `log` beside `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    return [backbench(arguments, out.with_name("log"), moment) for moment in [*moments, None]]


def finish_killed(arguments: list[str], out: Path, moments: list[Moment]) -> None:
    """The same; the command has to reach every moment and to end well at last."""
    assert finish_after(arguments, out, moments) == [-signal.SIGKILL] * len(moments) + [0]


def finish(arguments: list[str], out: Path) -> Path:
    """Run a command to its end, which has to be a good one; `out`."""
    finish_killed(arguments, out, [])
    return out


def finish_interrupted(
    arguments: list[str], out: Path, moment: Moment, number: signal.Signals, iterations: int
) -> None:
    """Ctrl-C or the scheduler's SIGTERM at a moment: exit status 130, and a checkpoint of the last iteration.

    Then the command is repeated, to its end.
    """
    log = out.with_name("log")
    assert backbench(arguments, log, moment, number) == 130
    text = log.read_text()
    assert "interrupted; repeat the command" in text
    assert "Traceback" not in text
    assert (last_checkpoint(out).name, log_lines(out)) == (f"iteration_{iterations}.pth", iterations)
    assert not list(out.glob("**/record.json"))
    finish(arguments, out)


def assert_same_result(out: Path, reference: Path, *files: str) -> None:
    """Record, weights, optimizer state, log and tables of two runs are the same, and so are these files of theirs."""
    expected, found = read_record(reference), read_record(out)
    same = ("key", "metrics", "train_loss", "per_class", "notes", "corrupt_images", "checkpoint_sha256")
    for name in same:
        assert found[name] == expected[name], name
    tensors, others = checkpoint_tensors(out), checkpoint_tensors(reference)
    assert tensors.keys() == others.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])] == []
    assert log_lines(out) == log_lines(reference)
    ours, theirs = run_directory(out), run_directory(reference)
    for file in files:
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file
    assert _shown(ours) == _shown(theirs)
    assert (out / "results.csv").read_text().count("\n") == (reference / "results.csv").read_text().count("\n")
