"""How fast, and in how much memory, does our ViT-B trunk of a detector train, beside detectron2's?

    python benchmarks/speed/vit_trunk.py [--repeats 3] [--image-size 1024] [--batch 1] [--device cpu] [--json FILE]

One step is forward and backward of one image, on a GPU of four, through the trunk of `simple`, in 14 × 14 windows,
without relative positions and with decomposed ones; on a GPU both sides in half precision. Our trunk of `fpn`, in
16 × 16 windows with bias tables, has no peer.
The sides take turns, so that a busy machine slows all of them; each figure is the median of the turns.
On a CPU each step is one process, so that its peak memory is its own, and is the second step of it, after one on a
small image. On a GPU the turns are taken in one process, once each side's memory has been measured alone.
"""

import json
import resource
import subprocess
import sys
import time
from functools import partial
from statistics import median

import timm
import torch
from torch import Tensor, nn

from backbones.training.precision import autocast
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import Comparison, compare, write_figures
from benchmarks.speed.comparing.precision import named, precision_on
from benchmarks.speed.comparing.turns import Step, Turns, take_turns

_DEFAULTS = {"cpu": {"repeats": 3, "batch": 1}, "cuda": {"repeats": 5, "batch": 4}}
_WARM_UP_SIZE = 256
_PEER = "detectron2"
# side: relative positions, windows
_SIDES = {
    "ours": (False, 14),
    _PEER: (False, 14),
    "ours, decomposed": (True, 14),
    f"{_PEER}, decomposed": (True, 14),
    "ours, bias tables": (True, 16),
}
_PAIRS = {"ours": _PEER, "ours, decomposed": f"{_PEER}, decomposed"}


class Detectron2Trunk(nn.Module):
    """ViTDet's ViT-B, as in detectron2's configuration mask_rcnn_vitdet.py but for drop path."""

    def __init__(self, image_size: int, relative_position: bool, window: int) -> None:
        from detectron2.modeling.backbone.vit import ViT

        super().__init__()
        self.trunk = ViT(
            img_size=image_size,
            use_rel_pos=relative_position,
            window_size=window,
            window_block_indexes=(0, 1, 3, 4, 6, 7, 9, 10),
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.trunk(images).values())


def make_trunk(side: str, image_size: int) -> nn.Module:
    """The trunk of one side, with random weights."""
    relative_position, window = _SIDES[side]
    if _PEER in side:
        return Detectron2Trunk(image_size, relative_position, window)
    from backbones.adapters import build_pyramid

    return build_pyramid(
        timm.create_model("vit_base_patch16_224", num_classes=0),
        "fpn" if "tables" in side else "simple",
        image_size=image_size,
        window=window,
        relative_position=relative_position,
    ).trunk


def make_step(trunk: nn.Module, image_size: int, batch: int, device: str) -> Step:
    """Forward and backward as one call."""
    images = torch.randn(batch, 3, image_size, image_size, device=device)

    precision = precision_on(device)

    def step() -> None:
        with autocast(precision, device):
            last_map = trunk(images)[-1]
        last_map.float().square().mean().backward()

    return step


def make_side(side: str, image_size: int, batch: int, device: str) -> Step:
    """As `make_step`, each with gradients of its own."""
    trunk = make_trunk(side, image_size).to(device).train()
    step = make_step(trunk, image_size, batch, device)

    def step_anew() -> None:
        trunk.zero_grad()
        step()

    return step_anew


def measure(side: str, image_size: int, batch: int) -> tuple[float, float]:
    """Seconds of a step on the CPU, and the GiB that this process has held at most."""
    trunk = make_trunk(side, image_size)
    make_step(trunk, _WARM_UP_SIZE, 1, "cpu")()
    step = make_step(trunk, image_size, batch, "cpu")
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_apart(side: str, image_size: int, batch: int) -> tuple[float, float]:
    """`measure` in a process of its own."""
    options = ["--side", side, "--image-size", str(image_size), "--batch", str(batch)]
    command = [sys.executable, "-W", "ignore", __file__, *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, memory = json.loads(output.splitlines()[-1])
    return seconds, memory


def take_turns_apart(repeats: int, image_size: int, batch: int) -> dict[str, Turns]:
    """Turns on the CPU, each step in a process of its own."""
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in _SIDES}
    for _ in range(repeats):
        for side in _SIDES:
            found[side].append(measure_apart(side, image_size, batch))
    return {
        side: Turns([seconds for seconds, _ in each], median(memory for _, memory in each))
        for side, each in found.items()
    }


def report(turns: dict[str, Turns], device: str) -> list[str]:
    """The lines to print."""
    places = 1 if device == "cpu" else 4
    lines = [f"{'':26}{'median':>9}{'fastest':>9}{'slowest':>9}{'memory':>10}"]
    for name, side in turns.items():
        figures = (median(side.seconds), min(side.seconds), max(side.seconds))
        lines.append(f"{name:26}{''.join(f'{each:8.{places}f}s' for each in figures)}{side.memory_gib:6.2f} GiB")
    for ours, peer in _PAIRS.items():
        faster = median(turns[peer].seconds) / median(turns[ours].seconds)
        smaller = (turns[ours].memory_gib or 0) / (turns[peer].memory_gib or 1)
        lines.append(f"{ours}: {faster:.2f} × as fast, in {smaller:.2f} of the memory")
    return lines


def comparisons(turns: dict[str, Turns], image_size: int, batch: int, device: str) -> list[Comparison]:
    """For the table: ours against the peer's, and ours alone."""
    precision = named(precision_on(device))
    about = f"ViT-B trunk of a detector, {image_size} px, batch {batch}, forward and backward, {precision}"
    found = []
    for (ours, peer), positions in zip(_PAIRS.items(), ("no", "decomposed"), strict=True):
        found.append(
            compare(
                f"{about}, {positions} relative positions", turns[ours], "detectron2's ViT", turns[peer], images=batch
            )
        )
    return [*found, compare(f"{about}, bias tables, 16 × 16 windows", turns["ours, bias tables"], images=batch)]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="turns of each side (default 3, on a GPU 5)")
    parser.add_argument("--image-size", type=int, default=1024, help="side of the image in pixels (default 1024)")
    parser.add_argument("--batch", type=int, help="images in a step (default 1, on a GPU 4)")
    parser.add_argument("--side", choices=_SIDES, help="only take one turn of this side and print its figures as JSON")
    arguments = parse_arguments(parser, _DEFAULTS)
    size, batch, device = arguments.image_size, arguments.batch, arguments.device
    if arguments.side:
        print(json.dumps(measure(arguments.side, size, batch)))
        return
    if device == "cpu":
        turns = take_turns_apart(arguments.repeats, size, batch)
    else:
        sides = {side: partial(make_side, side, size, batch, device) for side in _SIDES}
        turns = take_turns(sides, arguments.repeats, device)
    print(f"ViT-B/16 at {size} px, batch {batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n".join(report(turns, device)))
    write_figures(arguments.json, comparisons(turns, size, batch, device))


if __name__ == "__main__":
    main()
