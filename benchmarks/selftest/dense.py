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
from benchmarks.selftest.exactness import Tolerance, exact_products, in_double, judged, model_errors, relative, smooth
from benchmarks.selftest.lines import Bench, Found, Line

TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(loss=1e-5, whole=1e-4, each=1e-3),
    "fp16": Tolerance(loss=1e-3, whole=5e-2),
    "bf16": Tolerance(loss=2e-3, whole=2e-1),
}
"""A CPU's fp32 is off by 2e-6 to 6e-6 of all gradients and its bfloat16 by 1e-2 to 6e-2: batch norms over few values
magnify rounding."""

DETECTOR_SIDE = {"cuda": 512, "cpu": 128}
SEGMENTOR_SIDE = {"cuda": 256, "cpu": 96}
"""Of the images, in pixels; channels and blocks are the recipes'."""

_OBJECTS, _PROPOSALS = 8, 40  # an image; all of them are learnt from, whichever way they are drawn
_CATEGORIES, _CLASSES = 80, 150


def detector(adapter: str, bench: Bench) -> Found:
    """Mask R-CNN's losses and gradients from fixed proposals on, and those of the proposals' own head."""
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

    def loss_of(model: nn.Module, device: str) -> Tensor:
        return _detector_loss(model, images.to(device), scenes, device)

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


def _detector_loss(model: Any, images: Tensor, scenes: list[tuple[Any, Any]], device: str) -> Tensor:
    from detectron2.utils.events import EventStorage

    batch = model.preprocess_image([{"image": image} for image in images])
    maps = model.backbone(batch.tensor)
    generator = model.proposal_generator
    logits, deltas = generator.rpn_head([maps[name] for name in generator.in_features])
    proposing = torch.stack([found.float().square().mean() for found in (*logits, *deltas)]).sum()
    objects, proposals = ([part.to(device) for part in parts] for parts in zip(*scenes, strict=True))
    with EventStorage():
        _, losses = model.roi_heads(batch, maps, proposals, objects)
    return torch.stack([loss.float() for loss in losses.values()]).sum() + proposing


def segmentor(bench: Bench) -> Found:
    """UPerNet's losses and gradients, and its logits by sliding windows."""
    from benchmarks.planning.recipe import load_recipe
    from tasks.segmentation.task import create_segmentor

    side = SEGMENTOR_SIDE[bench.device]
    changes = [f"model.image_size={side}", f"inference.stride={side * 2 // 3}", "model.drop_path=0"]
    recipe: Any = load_recipe("ade20k_vit_base", changes, {"segmentation"}).recipe
    model, _, _ = create_segmentor(recipe, "random_vit_base", None, _CLASSES, 0, IMAGENET)
    fill_positions(smooth(model))
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0  # each device draws numbers of its own
    images = _pictures(4, side, side)
    labels = torch.randint(_CLASSES, (4, side, side), dtype=torch.uint8)
    wide = _pictures(1, side, side * 3 // 2)
    whole = torch.full((4,), side)

    def loss_of(model: nn.Module, device: str) -> Tensor:
        batch = {"images": images.to(device), "heights": whole.to(device), "widths": whole.to(device)}
        losses = model.train()("loss", labels=labels.to(device), **batch)
        return torch.stack([value.float().sum() for name, value in losses.items() if "loss" in name]).sum()

    def logits_of(model: Any, device: str) -> Tensor:
        with torch.no_grad(), exact_products():
            logits: Tensor = model.eval().logits(wide.to(device), wide.shape[2:])
        return logits

    double = copy.deepcopy(model)
    exact = logits_of(in_double(double, double.backbone), "cpu")
    error = relative(logits_of(copy.deepcopy(model).to(bench.device), bench.device), exact)
    found = judged(
        model_errors(model, lambda model: model.get_submodule("backbone"), loss_of, bench.device), TOLERANCES
    )
    return replace(
        found,
        fine=found.fine and error <= TOLERANCES["fp32"].loss,
        measured=f"{found.measured}; fp32 logits {error:.1e}",
        figures={**found.figures, "fp32_logits_error": error},
    )


DENSE = (
    Line(
        "detector-parity",
        "Mask R-CNN (`fpn`) from fixed proposals on: losses and gradients against double precision on the CPU",
        {"cuda": 25, "cpu": 30},
        partial(detector, "fpn"),
    ),
    Line(
        "vitdet-parity",
        "Mask R-CNN (`simple`) from fixed proposals on: losses and gradients against double precision on the CPU",
        {"cuda": 25, "cpu": 30},
        partial(detector, "simple"),
    ),
    Line(
        "segmentor-parity",
        "UPerNet: losses, gradients and the logits of sliding windows against double precision on the CPU",
        {"cuda": 25, "cpu": 30},
        segmentor,
    ),
)
