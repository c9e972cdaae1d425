"""The self-test's full-size steps, tried at a small size: the same functions, other settings."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.training.job import accumulation_steps
from backbones.training.settings import TrainingRecipe
from benchmarks.planning.recipe import list_recipes, load_recipe
from benchmarks.selftest import full_size
from benchmarks.selftest.full_size import FITS, FULL_SIZE, recipe_on_one_device, try_step
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError
from benchmarks.selftest.random_batches import OBJECTS, random_batch
from benchmarks.selftest.worker import _tried, first_line
from tasks.data_sets import DATA_SETS
from tasks.datasets.torchvision_layouts.counts import COUNTS
from tasks.detection.objects import Objects
from tasks.registry import LEAVE_NETWORKS, PRETRAINING, RECIPES

README = Path(__file__).parents[3] / "README.md"
MINI = ["model.arch=vit_mini_patch8_48", "runtime.batch_per_device=2", "precision=fp32"]
DETECTOR = ["image_size=64", "window=4", "channels=16", "proposals=20", "regions=8", "box_features=32"]
SEGMENTOR = ["image_size=64", "taps=[0,1,2,3]", "channels=16", "auxiliary_channels=16"]
SMALL = {
    "mae_vit_base": ["model.arch=mae_vit_mini_patch8", "model.image_size=48"],
    "imagenet_vit_base": ["model.image_size=48"],
    "coco_fpn_vit_base": [f"model.{setting}" for setting in DETECTOR],
    "coco_simple_vit_base": [f"model.{setting}" for setting in DETECTOR],
    "ade20k_vit_base": [f"model.{setting}" for setting in SEGMENTOR] + ["inference.stride=32"],
}


def small(name: str) -> TrainingRecipe:
    """A full-size recipe of a size for a test."""
    return load_recipe(name, MINI + SMALL[name], RECIPES).recipe


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "MOST_STEPS", 3)
    monkeypatch.setattr(full_size, "PRODUCT_SECONDS", 0.01)


@pytest.mark.parametrize("name", SMALL)
def test_a_step_is_measured(name: str) -> None:
    found = try_step(small(name), "cpu", product_side=64)
    assert found.fine and "2 images fit" in found.expected
    figures: Any = found.figures
    assert math.isfinite(figures["loss"]) and figures["images_per_second"] == 2 / figures["seconds_per_step"]
    assert figures["share_of_product"] == pytest.approx(
        figures["tflop_per_step"] / figures["seconds_per_step"] / figures["product_tflop_per_second"]
    )
    assert figures["peak_memory_gib"] > 0 and figures["precision"] == "fp32"


def test_operations_are_those_of_forward_and_backward() -> None:
    """Of a classifier's step, by hand: two products backward for each forward, but for the pixels' gradient."""
    figures: Any = try_step(small("imagenet_vit_base"), "cpu", product_side=64).figures
    images, patches, width, depth, classes = 2, 36, 128, 4, 1000
    pixels = images * patches * (8 * 8 * 3) * width
    layers = images * (patches + 1) * depth * 12 * width**2
    head = images * width * classes
    # The processor's fused attention is not counted; a GPU's is.
    assert figures["tflop_per_step"] * 1e12 == 2 * (2 * pixels + 3 * (layers + head))


def test_the_peak_is_that_of_products_which_go_on_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock by which a product takes 1 ms at first and 2 ms once a hundred are done."""
    turns: list[int] = []

    def timed(device: str, call: object, repeats: int = 1) -> float:
        done = sum(turns)
        turns.append(repeats)
        return sum(0.001 if number < 100 else 0.002 for number in range(done, done + repeats))

    monkeypatch.setattr(full_size, "timed", timed)
    monkeypatch.setattr(full_size, "PRODUCT_SECONDS", 1.0)
    assert full_size.peak_rate("cpu", "fp32", 16) == pytest.approx(2 * 16**3 / 0.002)
    assert turns[-1] >= 1000


def test_memory_that_runs_out_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(full_size, "measure_speed", run_out)
    found = try_step(small("mae_vit_base"), "cpu", product_side=64)
    assert not found.fine and found.measured.startswith("out of memory with ")
    assert found.figures["batch_per_device"] == 2 and "images_per_second" not in found.figures


@pytest.mark.parametrize(("free", "total"), [(39.0, 39.5), (20.0, 79.0)], ids=["a smaller GPU", "a busy one"])
def test_a_step_that_needs_more_memory_than_is_free_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, total: float
) -> None:
    monkeypatch.setattr(full_size, "free_memory", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free * 2**30), int(total * 2**30)))
    with pytest.raises(NotRunError, match=f"needs about 51 GiB; {free:.0f} of {total:.0f} are free"):
        FULL_SIZE[0].run(Bench("cuda", tmp_path, tmp_path))


def test_a_step_is_tried_where_as_much_is_free_as_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "free_memory", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (52 * 2**30, 79 * 2**30))
    monkeypatch.setattr(full_size, "try_step", lambda recipe, device: Found(True, recipe.task))
    assert FULL_SIZE[0].run(Bench("cuda", tmp_path, tmp_path)).measured == "pretraining"


def test_a_step_that_runs_out_of_what_others_took_meanwhile_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([60, 60, 10, 60])
    ran_out = Found(False, "out of memory", "1024 images fit", {"batch_per_device": 1024})
    monkeypatch.setattr(full_size, "free_memory", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (next(free) * 2**30, 79 * 2**30))
    monkeypatch.setattr(full_size, "try_step", lambda recipe, device: ran_out)
    bench = Bench("cuda", tmp_path, tmp_path)
    assert FULL_SIZE[0].run(bench) is ran_out
    with pytest.raises(NotRunError, match="needs about 51 GiB; 10 of 79 are free"):
        free = iter([60, 10])
        FULL_SIZE[0].run(bench)


