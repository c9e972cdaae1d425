"""How fast is a training step of our masked autoencoder, beside Hugging Face's and beside the machine's own limit?

    python benchmarks/speed/mae_step.py [--repeats 7] [--batch 8] [--device cpu]

One step is forward, backward and an AdamW update of ViT-B/16 at 224 px, mask ratio 0.75, normalised target pixels.
The peer is transformers' ViTMAEForPreTraining as its users train it: its default attention (sdpa) and
torch.optim.AdamW's defaults. Ours updates with the fused AdamW. The limit is one large single-precision matrix product,
by torch.mm's library and by oneDNN.
All sides take turns in one process, so that a busy machine slows all of them; each figure is the median of the turns.
"""

import argparse
import math
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from backbones.linear import linear
from backbones.mae.model import create_mae

_MODEL = "mae_vit_base_patch16"
_IMAGE_SIZE = 224
_MATRIX = 4096
_OURS, _PEER = "ours fp32", "Hugging Face fp32"
_LIMITS = ("torch.mm", "oneDNN product")
_OURS_BF16, _PEER_BF16 = "ours bf16 autocast", "Hugging Face bf16 autocast"


def training_step(
    loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer, device: str, bf16: bool
) -> Callable[[], None]:
    """Forward, backward and update as one call."""

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = loss_of()
        loss.backward()
        optimizer.step()

    return step


def make_sides(batch: int, device: str, bf16: bool) -> dict[str, Callable[[], object]]:
    """What takes turns: one call each."""
    images = torch.randn(batch, 3, _IMAGE_SIZE, _IMAGE_SIZE, device=device)
    ours = create_mae(_MODEL, norm_pix_loss=True).to(device).train()
    ours_optimizer = torch.optim.AdamW([p for p in ours.parameters() if p.requires_grad], fused=True)
    peer: nn.Module = ViTMAEForPreTraining(ViTMAEConfig(norm_pix_loss=True))
    peer.to(device).train()
    peer_optimizer = torch.optim.AdamW(peer.parameters())
    left, right = torch.randn(2, _MATRIX, _MATRIX, device=device)
    products: list[Callable[[], object]] = [lambda: F.linear(left, right), lambda: linear(left, right)]
    sides = dict(zip(_LIMITS, products, strict=True))
    for precision, name, peer_name in [(False, _OURS, _PEER), (True, _OURS_BF16, _PEER_BF16)][: 2 if bf16 else 1]:
        sides[peer_name] = training_step(lambda: peer(images).loss, peer_optimizer, device, precision)
        sides[name] = training_step(lambda: ours(images)[0], ours_optimizer, device, precision)
    return sides


def take_turns(sides: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each call of each side, after one call of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.accelerator.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _linear_flops(rows_shape: list[int], weight_shape: list[int], *_: object, **__: object) -> int:
    """Of oneDNN's linear layer, which torch does not count by itself."""
    return 2 * math.prod(rows_shape) * weight_shape[0]


def count_flops(model: nn.Module, batch: int) -> int:
    """Floating-point operations of the matrix products in one step of ours, forward and backward, nothing recomputed.

    Attention is counted in its plain form, because torch does not count the processor's fused one.
    """
    images = torch.randn(batch, 3, _IMAGE_SIZE, _IMAGE_SIZE)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _linear_flops})
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(images)[0].backward()
    return counter.get_total_flops()


def has_fast_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def report(seconds: dict[str, list[float]], flops: int, batch: int) -> list[str]:
    """The lines to print."""
    lines = [f"{'':28}{'median':>9}{'fastest':>9}{'slowest':>9}  images/s"]
    for name, turns in seconds.items():
        rate = "" if name in _LIMITS else f"{batch / median(turns):10.2f}"
        lines.append(f"{name:28}{median(turns):8.3f}s{min(turns):8.3f}s{max(turns):8.3f}s{rate}")
    for ours, peer in [(_OURS, _PEER), (_OURS_BF16, _PEER), (_OURS_BF16, _PEER_BF16)]:
        if ours in seconds:
            ratios = [p / o for p, o in zip(seconds[peer], seconds[ours], strict=True)]
            ratio = median(seconds[peer]) / median(seconds[ours])
            lines.append(f"{ours} against {peer}: {ratio:.2f} × (turns {min(ratios):.2f} to {max(ratios):.2f})")
    reached = flops / median(seconds[_OURS])
    lines.append(f"a step of ours: {flops / 1e9:.0f} GFLOP in matrix products, {reached / 1e9:.0f} GFLOP/s")
    for name in _LIMITS:
        peak = 2 * _MATRIX**3 / median(seconds[name])
        lines.append(f"{reached / peak:.0%} of the peak by {name}, {peak / 1e9:.0f} GFLOP/s")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--batch", type=int, default=8, help="images in a step (default 8)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    bf16 = has_fast_bf16(arguments.device)
    flops = count_flops(create_mae(_MODEL), arguments.batch)
    seconds = take_turns(make_sides(arguments.batch, arguments.device, bf16), arguments.repeats, arguments.device)
    print(f"ViT-B/16, batch {arguments.batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n".join(report(seconds, flops, arguments.batch)))


if __name__ == "__main__":
    main()
