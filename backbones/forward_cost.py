"""How much a forward pass computes, counted without computing it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from backbones.plugins import describe_error

_KNOWN = ("aten", "prim", "prims")
_PASSED_OVER = ("aten::_fft_",)
"""PyTorch's own operations that compute much and that its counter knows nothing of."""


@dataclass(frozen=True)
class ForwardCost:
    """What one image costs.

    gflops:     billions of multiplications, each with the addition that follows, of convolutions, matrix products and
                attention; None where they could not be counted. Tables of the literature count so: 17.6 for a ViT-B/16
                at 224 pixels.
    image_size: the side in pixels of the square image
    note:       what to say of what was not counted; empty for nothing
    """

    gflops: float | None
    image_size: int
    note: str = ""

    @property
    def notes(self) -> list[str]:
        """The note, if there is one."""
        return [self.note] if self.note else []


def forward_cost(model: nn.Module, image_size: int) -> ForwardCost:
    """Count a forward pass in evaluation on one image (1, 3, image_size, image_size).

    The pass is made by an outline of the model, on PyTorch's meta device, which has shapes and no numbers: it takes
    neither the model's time nor its memory, and leaves it as it is. Attention counts whatever computes it.
    fvcore's counter, which traces, cannot do so: its convolutions go unseen on the meta device, and fused attention
    everywhere. It counts the same on a real device, and five more for each number that is normalised.
    Never raises: a model that cannot be run so has no number, and a note, nor has one of which nothing is counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    uncounted = _UncountedOperations()
    try:
        outline = _outline(model)
        images = torch.empty(1, 3, image_size, image_size, device="meta")
        with torch.random.fork_rng([]), torch.no_grad(), FlopCounterMode(display=False) as counter, uncounted:
            outline(images)
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        what = next(iter(describe_error(error).splitlines()), "")
        return ForwardCost(None, image_size, f"a forward pass could not be counted, without numbers it failed: {what}")
    note = ""
    if uncounted.names:
        note = f"not counted in the forward pass: {', '.join(sorted(uncounted.names))}"
    elif not counter.get_total_flops():
        note = "a forward pass could not be counted, it has no convolution, matrix product or attention"
    return ForwardCost(counter.get_total_flops() / 2e9 or None, image_size, note)


class _UncountedOperations(TorchDispatchMode):
    """Takes down which operations are not PyTorch's own, of which nobody knows what they compute, or `_PASSED_OVER`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace not in _KNOWN or func.name().startswith(_PASSED_OVER):
            self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def _outline(model: nn.Module) -> nn.Module:
    """A copy in evaluation whose tensors have no numbers; those of the model are not copied on the way."""
    outlines: dict[int, Any] = {}
    for module in model.modules():
        own = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        for tensor in own:
            if isinstance(tensor, nn.Parameter):
                outlines[id(tensor)] = nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False)
            elif isinstance(tensor, Tensor):
                outlines[id(tensor)] = torch.empty_like(tensor, device="meta")
    return copy.deepcopy(model, outlines).eval()
