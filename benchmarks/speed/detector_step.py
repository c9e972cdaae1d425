"""How long does a full-size training step of Mask R-CNN on ViT-B take, and how much memory?

    python benchmarks/speed/detector_step.py [--repeats 1] [--image-size 1024] [--batch 1] [--device cpu]

One step is forward and backward of random images with ten objects each, in both protocols and with detectron2's own
ViTDet as the peer of `simple`. Each side runs in a process of its own; peak memory is the process's, or as the graphics
processor counts it.
"""

import argparse
import multiprocessing
import time
from typing import Any

import torch
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage

from backbones.adapters import build_pyramid
from backbones.registry import create_backbone
from backbones.training.measuring import peak_memory_mb
from tasks.detection.detector import Detector, build_detector
from tasks.detection.recipe import DetectorSettings

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


def measure(side: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds of the fastest step, and peak memory in MiB."""
    torch.manual_seed(0)
    detector = peer(arguments.image_size) if side == _PEER else ours(side, arguments.image_size)
    detector.to(arguments.device).train()
    batch = make_batch(arguments.batch, arguments.image_size)
    half = arguments.device != "cpu"
    seconds = []
    with EventStorage(0):
        for _ in range(arguments.repeats + half):  # a graphics processor warms up with one step
            start = time.perf_counter()
            with torch.autocast(arguments.device, torch.bfloat16, enabled=half):
                loss = torch.stack(list(detector(batch).values())).sum()
            loss.backward()
            detector.zero_grad()
            if half:
                torch.accelerator.synchronize()
            seconds.append(time.perf_counter() - start)
    return min(seconds), peak_memory_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1, help="steps of each side (default 1)")
    parser.add_argument("--image-size", type=int, default=1024, help="pixels (default 1024)")
    parser.add_argument("--batch", type=int, default=1, help="images in a step (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu (fp32) or cuda (bf16); default cpu")
    arguments = parser.parse_args()
    print(f"Mask R-CNN, ViT-B/16, {arguments.image_size} px, batch {arguments.batch}, torch {torch.__version__}")
    processes = multiprocessing.get_context("spawn")
    for side in _SIDES:
        with processes.Pool(1) as pool:
            seconds, memory = pool.apply(measure, (side, arguments))
        print(f"{side:24}{seconds:8.2f} s{memory / 1024:8.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
