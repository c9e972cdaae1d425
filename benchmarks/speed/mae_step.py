"""How fast is a training step of our masked autoencoder, beside Hugging Face's and beside the machine's own limit?

    python benchmarks/speed/mae_step.py [--repeats 7] [--batch 8] [--device cpu] [--json FILE]

One step is forward, backward and an AdamW update of ViT-B/16 at 224 px, mask ratio 0.75, normalised target pixels.
The peer is transformers' ViTMAEForPreTraining as its users train it: its default attention (sdpa) and
torch.optim.AdamW's defaults. Ours updates with the fused AdamW. The limit is one large single-precision matrix product,
by torch.mm's library and by oneDNN.
On a GPU, 256 images a step, the peer has the fused AdamW too, which its Trainer takes there, and under bf16 autocast
the fastest attention of those it has; the limits are products in single precision and in bfloat16. Single precision is
as PyTorch has it: TF32 in convolutions, not in matrix products.
All sides take turns in one process, so that a busy machine slows all of them; each figure is the median of the turns.
"""

from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.utils import is_flash_attn_2_available

from backbones.linear import linear
from backbones.mae.model import create_mae
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import Comparison, compare, write_figures
from benchmarks.speed.comparing.turns import Side, Step, Turns, take_turns

_MODEL = "mae_vit_base_patch16"
_IMAGE_SIZE = 224
_DEFAULTS = {"cpu": {"repeats": 7, "batch": 8}, "cuda": {"repeats": 7, "batch": 256}}
_MATRIX = {"cpu": 4096, "cuda": 8192}
_OURS, _PEER = "ours fp32", "Hugging Face fp32"
_OURS_BF16, _PEER_BF16 = "ours bf16 autocast", "Hugging Face bf16 autocast"
_LIMITS = {"cpu": ("torch.mm", "oneDNN product"), "cuda": ("torch.mm fp32", "torch.mm bf16")}
_PAIRS = {
    "cpu": [(_OURS, _PEER), (_OURS_BF16, _PEER), (_OURS_BF16, _PEER_BF16)],
    "cuda": [(_OURS_BF16, _PEER_BF16), (_OURS, _PEER)],
}
_REACHED = {
    "cpu": [(_OURS, "torch.mm"), (_OURS, "oneDNN product")],
    "cuda": [(_OURS, "torch.mm fp32"), (_OURS_BF16, "torch.mm bf16")],
}
"""Which side is held against which limit."""


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


def our_side(batch: int, device: str, bf16: bool) -> Step:
    images = torch.randn(batch, 3, _IMAGE_SIZE, _IMAGE_SIZE, device=device)
    model = create_mae(_MODEL, norm_pix_loss=True).to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    return training_step(lambda: model(images)[0], optimizer, device, bf16)


def peer_side(batch: int, device: str, bf16: bool, attention: str) -> Step:
    images = torch.randn(batch, 3, _IMAGE_SIZE, _IMAGE_SIZE, device=device)
    model = ViTMAEForPreTraining(ViTMAEConfig(norm_pix_loss=True))
    model.set_attn_implementation(attention)
    peer: nn.Module = model
    peer.to(device).train()
    optimizer = torch.optim.AdamW(peer.parameters(), fused=True if device == "cuda" else None)
    return training_step(lambda: peer(images).loss, optimizer, device, bf16)


def product_side(multiply: Callable[[Tensor, Tensor], Tensor], device: str, dtype: torch.dtype) -> Step:
    left, right = torch.randn(2, _MATRIX[device], _MATRIX[device], device=device).to(dtype)
    return lambda: multiply(left, right)


def make_sides(batch: int, device: str, bf16: bool, attention: str) -> dict[str, Side]:
    """What takes turns."""
    other = (linear, torch.float32) if device == "cpu" else (F.linear, torch.bfloat16)
    products = [(F.linear, torch.float32), other]
    sides: dict[str, Side] = {
        name: partial(product_side, multiply, device, dtype)
        for name, (multiply, dtype) in zip(_LIMITS[device], products, strict=True)
    }
    sides[_PEER] = partial(peer_side, batch, device, False, "sdpa")
    sides[_OURS] = partial(our_side, batch, device, False)
    if bf16:
        sides[_PEER_BF16] = partial(peer_side, batch, device, True, attention)
        sides[_OURS_BF16] = partial(our_side, batch, device, True)
    return sides


