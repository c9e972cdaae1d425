"""Mask R-CNN round a pyramid: its parts, its size, detectron2's own ViTDet beside it, batches without an object."""

import math
from pathlib import Path
from typing import Any

import detectron2
import pytest
import timm
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import batch_norm
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.adapters import build_pyramid
from backbones.training.step_images import count_step_images
from tasks.batch_norm import SynchronisedBatchNorm
from tasks.detection.detector import DetectionStep, Detector, Pooler, build_detector
from tasks.detection.recipe import DetectorSettings
from tests.support.points_runs import recipe

CLASSES = 3
SIZE = 96
WINDOW = 3
SMALL: dict[str, Any] = {
    "arch": "test",
    "image_size": SIZE,
    "window": WINDOW,
    "channels": 16,
    "box_features": 32,
    "regions": 16,
    "proposals": 20,
}


def small_vit(depth: int = 4) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(img_size=64, patch_size=16, embed_dim=32, depth=depth, num_heads=2, num_classes=0)


def small_detector(backbone: nn.Module | None = None, **settings: Any) -> Detector:
    fields = DetectorSettings(**{"adapter": "fpn", **SMALL, **settings})
    pyramid = build_pyramid(
        backbone or small_vit(),
        fields.adapter,
        image_size=fields.image_size,
        window=fields.window,
        channels=fields.channels,
    )
    torch.manual_seed(1)
    return build_detector(pyramid, fields, CLASSES)


def objects(boxes: list[list[float]], shape: tuple[int, int]) -> Instances:
    """Objects whose masks fill their boxes, one of each class in turn."""
    masks = torch.zeros(len(boxes), *shape, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = True
    fields = {"gt_boxes": Boxes(torch.tensor(boxes).view(-1, 4)), "gt_masks": BitMasks(masks)}
    return Instances(shape, gt_classes=torch.arange(len(boxes)) % CLASSES, **fields)


def batch(*boxes: list[list[float]], shape: tuple[int, int] = (SIZE, 80)) -> list[dict[str, Any]]:
    """Noise with objects at the given places, an image for each list."""
    generator = torch.Generator().manual_seed(2)
    return [
        {
            "image": torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8),
            "instances": objects(each, shape),
            "height": 2 * shape[0],
            "width": 2 * shape[1],
        }
        for each in boxes
    ]


def losses_of(model: GeneralizedRCNN, data: list[dict[str, Any]]) -> dict[str, Tensor]:
    model.train()
    torch.manual_seed(3)
    with EventStorage():
        return model(data)


def trained_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def on_paper(adapter: str, **options: Any) -> Detector:
    """ViT-B for COCO at full size, without memory for its weights."""
    settings = DetectorSettings(arch="vit_base_patch16_224", adapter=adapter, image_size=1024, **options)
    with torch.device("meta"):
        backbone = timm.create_model(settings.arch, num_classes=0)
        pyramid = build_pyramid(
            backbone,
            settings.adapter,
            image_size=1024,
            window=settings.window,
            position_embeddings=settings.position_embeddings,
        )
        return build_detector(pyramid, settings, 80)


def test_vit_base_has_mimdets_parameters() -> None:
    """MIMDet publishes 118.67 M (README, Benchmarking-ViT-B) with new position embeddings of all 64 × 64 patches; those
    of the pre-training are 14 × 14, and interpolated on the way.
    """
    for embeddings, side, parameters in (("sincos", 64, 118_674_184), ("loaded", 14, 115_678_984)):
        model = on_paper("fpn", window=16, position_embeddings=embeddings)
        position = model.pyramid.trunk.pos_embed
        assert position is not None and position.shape == (1, side, side, 768)
        assert trained_parameters(model) == parameters


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_parts_are_those_of_the_published_configurations(adapter: str) -> None:
    """Li et al. 2021, appendix; MIMDet's and ViTDet's configurations."""
    model = on_paper(adapter, window=16 if adapter == "fpn" else 14)
    shapes = model.backbone.output_shape()
    assert {name: (shape.stride, shape.channels) for name, shape in shapes.items()} == {
        f"p{level}": (2**level, 256) for level in range(2, 7)
    }
    assert model.backbone.padding_constraints["square_size"] == 1024
    proposals, heads = model.proposal_generator, model.roi_heads
    assert [layer.kernel_size for layer in proposals.rpn_head.conv] == [(3, 3), (3, 3)]
    assert not any("Norm" in type(module).__name__ for module in proposals.modules())
    box_layers = list(heads.box_head)
    assert [type(layer).__name__ for layer in box_layers] == ["Conv2d"] * 4 + ["Flatten", "Linear", "ReLU"]
    assert (box_layers[5].in_features, box_layers[5].out_features) == (256 * 7 * 7, 1024)
    mask_layers = list(heads.mask_head)
    assert [type(layer).__name__ for layer in mask_layers] == ["Conv2d"] * 4 + ["ConvTranspose2d", "ReLU", "Conv2d"]
    assert mask_layers[-1].out_channels == 80
    convolutions = [*box_layers[:4], *mask_layers[:4]]
    expected = SynchronisedBatchNorm if adapter == "fpn" else batch_norm.LayerNorm
    assert all(type(layer.norm) is expected and layer.bias is None for layer in convolutions)
    own_norms = [type(layer.norm) for layer in getattr(model.backbone, "lateral_convs", [])]
    assert own_norms == ([SynchronisedBatchNorm] * 4 if adapter == "fpn" else [])
    if adapter == "fpn":
        assert {layer.norm._stats_mode for layer in convolutions} == {"N"}


