"""How long does a full-size training step of UPerNet on ViT-B take, and how much memory?

    python benchmarks/speed/segmentor_step.py [--repeats 2] [--steps 2] [--image-size 512] [--batch 2] [--device cpu]
                                              [--json FILE]

One step is forward and backward of random images with 150 classes under the packaged ViT-B recipe, against
mmsegmentation's own MAE configuration as the peer. On a CPU each turn is a process of its own, whose fastest step and
peak memory count. On a GPU, eight images a step in half precision, the sides take turns in one process, once each
side's memory has been measured alone. Each figure is the median of the turns.
"""

import argparse
import multiprocessing
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import mmseg
import torch
from mmengine import Config
from mmengine.structures import PixelData
from torch import Tensor, nn

from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.training.machine import choose_device
from backbones.training.measuring import peak_memory_mb
from backbones.training.precision import autocast
from benchmarks.planning.recipe import load_recipe
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import compare, write_figures
from benchmarks.speed.comparing.precision import named, precision_on
from benchmarks.speed.comparing.turns import Step, Turns, take_turns
from tasks.segmentation.mmseg_parts import MODELS, SegDataSample
from tasks.segmentation.task import create_segmentor

_DEFAULTS = {"cpu": {"repeats": 2, "batch": 2}, "cuda": {"repeats": 5, "batch": 8}}
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
        height, width = (torch.full((len(images),), size, device=images.device) for size in labels.shape[1:])
        found = model(mode="loss", images=images, labels=labels, heights=height, widths=width)
    else:
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels.long()]
        found = model(normalise(images, IMAGENET), samples, mode="loss")
    return [value for name, value in found.items() if "loss" in name]


def make_model(side: str, image_size: int, device: str) -> nn.Module:
    torch.manual_seed(0)
    return (ours(image_size) if side == _OURS else peer(image_size, device)).to(device).train()


def make_step(model: nn.Module, side: str, image_size: int, batch: int, device: str) -> Step:
    """Forward and backward as one call."""
    images = torch.randint(256, (batch, 3, image_size, image_size), dtype=torch.uint8, device=device)
    labels = torch.randint(_CLASSES, (batch, image_size, image_size), dtype=torch.uint8, device=device)

    precision = precision_on(device)

    def step() -> None:
        with autocast(precision, device):
            loss = torch.stack(losses(model, side, images, labels)).sum()
        loss.backward()
        model.zero_grad()

    return step


def make_side(side: str, image_size: int, batch: int, device: str) -> Step:
    return make_step(make_model(side, image_size, device), side, image_size, batch, device)


def measure(side: str, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """On the CPU: seconds of the fastest step, peak memory in MiB, millions of trained parameters."""
    choose_device("cpu")
    model = make_model(side, arguments.image_size, "cpu")
    step = make_step(model, side, arguments.image_size, arguments.batch, "cpu")
    seconds = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds), peak_memory_mb(), sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6


def measure_apart(arguments: argparse.Namespace) -> dict[str, Turns]:
    """`measure` each side in processes of its own, in turns, and print what was found."""
    processes = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float, float]]] = {_OURS: [], _PEER: []}
    for _ in range(arguments.repeats):
        for side, results in found.items():
            with processes.Pool(1) as pool:
                results.append(pool.apply(measure, (side, arguments)))
    sides = {}
    for side, results in found.items():
        seconds, memory, parameters = (median(column) for column in zip(*results, strict=True))
        print(f"{side:24}{seconds:8.2f} s{memory / 1024:8.2f} GiB{parameters:9.2f} million parameters")
        sides[side] = Turns([each for each, _, _ in results], memory / 1024)
    return sides


def measure_on_gpu(arguments: argparse.Namespace) -> dict[str, Turns]:
    """Let the sides take turns, and print what was found."""
    size, batch = arguments.image_size, arguments.batch
    makers = {side: partial(make_side, side, size, batch, "cuda") for side in (_OURS, _PEER)}
    sides = take_turns(makers, arguments.repeats, "cuda")
    for name, side in sides.items():
        spread = f"{min(side.seconds):.4f} to {max(side.seconds):.4f}"
        print(f"{name:24}{median(side.seconds):8.4f} s ({spread}){side.memory_gib:8.2f} GiB")
    return sides


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="turns of each side (default 2, on a GPU 5)")
    parser.add_argument("--steps", type=int, default=2, help="on a CPU, steps in a turn, of which the fastest counts")
    parser.add_argument("--image-size", type=int, default=512, help="pixels (default 512)")
    parser.add_argument("--batch", type=int, help="images in a step (default 2, on a GPU 8)")
    arguments = parse_arguments(parser, _DEFAULTS)
    size, batch = arguments.image_size, arguments.batch
    print(f"UPerNet, ViT-B/16, {size} px, batch {batch}, torch {torch.__version__}")
    sides = measure_apart(arguments) if arguments.device == "cpu" else measure_on_gpu(arguments)
    ratio = median(sides[_PEER].seconds) / median(sides[_OURS].seconds)
    print(f"{ratio:.2f} x the peer's speed")
    precision = named(precision_on(arguments.device))
    what = f"UPerNet training step, ViT-B, {size} px, batch {batch}, 150 classes, forward and backward, {precision}"
    write_figures(arguments.json, [compare(what, sides[_OURS], _PEER, sides[_PEER], images=batch)])


if __name__ == "__main__":
    main()