def find_fastest_attention(batch: int, device: str) -> tuple[str, list[str]]:
    """The peer's attention that is fastest under bf16 autocast on a GPU, and what to print of the search."""
    names = ["sdpa", "eager", *(["flash_attention_2"] if is_flash_attn_2_available() else [])]
    seconds: dict[str, float] = {}
    lines = [] if "flash_attention_2" in names else ["Hugging Face's flash_attention_2: flash-attn is not installed"]
    for name in names:
        try:
            turns = take_turns({name: partial(peer_side, batch, device, True, name)}, 3, device)
        except (RuntimeError, ImportError, ValueError) as error:
            if name == "sdpa":
                raise
            lines.append(f"Hugging Face's {name} does not run here: {str(error).partition(chr(10))[0]}")
            continue
        seconds[name] = median(turns[name].seconds)
        lines.append(f"Hugging Face's {name}, bf16 autocast: {seconds[name]:.4f} s a step")
    return min(seconds, key=seconds.__getitem__), lines


def count_flops(batch: int) -> int:
    """Floating-point operations of the matrix products in one step of ours, forward and backward, nothing recomputed.

    Attention is counted in its plain form, as not all of the fused ones are known to torch's counter. Nothing is
    computed: on the meta device tensors have shapes and no numbers.
    """
    with torch.device("meta"):
        model, images = create_mae(_MODEL).train(), torch.empty(batch, 3, _IMAGE_SIZE, _IMAGE_SIZE)
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            model(images)[0].backward()
    return counter.get_total_flops()


def has_fast_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def report(sides: dict[str, Turns], flops: int, batch: int, device: str) -> list[str]:
    """The lines to print."""
    places = 3 if device == "cpu" else 4
    lines = [f"{'':28}{'median':>9}{'fastest':>9}{'slowest':>9}  images/s"]
    for name, side in sides.items():
        figures = (median(side.seconds), min(side.seconds), max(side.seconds))
        rate = "" if name in _LIMITS[device] else f"{batch / figures[0]:10.2f}"
        memory = f"{side.memory_gib:8.2f} GiB" if rate and side.memory_gib is not None else ""
        lines.append(f"{name:28}{''.join(f'{figure:8.{places}f}s' for figure in figures)}{rate}{memory}")
    for ours, peer in _PAIRS[device]:
        if ours in sides:
            ratio = compare("", sides[ours], peer, sides[peer]).ratio
            assert ratio
            lines.append(
                f"{ours} against {peer}: {ratio.median:.2f} × (turns {ratio.lowest:.2f} to {ratio.highest:.2f})"
            )
    reached = flops / median(sides[_OURS].seconds)
    lines.append(f"a step of ours: {flops / 1e9:.0f} GFLOP in matrix products, {reached / 1e9:.0f} GFLOP/s")
    for name, limit in _REACHED[device]:
        peak = 2 * _MATRIX[device] ** 3 / median(sides[limit].seconds)
        reached = flops / median(sides[name].seconds)
        whose = "" if device == "cpu" else f"{name} reaches "
        lines.append(f"{whose}{reached / peak:.0%} of the peak by {limit}, {peak / 1e9:.0f} GFLOP/s")
    return lines


def comparisons(sides: dict[str, Turns], batch: int, device: str, attention: str) -> list[Comparison]:
    """Ours against the peer's, for the table."""
    found = []
    for ours, peer in _PAIRS[device]:
        if ours in sides:
            precision = ours.removeprefix("ours ")
            note = " (TF32 in convolutions only)" if precision == "fp32" and device == "cuda" else ""
            what = f"MAE training step, ViT-B/16, batch {batch}, {precision}{note}"
            used = attention if peer == _PEER_BF16 else "sdpa"
            found.append(
                compare(
                    what,
                    sides[ours],
                    f"Hugging Face ViTMAE, {peer.removeprefix('Hugging Face ')}, {used}",
                    sides[peer],
                    images=batch,
                )
            )
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="turns of each side (default 7)")
    parser.add_argument("--batch", type=int, help="images in a step (default 8, on a GPU 256)")
    arguments = parse_arguments(parser, _DEFAULTS)
    batch, device = arguments.batch, arguments.device
    torch.manual_seed(0)
    bf16 = has_fast_bf16(device)
    attention, lines = find_fastest_attention(batch, device) if device == "cuda" else ("sdpa", [])
    sides = take_turns(make_sides(batch, device, bf16, attention), arguments.repeats, device)
    print(f"ViT-B/16, batch {batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n".join([*lines, *report(sides, count_flops(batch), batch, device)]))
    write_figures(arguments.json, comparisons(sides, batch, device, attention))


if __name__ == "__main__":
    main()
