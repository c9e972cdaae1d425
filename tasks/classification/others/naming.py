"""From the names in files of others' classifiers to those of timm's models, head and all."""

import re
from collections.abc import Collection, Iterable

from torch import nn

from backbones.errors import InputError
from backbones.weights.code_bases.huggingface import from_huggingface
from backbones.weights.code_bases.jax import from_jax
from backbones.weights.code_bases.mmpretrain import from_mmpretrain
from backbones.weights.code_bases.timm_readers import through_timm
from backbones.weights.code_bases.torchvision import from_torchvision
from backbones.weights.conversion import Weights
from backbones.weights.naming import drop_masking, spread_position_biases, strip_wrappers
from backbones.weights.references import SEPARATOR
from tasks.classification.others.classifier import outputs_name

_HEADS = ("head", "head.fc", "fc", "classifier")
_OF_A_HEAD = re.compile(r"(?:^|\.)(?:\w*heads?|neck|fc|classifier|pre_logits)\.")
_SHOWN = 4
_WRAPPERS = re.compile(r"(?:module\.|_orig_mod\.|model\.)*")


def bare(name: str) -> str:
    """A tensor's name without what wrappers of the whole network put before it."""
    return _WRAPPERS.sub("", name, count=1)


def listed(names: Collection[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join([*names][:_SHOWN]) + more


def join_head(weights: Weights, network: nn.Module) -> None:
    """Bring the head to where the trunk is: beside it in mmpretrain's files, deeper in torchvision's ViT."""
    if weights.names(r"backbone\."):
        weights.rename(r"head\.(?:layers\.head|fc)\.", "backbone.head.")
    weights.rename(r"heads\.head\.", "head.")
    weights.rename(r"cls_classifier\.", "head.")
    weights.rename(r"distillation_classifier\.", "head_dist.")


def name_distillation_token(weights: Weights, network: nn.Module) -> None:
    """Take a distillation token that no head reads for the register that it is, with a position of its own."""
    if "reg_token" in network.state_dict():
        weights.rename(r"dist_token$", "reg_token")


def name_head(weights: Weights, network: nn.Module) -> None:
    """Call the linear layer that gives the classes as the network does."""
    own, names = outputs_name(network), network.state_dict().keys()
    if f"{own}.weight" in weights.tensors:
        return
    for name in _HEADS:
        if f"{name}.weight" in weights.tensors and f"{name}.weight" not in names:
            weights.rename(rf"{re.escape(name)}\.(?=weight$|bias$)", f"{own}.")
            return


def begin_counts(weights: Weights, network: nn.Module) -> None:
    """Do without batch norm's counts of batches, which files of old versions of PyTorch lack: only training asks."""
    for name in network.state_dict():
        if name.endswith("num_batches_tracked") and name not in weights.tensors:
            weights.initialised[name] = "counts batches, for training alone"


def require_no_other_head(weights: Weights, network: nn.Module) -> None:
    """Raise InputError where the steps before left out what may stand between the trunk and the classes.

    A backbone's readers may: it is the trunk alone that they are asked for.
    """
    used = {key for keys in weights.sources.values() for key in keys}
    left = [
        key
        for key, reason in weights.dropped.items()
        if key not in used
        and (reason == "not part of the backbone" or _OF_A_HEAD.search(key))
        and "data_preprocessor." not in key
    ]
    if left:
        part = _shared(used)
        complete = f", or if its part {part} is complete, name that: FILE{SEPARATOR}{part}" if part else ""
        raise InputError(
            f"has {listed(left)} beside the network that would be evaluated, which may stand between its trunk and its "
            f"classes. Save that network alone, by its state_dict(){complete}"
        )


def _shared(names: Iterable[str]) -> str:
    """What names have in common at their beginning, up to a dot."""
    shared = []
    for pieces in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len({*pieces}) > 1:
            break
        shared.append(pieces[0])
    return ".".join(shared)


STEPS = (
    join_head,
    strip_wrappers,
    from_torchvision,
    from_huggingface,
    name_distillation_token,
    from_mmpretrain,
    from_jax,
    drop_masking,
    spread_position_biases,
    name_head,
    through_timm,
    name_head,
    begin_counts,
    require_no_other_head,
)
"""All that is needed for any of them. Nothing of a head is left out, and no norm begins anew."""
