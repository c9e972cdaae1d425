"""Whether a backbone has what a recipe takes of it, told before there are weights or images."""

from typing import Any

import timm
import torch

from backbones.contract import has_timms_interface
from backbones.entries import BackboneEntry
from backbones.errors import InputError
from backbones.registry import build_backbone
from backbones.training.settings import Recipe
from tasks.registry import TASKS


def require_blocks(recipe: Recipe, entry: BackboneEntry) -> None:
    """Raise InputError, as the run would, for a recipe that takes a class token or blocks that a model of timm's lacks.

    It is built without memory for its weights, in half a second. Another author's function is not called, registered in
    timm or not: that may take long or need its weights' numbers, and the run tells.
    """
    task = TASKS[recipe.task]
    if not task.asks_for_blocks or entry.registered_by or not _is_timms(entry.arch):
        return
    try:
        with torch.device("meta"):
            network: Any = build_backbone(entry, None, 0.0)
    except InputError:  # a model that reads its numbers while it is built
        return
    if has_timms_interface(network):
        task.module("task").require_blocks(recipe, network, entry.name)


def _is_timms(arch: str) -> bool:
    """Whether it is one of timm's own, or of the small ones that `backbones.vit_sizes` adds to them."""
    return timm.is_model(arch) and timm.model_entrypoint(arch).__module__.partition(".")[0] in ("timm", "backbones")
