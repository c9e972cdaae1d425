"""Running a job: pre-training and the tasks differ in model and data only."""

import gc
from collections.abc import Iterable, Sized
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.optim import OptimWrapper
from torch.optim import Optimizer

from backbones.errors import InputError
from backbones.training.checkpointing import CheckpointHook, Tally
from backbones.training.compiling import compile_network
from backbones.training.determinism import in_fixed_order
from backbones.training.interruption import InterruptHook
from backbones.training.lars import make_lars
from backbones.training.machine import (
    cuda_version,
    device_name,
    device_type,
    driver_version,
    process_count,
    process_rank,
)
from backbones.training.measuring import peak_memory_mb
from backbones.training.outcome import Outcome
from backbones.training.plan import Evaluation, Job, Plan
from backbones.training.precision import Precision, resolve_precision, wrap_optimizer
from backbones.training.profiling import ProfileHook
from backbones.training.progress import ProgressHook
from backbones.training.randomness import RandomnessHook
from backbones.training.runner import build_runner
from backbones.training.sampling import EpochBatchSampler
from backbones.training.schedule import ScheduleHook, learning_rate_curve
from backbones.training.settings import AdamWOptimizer, LarsOptimizer, OptimizerSettings, TrainingRecipe
from backbones.training.step_images import StepImagesHook, count_step_images
from backbones.training.trackers.tracker import TrackedRun
from backbones.training.trackers.tracking import Tracking, tracked

__all__ = ["Evaluation", "Job", "Outcome", "accumulation_steps", "check_batch_size", "make_optimizer", "run_job"]


def accumulation_steps(recipe: TrainingRecipe, processes: int) -> int:
    """How many steps make one update. Raises InputError where batch_size cannot be shared out evenly."""
    batch = recipe.optimizer.batch_size
    if batch % processes:
        raise InputError(
            f'key "optimizer.batch_size": {batch:,} images cannot be shared out evenly among {processes} processes. '
            f"Start {_nearest_divisors(batch, processes)}"
        )
    per_device = recipe.runtime.batch_per_device or batch // processes
    if batch % (per_device * processes):
        raise InputError(
            f'key "runtime.batch_per_device": {batch:,} images cannot be shared out as {processes} process(es) × '
            f"{per_device:,} images × whole accumulation steps. Set it to "
            f"{_nearest_divisors(batch // processes, per_device)}"
        )
    return batch // (per_device * processes)


def _nearest_divisors(number: int, wanted: int) -> str:
    """In words, those of the number's divisors between which the wanted one would lie, or the largest."""
    divisors = [each for each in range(1, number + 1) if number % each == 0]
    below, above = [each for each in divisors if each < wanted][-1], [each for each in divisors if each > wanted]
    return " or ".join(f"{each:,}" for each in [below, *above[:1]])


def check_batch_size(recipe: TrainingRecipe, images: int) -> None:
    """Raise InputError where an update takes more images than the training set has: some would count several times."""
    batch = recipe.optimizer.batch_size
    if batch > images:
        raise InputError(
            f'key "optimizer.batch_size": an update takes {batch:,} images, and the training set has {images:,}. '
            f"Set optimizer.batch_size to {images:,} or less, or give more images"
        )


def run_job(job: Job) -> Outcome:
    """Train to the end from wherever the run stands, evaluate, and say how it went.

    Raises InputError for settings that do not fit this machine or when training diverges, KeyboardInterrupt after
    Ctrl-C or SIGTERM once a checkpoint is written.
    """
    with in_fixed_order(job.recipe.runtime.deterministic), tracked(_described(job)) as tracking:
        return _run(job, tracking)


def _described(job: Job) -> TrackedRun:
    """What trackers are told of a job that is no cell's, of which they know more."""
    return TrackedRun(
        trackers=job.recipe.runtime.trackers,
        name=job.directory.name,
        group=job.recipe.dataset,
        settings=job.recipe.model_dump(mode="json") | {"seed": job.seed},
        directory=job.directory,
        store=job.directory,
    )


