"""mmengine's Runner as every job here uses it: pre-training and the tasks differ in model and data only."""

import gc
import itertools
import logging
import os
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from backbones.errors import InputError
from backbones.training.checkpointing import CheckpointHook, Tally
from backbones.training.interruption import InterruptHook
from backbones.training.machine import (
    device_name,
    device_type,
    join_processes,
    loader_workers,
    peak_memory_mb,
    process_count,
    process_rank,
)
from backbones.training.precision import resolve_precision, wrap_optimizer
from backbones.training.progress import ProgressHook
from backbones.training.randomness import RandomnessHook, seed_generators
from backbones.training.sampling import EpochBatchSampler
from backbones.training.schedule import ScheduleHook, WarmupCosine
from backbones.training.settings import Recipe

ENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
_run_number = itertools.count()


@dataclass(frozen=True)
class Evaluation:
    """On what a run is evaluated, and how: at the end, and every so many epochs before that if wished."""

    dataset: Dataset[dict[str, Any]]
    metric: BaseMetric
    batch_size: int
    every_epochs: int | None = None


@dataclass(frozen=True)
class Job:
    """One training under one recipe in one directory.

    `model` is an mmengine `BaseModel` whose forward takes a batch's fields and a `mode`, and gives `{"loss": …}` for
    `mode="loss"`; its `network` is what `runtime.compile` compiles. `dataset` maps a draw (index, epoch) to a sample.
    `parameter_groups` go to AdamW and may carry timm's `lr_scale`.
    """

    model: BaseModel
    dataset: Dataset[dict[str, Any]]
    parameter_groups: Iterable[Any]
    recipe: Recipe
    directory: Path
    seed: int
    title: str
    evaluation: Evaluation | None = None
    hooks: Sequence[Hook] = ()


@dataclass(frozen=True)
class Outcome:
    """What a finished training says of itself, for the record."""

    train_loss: float
    images_per_second: float | None
    peak_memory_mb: float
    seconds: float
    corrupt: dict[str, str]
    precision: str
    device: str
    processes: int
    metrics: dict[str, float]


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


def accumulation_steps(recipe: Recipe, processes: int) -> int:
    """How many steps make one update. Raises InputError where batch_size cannot be shared out evenly."""
    batch = recipe.optimizer.batch_size
    per_device = recipe.runtime.batch_per_device or batch // processes
    if not per_device or batch % (per_device * processes):
        raise InputError(
            f'key "optimizer.batch_size": {batch} images cannot be shared out as {processes} process(es) × '
            f"{per_device} images × whole accumulation steps. Set runtime.batch_per_device to a divisor of "
            f"{batch // processes or batch}, or start another number of processes"
        )
    return batch // (per_device * processes)


def run_job(job: Job) -> Outcome:
    """Train to the end from wherever the run stands, evaluate, and say how it went.

    Raises InputError for settings that do not fit this machine or when training diverges, KeyboardInterrupt after
    Ctrl-C or SIGTERM once a checkpoint is written.
    """
    recipe, processes = job.recipe, process_count()
    accumulation = accumulation_steps(recipe, processes)
    precision = resolve_precision(recipe.precision, device_type())
    sampler = EpochBatchSampler(
        _length(job.dataset),
        recipe.optimizer.batch_size,
        seed=job.seed,
        accumulation=accumulation,
        rank=process_rank(),
        processes=processes,
    )
    progress, checkpoints = _bookkeeping(job, sampler, accumulation)
    tally = progress.tally
    interrupt = InterruptHook(checkpoints, accumulation)
    schedule = ScheduleHook(_schedule(recipe, sampler.iterations_per_epoch), accumulation)
    hooks = [RandomnessHook(job.seed), schedule, progress, *job.hooks, checkpoints, interrupt]
    if recipe.runtime.compile:
        job.model.network.compile()
    runner = _runner(job, sampler, hooks, _optimizer(job, precision, accumulation))
    runner.checkpoints = checkpoints
    try:
        with interrupt.listening():
            runner.train()
            if job.evaluation and not progress.metrics:
                runner.val_loop.run()
    finally:
        progress.close()
    speed = progress.images_per_second
    del runner
    gc.collect()
    return Outcome(
        train_loss=tally.loss,
        images_per_second=speed,
        peak_memory_mb=peak_memory_mb(),
        seconds=tally.seconds,
        corrupt=dict(tally.corrupt),
        precision=precision,
        device=device_name(),
        processes=processes,
        metrics=progress.metrics,
    )


