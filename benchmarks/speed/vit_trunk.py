"""How fast, and in how much memory, does our ViT-B trunk of a detector train, beside detectron2's?

    python benchmarks/speed/vit_trunk.py [--repeats 3] [--image-size 1024] [--device cpu]

One step is forward and backward of one image through the trunk of `simple`, in 14 × 14 windows, without relative
positions and with decomposed ones; on a graphics processor in mixed precision. Our trunk of `fpn`, in 16 × 16 windows
with bias tables, has no peer.
Each step is one process, so that its peak memory is its own, and is the second step of it, after one on a small image.
The sides take turns, so that a busy machine slows all of them; each figure is the median of the turns.
"""

import argparse
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


def run_step(trunk: nn.Module, image_size: int, device: str) -> float:
    """Seconds of forward and backward of one image."""
    images = torch.randn(1, 3, image_size, image_size, device=device)
    start = time.perf_counter()
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        last_map = trunk(images)[-1]
    last_map.float().square().mean().backward()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def measure(side: str, image_size: int, device: str) -> tuple[float, float]:
    """Seconds of a step, and the GiB that this process has held at most, or its allocator on a graphics processor."""
    trunk = make_trunk(side, image_size).to(device)
    run_step(trunk, _WARM_UP_SIZE, device)
    seconds = run_step(trunk, image_size, device)
    if device == "cpu":
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds, torch.cuda.max_memory_allocated() / 2**30


def measure_apart(side: str, image_size: int, device: str) -> tuple[float, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--image-size", str(image_size), "--device", device]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, memory = json.loads(output.splitlines()[-1])
    return seconds, memory


def report(turns: dict[str, list[tuple[float, float]]]) -> list[str]:
    """The lines to print."""
    lines = [f"{'':26}{'median':>9}{'fastest':>9}{'slowest':>9}{'memory':>10}"]
    for side, figures in turns.items():
        seconds, memory = zip(*figures, strict=True)
        lines.append(
            f"{side:26}{median(seconds):8.1f}s{min(seconds):8.1f}s{max(seconds):8.1f}s{median(memory):6.2f} GiB"
        )
    for ours in [side for side in _SIDES if side.replace("ours", _PEER) in turns and _PEER not in side]:
        (seconds, memory), (peer_seconds, peer_memory) = (
            [median(figure) for figure in zip(*turns[side], strict=True)]
            for side in (ours, ours.replace("ours", _PEER))
        )
        lines.append(f"{ours}: {peer_seconds / seconds:.2f} × as fast, in {memory / peer_memory:.2f} of the memory")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--image-size", type=int, default=1024, help="side of the image in pixels (default 1024)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--side", choices=_SIDES, help="only take one turn of this side and print its figures as JSON")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.image_size, arguments.device)))
        return
    turns: dict[str, list[tuple[float, float]]] = {side: [] for side in _SIDES}
    for _ in range(arguments.repeats):
        for side in _SIDES:
            turns[side].append(measure_apart(side, arguments.image_size, arguments.device))
    print(
        f"ViT-B/16 at {arguments.image_size} px, batch 1, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print("\n".join(report(turns)))


if __name__ == "__main__":
    main()
