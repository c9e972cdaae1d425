"""How a trained detector looks at an image: size, thresholds, mirror image."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from torch import nn

from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from benchmarks.planning.recipe import load_recipe
from tasks.detection.detector import Detector, build_detector
from tasks.detection.recipe import DetectionInference, DetectionRecipe, DetectorSettings
from tasks.detection.samples import EvaluationSamples
from tasks.detection.task import create_detector
from tasks.registry import TASKS
from tests.support import coco_examples
from tests.tasks.detection.test_detector import CLASSES, SIZE, SMALL, small_vit


def detector(adapter: str = "simple", backbone: nn.Module | None = None, **look: Any) -> Detector:
    """With numbers as if it had learnt something, so that scores and boxes differ."""
    settings = DetectorSettings(**{"adapter": adapter, **SMALL})
    pyramid = build_pyramid(
        backbone or small_vit(), settings.adapter, image_size=SIZE, window=settings.window, channels=settings.channels
    )
    torch.manual_seed(1)
    model = build_detector(pyramid, settings, CLASSES, inference=DetectionInference(**look)).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def image(height: int, width: int, original: tuple[int, int]) -> dict[str, Any]:
    pixels = torch.randint(
        0, 256, (3, height, width), generator=torch.Generator().manual_seed(height), dtype=torch.uint8
    )
    return {"image": pixels, "height": original[0], "width": original[1]}


def resized(inputs: dict[str, Any]) -> dict[str, Any]:
    """As large as fits into a square of `SIZE`."""
    view = T.AugInput(inputs["image"].permute(1, 2, 0).numpy())
    T.ResizeShortestEdge(SIZE, max_size=SIZE)(view)
    return inputs | {"image": torch.from_numpy(view.image.transpose(2, 0, 1).copy())}


def found_by(model: Any, *inputs: dict[str, Any]) -> list[Any]:
    with torch.no_grad():
        return [output["instances"] for output in model([*inputs])]


@pytest.mark.parametrize("adapter", ["simple", "fpn"])
def test_flip_is_detectron2s_test_time_augmentation(adapter: str) -> None:
    """On images of odd sizes, given in their original size, as detectron2 resizes them itself."""
    ours, plain = detector(adapter, flip=True), detector(adapter)
    plain.load_state_dict(ours.state_dict())
    config = CfgNode({"MODEL": {"KEYPOINT_ON": False, "LOAD_PROPOSALS": False, "MASK_ON": True}})
    config.MODEL.ROI_HEADS = CfgNode({"NUM_CLASSES": CLASSES, "NMS_THRESH_TEST": 0.5})
    config.TEST = CfgNode({"DETECTIONS_PER_IMAGE": 100})
    reference = GeneralizedRCNNWithTTA(config, plain, DatasetMapperTTA([SIZE], SIZE, True))
    for height, width in ((61, 117), (131, 90)):
        original = image(height, width, (height, width))
        seen = resized(original)
        (own,), (expected,), (single,) = found_by(ours, seen), found_by(reference, original), found_by(plain, seen)
        assert len(expected) > 10 and len(own) == len(expected)
        assert own.pred_classes.tolist() == expected.pred_classes.tolist()
        torch.testing.assert_close(own.scores, expected.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1e-2)
        assert (own.pred_masks != expected.pred_masks).float().mean() < 1e-3
        assert own.image_size == single.image_size == (height, width)
        assert len(single) != len(own) or not torch.equal(single.scores, own.scores)


def test_flip_of_a_mirror_image_finds_the_mirror_image_of_it() -> None:
    ours = detector(flip=True)
    original = image(72, SIZE, (144, 2 * SIZE))
    (found,) = found_by(ours, original)
    (other,) = found_by(ours, original | {"image": original["image"].flip(2)})
    assert len(found) == len(other) > 10
    for scores in (found.scores, other.scores):
        assert (scores[:-1] >= scores[1:]).all()
    torch.testing.assert_close(found.scores, other.scores)
    lefts = (2 * SIZE - found.pred_boxes.tensor[:, 2]).sort().values
    torch.testing.assert_close(lefts, other.pred_boxes.tensor[:, 0].sort().values, rtol=0, atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", ["mean", "grey"])
def test_thresholds_and_number_of_detections(flip: bool, padding: str) -> None:
    """And nothing found at all."""
    inputs, looks = image(61, SIZE, (122, 2 * SIZE)), {"flip": flip, "padding": padding}
    model = detector(**looks, nms_threshold=0.9)
    (many,) = found_by(model, inputs)
    numbers = []
    for look in ({"nms_threshold": 0.3}, {"detections": 3}, {"score_threshold": 0.999999}):
        other = detector(**looks, **look)
        (found,) = found_by(other, inputs)
        numbers.append(len(found))
        assert found.image_size == (122, 2 * SIZE)
    assert len(many) > numbers[0] > 0 and numbers[1:] == [3, 0]
    (above,) = found_by(detector(**looks, score_threshold=0.2), inputs)
    assert 0.05 < many.scores.min() < 0.2 < above.scores.min()


@pytest.mark.parametrize("adapter", ["simple", "fpn"])
def test_a_larger_size_is_padded_to_a_larger_square_and_only_in_inference(adapter: str) -> None:
    plain = detector(adapter)
    for sides, square in (((130, 80), 130), ((64, 64), SIZE)):
        larger = detector(adapter, resize=sides)
        assert larger.backbone.padding_constraints["square_size"] == square
        assert larger.train().backbone.padding_constraints["square_size"] == SIZE
        (found,) = found_by(larger.eval(), image(50, sides[0], (100, 2 * sides[0])))
        assert len(found) > 0 and found.image_size == (100, 2 * sides[0])
    assert plain.backbone.padding_constraints["square_size"] == SIZE


def test_images_become_as_large_as_fits(tmp_path: Any) -> None:
    recipe = load_recipe("mini_detection", ["inference.resize=[90,40]"], TASKS).recipe
    assert isinstance(recipe, DetectionRecipe)
    content = coco_examples.content()
    coco_examples.write(tmp_path, "val", content)
    coco = coco_examples.read(tmp_path, content, "val")
    height, width = coco.images[0].height, coco.images[0].width
    seen = EvaluationSamples(coco.images, *recipe.inference.sides(recipe.model.image_size))[0]["inputs"]["image"]
    scale = min(90 / max(height, width), 40 / min(height, width))
    assert seen.shape[1:] == (round(height * scale), round(width * scale))
    assert recipe.model_copy(update={"inference": DetectionInference()}).inference.sides(128) == (128, 128)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("inference.resize=[800,1333]", "the longest side comes first"),
        ("inference.score_threshold=1", "score_threshold"),
        ("inference.nms_threshold=0", "nms_threshold"),
        ("inference.detections=0", "detections"),
        ("inference.padding=zero", "padding"),
        ("inference.stride=3", "stride"),
    ],
)
def test_settings_that_cannot_be_meant(override: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        load_recipe("mini_detection", [override], TASKS)


def test_a_size_that_the_backbone_was_not_built_for() -> None:
    """A Swin Transformer's windows are laid out for images of one size."""
    overrides = ["inference.resize=[300,200]", "model.window=null", "model.image_size=128"]
    recipe = load_recipe("mini_detection", overrides, TASKS).recipe
    with pytest.raises(InputError, match=r'"inference.resize": images are padded to a square of 300 pixels, and swin'):
        create_detector(recipe, "swin_tiny_patch4_window7_224", None, 3, 0, IMAGENET)
