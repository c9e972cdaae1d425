"""The files that Ripple's training writes: names of its own, beside a predictor that only training needs."""

import re

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

TRUNK = "online/trunk/"
_NAMES = {"over_space": "depthwise", "over_channels.0": "widen", "over_channels.2": "narrow"}


def from_ripple(state: State) -> State:
    """Bring a file's names to the encoder's: `online/trunk/stages/0/1/widen:weight` to `stages.0.1.over_channels.0.…`.

    What is not the trunk's is left out, and backbench lists it as such.
    """
    own = {name.removeprefix(TRUNK): tensor for name, tensor in state.items() if name.startswith(TRUNK)}
    renamed = {}
    for name, tensor in own.items():
        for ours, theirs in _NAMES.items():
            name = re.sub(rf"\b{theirs}\b", ours, name)
        renamed[re.sub(r"[/:]", ".", name)] = tensor
    return renamed


def as_released(encoder: nn.Module) -> State:
    """The other way round, with a predictor: what training would save of an encoder."""
    named = {}
    for name, tensor in encoder.state_dict().items():
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        path, _, kind = name.rpartition(".")
        named[f"{TRUNK}{path.replace('.', '/')}:{kind}"] = tensor
    return {**named, "online/predictor:weight": torch.zeros(8, 8)}
