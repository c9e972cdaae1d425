"""How long does a full-size training step of UPerNet on ViT-B take, and how much memory?

    python benchmarks/speed/segmentor_step.py [--repeats 2] [--image-size 512] [--batch 2] [--device cpu]

One step is forward and backward of random images with 150 classes under the packaged ViT-B recipe, against
mmsegmentation's own MAE configuration as the peer. Each side runs in a process of its own, taking turns; peak memory is
the process's, or as the graphics processor counts it.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import mmseg
import torch
from mmengine import Config
from mmengine.structures import PixelData
from torch import Tensor, nn

from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.training.measuring import peak_memory_mb
from benchmarks.planning.recipe import load_recipe
from tasks.segmentation.mmseg_parts import MODELS, SegDataSample
from tasks.segmentation.task import create_segmentor

_CLASSES = 150
_OURS, _PEER = "backbench", "mmsegmentation's MAE"
_CONFIGURATION = "mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py"


def ours(image_size: int) -> nn.Module:
    """Our segmentor under the packaged recipe."""
    settings_of_a_step = [f"model.image_size={image_size}", "inference.mode=whole", "inference.stride=null"]
    recipe: Any = load_recipe("ade20k_vit_base", settings_of_a_step, {"segmentation"}).recipe
    segmentor, _, _ = create_segmentor(recipe, "random_vit_base", None, _CLASSES, 0, IMAGENET)
    return segmentor


def peer(image_size: int, device: str) -> nn.Module:
    """mmsegmentation's, as its packaged configuration has it; on a CPU with batch norm that is not synchronised."""
    folder = Path(mmseg.__file__).parent / ".mim/configs"
    model = Config.fromfile(folder / _CONFIGURATION).model
    model.pretrained = model.backbone.init_cfg = model.data_preprocessor = None
    model.backbone.img_size = (image_size, image_size)
    norm = {"type": "SyncBN" if device != "cpu" else "BN", "requires_grad": True}
    model.neck.norm_cfg = model.decode_head.norm_cfg = model.auxiliary_head.norm_cfg = norm
    segmentor: nn.Module = MODELS.build(model)
    return segmentor


def losses(model: nn.Module, side: str, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The losses of both heads for bytes and label maps."""
    if side == _OURS:
        height, width = (torch.full((len(images),), size) for size in labels.shape[1:])
        found = model(mode="loss", images=images, labels=labels, heights=height, widths=width)
    else:
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels.long()]
        found = model(normalise(images, IMAGENET), samples, mode="loss")
    return [value for name, value in found.items() if "loss" in name]


def measure(side: str, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds of the fastest step, peak memory in MiB, millions of trained parameters."""
    torch.manual_seed(0)
    size, device = arguments.image_size, arguments.device
    model = (ours(size) if side == _OURS else peer(size, device)).to(device).train()
    images = torch.randint(256, (arguments.batch, 3, size, size), dtype=torch.uint8, device=device)
    labels = torch.randint(_CLASSES, (arguments.batch, size, size), dtype=torch.uint8, device=device)
    half = device != "cpu"
    seconds = []
    for _ in range(arguments.repeats + half):  # a graphics processor warms up with one step
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = torch.stack(losses(model, side, images, labels)).sum()
        loss.backward()
        model.zero_grad()
        if half:
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds), peak_memory_mb(), sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2, help="processes of each side (default 2)")
    parser.add_argument("--repeats", type=int, default=2, help="steps in a process, of which the fastest counts")
    parser.add_argument("--image-size", type=int, default=512, help="pixels (default 512)")
    parser.add_argument("--batch", type=int, default=2, help="images in a step (default 2)")
    parser.add_argument("--device", default="cpu", help="cpu (fp32) or cuda (bf16); default cpu")
    arguments = parser.parse_args()
    print(f"UPerNet, ViT-B/16, {arguments.image_size} px, batch {arguments.batch}, torch {torch.__version__}")
    processes = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float, float]]] = {_OURS: [], _PEER: []}
    for _ in range(arguments.turns):
        for side, results in found.items():
            with processes.Pool(1) as pool:
                results.append(pool.apply(measure, (side, arguments)))
    for side, results in found.items():
        seconds, memory, parameters = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{side:24}{seconds:8.2f} s{memory / 1024:8.2f} GiB{parameters:9.2f} million parameters")
    ratio = statistics.median(r[0] for r in found[_PEER]) / statistics.median(r[0] for r in found[_OURS])
    print(f"{ratio:.2f} x the peer's speed")


if __name__ == "__main__":
    main()
