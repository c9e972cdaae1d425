"""detectron2's training loop as the engine of a job, with the hooks, checkpoints and precision of all other jobs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import get_priority
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backbones.training.machine import device_type, join_processes, loader_workers, process_count, process_rank
from backbones.training.plan import Evaluation, Plan
from backbones.training.progress import diverged
from backbones.training.randomness import seed_generators
from backbones.training.runner import evaluation_loader, loader
from tasks.detection.samples import gather


class JobHooks(HookBase):
    """Calls this project's hooks, which are mmengine's, at detectron2's moments."""

    def __init__(self, hooks: list[Hook]) -> None:
        self.hooks = sorted(hooks, key=lambda hook: get_priority(hook.priority))

    def call(self, moment: str, *arguments: Any, **named: Any) -> None:
        """Call every hook's method of that name, with the trainer as its runner."""
        for hook in self.hooks:
            getattr(hook, moment)(self.trainer, *arguments, **named)

    def before_train(self) -> None:
        self.call("before_train")

    def before_step(self) -> None:
        done, every = self.trainer.iter, self.trainer.evaluate_every
        if every and done and done % every == 0:
            self.trainer.evaluate()
        self.call("before_train_iter", done)

    def after_step(self) -> None:
        trainer = self.trainer
        self.call("after_train_iter", trainer.iter, data_batch=trainer.batch, outputs=trainer.outputs)


class DetectionTrainer(TrainerBase):
    """Trains a model that takes `gather`'s batches and gives a dictionary of losses.

    It resumes exactly, as all jobs do: the state is in the checkpoint and what is random follows from the iteration.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        job, self.plan = plan.job, plan
        join_processes()
        seed_generators(job.seed, "runner")
        self.model = _distributed(job.model.to(device_type()))
        self.optim_wrapper = plan.optimizer
        self.workers = loader_workers(job.recipe.runtime.workers)
        self.train_dataloader = loader(job.dataset, self.workers, gather, batch_sampler=plan.sampler)
        self.log_file = job.directory / "engine" / "detectron2.log"
        self.max_iters = plan.steps
        self.evaluate_every = _evaluation_interval(plan)
        self.batch: dict[str, Any] = {}
        self.outputs: dict[str, Tensor] = {}
        self.job_hooks = JobHooks(list(plan.hooks))
        self.register_hooks([self.job_hooks])

    def train(self) -> None:
        """Go on from the newest checkpoint to the last step, and evaluate after it.

        Raises InputError if training diverges.
        """
        self.iter = done = self.plan.checkpoints.restore(self)
        self.plan.sampler.start = done
        if done >= self.max_iters:
            self.job_hooks.call("before_train")
            return
        self.model.train()
        self.optim_wrapper.initialize_count_status(self.model, done, self.max_iters)
        self.batches: Iterator[dict[str, Any]] = iter(self.train_dataloader)
        try:
            with _log_to(self.log_file):
                super().train(done, self.max_iters)
        finally:
            # Ends the loader processes; found by garbage collection, each of them would take five seconds to go.
            self.batches = iter(())
        if self.plan.job.evaluation:
            self.evaluate()

    def run_step(self) -> None:
        """One forward and backward pass, and the update of the weights where one is due."""
        self.batch = next(self.batches)
        with self.optim_wrapper.optim_context(self.model):
            try:
                losses = self.model(self.batch)
            except FloatingPointError as error:  # detectron2's word for proposals that are no numbers
                raise diverged(f"training has diverged before iteration {self.iter + 1}", "optimizer.lr") from error
            total = torch.stack(list(losses.values())).sum()
        self.outputs = {"loss": total, **losses}
        self.optim_wrapper.update_params(total)

    def evaluate(self) -> None:
        """Run the model over the evaluation images and score what it finds.

        In single precision, as detectron2 evaluates its models: it lays the grid that masks are sampled on in their own
        precision, which in bfloat16 would shift them by pixels. All processes use the first one's statistics.
        """
        evaluation = self.plan.job.evaluation
        assert evaluation is not None
        for statistics in self.model.buffers():
            broadcast(statistics)
        evaluator = _Evaluator(evaluation, self)
        with _log_to(self.log_file):
            inference_on_dataset(self.model, evaluator.loader, evaluator, callbacks=evaluator.callbacks)


class _Evaluator(DatasetEvaluator):
    """Hands detectron2's outputs to the job's metric, and tells the hooks how far it is."""

    def __init__(self, evaluation: Evaluation, trainer: DetectionTrainer) -> None:
        self.evaluation, self.trainer = evaluation, trainer
        self.loader = self.trainer.val_dataloader = evaluation_loader(evaluation, trainer.workers, gather)
        self.done = 0
        self.callbacks = {"before_inference": self._before}

    def reset(self) -> None:
        self.trainer.job_hooks.call("before_val_epoch")

    def _before(self) -> None:
        self.trainer.job_hooks.call("before_val_iter", self.done)

    def process(self, inputs: dict[str, Any], outputs: list[dict[str, Any]]) -> None:
        self.evaluation.metric.process(inputs, outputs)
        self.trainer.job_hooks.call("after_val_iter", self.done)
        self.done += 1

    def evaluate(self) -> dict[str, float]:
        metrics: dict[str, float] = self.evaluation.metric.evaluate(len(self.loader.dataset))  # type: ignore[arg-type]
        self.trainer.job_hooks.call("after_val_epoch", metrics=metrics)
        return metrics


def _evaluation_interval(plan: Plan) -> int | None:
    evaluation = plan.job.evaluation
    return evaluation.every_steps(plan.sampler.iterations_per_epoch, plan.accumulation) if evaluation else None


def _distributed(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model, broadcast_buffers=False) if process_count() > 1 else model


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Keep what detectron2 says within the block, errors with their traces included, in a file and off the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, delay=True)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is reported by what matters
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore")]
    former = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.ERROR if process_rank() else logging.INFO)
    try:
        yield
    finally:
        for logger, handlers, propagate, level in former:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        handler.close()
