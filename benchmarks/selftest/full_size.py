"""A training step of each full-size recipe: does it fit, and how near does it come to what the device can do?

The step is the job's: its model, its optimizer and precision, its way of a batch to the device. Its images are random.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch.utils.flop_counter import FlopCounterMode

from backbones.adapters import parameter_groups as dense_groups
from backbones.images.normalisation import IMAGENET
from backbones.pretraining.settings import PretrainingRecipe
from backbones.pretraining.steps import create_step
from backbones.training.job import make_optimizer
from backbones.training.measuring import begin_run, peak_memory_mb
from backbones.training.precision import Precision, resolve_precision
from backbones.training.randomness import seed_generators
from backbones.training.schedule import learning_rate_curve
from backbones.training.settings import TrainingRecipe
from benchmarks.planning.recipe import load_recipe
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError, memory_gib
from benchmarks.selftest.random_batches import CLASSES, random_batch
from tasks.classification.classifier import parameter_groups as classifier_groups
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.task import create_classifier
from tasks.detection.detector import DetectionStep
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.task import create_detector
from tasks.registry import RECIPES
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.task import create_segmentor


@dataclass(frozen=True)
class PerDevice:
    """What a recipe's `runtime` may say on one GPU.

    images:    `batch_per_device`
    gib:       what has to be free for it: what PyTorch reserved on an H100, of which tensors took most, rounded up
    recompute: `activation_checkpointing`
    """

    images: int
    gib: int
    recompute: bool = False


FITS: Mapping[str, PerDevice] = {
    "mae_vit_base": PerDevice(1024, gib=51),
    "imagenet_vit_base": PerDevice(256, gib=19),
    "coco_fpn_vit_base": PerDevice(16, gib=43),
    "coco_simple_vit_base": PerDevice(16, gib=51),
    "ade20k_vit_base": PerDevice(16, gib=29),
    "mae_vit_large": PerDevice(512, gib=42),
    "imagenet_vit_large": PerDevice(256, gib=48),
    "coco_fpn_vit_large": PerDevice(8, gib=49),
    "coco_simple_vit_large": PerDevice(8, gib=55),
    "ade20k_vit_large": PerDevice(16, gib=48),
    "mae_vit_huge": PerDevice(256, gib=44),
    "imagenet_vit_huge": PerDevice(128, gib=56),
    "coco_simple_vit_huge": PerDevice(4, gib=49),
    "ade20k_vit_huge": PerDevice(16, gib=76),
    "imagenet_vit_huge_448": PerDevice(32, gib=56),
}
"""What fits one GPU of 80 GB, by recipe, in the order in which the self-test tries it. README has the same table."""

TIMED_SECONDS, FEWEST_STEPS, MOST_STEPS = 2.0, 3, 20
"""Steps are timed for about so long, but no fewer and no more than these."""

PRODUCT_SECONDS = 1.0
"""For about so long, or longer, the matrix product that steps are held against is done."""

Figures = dict[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Speed:
    """What a step takes.

    operations: floating-point ones of matrix products, convolutions and attention, counted as often as they are done:
                with what kernels and activation checkpointing compute again in the backward pass
    """

    seconds: float
    operations: int
    loss: float


def build_step(recipe: TrainingRecipe) -> tuple[BaseModel, list[Any]]:
    """The model that the recipe's job trains, with random weights, and the optimizer's parameter groups.

    Raises InputError for settings that do not fit each other.
    """
    match recipe:
        case PretrainingRecipe():
            step = create_step(recipe, 0)
            return step, step.parameter_groups(recipe.optimizer.weight_decay)
        case ClassificationRecipe(optimizer=optimizer):
            classifier, _, _ = create_classifier(recipe, recipe.model.arch, None, CLASSES[recipe.task], 0, IMAGENET)
            return classifier, classifier_groups(classifier.network, optimizer.weight_decay, optimizer.layer_decay)
        case DetectionRecipe():
            detector, _, _ = create_detector(recipe, recipe.model.arch, None, CLASSES[recipe.task], 0, IMAGENET)
            return DetectionStep(detector), dense_groups(detector, detector.pyramid, **recipe.optimizer.decays)
        case SegmentationRecipe():
            segmentor, _, _ = create_segmentor(recipe, recipe.model.arch, None, CLASSES[recipe.task], 0, IMAGENET)
            return segmentor, dense_groups(segmentor, segmentor.pyramid, **recipe.optimizer.decays)
    raise TypeError(f"no step for {type(recipe).__name__}")


def build_update(recipe: TrainingRecipe, device: str) -> tuple[BaseModel, OptimWrapper]:
    """The model on the device, and what updates it after each step, at the rate of a training's first one.

    Weights are drawn on the device, where that takes no time.
    """
    with torch.device(device):
        model, groups = build_step(recipe)
    model.to(device).train()
    optimizer = make_optimizer(recipe, groups, resolve_precision(recipe.precision, device), accumulation=1)
    rate = learning_rate_curve(recipe.schedule, recipe.optimizer.peak_lr, per_epoch=1, accumulation=1)(0)
    for group in optimizer.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return model, optimizer


def free_memory(device: str) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def count_operations(step: Callable[[], object]) -> int:
    """Floating-point operations of a step's matrix products, convolutions and attention, as its kernels do them.

    Those that are done again count again: of activations that are recomputed, and of the scores that a GPU's attention
    computes anew on the way back. Attention on a CPU is not counted.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def timed(device: str, call: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of so many calls, one after the other, until the device has done them."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@cache
def peak_rate(device: str, precision: Precision, side: int = 8192) -> float:
    """Floating-point operations a second of the device in large matrix products of side × side, measured once.

    As many as take `PRODUCT_SECONDS`, after as many that warm up: a GPU that is cool is faster for some tenths of a
    second than the power which it may draw lets it be for long (790 and 700 TFLOP/s of bf16, H100).
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left, right = torch.randn(2, side, side, device=device, dtype=dtype)

    def product() -> None:
        torch.mm(left, right)

    burst = 5
    timed(device, product, burst)
    repeats = math.ceil(PRODUCT_SECONDS * burst / timed(device, product, burst))
    timed(device, product, repeats)
    return repeats * 2 * side**3 / timed(device, product, repeats)


def measure_speed(model: BaseModel, optimizer: OptimWrapper, batch: dict[str, Any], device: str) -> Speed:
    """Time steps after three that warm up, of which one counts operations."""
    done = 0
    losses: dict[str, torch.Tensor] = {}

    def step() -> None:
        nonlocal done, losses
        seed_generators(0, "iteration", done, 0)
        losses = model.train_step(batch, optimizer)
        done += 1

    timed(device, step)
    operations = count_operations(step)
    begin_run()
    steps = min(max(FEWEST_STEPS, int(TIMED_SECONDS / timed(device, step))), MOST_STEPS)
    seconds = timed(device, step, steps) / steps
    return Speed(seconds, operations, float(losses["loss"].detach()))


def try_step(recipe: TrainingRecipe, device: str, product_side: int = 8192) -> Found:
    """Build the recipe's step, time it with `runtime.batch_per_device` images, and hold it against the device's peak.

    product_side: of the matrix product that the peak is taken from
    """
    images = recipe.runtime.batch_per_device or recipe.optimizer.batch_size
    precision = resolve_precision(recipe.precision, device)
    peak = peak_rate(device, precision, product_side)
    free_memory(device)
    free, total = memory_gib(device)
    begin_run()
    speed = _speed_if_it_fits(recipe, images, device)
    memory = peak_memory_mb() / 1024
    free_memory(device)
    figures: Figures = {
        "batch_per_device": images,
        "activation_checkpointing": recipe.runtime.activation_checkpointing,
        "precision": precision,
        "peak_memory_gib": memory,
        "reserved_memory_gib": torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else None,
        "free_memory_gib": free,
        "device_memory_gib": total,
    }
    expected = f"{images} images fit, and the loss is a number"
    if speed is None:
        return Found(False, f"out of memory with {memory:.1f} GiB of tensors", expected, figures)
    rate = speed.operations / speed.seconds
    figures |= {
        "seconds_per_step": speed.seconds,
        "images_per_second": images / speed.seconds,
        "tflop_per_step": speed.operations / 1e12,
        "tflop_per_second": rate / 1e12,
        "product_tflop_per_second": peak / 1e12,
        "share_of_product": rate / peak,
        "loss": speed.loss,
    }
    measured = (
        f"{memory:.1f} GiB, loss {speed.loss:.4g}, {images / speed.seconds:.4g} images/s, {rate / 1e12:.3g} TFLOP/s "
        f"with what is computed again: {rate / peak:.0%} of the {peak / 1e12:.3g} of a {precision} matrix product"
    )
    return Found(math.isfinite(speed.loss), measured, expected, figures)


def _speed_if_it_fits(recipe: TrainingRecipe, images: int, device: str) -> Speed | None:
    """None where the device's memory runs out. What was built is no more once this returns."""
    try:
        model, optimizer = build_update(recipe, device)
        return measure_speed(model, optimizer, random_batch(recipe, images, device), device)
    except torch.OutOfMemoryError:
        return None


def recipe_on_one_device(name: str) -> TrainingRecipe:
    """A packaged recipe as `FITS` has it for one GPU."""
    fits = FITS[name]
    overrides = [
        f"runtime.batch_per_device={fits.images}",
        f"runtime.activation_checkpointing={str(fits.recompute).lower()}",
    ]
    recipe = load_recipe(name, overrides, RECIPES).recipe
    assert isinstance(recipe, TrainingRecipe)
    return recipe


def require_memory(needed: float, device: str) -> None:
    """Raise NotRunError where a GPU has less than so many GiB, or others have left less of it."""
    free_memory(device)
    free, total = memory_gib(device)
    if free is not None and total is not None and free < needed:
        raise NotRunError(f"needs about {needed:g} GiB; {free:.0f} of {total:.0f} are free")


def _try_recipe(name: str, bench: Bench) -> Found:
    if bench.device != "cuda":
        raise NotRunError("a full-size step is for a GPU: on a processor it takes minutes")
    require_memory(FITS[name].gib, bench.device)
    found = try_step(recipe_on_one_device(name), bench.device)
    if "loss" not in found.figures:  # it ran out of memory, of which others may have taken some meanwhile
        require_memory(FITS[name].gib, bench.device)
    return found


FULL_SIZE: tuple[Line, ...] = tuple(
    Line(
        name=f"step-{name.replace('_', '-')}",
        what=f"a training step of {name}: {fits.images} images on one GPU",
        seconds={"cuda": 10.0, "cpu": 0.0},
        run=partial(_try_recipe, name),
    )
    for name, fits in FITS.items()
)
