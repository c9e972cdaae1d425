"""Lines about the detector and the segmentor: the device's losses and gradients beside the processor's."""

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from backbones.images.normalisation import IMAGENET
from backbones.training.precision import Precision
from benchmarks.selftest.attention import fill_positions
from benchmarks.selftest.exactness import (
    Tolerance,
    exact_products,
    in_double,
    judged,
    largest,
    model_errors,
    relative,
    smooth,
)
from benchmarks.selftest.lines import Bench, Found, Line
from tasks.datasets.label_maps.maps import IGNORED

TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(loss=1e-5, whole=1e-4, each=1e-3),
    "fp16": Tolerance(loss=1e-3, whole=5e-2, each=2e-1),
    "bf16": Tolerance(loss=2e-3, whole=2e-1, each=7e-1),
}
"""A CPU's fp32 is off by 2e-6 to 6e-6 of all gradients and its bfloat16 by 1e-2 to 6e-2: batch norms over few values
magnify rounding. The worst parameter's are off by 4e-2 (fp16) and 2.5e-1 (bf16) on an H100; one that is missing is off
by 1."""

ACCURACY_TOLERANCE = 5e-3
"""Relative: a pixel or two of some hundred right ones, where rounding decides between two classes."""

DETECTOR_SIDE = {"cuda": 512, "cpu": 128}
SEGMENTOR_SIDE = {"cuda": 256, "cpu": 96}
"""Of the images, in pixels; channels and blocks are the recipes'."""

_OBJECTS, _PROPOSALS = 8, 40  # an image; all of them are learnt from, whichever way they are drawn
_CATEGORIES, _CLASSES = 80, 150


def detector(adapter: str, bench: Bench) -> Found:
    """Mask R-CNN's losses and gradients: of the region proposals with fixed samples, and from fixed proposals on."""
    from backbones import create_backbone
    from backbones.adapters import build_pyramid
    from tasks.detection.detector import Pooler, build_detector
    from tasks.detection.recipe import DetectorSettings

    side = DETECTOR_SIDE[bench.device]
    window = {"fpn": 16, "simple": 14}[adapter]
    settings = DetectorSettings(arch="vit_base_patch16_224", adapter=adapter, image_size=side, window=window)  # type: ignore[arg-type]
    pyramid = build_pyramid(
        create_backbone("random_vit_base", for_pyramid=True), settings.adapter, image_size=side, window=window
    )
    model = build_detector(pyramid, settings, _CATEGORIES).train()
    fill_positions(smooth(model))
    images = _pictures(2, side, side)
    scenes = [_scene(side) for _ in images]
    sampled = _sampled_anchors(model, images, [objects for objects, _ in scenes])

    def loss_of(model: nn.Module, device: str) -> Tensor:
        return _detector_loss(model, images.to(device), scenes, sampled, device)

    def entrance(double: nn.Module) -> nn.Module:
        for module in double.modules():
            if isinstance(module, Pooler):  # it pools in single precision
                module.register_forward_hook(lambda module, given, pooled: pooled.double())
        return double.get_submodule("backbone")

    return judged(model_errors(model, entrance, loss_of, bench.device), TOLERANCES)