def _run(job: Job, tracking: Tracking) -> Outcome:
    recipe, processes = job.recipe, process_count()
    accumulation = accumulation_steps(recipe, processes)
    precision = resolve_precision(recipe.precision, device_type())
    assert isinstance(job.dataset, Sized)
    check_batch_size(recipe, len(job.dataset))
    sampler = EpochBatchSampler(
        len(job.dataset),
        recipe.optimizer.batch_size,
        seed=job.seed,
        accumulation=accumulation,
        rank=process_rank(),
        processes=processes,
    )
    progress, checkpoints = _bookkeeping(job, sampler, accumulation, tracking)
    tally = progress.tally
    interrupt = InterruptHook(checkpoints, accumulation)
    step_images = StepImagesHook(
        job.directory,
        tally,
        count_step_images(job.model.train(), recipe, accumulation, processes),
        batch_norm=recipe.reference_batch_norm,
        accumulation=accumulation,
        allow_change=recipe.runtime.allow_changed_steps,
    )
    profile = [ProfileHook(job.directory)] if recipe.runtime.profile else []
    per_epoch = sampler.iterations_per_epoch
    curve = learning_rate_curve(recipe.schedule, recipe.optimizer.peak_lr, per_epoch, accumulation)
    schedule = ScheduleHook(curve, accumulation)
    if recipe.runtime.compile:
        compile_network(job.model.network)
    plan = Plan(
        job=job,
        sampler=sampler,
        hooks=[step_images, RandomnessHook(job.seed), schedule, progress, *job.hooks, checkpoints, *profile, interrupt],
        optimizer=make_optimizer(recipe, job.parameter_groups, precision, accumulation),
        checkpoints=checkpoints,
        accumulation=accumulation,
        steps=recipe.schedule.steps(per_epoch, accumulation),
    )
    runner = build_runner(plan)
    try:
        with interrupt.listening():
            metrics = runner.train()
    finally:
        for hook in profile:
            hook.close()
        progress.close()
        runner.close_log()
    outcome = _outcome(progress, step_images, precision, metrics)
    del runner
    gc.collect()
    return outcome


def _outcome(progress: ProgressHook, step_images: StepImagesHook, precision: str, metrics: dict[str, float]) -> Outcome:
    tally = progress.tally
    return Outcome(
        train_loss=tally.loss,
        images_per_second=progress.images_per_second,
        peak_memory_mb=max(all_gather_object(max(tally.peak_memory_mb, peak_memory_mb()))),
        seconds=tally.seconds,
        evaluation_seconds=tally.evaluation_seconds,
        earlier_seconds=progress.earlier_seconds,
        corrupt=dict(tally.corrupt),
        precision=precision,
        device=tally.device or device_name(),
        cuda=tally.cuda if tally.device else cuda_version(),
        driver=tally.driver if tally.device else driver_version(),
        processes=tally.processes or process_count(),
        step_images=step_images.parts,
        metrics=metrics,
    )


def _bookkeeping(
    job: Job, sampler: EpochBatchSampler, accumulation: int, tracking: Tracking
) -> tuple[ProgressHook, CheckpointHook]:
    recipe, tally = job.recipe, Tally()
    progress = ProgressHook(
        job.directory,
        title=job.title,
        batch_size=recipe.optimizer.batch_size // accumulation,
        per_epoch=sampler.iterations_per_epoch,
        every=recipe.runtime.log_every,
        tally=tally,
        tracking=tracking,
        accumulation=accumulation,
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


def make_optimizer(
    recipe: TrainingRecipe, parameter_groups: Iterable[Any], precision: Precision, accumulation: int
) -> OptimWrapper:
    """AdamW or LARS as `recipe` has it, with so many steps an update."""
    optimizer = _optimizer(recipe.optimizer, parameter_groups)
    clip = recipe.optimizer.clip_grad_norm
    return wrap_optimizer(optimizer, precision, accumulation=accumulation, clip_grad_norm=clip)


def _optimizer(settings: OptimizerSettings, parameter_groups: Iterable[Any]) -> Optimizer:
    match settings:
        case AdamWOptimizer():
            return torch.optim.AdamW(
                parameter_groups,
                lr=settings.peak_lr,
                betas=settings.betas,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        case LarsOptimizer():
            return make_lars(parameter_groups, settings.peak_lr, settings.momentum, settings.trust_coefficient)
    raise TypeError(f"no optimizer for {type(settings).__name__}")
