"""How fast is a training step of our masked autoencoder, beside Hugging Face's and beside the machine's own limit?

    python benchmarks/speed/mae_step.py [--repeats 7] [--batch 8] [--device cpu] [--json FILE]

One step is forward, backward and an AdamW update of ViT-B/16 at 224 px, mask ratio 0.75, normalised target pixels.
The peer is transformers' ViTMAEForPreTraining as its users train it: its default attention (sdpa), and the fused AdamW,
which its Trainer takes on every device and ours too. The limit is one large single-precision matrix product, by
torch.mm's library and by oneDNN.
On a GPU, 256 images a step, each attention that the peer has and that runs there is a side of its own: ours is held
against the one that was fastest. Single precision is as PyTorch has it: TF32 in convolutions, not in matrix products;
bf16 is left out where a GPU lacks it. The limits there, and what counts as an operation, are those of
`backbench doctor --train`: one large matrix product in each precision, and all that kernels do, with what they compute
again. On a CPU nothing counts that is computed again.
All sides take turns in one process, so that a busy machine slows all of them; each figure is the median of the turns.
"""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.utils import is_flash_attn_2_available

from backbones.linear import linear
from backbones.mae.model import create_mae
from backbones.training.precision import Precision, bf16_is_fast
from benchmarks.selftest.full_size import count_operations, peak_rate
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import Comparison, compare, write_figures
from benchmarks.speed.comparing.turns import Side, Step, Turns, take_turns

_MODEL = "mae_vit_base_patch16"
_IMAGE_SIZE = 224
_DEFAULTS = {"cpu": {"repeats": 7, "batch": 8}, "cuda": {"repeats": 7, "batch": 256}}
_MATRIX = 4096
_FP32, _BF16 = "fp32", "bf16 autocast"
_OURS, _OURS_BF16 = f"ours {_FP32}", f"ours {_BF16}"
_PRODUCTS = {"torch.mm": F.linear, "oneDNN product": linear}
"""The limits on a CPU, which take turns with the models."""

_ATTENTIONS = {"cpu": ("sdpa",), "cuda": ("sdpa", "eager", "flash_attention_2")}
"""The peer's, its default first."""

_PAIRS = {"cpu": [(_FP32, _FP32), (_BF16, _FP32), (_BF16, _BF16)], "cuda": [(_BF16, _BF16), (_FP32, _FP32)]}
"""Ours in which precision is held against the peer in which."""


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
    optimizer = torch.optim.AdamW(peer.parameters(), fused=True)
    return training_step(lambda: peer(images).loss, optimizer, device, bf16)


def product_side(multiply: Callable[[Tensor, Tensor], Tensor]) -> Step:
    left, right = torch.randn(2, _MATRIX, _MATRIX)
    return lambda: multiply(left, right)


def make_sides(batch: int, device: str, bf16: bool) -> tuple[dict[str, Side], list[str]]:
    """What takes turns, and which of the peer's attentions do not."""
    sides: dict[str, Side] = {}
    if device == "cpu":
        sides = {name: partial(product_side, multiply) for name, multiply in _PRODUCTS.items()}
    lines = []
    for precision in (_FP32, _BF16) if bf16 else (_FP32,):
        for attention in _ATTENTIONS[device]:
            peer = partial(peer_side, batch, device, precision == _BF16, attention)
            if attention != "sdpa" and (why_not := say_why_not(peer, attention, precision)):
                lines.append(f"{peer_name(precision, attention)}: {why_not}")
            else:
                sides[peer_name(precision, attention)] = peer
        sides[f"ours {precision}"] = partial(our_side, batch, device, precision == _BF16)
    return sides, lines


def peer_name(precision: str, attention: str) -> str:
    """The peer as the table has it."""
    return f"Hugging Face ViTMAE, {precision}, {attention}"


def say_why_not(side: Side, attention: str, precision: str) -> str:
    """Why the peer does not run with that attention; empty where it does."""
    if attention == "flash_attention_2" and precision == _FP32:
        return "only for half precision"
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        return "flash-attn is not installed"
    try:
        side()()
    except (RuntimeError, ImportError, ValueError) as error:
        return f"does not run here, {str(error).partition(chr(10))[0]}"
    return ""


