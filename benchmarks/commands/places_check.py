"""Whether tokens and cells stand where their pixels do.   R × R cells, R² patches"""

import torch
from torch import Tensor, nn

from backbones.features import Form, try_features
from benchmarks.commands.findings import ALL, Finding

_TRIES = 12
_NAME = "places"


def check_places(form: Form, backbone: nn.Module, side: int) -> Finding:
    """Change the pixels of single patches off the diagonal, in images of a side, and look which changes most.

    It fails where most are found at one other place alike: columns first, or other tokens behind the patches.
    """
    step = max(form.strides)
    rows = side // step
    expected = [place for place in range(form.prefix, rows * rows) if place // rows != place % rows]
    expected = expected[:: -(-len(expected) // _TRIES) or 1]
    found = _found(form, backbone, side, expected) if expected else []
    pairs = list(zip(expected, found, strict=True))
    if 3 * sum(there == place % rows * rows + place // rows for place, there in pairs) > 2 * len(pairs):
        remark = "they stand column by column. Return tokens row by row, and maps as (B, C, height, width)"
        return Finding(ALL, _NAME, "failed", remark)
    if form.prefix and 3 * sum(there == place - form.prefix for place, there in pairs) > 2 * len(pairs):
        remark = f"{form.prefix} other token(s) stand behind the patches. Put them before those, or leave them out"
        return Finding(ALL, _NAME, "failed", remark)
    right = sum(there == place for place, there in pairs)
    return Finding(ALL, _NAME, "told" if 2 * right < len(pairs) or not pairs else "ok", _told(right, len(pairs)))


def _told(right: int, tried: int) -> str:
    return f"{right} of {tried} patches that were changed alone changed most where they should"


def _found(form: Form, backbone: nn.Module, side: int, expected: list[int]) -> list[int]:
    """For each patch that is changed alone, counted row by row, which one of the coarsest map changes most."""
    step = max(form.strides)
    rows = side // step
    images = torch.randn(1, 3, side, side).repeat(len(expected) + 1, 1, 1, 1)
    for number, place in enumerate(expected, 1):
        top, left = place // rows * step, place % rows * step
        images[number, :, top : top + step, left : left + step] = torch.randn(3, step, step)
    last: Tensor = form.maps(try_features(backbone, images, form.needs_gpu), side, side)[-1]
    return (last[1:] - last[:1]).square().sum(1).flatten(1).argmax(1).tolist()
