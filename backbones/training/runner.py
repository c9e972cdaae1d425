"""mmengine's Runner as the engine of pre-training, classification and segmentation."""

import itertools
import logging
import os
from collections.abc import Sized
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from backbones.training.checkpointing import CheckpointHook
from backbones.training.machine import device_type, join_processes, loader_workers, process_count, process_rank
from backbones.training.plan import Evaluation, Plan
from backbones.training.randomness import seed_generators

ENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
_run_number = itertools.count()


class JobRunner(Runner):
    """mmengine's Runner, resuming from our checkpoints and keeping its own log in `engine/`."""

    checkpoints: CheckpointHook

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        join_processes()
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
        self.train_loop._iter = done
        self.train_dataloader.batch_sampler.start = done

    def train(self) -> Any:
        """Go on from the newest checkpoint to the last step, evaluating in between if the plan says so."""
        try:
            return super().train()
        finally:
            # Ends the loader processes; found by garbage collection, each of them would take five seconds to go.
            self.train_loop.dataloader_iterator = None

    def evaluate(self) -> None:
        """Evaluate once."""
        self.val_loop.run()


def build_runner(plan: Plan) -> JobRunner:
    """The engine of jobs whose model is an mmengine `BaseModel`.

    Its forward takes a batch's fields and a `mode`, and gives `{"loss": …}` for `mode="loss"`.
    """
    job = plan.job
    evaluation, workers = job.evaluation, loader_workers(job.recipe.runtime.workers)
    settings: dict[str, Any] = {}
    every = None
    if evaluation:
        every = evaluation.every_steps(plan.sampler.iterations_per_epoch, plan.accumulation)
        settings = {
            "val_dataloader": evaluation_loader(evaluation, workers),
            "val_cfg": {},
            "val_evaluator": Evaluator([evaluation.metric]),
        }
    seed_generators(job.seed, "runner")
    runner = JobRunner(
        model=job.model,
        work_dir=str(job.directory),
        train_dataloader=loader(job.dataset, workers, batch_sampler=plan.sampler),
        train_cfg={
            "by_epoch": False,
            "max_iters": plan.steps,
            "val_interval": every or plan.steps,
            "fast_forward_on_resume": True,
        },
        optim_wrapper=plan.optimizer,
        default_hooks=dict.fromkeys(ENGINE_HOOKS),
        custom_hooks=list(plan.hooks),
        launcher="pytorch" if process_count() > 1 else "none",
        cfg={"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}},
        randomness={"seed": job.seed},
        experiment_name=f"{job.directory.name}-{os.getpid()}-{next(_run_number)}",
        **settings,
    )
    runner.checkpoints = plan.checkpoints
    return runner


def evaluation_loader(evaluation: Evaluation, workers: int, collate: Any = None) -> DataLoader[dict[str, Any]]:
    """This process's share of the evaluation images, each in one process only."""
    assert isinstance(evaluation.dataset, Sized)
    share = range(process_rank(), len(evaluation.dataset), process_count())
    return loader(evaluation.dataset, workers, collate, batch_size=evaluation.batch_size, sampler=share)


def loader(
    dataset: Dataset[dict[str, Any]], workers: int, collate: Any = None, **batching: Any
) -> DataLoader[dict[str, Any]]:
    """A loader with this project's `stack`, or another way to make samples a batch."""
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=collate or stack,
        pin_memory=device_type() == "cuda",
        **batching,
    )


def stack(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack a batch: tensors and numbers become tensors, `corrupt` mappings are united."""
    corrupt: dict[str, str] = {}
    for sample in samples:
        corrupt |= sample.pop("corrupt", {})
    return {**torch.utils.data.default_collate(samples), "corrupt": corrupt}