def fastest_peer(sides: Mapping[str, Turns], precision: str) -> str:
    """The name of the peer's side whose median is the smallest."""
    peers = [name for name in sides if name.startswith(peer_name(precision, ""))]
    return min(peers, key=lambda name: median(sides[name].seconds))


def count_in_plain_form(batch: int) -> int:
    """Floating-point operations of the matrix products in one step of ours, forward and backward, nothing recomputed.

    Attention is counted in its plain form, as torch's counter does not know the fused one of a CPU. Nothing is
    computed: on the meta device tensors have shapes and no numbers.
    """
    with torch.device("meta"):
        model, images = create_mae(_MODEL).train(), torch.empty(batch, 3, _IMAGE_SIZE, _IMAGE_SIZE)
        with sdpa_kernel(SDPBackend.MATH):
            return count_operations(lambda: model(images)[0].backward())


def reached(sides: Mapping[str, Turns], batch: int, device: str) -> list[str]:
    """How near our steps come to the limits, as lines to print."""
    if device == "cpu":
        rates = {name: 2 * _MATRIX**3 / median(sides[name].seconds) for name in _PRODUCTS}
        return _shares(_OURS, sides[_OURS], count_in_plain_form(batch), rates, "nothing computed again")
    lines = []
    precisions: dict[str, Precision] = {_OURS: "fp32", _OURS_BF16: "bf16"}
    for name, precision in precisions.items():
        if name not in sides:
            continue
        operations = count_operations(our_side(batch, device, name == _OURS_BF16))
        rates = {f"a {precision} torch.mm": peak_rate(device, precision)}
        lines += _shares(name, sides[name], operations, rates, "what kernels compute again included")
    return lines


def _shares(name: str, side: Turns, operations: int, limits: Mapping[str, float], counted: str) -> list[str]:
    rate = operations / median(side.seconds)
    lines = [f"{name}: {operations / 1e9:.0f} GFLOP a step, {counted}, {rate / 1e9:.0f} GFLOP/s"]
    return lines + [
        f"{rate / peak:.0%} of the peak by {limit}, {peak / 1e9:.0f} GFLOP/s" for limit, peak in limits.items()
    ]


def report(sides: Mapping[str, Turns], batch: int, device: str) -> list[str]:
    """The lines to print."""
    places = 3 if device == "cpu" else 4
    lines = [f"{'':44}{'median':>9}{'fastest':>9}{'slowest':>9}  images/s"]
    for name, side in sides.items():
        figures = (median(side.seconds), min(side.seconds), max(side.seconds))
        rate = "" if name in _PRODUCTS else f"{batch / figures[0]:10.2f}"
        memory = f"{side.memory_gib:8.2f} GiB" if rate and side.memory_gib is not None else ""
        lines.append(f"{name:44}{''.join(f'{figure:8.{places}f}s' for figure in figures)}{rate}{memory}")
    for each in comparisons(sides, batch, device):
        assert each.ratio
        ratio = f"{each.ratio.median:.2f} × (turns {each.ratio.lowest:.2f} to {each.ratio.highest:.2f})"
        lines.append(f"{each.what} against {each.peer}: {ratio}")
    return lines


def comparisons(sides: Mapping[str, Turns], batch: int, device: str) -> list[Comparison]:
    """Ours against the peer's fastest, for the table."""
    found = []
    for precision, other in _PAIRS[device]:
        if f"ours {precision}" in sides:
            note = " (TF32 in convolutions only)" if precision == _FP32 and device == "cuda" else ""
            what = f"MAE training step, ViT-B/16, batch {batch}, {precision}{note}"
            peer = fastest_peer(sides, other)
            found.append(compare(what, sides[f"ours {precision}"], peer, sides[peer], images=batch))
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="turns of each side (default 7)")
    parser.add_argument("--batch", type=int, help="images in a step (default 8, on a GPU 256)")
    arguments = parse_arguments(parser, _DEFAULTS)
    batch, device = arguments.batch, arguments.device
    torch.manual_seed(0)
    makers, lines = make_sides(batch, device, bf16_is_fast(device))
    sides = take_turns(makers, arguments.repeats, device)
    print(f"ViT-B/16, batch {batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n".join([*lines, *report(sides, batch, device), *reached(sides, batch, device)]))
    write_figures(arguments.json, comparisons(sides, batch, device))


if __name__ == "__main__":
    main()
