"""How long does a full-size training step of Mask R-CNN on ViT-B take, and how much memory?

    python benchmarks/speed/detector_step.py [--repeats 1] [--image-size 1024] [--batch 1] [--device cpu] [--json FILE]

One step is forward and backward of random images with ten objects each, in both protocols and with detectron2's own
ViTDet as the peer of `simple`. On a CPU each side runs in a process of its own, whose fastest step and peak memory are
printed. On a GPU, four images a step in half precision, which lie there already, the sides take turns in one process,
once each side's memory has been measured alone; each figure is the median of the turns.
"""

import argparse
import multiprocessing
import time
from functools import partial
from statistics import median
from typing import Any

import torch
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage

from backbones.adapters import build_pyramid
from backbones.registry import create_backbone
from backbones.training.machine import choose_device
from backbones.training.measuring import peak_memory_mb
from backbones.training.precision import autocast
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import Comparison, compare, write_figures
from benchmarks.speed.comparing.precision import named, precision_on
from benchmarks.speed.comparing.turns import Step, Turns, take_turns
from tasks.detection.detector import Detector, build_detector
from tasks.detection.recipe import DetectorSettings

_DEFAULTS = {"cpu": {"repeats": 1, "batch": 1}, "cuda": {"repeats": 5, "batch": 4}}
_CATEGORIES = 80
_WINDOWS = {"fpn": 16, "simple": 14}
_PEER = "detectron2's ViTDet"
_SIDES = (*_WINDOWS, _PEER)


def ours(adapter: Any, image_size: int) -> Detector:
    """Our detector, with the settings of the packaged ViT-B recipes."""
    settings = DetectorSettings(
        arch="vit_base_patch16_224", adapter=adapter, image_size=image_size, drop_path=0.1, window=_WINDOWS[adapter]
    )
    backbone = create_backbone("random_vit_base", drop_path=settings.drop_path)
    pyramid = build_pyramid(backbone, adapter, image_size=image_size, window=settings.window)
    return build_detector(pyramid, settings, _CATEGORIES)


def peer(image_size: int) -> Detector:
    """The same heads on detectron2's own trunk and pyramid, as in its mask_rcnn_vitdet.py."""
    detector = ours("simple", image_size)
    trunk = ViT(
        img_size=image_size,
        drop_path_rate=0.1,
        window_size=14,
        window_block_indexes=(0, 1, 3, 4, 6, 7, 9, 10),
        use_rel_pos=True,
    )
    detector.backbone = SimpleFeaturePyramid(
        trunk, "last_feat", 256, (4.0, 2.0, 1.0, 0.5), LastLevelMaxPool(), norm="LN", square_pad=image_size
    )
    return detector


def make_batch(images: int, size: int) -> list[dict[str, Any]]:
    """Random images, each with ten square objects."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for _ in range(images):
        masks = torch.zeros(10, size, size, dtype=torch.bool)
        for mask in masks:
            side = int(torch.randint(size // 32, size // 3, (1,), generator=generator))
            top, left = torch.randint(0, size - side, (2,), generator=generator).tolist()
            mask[top : top + side, left : left + side] = True
        instances = Instances((size, size))
        instances.gt_masks = BitMasks(masks)
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        instances.gt_classes = torch.randint(0, _CATEGORIES, (10,), generator=generator)
        pixels = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        inputs.append({"image": pixels, "instances": instances})
    return inputs


def make_step(side: str, image_size: int, batch: int, device: str) -> Step:
    """Forward and backward as one call."""
    torch.manual_seed(0)
    detector = peer(image_size) if side == _PEER else ours(side, image_size)
    detector.to(device).train()
    inputs = make_batch(batch, image_size)
    for each in inputs:
        each["image"], each["instances"] = each["image"].to(device), each["instances"].to(device)

    precision = precision_on(device)

    def step() -> None:
        with EventStorage(0), autocast(precision, device):
            loss = torch.stack(list(detector(inputs).values())).sum()
        loss.backward()
        detector.zero_grad()

    return step


def measure(side: str, arguments: argparse.Namespace) -> Turns:
    """Each step on the CPU, and peak memory of this process."""
    choose_device("cpu")
    step = make_step(side, arguments.image_size, arguments.batch, "cpu")
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return Turns(seconds, peak_memory_mb() / 1024)


def measure_apart(arguments: argparse.Namespace) -> dict[str, Turns]:
    """`measure` each side in a process of its own, and print what it found."""
    processes = multiprocessing.get_context("spawn")
    sides = {}
    for side in _SIDES:
        with processes.Pool(1) as pool:
            sides[side] = pool.apply(measure, (side, arguments))
        print(f"{side:24}{min(sides[side].seconds):8.2f} s{sides[side].memory_gib:8.2f} GiB", flush=True)
    return sides


def measure_on_gpu(arguments: argparse.Namespace) -> dict[str, Turns]:
    """Let the sides take turns, and print what was found."""
    makers = {side: partial(make_step, side, arguments.image_size, arguments.batch, "cuda") for side in _SIDES}
    sides = take_turns(makers, arguments.repeats, "cuda")
    for name, side in sides.items():
        spread = f"{min(side.seconds):.4f} to {max(side.seconds):.4f}"
        print(f"{name:24}{median(side.seconds):8.4f} s ({spread}){side.memory_gib:8.2f} GiB")
    return sides


def comparisons(sides: dict[str, Turns], arguments: argparse.Namespace) -> list[Comparison]:
    """For the table: `simple` against the peer, and `fpn` alone."""
    precision = named(precision_on(arguments.device))
    about = f"{arguments.image_size} px, batch {arguments.batch}, forward and backward, {precision}"
    simple, fpn = (f"Mask R-CNN, ViT-B (`{adapter}`), {about}" for adapter in ("simple", "fpn"))
    images = arguments.batch
    return [
        compare(simple, sides["simple"], _PEER, sides[_PEER], images=images),
        compare(fpn, sides["fpn"], images=images),
    ]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="steps of each side, on a GPU turns (default 1, on a GPU 5)")
    parser.add_argument("--image-size", type=int, default=1024, help="pixels (default 1024)")
    parser.add_argument("--batch", type=int, help="images in a step (default 1, on a GPU 4)")
    arguments = parse_arguments(parser, _DEFAULTS)
    print(f"Mask R-CNN, ViT-B/16, {arguments.image_size} px, batch {arguments.batch}, torch {torch.__version__}")
    sides = measure_apart(arguments) if arguments.device == "cpu" else measure_on_gpu(arguments)
    write_figures(arguments.json, comparisons(sides, arguments))


if __name__ == "__main__":
    main()