@pytest.mark.parametrize(("adapter", "images"), [("fpn", 3), ("simple", None)])
def test_batch_norm_sees_the_images_of_all_processes(adapter: str, images: int | None) -> None:
    """Six images in two steps of three processes; ViTDet's has none."""
    detector = DetectionStep(small_detector(adapter=adapter)).train()
    assert count_step_images(detector, recipe(), accumulation=2, processes=3).batch_norm == images


def test_anchors_are_those_of_mask_r_cnn() -> None:
    model = small_detector()
    maps = [torch.zeros(1, 1, 1, 1)] * 5
    for size, stride, anchors in zip(
        (32, 64, 128, 256, 512),
        model.proposal_generator.anchor_generator.strides,
        model.proposal_generator.anchor_generator(maps),
        strict=True,
    ):
        assert stride == size // 8
        sides = anchors.tensor[:, 2:] - anchors.tensor[:, :2]
        assert sides.prod(1).sqrt().tolist() == pytest.approx([size] * 3)
        assert (sides[:, 1] / sides[:, 0]).tolist() == pytest.approx([0.5, 1, 2])


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_detections_come_in_the_original_images_pixels(adapter: str) -> None:
    """Two images of unequal size, padded to one square; the originals are twice as large."""
    model = small_detector(adapter=adapter).eval()
    oblong, upright = batch([[8, 8, 40, 40]], shape=(48, SIZE)), batch([[8, 8, 40, 40]], shape=(SIZE, 60))
    with torch.no_grad():
        outputs = model([*oblong, *upright])
    for output, shape in zip(outputs, [(96, 192), (192, 120)], strict=True):
        found = output["instances"]
        assert len(found) > 0
        assert found.image_size == shape
        assert tuple(found.pred_masks.shape[1:]) == shape
        corners = found.pred_boxes.tensor
        assert corners.min() >= 0 and (corners.max(0).values <= torch.tensor([shape[1], shape[0]] * 2)).all()
        assert found.pred_boxes.tensor[:, 2].max() > shape[1] / 2


def hierarchical(name: str) -> nn.Module:
    torch.manual_seed(0)
    small_swin = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 3}
    options = small_swin if name.startswith("swin") else {}
    return timm.create_model(name, num_classes=0, **options)


