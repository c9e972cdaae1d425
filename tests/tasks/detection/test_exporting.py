"""A detector in detectron2's names: detectron2 builds it from the configuration beside it, and sees the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from torch import nn

from backbones.images.normalisation import HALF
from benchmarks.planning.recipe import load_recipe
from tasks.detection.detector import Detector
from tasks.detection.task import create_detector
from tests.support.checkpoint_examples import randomised
from tests.support.in_process import refusal, success
from tests.support.trained_files import leave_weights

VIT = "tests.support.small_architectures:vit_of_large_patches"
CLASSES = ["ant", "bee"]
SMALL = (
    *("model.adapter=simple", "model.image_size=96", "model.channels=16", "model.regions=8", "model.proposals=20"),
    *("model.box_features=32", "model.anchor_sizes=[8,16,32,64,128]"),
)


OTHER_TEST = (
    *("inference.resize=[128,96]", "inference.score_threshold=0.001"),
    *("inference.nms_threshold=0.7", "inference.detections=7"),
)


def recipe_of(*changes: str) -> Any:
    return load_recipe("mini_detection", [*SMALL, *changes], {"detection"}).recipe


def trained(run: Path, *changes: str, backbone: str = VIT) -> Detector:
    """A detector whose weights lie in a run's directory."""
    recipe = recipe_of(*changes)
    torch.manual_seed(0)
    detector, _, _ = create_detector(recipe, backbone, None, len(CLASSES), 0, HALF)
    randomised(detector)
    for parameter in detector.roi_heads.box_predictor.parameters():
        nn.init.normal_(parameter, std=0.5)
    leave_weights(run, detector, recipe, backbone, CLASSES)
    return detector.eval()


@pytest.mark.parametrize(
    ("ending", "changes"),
    [
        ("pkl", ["model.window=2"]),
        ("pth", ["model.window=null", "model.position_embeddings=sincos"]),
        ("pth", ["model.window=null", "model.relative_position=false"]),
        ("pth", ["model.window=2", *OTHER_TEST]),
    ],
)
@torch.no_grad()
def test_detectron2_builds_it_and_finds_the_same(tmp_path: Path, ending: str, changes: list[str]) -> None:
    ours = trained(tmp_path / "run", *changes)
    out = tmp_path / f"vitdet.{ending}"
    result = success("export", tmp_path / "run", "--to", "detectron2", "--out", out)
    assert "detectron2's ViTDet, a Mask R-CNN" in result.output and "mirror" not in result.output
    config = LazyConfig.load(str(out.with_suffix(".py")))
    theirs = instantiate(config.model)
    reader = DetectionCheckpointer(theirs)
    reader.logger.warning = lambda message, *rest: pytest.fail(str(message))
    reader.load(str(out))
    assert list(config.metadata.thing_classes) == CLASSES
    sides = recipe_of(*changes).inference.sides(96)
    (resize,) = instantiate(config.test_mapper).augmentations.augs
    assert (resize.max_size, *resize.short_edge_length) == (sides[0], sides[1], sides[1])
    generator = torch.Generator().manual_seed(2)
    for height, width in ((96, 96), (sides[0], 71), (50, 96)):
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        inputs = [{"image": image, "height": 2 * height, "width": 2 * width}]
        (found,), (expected,) = theirs.eval()(inputs), ours(inputs)
        own, other = expected["instances"], found["instances"]
        assert len(own) > 3 and own.pred_classes.tolist() == other.pred_classes.tolist()
        torch.testing.assert_close(other.scores, own.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(other.pred_boxes.tensor, own.pred_boxes.tensor, rtol=0, atol=1e-3)
        assert (own.pred_masks != other.pred_masks).float().mean() < 1e-4


def test_what_detectron2_does_not_do_is_remarked(tmp_path: Path) -> None:
    trained(tmp_path / "run", "model.window=null", "inference.flip=true", "inference.padding=grey")
    output = success("export", tmp_path / "run", "--to", "detectron2", "--out", tmp_path / "vitdet.pth").output
    assert "mirror images were looked at as well" in output and "with grey that counts as image" in output


def test_what_vitdet_is_not_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "fpn", "model.adapter=fpn", "model.window=null")
    out = tmp_path / "vitdet.pth"
    message = refusal("export", tmp_path / "fpn", "--to", "detectron2", "--out", out)
    assert message.startswith(f"{tmp_path / 'fpn'}: a detector with the adapter fpn on this backbone cannot")
    assert "ViTDet is the adapter `simple`" in message
    trained(tmp_path / "mini", "model.window=null", backbone="random_vit_mini")
    message = refusal("export", tmp_path / "mini", "--to", "detectron2", "--out", out)
    assert "its patches have 8 pixels" in message
    message = refusal("export", tmp_path / "mini", "--to", "timm", "--out", tmp_path / "timm")
    assert (
        message.startswith(f"{tmp_path / 'mini'}: a detector cannot be handed on to timm")
        and "Use --to detectron2" in message
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fpn", "mini"]