def _pictures(count: int, height: int, width: int) -> Tensor:
    """Coloured squares, uint8 (B, 3, H, W): noise is the same everywhere, and a norm over it magnifies rounding."""
    coarse = torch.randint(256, (count, 3, -(-height // 24), -(-width // 24)), dtype=torch.uint8)
    return coarse.repeat_interleave(24, 2).repeat_interleave(24, 3)[:, :, :height, :width].contiguous()


def _scene(side: int) -> tuple[Any, Any]:
    """Objects in a square image, and proposals near them and elsewhere, as detectron2 has them."""
    from detectron2.structures import BitMasks, Boxes, Instances

    def boxes(count: int) -> Tensor:
        corners, sizes = torch.rand(count, 2) * side * 0.6, side * (0.1 + 0.3 * torch.rand(count, 2))
        return torch.cat([corners, corners + sizes], dim=1)

    places = boxes(_OBJECTS)
    masks = torch.zeros(_OBJECTS, side, side, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, places.long().tolist(), strict=True):
        mask[top:bottom, left : (left + right) // 2] = True
    classes = torch.randint(_CATEGORIES, (_OBJECTS,))
    objects = Instances((side, side), gt_boxes=Boxes(places), gt_classes=classes, gt_masks=BitMasks(masks))
    near = places.repeat(2, 1) + 0.02 * side * torch.randn(2 * _OBJECTS, 4)
    proposed = Boxes(torch.cat([near, boxes(_PROPOSALS - len(near))]))
    proposed.clip((side, side))
    return objects, Instances((side, side), proposal_boxes=proposed, objectness_logits=torch.zeros(_PROPOSALS))


def _sampled_anchors(model: Any, images: Tensor, objects: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Each image's labels of the anchors that its proposals learn from, as drawn once, and the objects' boxes."""
    generator, size = model.proposal_generator, model.preprocess_image([{"image": images[0]}]).tensor.shape[2:]
    maps = [torch.zeros(1, 1, *(-(-side // stride) for side in size)) for stride in generator.anchor_generator.strides]
    labels, boxes = generator.label_and_sample_anchors(generator.anchor_generator(maps), objects)
    return labels, boxes


def _detector_loss(
    model: Any, images: Tensor, scenes: list[tuple[Any, Any]], sampled: tuple[list[Tensor], list[Tensor]], device: str
) -> Tensor:
    from detectron2.utils.events import EventStorage

    batch = model.preprocess_image([{"image": image} for image in images])
    maps = model.backbone(batch.tensor)
    objects, proposals = ([part.to(device) for part in parts] for parts in zip(*scenes, strict=True))
    generator = model.proposal_generator
    labels, boxes = ([part.to(device) for part in parts] for parts in sampled)
    # Each device would draw its own, and rounding decides between anchors that overlap an object equally.
    generator.label_and_sample_anchors = lambda anchors, objects: (labels, boxes)
    generator.predict_proposals = lambda *found: None  # `proposals` are the same for all
    with EventStorage():
        _, proposing = generator(batch, maps, objects)
        _, losses = model.roi_heads(batch, maps, proposals, objects)
    return torch.stack([loss.float() for loss in (*losses.values(), *proposing.values())]).sum()


def segmentor(bench: Bench) -> Found:
    """UPerNet's losses and gradients, and its logits by sliding windows."""
    from benchmarks.planning.recipe import load_recipe
    from tasks.segmentation.task import create_segmentor

    side = SEGMENTOR_SIDE[bench.device]
    changes = [f"model.image_size={side}", f"inference.stride={side * 2 // 3}", "model.drop_path=0"]
    recipe: Any = load_recipe("ade20k_vit_base", changes, {"segmentation"}).recipe
    model, _, _ = create_segmentor(recipe, "random_vit_base", None, _CLASSES, 0, IMAGENET)
    fill_positions(model)
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0  # each device draws numbers of its own
    batch = _labelled_pictures(4, side)
    wide = _pictures(1, side, side * 3 // 2)

    def loss_of(model: nn.Module, device: str) -> Tensor:
        losses = _segmentor_losses(model, batch, device)
        return torch.stack([value.float().sum() for name, value in losses.items() if "loss" in name]).sum()

    def logits_of(model: Any, device: str) -> Tensor:
        with torch.no_grad(), exact_products():
            logits: Tensor = model.eval().logits(wide.to(device), wide.shape[2:])
        return logits

    double = copy.deepcopy(model)
    exact = logits_of(in_double(double, double.backbone), "cpu")
    error = relative(logits_of(copy.deepcopy(model).to(bench.device), bench.device), exact)
    accuracy_error = _accuracy_error(copy.deepcopy(model).to(bench.device), batch, bench.device)
    # What rounding decides spoils gradients alone: logits are those of the model as it is.
    errors = model_errors(smooth(model), lambda model: model.get_submodule("backbone"), loss_of, bench.device)
    found = judged(errors, TOLERANCES)
    return replace(
        found,
        fine=found.fine and error <= TOLERANCES["fp32"].loss and accuracy_error <= ACCURACY_TOLERANCE,
        measured=f"{found.measured}; fp32 logits {error:.1e}, accuracy {accuracy_error:.1e}",
        expected=f"{found.expected}; accuracy {ACCURACY_TOLERANCE:g}",
        figures={**found.figures, "fp32_logits_error": error, "fp32_accuracy_error": accuracy_error},
    )


def _labelled_pictures(count: int, side: int) -> dict[str, Tensor]:
    """A segmentor's batch: pictures with padding below and beside, and labels of which a tenth is ignored."""
    labels = torch.randint(_CLASSES, (count, side, side), dtype=torch.uint8)
    labels[torch.rand(labels.shape) < 0.1] = IGNORED
    heights = torch.arange(count) * (side // 8) + side - (count - 1) * (side // 8)
    widths = heights.flip(0)
    for image, height, width in zip(labels, heights.tolist(), widths.tolist(), strict=True):
        image[height:], image[:, width:] = IGNORED, IGNORED
    return {"images": _pictures(count, side, side), "labels": labels, "heights": heights, "widths": widths}


def _segmentor_losses(model: nn.Module, batch: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = model.train()("loss", **{name: part.to(device) for name, part in batch.items()})
    return losses


def _accuracy_error(model: Any, batch: dict[str, Tensor], device: str) -> float:
    """By how much, relatively, a head's accuracy differs from what mmsegmentation makes of its logits on the CPU."""
    from mmseg.models.losses import accuracy

    from tasks.segmentation.mmseg_parts import resize

    heads = {"decode": model.decode_head, "aux": model.auxiliary_head}
    seen: dict[str, Tensor] = {}
    for name, head in heads.items():
        head.conv_seg.register_forward_hook(lambda module, given, logits, name=name: seen.update({name: logits.cpu()}))
    with torch.no_grad(), exact_products():
        losses = _segmentor_losses(model, batch, device)
    errors = []
    for name, logits in seen.items():
        labels = batch["labels"].long()
        enlarged = resize(logits, size=labels.shape[1:], mode="bilinear", align_corners=heads[name].align_corners)
        errors.append(relative(losses[f"{name}.acc_seg"], accuracy(enlarged, labels, ignore_index=IGNORED)))
    return largest(errors)


DENSE = (
    Line(
        "detector-parity",
        "Mask R-CNN (`fpn`), fixed samples and proposals: losses and gradients against double precision on the CPU",
        {"cuda": 25, "cpu": 30},
        partial(detector, "fpn"),
    ),
    Line(
        "vitdet-parity",
        "Mask R-CNN (`simple`), fixed samples and proposals: losses and gradients against double precision on the CPU",
        {"cuda": 25, "cpu": 30},
        partial(detector, "simple"),
    ),
    Line(
        "segmentor-parity",
        "UPerNet: losses, gradients, accuracy and the logits of sliding windows against double precision on the CPU",
        {"cuda": 30, "cpu": 30},
        segmentor,
    ),
)