@pytest.mark.parametrize("name", ["resnet18", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_hierarchical_backbones_learn_in_all_their_parts(name: str) -> None:
    """A parameter without a gradient would also stop training in several processes."""
    model = small_detector(hierarchical(name))
    losses = losses_of(model, batch([[10, 10, 60, 60], [40, 30, 78, 90]], [[20, 5, 50, 70]]))
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    sum(losses.values()).backward()  # type: ignore[union-attr]
    missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []
    model.eval()
    with torch.no_grad():
        (output,) = model(batch([]))
    assert output["instances"].image_size == (2 * SIZE, 160)


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_all_parameters_of_a_plain_vit_learn(adapter: str) -> None:
    model = small_detector(adapter=adapter)
    sum(losses_of(model, batch([[10, 10, 60, 60]])).values()).backward()  # type: ignore[union-attr]
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def without_fields(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands in for unreadable images has no object and no masks at all."""
    for inputs in data:
        inputs["instances"] = Instances(
            inputs["instances"].image_size,
            gt_boxes=Boxes(torch.zeros(0, 4)),
            gt_classes=torch.zeros(0, dtype=torch.int64),
        )
    return data


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_loss_is_detectron2s_sum(precision: torch.dtype) -> None:
    """To the last bit, in the precision that the losses come in; and each of them is logged as it is."""
    step, data = DetectionStep(small_detector()), batch([[10, 10, 60, 60], [40, 30, 78, 90]])
    assert step.network is step.detector.pyramid
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        losses = losses_of(step.detector, data)
        expected = torch.stack(list(losses.values())).sum()
        torch.manual_seed(3)
        found = step(inputs=data, corrupt={}, mode="loss")
    total, logged = step.parse_losses(found)
    assert torch.equal(total, expected) and total.dtype == expected.dtype == torch.float32
    assert list(logged) == ["loss", *losses] and logged["loss"] is total
    assert all(torch.equal(logged[name], loss) for name, loss in losses.items())


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_a_batch_without_an_object_leaves_everything_finite(adapter: str) -> None:
    """The crops may hold none: the mask head then sees an empty batch, and its norms have nothing to count."""
    model = small_detector(adapter=adapter)
    losses_of(model, batch([[10, 10, 60, 60]]))
    statistics = {key: value.clone() for key, value in model.roi_heads.mask_head.named_buffers() if "running" in key}
    assert len(statistics) == (8 if adapter == "fpn" else 0)
    for data in (batch([], []), without_fields(batch([], []))):
        model.zero_grad()
        losses = losses_of(model, data)
        assert losses["loss_mask"] == losses["loss_box_reg"] == 0
        total = torch.stack(list(losses.values())).sum()
        assert torch.isfinite(total)
        total.backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        for key, value in model.named_buffers():
            assert torch.isfinite(value).all(), key
        for key, value in model.roi_heads.mask_head.named_buffers():
            assert "running" not in key or torch.equal(value, statistics[key])
    mixed = [*batch([[10, 10, 60, 60]]), *without_fields(batch([]))]
    assert all(torch.isfinite(loss) for loss in losses_of(model, mixed).values())


def test_boxes_are_not_rounded_to_the_maps_precision() -> None:
    settings: dict[str, Any] = {
        "output_size": 7,
        "scales": [1 / 4, 1 / 8, 1 / 16, 1 / 32],
        "sampling_ratio": 0,
        "pooler_type": "ROIAlignV2",
    }
    torch.manual_seed(0)
    maps = [torch.randn(1, 2, 1024 // stride, 1024 // stride).bfloat16() for stride in (4, 8, 16, 32)]
    boxes = [Boxes(torch.tensor([[901.0, 903.0, 933.0, 967.0], [5.0, 301.0, 399.0, 999.0]]))]
    exact = ROIPooler(**settings)([level.float() for level in maps], boxes)
    assert torch.equal(Pooler(**settings)(maps, boxes), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ROIPooler(**settings)(maps, boxes)
    assert (rounded.float() - exact).abs().max() > 0.3


def vitdet() -> GeneralizedRCNN:
    """detectron2's configuration of ViTDet, scaled down."""
    configs = Path(detectron2.__file__).parent / "model_zoo/configs/common/models"
    config = LazyConfig.load(str(configs / "mask_rcnn_vitdet.py")).model
    config.backbone.square_pad = SIZE
    config.backbone.net.update(
        img_size=SIZE,
        embed_dim=32,
        depth=8,
        num_heads=2,
        drop_path_rate=0.0,
        window_size=WINDOW,
        window_block_indexes=[0, 2, 4, 6],
        pretrain_img_size=64,
    )
    config.roi_heads.num_classes = CLASSES
    config.roi_heads.batch_size_per_image = SMALL["regions"]
    config.proposal_generator.pre_nms_topk = (2 * SMALL["proposals"], SMALL["proposals"])
    config.proposal_generator.post_nms_topk = (SMALL["proposals"],) * 2
    torch.manual_seed(4)
    return instantiate(config)


def take_weights(ours: Detector, reference: GeneralizedRCNN) -> None:
    """Give both the same weights; the reference's own, but position terms and norms that are not neutral."""
    torch.manual_seed(5)
    trunk = dict(reference.backbone.net.named_parameters())
    pyramid = [parameter for stage in reference.backbone.stages for parameter in stage.parameters()]
    heads = dict(reference.named_parameters())
    with torch.no_grad():
        for parameter in [*trunk.values(), *pyramid]:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for name, parameter in ours.pyramid.trunk.named_parameters():
            other = trunk.pop(name.replace("attn.attention.", "attn.").replace("attn.attend.", "attn."))
            parameter.copy_(other[:, 1:].view_as(parameter) if name == "pos_embed" else other)
        for parameter, other in zip(ours.pyramid.levels.parameters(), pyramid, strict=True):
            parameter.copy_(other)
        for name, parameter in ours.named_parameters():
            if not name.startswith("backbone."):
                parameter.copy_(heads.pop(name))
    assert not trunk
    assert all(name.startswith("backbone.") for name in heads)


def test_simple_is_detectron2s_vitdet() -> None:
    """The same losses in training, the same detections in inference, with the same weights and draws."""
    reference = vitdet()
    ours = small_detector(small_vit(depth=8), adapter="simple", channels=256, box_features=1024)
    take_weights(ours, reference)
    data = batch([[10, 10, 60, 60], [40, 30, 78, 90]], [[20, 5, 50, 70]])
    own_losses, losses = losses_of(ours, data), losses_of(reference, data)
    assert own_losses.keys() == losses.keys()
    for name, loss in losses.items():
        assert 0 < loss.item() < math.inf
        torch.testing.assert_close(own_losses[name], loss, rtol=1e-4, atol=1e-4)
    ours.eval(), reference.eval()
    with torch.no_grad():
        found, expected = ours(data), reference(data)
    for own, other in zip(found, expected, strict=True):
        own_instances, instances = own["instances"], other["instances"]
        assert len(instances) > 10
        assert own_instances.pred_classes.tolist() == instances.pred_classes.tolist()
        torch.testing.assert_close(own_instances.scores, instances.scores, rtol=1e-4, atol=1e-4)
        own_boxes, boxes = own_instances.pred_boxes.tensor, instances.pred_boxes.tensor
        torch.testing.assert_close(own_boxes / SIZE, boxes / SIZE, rtol=1e-4, atol=1e-4)
        differing = (own_instances.pred_masks != instances.pred_masks).float().mean()
        assert differing < 1e-4
