"""An evaluation alone, by the engine and the loop that evaluate what is trained."""

import gc
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from backbones.training.checkpointing import Tally
from backbones.training.compiling import compile_network
from backbones.training.determinism import in_fixed_order
from backbones.training.evaluated import KeptEvaluation
from backbones.training.interruption import InterruptHook
from backbones.training.machine import cuda_version, device_name, device_type, driver_version, process_count
from backbones.training.measuring import peak_memory_mb, run_seconds
from backbones.training.outcome import Outcome
from backbones.training.plan import Collate, Evaluation
from backbones.training.precision import Precision, resolve_precision
from backbones.training.progress_line import ProgressLine
from backbones.training.runner import ENGINE_HOOKS, JobRunner, evaluation_loader
from backbones.training.settings import Recipe

_run_number = itertools.count()


@dataclass(frozen=True)
class Share:
    """One of several evaluations of the same length, `done` of which are finished: how far all are is shown."""

    done: int = 0
    total: int = 1


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of one network in one directory; the fields are those of a `Job` of the same names.

    share: of how many such evaluations it is which
    precision: that the network computes in; None: the recipe's
    """

    model: BaseModel
    evaluation: Evaluation
    recipe: Recipe
    directory: Path
    seed: int
    title: str
    hooks: Sequence[Hook] = ()
    collate: Collate | None = None
    share: Share = Share()
    precision: Precision | None = None


class EvaluationRunner(JobRunner):
    """The engine without training: nothing to resume, no wrapper that shares gradients."""

    _val_loop: Any

    def wrap_model(self, model_wrapper_cfg: Any, model: torch.nn.Module) -> torch.nn.Module:
        return model.to(device_type())

    def load_or_resume(self) -> None:
        """Leave the weights as they are."""

    def _updates(self) -> int:
        return 0

    def _require_finite_weights(self) -> None:
        """Loading has made sure."""

    def run_once(self) -> dict[str, float]:
        """Evaluate, unless this has been done before in the same directory; the metrics."""
        self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook("before_run")
        assert self.evaluated is not None
        self.evaluated.find(0)
        metrics = self.evaluate()
        self.call_hook("after_run")
        return metrics


class _ProgressHook(Hook):
    """How far it is, and what it costs."""

    def __init__(self, title: str, tally: Tally, share: Share) -> None:
        self.title, self.tally, self.share = title, tally, share
        self.line: ProgressLine | None = None

    def before_val_epoch(self, runner: Runner) -> None:
        self.began = run_seconds()
        self.first = self.share.done * len(runner.val_dataloader)
        self.line = ProgressLine(self.title, self.share.total * len(runner.val_dataloader), "batches")
        self.line.start_at(self.first)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        assert self.line is not None
        self.line.update(self.first + batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.close()
        self.tally.evaluation_seconds += run_seconds() - self.began
        self.tally.peak_memory_mb = max(self.tally.peak_memory_mb, peak_memory_mb())

    def close(self) -> None:
        if self.line:
            self.line.close()
            self.line = None


def run_evaluation(job: EvaluationJob) -> Outcome:
    """Evaluate once, each process its share of the images, and say how it went.

    What was evaluated by a call that was killed before its record stands is taken as it is. Raises InputError for
    settings that do not fit this machine, KeyboardInterrupt after Ctrl-C or SIGTERM.
    """
    with in_fixed_order(job.recipe.runtime.deterministic):
        return _run(job)


def _run(job: EvaluationJob) -> Outcome:
    recipe, tally = job.recipe, Tally()
    precision = job.precision or resolve_precision(recipe.precision, device_type())
    if recipe.runtime.compile:
        compile_network(job.model.network)
    progress, interrupt = _ProgressHook(job.title, tally, job.share), InterruptHook(None, 1)
    runner = EvaluationRunner(
        model=job.model,
        work_dir=str(job.directory),
        val_dataloader=evaluation_loader(job.evaluation, recipe, job.collate),
        val_cfg={},
        val_evaluator=Evaluator([job.evaluation.metric]),
        default_hooks=dict.fromkeys(ENGINE_HOOKS),
        custom_hooks=[progress, *job.hooks, interrupt],
        launcher="pytorch" if process_count() > 1 else "none",
        randomness={"seed": job.seed},
        experiment_name=f"{job.directory.name}-evaluation-{os.getpid()}-{next(_run_number)}",
    )
    runner.evaluated = KeptEvaluation(job.directory / "checkpoints", job.evaluation, tally)
    try:
        with interrupt.listening():
            metrics = runner.run_once()
    finally:
        progress.close()
        runner.close_log()
    del runner
    if job.share.done + 1 == job.share.total:
        gc.collect()
    return Outcome(
        train_loss=None,
        images_per_second=None,
        peak_memory_mb=max(all_gather_object(max(tally.peak_memory_mb, peak_memory_mb()))),
        seconds=None,
        evaluation_seconds=tally.evaluation_seconds,
        earlier_seconds=0.0,
        corrupt={},
        precision=precision,
        device=device_name(),
        cuda=cuda_version(),
        driver=driver_version(),
        processes=process_count(),
        step_images=(),
        metrics=metrics,
    )
