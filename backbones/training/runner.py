"""mmengine's Runner as the engine of all jobs."""

import itertools
import logging
import os
import signal
import threading
from collections.abc import Sized
from contextlib import suppress
from typing import Any

import mmengine.device.utils
import torch
from mmengine.dist import broadcast
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from backbones.training.checkpointing import CheckpointHook
from backbones.training.evaluated import KeptEvaluation
from backbones.training.interruption import SIGNALS
from backbones.training.launching import find_place
from backbones.training.machine import device_type, join_processes, loader_workers, process_count, process_rank
from backbones.training.plan import Collate, Evaluation, Plan
from backbones.training.progress import diverged
from backbones.training.randomness import seed_generators
from backbones.training.settings import Recipe, TrainingRecipe

ENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
_run_number = itertools.count()


class TrainLoop(IterBasedTrainLoop):
    """mmengine's loop, with an evaluation every `val_interval` steps and one at the end.

    A run that goes on from the step of an evaluation makes it again, unless it was finished.
    """

    dataloader_iterator: Any

    def run(self) -> dict[str, float]:
        """Train from where the run stands to the last step; the metrics of the evaluation at the end.

        Raises InputError if training diverges.
        """
        self.runner.call_hook("before_train")
        try:
            while self._iter < self._max_iters:
                if self._iter and self._iter % self.val_interval == 0:
                    self.runner.evaluate()
                self.runner.model.train()
                self._step(next(self.dataloader_iterator))
        finally:
            # Ends the loader processes; found by garbage collection, each of them would take five seconds to go.
            self.dataloader_iterator = None
        return self.runner.evaluate()

    def _step(self, batch: dict[str, Any]) -> None:
        try:
            self.run_iter(batch)
        except FloatingPointError as error:  # detectron2's word for proposals that are no numbers
            raise diverged(f"training has diverged before iteration {self._iter + 1}", "optimizer.lr") from error


