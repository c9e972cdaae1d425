"""Lines about jobs that are killed and resumed: do they end as those that never were, and is the machine repeatable?"""

import json
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.selftest.jobs import Apart, Call, compare, kill_at, record_of, run_all, run_directory
from benchmarks.selftest.lines import Bench, Found, Line


@dataclass(frozen=True)
class Task:
    """A small job with all that a device draws at random.

    data:       below the generated images
    changes:    of the recipe
    checkpoint: the file half-way, after which the job is killed
    command:    of backbench
    has_order:  whether a GPU can run it with `runtime.deterministic=true`
    precision:  on a GPU; a CPU has single precision
    """

    recipe: str
    data: str
    changes: tuple[str, ...]
    checkpoint: str
    command: tuple[str, ...] = ("run", "--backbone", "random_vit_mini")
    has_order: bool = True
    precision: Literal["fp32", "auto"] = "fp32"

    def call(self, bench: Bench, out: Path, *more: str) -> Call:
        """Its command on a device."""
        settings = [
            *self.changes,
            *more,
            f"runtime.device={bench.device}",
            f"precision={self.precision if bench.device == 'cuda' else 'fp32'}",
            "runtime.workers=0",
            "runtime.keep_checkpoints=9",
            "runtime.log_every=1",
        ]
        fixed = [*self.command, "--recipe", self.recipe, "--data", str(bench.data / self.data)]
        return Call((*fixed, *(part for setting in settings for part in ("--set", setting))), out)


_EPOCHS = ("schedule.epochs=4", "schedule.warmup_epochs=1")
_ITERATIONS = ("schedule.iterations=24", "schedule.warmup_iterations=4", "runtime.checkpoint_every=12")
_DENSE = (*_ITERATIONS, "model.relative_position=true", "model.drop_path=0.2")
PRETRAINING = Task("mae_vit_mini", "unlabelled", _EPOCHS, "iteration_8.pth", command=("pretrain",))
CLASSIFICATION = Task(
    "mini_classification",
    ".",
    (*_EPOCHS, "augment.mixup=0.8", "augment.random_erasing=0.25", "model.drop_path=0.2"),
    "iteration_16.pth",
    precision="auto",  # bf16, or fp16 where a GPU lacks that
)
DETECTION = Task("mini_detection", "coco", _DENSE, "iteration_12.pth", has_order=False)
SEGMENTATION = Task("mini_segmentation", "ade20k", _DENSE, "iteration_12.pth")

LITTLE = 1e-4
"""By how much, relatively, the loss of the first update after a resume may be off where sums have no fixed order: its
forward pass. Later ones drift apart by chance; a state that is not restored is off by 1e-2 at once."""


def resuming(task: Task, bench: Bench) -> Found:
    """A job run twice, and a third time with SIGKILL half-way; on a GPU also with `runtime.deterministic=true`.

    On a CPU all three have to be equal bit for bit, on a GPU those that are deterministic; others are told. Where there
    is no deterministic run, one that was not killed goes on from its half-way checkpoint once more, and the first loss
    has to be what it was.
    """
    modes = {"as it is": "runtime.deterministic=false"}
    if bench.device == "cuda" and task.has_order:
        modes["deterministic"] = "runtime.deterministic=true"
    exact = "as it is" if bench.device == "cpu" else "deterministic" if task.has_order else None
    calls = {
        (mode, which): task.call(bench, bench.scratch / f"{mode.replace(' ', '-')}-{which}", setting)
        for mode, setting in modes.items()
        for which in ("first", "second", "killed")
    }
    killed = [call for (_, which), call in calls.items() if which == "killed"]
    threads = 1 if bench.device == "cpu" else 2
    processes = {call: call.start(threads) for call in calls.values()}
    try:
        kill_at({call: processes.pop(call) for call in killed}, task.checkpoint)
        for call, process in processes.items():
            call.finish(process)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    half_way = [run_directory(call.out) / "checkpoints" / task.checkpoint for call in killed]
    written = [path.stat().st_mtime_ns for path in half_way]
    run_all(killed, threads)
    if [path.stat().st_mtime_ns for path in half_way] != written:
        raise RuntimeError(f"killed after {task.checkpoint}, a job began anew")
    outs = {key: call.out for key, call in calls.items()}
    again = {mode: compare(outs[mode, "second"], outs[mode, "first"]) for mode in modes}
    resumed = {mode: compare(outs[mode, "killed"], outs[mode, "first"]) for mode in modes}
    speeds = {mode: float(record_of(outs[mode, "first"])["train_images_per_second"]) for mode in modes}
    losses = None if exact else losses_after(task.checkpoint, calls["as it is", "first"], threads)
    return _judged(again, resumed, speeds, exact, losses)