def _bookkeeping(job: Job, sampler: EpochBatchSampler, accumulation: int) -> tuple[ProgressHook, CheckpointHook]:
    recipe, tally = job.recipe, Tally()
    progress = ProgressHook(
        job.directory,
        title=job.title,
        batch_size=recipe.optimizer.batch_size // accumulation,
        per_epoch=sampler.iterations_per_epoch,
        every=recipe.runtime.log_every,
        tally=tally,
    )
    every = recipe.runtime.checkpoint_every or sampler.iterations_per_epoch
    checkpoints = CheckpointHook(
        job.directory / "checkpoints",
        every=-(-every // accumulation) * accumulation,
        keep=recipe.runtime.keep_checkpoints,
        accumulation=accumulation,
        tally=tally,
        settle=progress.settle,
    )
    return progress, checkpoints


def _length(dataset: Dataset[dict[str, Any]]) -> int:
    assert isinstance(dataset, Sized)
    return len(dataset)


def _schedule(recipe: Recipe, per_epoch: int) -> WarmupCosine:
    return WarmupCosine(
        peak=recipe.optimizer.lr,
        floor=recipe.schedule.min_lr,
        warmup=recipe.schedule.warmup_epochs * per_epoch,
        total=recipe.schedule.epochs * per_epoch,
    )


def _optimizer(job: Job, precision: Any, accumulation: int) -> OptimWrapper:
    settings = job.recipe.optimizer
    optimizer = torch.optim.AdamW(
        job.parameter_groups,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    return wrap_optimizer(optimizer, precision, accumulation=accumulation, clip_grad_norm=settings.clip_grad_norm)


def _runner(job: Job, sampler: EpochBatchSampler, hooks: list[Hook], optimizer: OptimWrapper) -> JobRunner:
    evaluation, workers = job.evaluation, loader_workers(job.recipe.runtime.workers)
    total = job.recipe.schedule.epochs * sampler.iterations_per_epoch
    every = evaluation.every_epochs if evaluation else None
    settings: dict[str, Any] = {}
    if evaluation:
        settings = {
            "val_dataloader": _evaluation_loader(evaluation, workers),
            "val_cfg": {},
            "val_evaluator": Evaluator([evaluation.metric]),
        }
    seed_generators(job.seed, "runner")
    return JobRunner(
        model=job.model,
        work_dir=str(job.directory),
        train_dataloader=_loader(job.dataset, workers, batch_sampler=sampler),
        train_cfg={
            "by_epoch": False,
            "max_iters": total,
            "val_interval": every * sampler.iterations_per_epoch if every else total,
            "fast_forward_on_resume": True,
        },
        optim_wrapper=optimizer,
        default_hooks=dict.fromkeys(ENGINE_HOOKS),
        custom_hooks=hooks,
        launcher="pytorch" if process_count() > 1 else "none",
        cfg={"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}},
        randomness={"seed": job.seed},
        experiment_name=f"{job.directory.name}-{os.getpid()}-{next(_run_number)}",
        **settings,
    )


def _evaluation_loader(evaluation: Evaluation, workers: int) -> DataLoader[dict[str, Any]]:
    share = range(process_rank(), _length(evaluation.dataset), process_count())
    return _loader(evaluation.dataset, workers, batch_size=evaluation.batch_size, sampler=share)


def _loader(dataset: Dataset[dict[str, Any]], workers: int, **batching: Any) -> DataLoader[dict[str, Any]]:
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device_type() == "cuda",
        **batching,
    )


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack a batch: tensors and numbers become tensors, `corrupt` mappings are united."""
    corrupt: dict[str, str] = {}
    for sample in samples:
        corrupt |= sample.pop("corrupt", {})
    return {**torch.utils.data.default_collate(samples), "corrupt": corrupt}