OF_A_JOB = (
    "run --recipe mini_detection ended with 75: backbench: out of memory. Set runtime.activation_checkpointing=true, "
    "which keeps the numbers: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB"
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(OF_A_JOB),
        torch.multiprocessing.ProcessRaisedException("ncclUnhandledCudaError\nCuda failure 2 'out of memory'", 0, 1),
    ],
    ids=["a tensor", "a context", "cuBLAS", "a job", "NCCL"],
)
@pytest.mark.parametrize(("before", "after", "state"), [(40, 40, "not run"), (78, 40, "not run"), (78, 78, "failed")])
def test_memory_that_runs_out_is_a_failure_of_any_line_only_where_there_was_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, before: int, after: int, state: str
) -> None:
    def run_out(bench: Bench) -> Found:
        raise error

    free = iter([before, after])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (next(free) * 2**30, 79 * 2**30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    outcome = _tried(Line("a", "a", {}, run_out), Bench("cuda", tmp_path, tmp_path))
    assert outcome.state == state
    assert outcome.why in ("out of memory, of which 40 of 79 GiB were free", first_line(error))


def test_memory_that_this_process_holds_on_to_is_not_taken_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that left much behind made each after it one that was not run, and the exit status 0."""

    def run_out(bench: Bench) -> Found:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(full_size, "free_memory", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (28 * 2**30, 79 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 50 * 2**30)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(full_size, "try_step", lambda recipe, device: Found(False, "out of memory"))
    bench = Bench("cuda", tmp_path, tmp_path)
    assert _tried(Line("a", "a", {}, run_out), bench).state == "failed"
    assert FULL_SIZE[0].run(bench).measured == "out of memory"


def test_the_machines_own_memory_is_not_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(bench: Bench) -> Found:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40 * 2**30, 79 * 2**30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert _tried(Line("a", "a", {}, run_out), Bench("cuda", tmp_path, tmp_path)).state == "failed"


def test_a_loss_that_is_no_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "measure_speed", lambda *_: full_size.Speed(1.0, 1, math.nan))
    assert not try_step(small("mae_vit_base"), "cpu", product_side=64).fine


def test_the_job_and_the_self_test_build_one_model() -> None:
    """Its parameters' names, its groups, and the rate of a training's first step."""
    model, optimizer = full_size.build_update(small("ade20k_vit_base"), "cpu")
    assert type(model).__name__ == "Segmentor" and model.training
    groups = optimizer.optimizer.param_groups
    assert all(group["fused"] for group in groups) and len({group["lr_scale"] for group in groups}) > 3
    assert [group["lr"] / group["lr_scale"] for group in groups] == pytest.approx([1e-4 * 1e-6] * len(groups))


def test_scenes_are_as_large_scale_jitter_leaves_them() -> None:
    inputs = random_batch(small("coco_fpn_vit_base"), 12, "cpu")["inputs"]
    sides = [max(scene["image"].shape) for scene in inputs]
    assert max(sides) == 64 and min(sides) < 64
    for scene in inputs:
        height, width = scene["image"].shape[1:]
        boxes = scene["instances"].gt_boxes.tensor
        assert len(boxes) == OBJECTS and (boxes >= 0).all()
        assert isinstance(scene["instances"], Objects)  # as the job's loader pins them
        assert (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()


@pytest.mark.parametrize("name", FITS)
def test_what_fits_can_be_run(name: str) -> None:
    """One process's batch divides the recipe's, and mixup and batch norm would take it."""
    recipe = recipe_on_one_device(name)
    images = FITS[name].images
    assert accumulation_steps(recipe, 1) * images == recipe.optimizer.batch_size
    assert images % 2 == 0


def test_every_recipe_of_full_size_is_tried() -> None:
    """But those of iNaturalist, Places and torchvision's sets, whose step is ImageNet's, what only evaluates, and what
    trains a part of the network."""
    small = {name for name in list_recipes() if "mini" in name or "tiny" in name or name.endswith("ep")}
    evaluating = {name.replace("-", "_") for name, data_set in DATA_SETS.items() if data_set.evaluation_only}
    others = small | {name for name in list_recipes() if name.startswith(("inat", "places", *COUNTS, *evaluating))}
    tasks = {name: load_recipe(name, [], RECIPES).recipe.task for name in list_recipes()}
    others |= {name for name, task in tasks.items() if task not in {PRETRAINING, *LEAVE_NETWORKS}}
    assert {*FITS} == {*list_recipes()} - others
    assert [line.name for line in FULL_SIZE] == [f"step-{name.replace('_', '-')}" for name in FITS]


def test_a_processor_is_not_kept_for_minutes(tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match="takes minutes"):
        FULL_SIZE[0].run(Bench("cpu", tmp_path, tmp_path))


def test_the_readme_has_the_same_numbers() -> None:
    """| `coco_fpn_vit_*` | 8 | 4 | – |, with a c behind what computes activations twice."""
    row = re.compile(r"^\| `(\w+_vit_)\*(\w*)` \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)
    found = {}
    for family, suffix, *cells in row.findall(README.read_text()):
        found |= {f"{family}{size}{suffix}": cell for size, cell in zip(("base", "large", "huge"), cells, strict=True)}
    written = {name: images for name, images in found.items() if images != "–"}
    assert written == {name: f"{fits.images}{'c' if fits.recompute else ''}" for name, fits in FITS.items()}