def losses_after(checkpoint: str, call: Call, threads: int) -> tuple[float, float]:
    """The loss of the first update after a checkpoint: of a finished job, and of a copy that goes on from there."""
    copy = replace(call, out=call.out.with_name(f"{call.out.name}-rewound"))
    shutil.copytree(call.out, copy.out)
    directory = run_directory(copy.out)
    (directory / "record.json").unlink()
    for path in (directory / "checkpoints").iterdir():
        if path.name != checkpoint:
            path.unlink()
    run_all([copy], threads)
    update = int(Path(checkpoint).stem.split("_")[1]) + 1
    before, after = (_loss_of(update, run_directory(each.out) / "log.jsonl") for each in (call, copy))
    return before, after


def _loss_of(update: int, log: Path) -> float:
    entries = map(json.loads, log.read_text().splitlines())
    return next(float(entry["loss"]) for entry in entries if entry["update"] == update)


def _judged(
    again: dict[str, Apart],
    resumed: dict[str, Apart],
    speeds: dict[str, float],
    exact: str | None,
    losses: tuple[float, float] | None = None,
) -> Found:
    """exact: the mode whose runs have to be equal, None for none. losses: those of `losses_after`, for none."""
    measured = [f"{mode}: run again {again[mode]}, killed and resumed {resumed[mode]}" for mode in again]
    figures: dict[str, float | int | str | bool | None] = {}
    for mode in again:
        for what, apart in (("again", again[mode]), ("resumed", resumed[mode])):
            name = f"{mode.replace(' ', '_')}_{what}"
            figures |= {
                f"{name}_equal": apart.is_nothing,
                f"{name}_tensors_unequal": apart.tensors[0],
                f"{name}_weight_difference": apart.weights,
                f"{name}_loss_difference": apart.loss,
                f"{name}_same_up_to_update": apart.updates,
                f"{name}_metric_points": apart.points,
            }
        figures[f"{mode.replace(' ', '_')}_images_per_second"] = speeds[mode]
    if "deterministic" in speeds:
        ratio = speeds["as it is"] / speeds["deterministic"]
        measured.append(f"deterministic {ratio:.2f} × the time, side by side")
    if exact is None:
        assert losses is not None
        off = abs(losses[1] - losses[0]) / abs(losses[0])
        measured.append(f"the first loss after a resume off by {off:.1e}")
        figures["first_loss_after_resume_difference"] = off
        fine, expected = off <= LITTLE, f"the first loss after a resume off by {LITTLE:g} at most"
    else:
        fine = again[exact].is_nothing and resumed[exact].is_nothing
        expected = "equal bit for bit" + (" where deterministic" if len(again) > 1 else "")
    return Found(fine, "; ".join(measured), expected, figures)


def _line(name: str, task: Task, on_gpu: float) -> Line:
    precision = "fp32" if task.precision == "fp32" else "in half precision on a GPU"
    what = f"{task.recipe}, run twice and killed and resumed, {precision}: weights, optimizer, loss, metrics"
    return Line(name, what, {"cuda": on_gpu, "cpu": 45}, partial(resuming, task))


RESUMING = (
    _line("resume-pretraining", PRETRAINING, 65),
    _line("resume-classification", CLASSIFICATION, 65),
    _line("resume-detection", DETECTION, 115),
    _line("resume-segmentation", SEGMENTATION, 75),
)
