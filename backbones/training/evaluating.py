"""An evaluation alone, by the engine and the loop that evaluate what is trained."""

import gc
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast
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
class EvaluationJob:
    """One evaluation of one network in one directory; the fields are those of a `Job` of the same names.

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

    def run_once(self, prepare: Callable[[], None]) -> dict[str, float]:
        """Prepare and evaluate, unless this has been done before in the same directory; the metrics."""
        self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook("before_run")
        assert self.evaluated is not None
        self.evaluated.find(0)
        if not self.evaluated.found:
            prepare()
        metrics = self.evaluate()
        self.call_hook("after_run")
        return metrics


class _ProgressHook(Hook):
    """How far it is, the `done`-th after the first of `total`, and what it costs."""

    def __init__(self, title: str, tally: Tally, done: int, total: int) -> None:
        self.title, self.tally, self.done, self.total = title, tally, done, total
        self.earlier_seconds = 0.0
        self.line: ProgressLine | None = None

    def before_val_epoch(self, runner: Runner) -> None:
        self.began, self.earlier_seconds = run_seconds(), self.tally.total_seconds
        self.first = self.done * len(runner.val_dataloader)
        self.line = ProgressLine(self.title, self.total * len(runner.val_dataloader), "batches")
        self.line.start_at(self.first)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        assert self.line is not None
        self.line.update(self.first + batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.close()
        now = run_seconds()
        self.tally.evaluation_seconds += now - self.began
        self.tally.total_seconds = self.earlier_seconds + now
        self.tally.peak_memory_mb = max(self.tally.peak_memory_mb, peak_memory_mb())

    def close(self) -> None:
        if self.line:
            self.line.close()
            self.line = None


class EvaluationSeries:
    """Evaluations of one network, one after the other, `total` of them of the same length.

    They are one in the signals that end them, in how far they are, and in what they took.
    """

    def __init__(self, total: int = 1) -> None:
        self.total, self.done = total, 0
        self.earlier_seconds = 0.0
        self.is_prepared = False
        self.interrupt = InterruptHook(None, 1)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """To be around them all. Between two of them, where nothing is at hand, the first signal ends the process."""
        self.interrupt.insisting = True
        with self.interrupt.listening():
            yield

    def run(self, job: EvaluationJob) -> Outcome:
        """The next of them, as `run_evaluation` makes it; its `earlier_seconds` are those of all until then."""
        self.interrupt.insisting = False
        try:
            self.interrupt.stop_if_requested()
            with in_fixed_order(job.recipe.runtime.deterministic):
                return self._run(job)
        finally:
            self.done += 1
            self.interrupt.insisting = True

    def _run(self, job: EvaluationJob) -> Outcome:
        recipe, tally = job.recipe, Tally(total_seconds=self.earlier_seconds)
        precision = job.precision or resolve_precision(recipe.precision, device_type())
        progress = _ProgressHook(job.title, tally, self.done, self.total)
        runner = EvaluationRunner(
            model=job.model,
            work_dir=str(job.directory),
            val_dataloader=evaluation_loader(job.evaluation, recipe, job.collate),
            val_cfg={},
            val_evaluator=Evaluator([job.evaluation.metric]),
            default_hooks=dict.fromkeys(ENGINE_HOOKS),
            custom_hooks=[progress, *job.hooks, self.interrupt],
            launcher="pytorch" if process_count() > 1 else "none",
            randomness={"seed": job.seed},
            experiment_name=f"{job.directory.name}-evaluation-{os.getpid()}-{next(_run_number)}",
        )
        runner.evaluated = KeptEvaluation(job.directory / "checkpoints", job.evaluation, tally)
        try:
            metrics = runner.run_once(partial(self._prepare, job))
        finally:
            progress.close()
            runner.close_log()
        del runner
        if self.done + 1 == self.total:
            gc.collect()
        self.earlier_seconds = progress.earlier_seconds
        return Outcome(
            train_loss=None,
            images_per_second=None,
            peak_memory_mb=max(all_gather_object(max(tally.peak_memory_mb, peak_memory_mb()))),
            seconds=None,
            evaluation_seconds=tally.evaluation_seconds,
            earlier_seconds=self.earlier_seconds,
            corrupt={},
            precision=precision,
            device=device_name(),
            cuda=cuda_version(),
            driver=driver_version(),
            processes=process_count(),
            step_images=(),
            metrics=metrics,
        )

    def _prepare(self, job: EvaluationJob) -> None:
        """Compile the network, which forgets what has been compiled before, and give all processes the first one's
        weights, as training does; once, however many evaluations follow."""
        if self.is_prepared:
            return
        self.is_prepared = True
        if job.recipe.runtime.compile:
            compile_network(job.model.network)
        for weights in job.model.parameters():
            broadcast(weights.detach())


def run_evaluation(job: EvaluationJob) -> Outcome:
    """Evaluate once, each process its share of the images, and say how it went.

    What was evaluated by a call that was killed before its record stands is taken as it is. Raises InputError for
    settings that do not fit this machine, KeyboardInterrupt after Ctrl-C or SIGTERM.
    """
    series = EvaluationSeries()
    with series.listening():
        return series.run(job)
