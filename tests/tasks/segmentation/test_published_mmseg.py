"""mmsegmentation's UPerNets on MAE and BEiT, of its configurations, saved by its code, as it evaluates them itself."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmseg.apis import inference_model, init_model
from mmseg.models import SegTTAModel
from PIL import Image
from torch import Tensor

from backbones.training.runner import stack
from benchmarks.running.evaluating import run_evaluation
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.samples import EvaluationSamples
from tests.support.mmseg_examples import CLASSES, as_mmseg, mmseg_set, own_set, write_scenes
from tests.support.mmseg_files import BACKBONES, RECIPE, RESIZE, STRIDE, small_configuration, write_segmentor
from tests.support.published_segmentors import own_segmentor, planned

SIZES = {"slide": [(67, 91), (90, 60), (40, 101), (151, 131), (30, 30)], "whole": [(61, 61), (131, 131)]}
"""Of images. mmsegmentation's positions are those of one crop: it takes whole images that are resized to one alone."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {mode: tmp_path_factory.mktemp(mode) for mode in SIZES}
    for mode, sizes in SIZES.items():
        for split in ("train", "val"):
            write_scenes(roots[mode], sizes, split)
    return roots


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("mode", SIZES)
@torch.no_grad()
def test_logits_and_label_maps_are_mmsegmentations(
    scenes: dict[str, Path], tmp_path: Path, kind: str, mode: str
) -> None:
    configuration = small_configuration(kind, scenes[mode], mode)
    write_segmentor(tmp_path / "segmentor.pth", configuration)
    with as_mmseg():
        theirs = init_model(configuration, str(tmp_path / "segmentor.pth"), device="cpu")
    plan = planned(tmp_path / "segmentor.pth", BACKBONES[kind])
    ours, recipe = own_segmentor(plan, len(CLASSES)), cast(SegmentationRecipe, plan.recipe)
    assert recipe.inference.resize == RESIZE and recipe.inference.stride == (STRIDE if mode == "slide" else None)
    dataset = own_set(scenes[mode], "val")
    samples = EvaluationSamples(dataset, recipe.inference)
    for index, image in enumerate(dataset.images):
        with as_mmseg():
            expected: Any = inference_model(theirs, str(image.image))
        sample = stack([samples[index]])
        labels: Tensor = ours.val_step(sample)[0]["predictions"][0]
        logits = ours.logits(sample["views"][0], labels.shape)[0]
        off = (logits - expected.seg_logits.data).abs().max().item()
        size = expected.seg_logits.data.abs().max().item()
        differing = (labels != expected.pred_sem_seg.data[0]).sum().item()
        about = f"{kind} {mode} {tuple(labels.shape)}"
        print(f"{about}: logits {off:.1e} of {size:.1f}, {differing} of {labels.numel()} labels")
        assert off <= 1e-4
        assert differing == 0
        assert len(labels.unique()) > 5


@pytest.mark.slow
@torch.no_grad()
def test_several_scales_and_mirror_images_are_mmsegmentations(tmp_path: Path) -> None:
    """On images of the resized images' size: mmsegmentation measures scales from the images themselves."""
    data, file, scales = tmp_path / "scenes", tmp_path / "segmentor.pth", [1.0, 1.75]
    for split in ("train", "val"):
        write_scenes(data, [(64, 91), (88, 64)], split)
    configuration = small_configuration("MAE", data)
    theirs = SegTTAModel(module=write_segmentor(file, configuration).eval())
    pipeline = configuration.tta_pipeline
    pipeline[1].transforms[0] = [{"type": "Resize", "scale_factor": scale, "keep_ratio": True} for scale in scales]
    others = mmseg_set(data, "val", pipeline)
    views = [f"inference.scales={scales}", "inference.flip=true"]
    plan = planned(file, BACKBONES["MAE"], views)
    ours, recipe = own_segmentor(plan, len(CLASSES)), cast(SegmentationRecipe, plan.recipe)
    alone = own_segmentor(planned(file, BACKBONES["MAE"]), len(CLASSES))
    for index, sample in enumerate(EvaluationSamples(own_set(data, "val"), recipe.inference)):
        found: Tensor = ours.val_step(stack([sample]))[0]["predictions"]
        (expected,) = theirs.test_step(pseudo_collate([others[index]]))
        assert torch.equal(found, expected.pred_sem_seg.data)
        assert (found != alone.val_step(stack([sample]))[0]["predictions"]).any()


@pytest.mark.parametrize("kind", ["MAE", pytest.param("BEiT", marks=pytest.mark.slow)])
def test_evaluate_gives_mmsegmentations_scores(tmp_path: Path, kind: str) -> None:
    """Of its own test loop, to the two digits that it rounds to; half of each label map is as it predicts it."""
    data, file = tmp_path / "scenes", tmp_path / "segmentor.pth"
    for split in ("train", "val"):
        write_scenes(data, SIZES["slide"], split)
    configuration = small_configuration(kind, data)
    write_segmentor(file, configuration)
    with as_mmseg():
        theirs = init_model(configuration, str(file), device="cpu")
        for image in own_set(data, "val").images:
            found: Any = inference_model(theirs, str(image.image))
            labels = np.array(Image.open(image.annotation))
            labels[:, ::2] = found.pred_sem_seg.data[0].numpy()[:, ::2] + 1
            Image.fromarray(labels).save(image.annotation)
    configuration.update(work_dir=str(tmp_path / "theirs"), load_from=str(file))
    with as_mmseg():
        expected = Runner.from_cfg(configuration).test()
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    cell = run_evaluation(str(recipe), data, file, tmp_path / "runs", overrides=[], backbone=BACKBONES[kind])
    scores = {metric.name: metric.value for metric in cell.record.metrics}
    print(kind, {name: (round(value, 4), expected[name]) for name, value in scores.items()})
    assert all(abs(value - expected[name]) < 0.0051 for name, value in scores.items())
    assert scores["aAcc"] > 40 and scores["mIoU"] > 1
    assert cell.record.trained == "elsewhere"
    assert cell.record.recipe_settings["inference"]["stride"] == STRIDE
    assert cell.record.recipe_settings["model"]["adapter"] == "beit"