class JobRunner(Runner):
    """mmengine's Runner, resuming from our checkpoints and keeping its own log in `engine/`."""

    checkpoints: CheckpointHook
    evaluated: KeptEvaluation | None = None

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        join_processes()
        if process_count() > 1:
            os.environ.setdefault("MKL_NUM_THREADS", "1")  # which mmengine would do with a warning
            os.environ.setdefault("LOCAL_RANK", str(find_place().local_rank))  # mmengine's wish
        mmengine.device.utils.DEVICE = device_type()  # where the Runner moves models to
        super().setup_env(env_cfg)
        self._timestamp = "engine"

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                # a full disk is reported by the files that matter
                handler.handleError = lambda record: None  # type: ignore[method-assign]
            else:
                handler.setLevel(logging.ERROR)
        return logger

    def dump_config(self) -> None:
        """Leave the settings to the run's own recipe.yaml."""

    def load_or_resume(self) -> None:
        done = self.checkpoints.restore(self)
        if self.evaluated:
            self.evaluated.find(done // self.checkpoints.accumulation)
        self.train_loop._iter = done
        self.train_dataloader.batch_sampler.start = done

    def train(self) -> dict[str, float]:
        """Go on from the newest checkpoint to the last step, evaluating as the plan says; the metrics at the end.

        Raises InputError if training diverges.
        """
        metrics: dict[str, float] = super().train()
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Evaluate once; the metrics, none for a job without an evaluation.

        Raises DivergedError for weights that are no numbers, after the last update too: no loss has told of those.
        All processes use the first one's buffers, which are in the checkpoints: the statistics of a plain batch norm
        differ from process to process. While training, nothing brings buffers together.
        """
        self._require_finite_weights()
        if not self.val_loop or not self.evaluated:
            return {}
        updates = self._updates()
        kept = self.evaluated.take(updates)
        if kept is not None:
            self._show(kept)
            return kept
        for statistics in self.model.buffers():
            broadcast(statistics)
        metrics: dict[str, float] = self.val_loop.run()
        self.evaluated.keep(updates, metrics)
        return metrics

    def _updates(self) -> int:
        return self.iter // self.checkpoints.accumulation

    def _show(self, metrics: dict[str, float]) -> None:
        """Let all see the metrics of an evaluation that an earlier part of the run has made."""
        self.call_hook("before_val")
        self.call_hook("before_val_epoch")
        self.call_hook("after_val_epoch", metrics=metrics)
        self.call_hook("after_val")

    def _require_finite_weights(self) -> None:
        trained = [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]
        finite = torch.stack([weight.detach().isfinite().all() for _, weight in trained]).tolist()
        if not all(finite):
            name = trained[finite.index(False)][0].removeprefix("module.")
            raise diverged(
                f"{finite.count(False)} of {len(finite)} weights hold no numbers after iteration {self.iter}, {name} "
                "among them: training has diverged"
            )

    def close_log(self) -> None:
        """Close the log's file, which mmengine would write to as long as the process lives, and open anew to do so."""
        for handler in [each for each in self.logger.handlers if isinstance(each, logging.FileHandler)]:
            self.logger.removeHandler(handler)
            with suppress(OSError):  # a full disk is reported by the files that matter
                handler.close()


def build_runner(plan: Plan) -> JobRunner:
    """The engine that runs a plan."""
    job, every = plan.job, plan.steps
    evaluation: dict[str, Any] = {}
    if job.evaluation:
        every = job.evaluation.every_steps(plan.sampler.iterations_per_epoch, plan.accumulation) or every
        evaluation = {
            "val_dataloader": evaluation_loader(job.evaluation, job.recipe, job.collate),
            "val_cfg": {},
            "val_evaluator": Evaluator([job.evaluation.metric]),
        }
    seed_generators(job.seed, "runner")
    runner = JobRunner(
        model=job.model,
        work_dir=str(job.directory),
        train_dataloader=_loader(job.dataset, job.recipe, job.collate, batch_sampler=plan.sampler),
        train_cfg={"type": TrainLoop, "max_iters": plan.steps, "val_interval": every},
        optim_wrapper=plan.optimizer,
        default_hooks=dict.fromkeys(ENGINE_HOOKS),
        custom_hooks=list(plan.hooks),
        launcher="pytorch" if process_count() > 1 else "none",
        cfg={"model_wrapper_cfg": _wrapper(job.recipe)},
        randomness={"seed": job.seed},
        experiment_name=f"{job.directory.name}-{os.getpid()}-{next(_run_number)}",
        **evaluation,
    )
    if isinstance(runner.model, DistributedDataParallel):
        runner.model.broadcast_buffers = False  # each step's; the argument for it has two names, by PyTorch's version
    runner.checkpoints = plan.checkpoints
    if job.evaluation:
        runner.evaluated = KeptEvaluation(plan.checkpoints.directory, job.evaluation, plan.checkpoints.tally)
    return runner


def _wrapper(recipe: TrainingRecipe) -> dict[str, Any]:
    """What shares gradients between processes, in the same pieces from the first step on where sums have an order.

    DistributedDataParallel would put them together anew after its first step, in the order in which they came, and how
    three or more processes add a number follows from where it lies: the step after a resume would be another one. It
    leaves them where it looks for weights without a gradient, which costs a walk through the graph.
    """
    in_order = device_type() == "cpu" or recipe.runtime.deterministic
    return {"type": "MMDistributedDataParallel", "device_ids": None, "find_unused_parameters": in_order}


def evaluation_loader(
    evaluation: Evaluation, recipe: Recipe, collate: Collate | None = None
) -> DataLoader[dict[str, Any]]:
    """This process's share of the evaluation images, each in one process only."""
    assert isinstance(evaluation.dataset, Sized)
    share = range(process_rank(), len(evaluation.dataset), process_count())
    return _loader(evaluation.dataset, recipe, collate, batch_size=evaluation.batch_size, sampler=share)


def _loader(
    dataset: Dataset[dict[str, Any]], recipe: Recipe, collate: Collate | None, **batching: Any
) -> DataLoader[dict[str, Any]]:
    return DataLoader(
        dataset,
        num_workers=loader_workers(recipe.runtime.workers),
        collate_fn=collate or stack,
        pin_memory=device_type() == "cuda",
        worker_init_fn=_leave_signals_to_parent,
        **batching,
    )


def _leave_signals_to_parent(worker: int) -> None:
    """Leave the group that terminals and torchrun signal as a whole: the parent tells a loader process when to end.

    SIGTERM is how. Slurm sends that, too, to every process of a step: it counts if it is the parent's.
    """
    os.setpgid(0, 0)
    for number in {*SIGNALS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # tells who has sent it; macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def stack(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack a batch: tensors and numbers become tensors, `corrupt` mappings are united."""
    corrupt: dict[str, str] = {}
    for sample in samples:
        corrupt |= sample.pop("corrupt", {})
    return {**torch.utils.data.default_collate(samples), "corrupt": corrupt}
