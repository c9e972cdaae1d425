"""Lines about the pyramids' attention: every way in which it is computed, beside the formula written out in full."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from backbones.training.precision import Precision, autocast
from benchmarks.selftest.exactness import (
    Error,
    Tolerance,
    exact_products,
    gradient_error,
    judged,
    largest,
    precisions,
    relative,
    scaled_gradients,
)
from benchmarks.selftest.lines import Bench, Found, Line
from benchmarks.selftest.plain_attention import plain_attention

TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(loss=2e-5, whole=5e-5, each=2e-4),
    "fp16": Tolerance(loss=3e-3, whole=1e-2, each=5e-2),
    "bf16": Tolerance(loss=2e-2, whole=5e-2, each=4e-1),
}
"""A relative position that is wrong by 1 % shifts the output by 1e-3, with tables as those below; in fp32 a CPU's
output is off by 3e-7. The tables have 6e-4 of all gradients, the input 1e-3: whether they have any in half precision
shows only where each counts. The worst on an H100 is off by 1e-2 (fp16) and 1e-1 (bf16)."""

IMAGES = {"cuda": 8, "cpu": 2}
SIDE = {"cuda": 1024, "cpu": 384}
"""Of the images, in pixels. With so many of them the scores go by pieces, and each has to give what one would."""

TABLE_STD, VECTOR_STD = 0.5, 0.1
"""Of random relative positions: the biases that they make have a standard deviation of about a half."""

_DEPTH = 8  # of which the first block is within windows, if there are some, and the second is not


@dataclass(frozen=True)
class Path:
    """A pyramid whose attention goes its own way; fields as `build_pyramid` has them."""

    backbone: str
    adapter: Any
    window: int | None
    shared_positions: bool = False


def attention(path: Path, bench: Bench) -> Found:
    """The outputs and gradients of a windowed and of a global block, on what they get in a forward pass."""
    from backbones import create_backbone
    from backbones.adapters import build_pyramid

    side = SIDE[bench.device]
    network: Any = create_backbone(path.backbone, for_pyramid=True)
    network.blocks = network.blocks[:_DEPTH]
    pyramid = build_pyramid(
        network, path.adapter, image_size=side, window=path.window, shared_positions=path.shared_positions
    )
    trunk: Any = pyramid.trunk
    fill_positions(trunk)
    pyramid.to(bench.device).train()
    inputs = _inputs(pyramid, torch.rand(1, 3, side, side))
    grid = (side // trunk.stride,) * 2
    worst: dict[Precision, Error] = {}
    for index in (0, 1):
        is_global = index in trunk.global_blocks
        if is_global and index == 0:
            continue  # all blocks are alike
        positions = _shared(trunk, is_global) if path.shared_positions else None
        for precision, error in _block_errors(trunk.blocks[index].attn, inputs[index], grid, positions, bench).items():
            worst[precision] = _worse(worst.get(precision), error)
    return judged(worst, TOLERANCES, first="output")


def fill_positions(trunk: nn.Module) -> None:
    """Random relative positions: from zero, as they start, no fault in them would show."""
    for name, parameter in trunk.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(parameter, std=TABLE_STD)
        elif "rel_pos" in name:
            nn.init.normal_(parameter, std=VECTOR_STD)


def _inputs(pyramid: Any, images: Tensor) -> dict[int, Tensor]:
    """What the first two blocks' attention gets in a forward pass on the pyramid's device."""
    device = next(pyramid.parameters()).device
    inputs: dict[int, Tensor] = {}
    blocks = pyramid.trunk.blocks[:2]
    hooks = [
        block.attn.register_forward_pre_hook(lambda module, given, index=index: inputs.setdefault(index, given[0]))
        for index, block in enumerate(blocks)
    ]
    with torch.no_grad(), exact_products():
        pyramid.trunk(images.to(device))
    for hook in hooks:
        hook.remove()
    return inputs


def _shared(trunk: Any, is_global: bool) -> Tensor:
    positions = trunk.global_positions if is_global else trunk.windowed_positions
    table: Tensor = positions.relative_position_bias_table
    return table


def _block_errors(
    block: Any, inputs: Tensor, grid: tuple[int, int], shared_table: Tensor | None, bench: Bench
) -> dict[Precision, Error]:
    """How far a block's attention is off, in each precision, for a batch of copies of one image.

    Each image's output and input gradient have to be the one's, the parameters' gradients so many times the one's.
    """
    parameters = dict(block.named_parameters())
    if shared_table is not None:
        parameters["attend.relative_position_bias_table"] = shared_table
    leaves = {name: parameter.detach().cpu().double().requires_grad_() for name, parameter in parameters.items()}
    x = inputs.cpu().double().requires_grad_()
    exact = plain_attention(x, _weights(leaves), block.attention.num_heads, block.window, grid)
    direction = torch.randn(exact.shape)
    images = IMAGES[bench.device]
    of_input, *of_leaves = torch.autograd.grad(exact, [x, *leaves.values()], direction.double())
    exact_gradients = {f"input {image}": of_input for image in range(images)}
    exact_gradients |= {name: images * one for name, one in zip(leaves, of_leaves, strict=True)}
    errors = {}
    for precision in precisions(bench.device):
        x_on_device = _copies(inputs, images).requires_grad_()
        with exact_products(), autocast(precision, bench.device):
            found = block(x_on_device).float()
        with exact_products():
            along = _copies(direction, images).to(found.device)
            gradients = scaled_gradients(found, [x_on_device, *parameters.values()], along, precision)
        named = dict(zip(("input", *leaves), gradients, strict=True))
        by_image = named.pop("input")
        assert by_image is not None
        found_gradients = {f"input {image}": one for image, one in enumerate(by_image.split(1))}
        found_gradients |= {name: one for name, one in named.items() if one is not None}
        output_error = largest(relative(one, exact) for one in found.split(1))
        errors[precision] = Error(output_error, *gradient_error(found_gradients, exact_gradients))
    return errors


def _copies(one: Tensor, count: int) -> Tensor:
    """A batch of one as a batch of so many copies."""
    return one.detach().expand(count, *one.shape[1:]).clone()


def _weights(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """A block's own parameters under the names of the formula."""
    names = {
        "attention.qkv.weight": "qkv.weight",
        "attention.qkv.bias": "qkv.bias",
        "attention.proj.weight": "proj.weight",
        "attention.proj.bias": "proj.bias",
        "attend.relative_position_bias_table": "table",
        "attend.rel_pos_h": "rows",
        "attend.rel_pos_w": "columns",
    }
    weights = {short: leaves[name] for name, short in names.items() if name in leaves}
    if "attention.q_bias" in leaves:  # BEiT's keys have none
        queries, values = leaves["attention.q_bias"], leaves["attention.v_bias"]
        weights["qkv.bias"] = torch.cat([queries, torch.zeros_like(queries), values])
    return weights


def _worse(one: Error | None, other: Error) -> Error:
    """The larger of each; NaN is the largest."""
    if one is None:
        return other
    each = largest((one.each, other.each))
    worst = one.worst if each is one.each else other.worst
    return Error(largest((one.loss, other.loss)), largest((one.whole, other.whole)), each, worst)


def _line(name: str, what: str, path: Path) -> Line:
    compared = (
        "outputs and gradients of a windowed and a global block" if path.window else "a block's output, gradients"
    )
    return Line(
        name, f"{what}: {compared} against the plain formula", {"cuda": 20, "cpu": 15}, partial(attention, path)
    )


ATTENTION = (
    _line("attention-fpn", "bias tables, shared (`fpn`)", Path("random_vit_base", "fpn", 16, shared_positions=True)),
    _line("attention-simple", "decomposed relative positions (`simple`)", Path("random_vit_base", "simple", 14)),
    _line("attention-beit", "bias tables with a class token (`beit`)", Path("random_vit_base", "beit", None)),
    _line("attention-of-beit", "BEiT's own tables (`fpn`)", Path("beit_base_patch16_224", "fpn", 16)),
)
