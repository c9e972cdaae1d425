"""Whether a task's whole network trains and evaluates as it should, on random images.   B images, C channels"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from backbones.depth import places_of
from backbones.errors import InputError
from backbones.features import ChangedImagesError, is_of_inference_mode
from benchmarks.commands.findings import Finding
from tasks.unused import NO_GRADIENT, outputs_of, settle_unused, tried_outputs

_SHOWN = 6


def try_network(task: str, network: nn.Module, images: Tensor) -> Iterator[Finding]:
    """Gradients, evaluation and half precision of a task's whole network."""
    try:
        yield _gradients(task, network, images)
        yield _evaluation(task, network, images)
        yield _half_precision(task, network, images)
    except ChangedImagesError as error:
        yield Finding(task, "images", "failed", str(error))
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        if is_of_inference_mode(error):
            yield Finding(task, "gradients", "failed", NO_GRADIENT)
            return
        yield Finding(task, "runs", "failed", f"{in_one_line(error)}, with {tuple(images.shape)} images")


def _gradients(task: str, network: nn.Module, images: Tensor) -> Finding:
    with torch.no_grad():  # what begins with zeros would keep gradients from others
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    before = _trained(network)
    if remark := settle_unused(network, "the backbone in training", images.shape[-1], images.device.type):
        return Finding(task, "gradients", "failed", remark)
    names = _trained(network)
    outputs = tried_outputs(network.train(), images)
    sum((each.float() * torch.randn_like(each)).sum() for each in outputs).backward()  # type: ignore[union-attr]
    gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    broken = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    network.zero_grad()
    if broken:
        return Finding(task, "gradients", "failed", f"infinite or undefined ones of {_listed(broken)}")
    frozen = [name for name in before if name not in names]
    aside = f"; frozen, as this task does without: {_listed(frozen)}" if frozen else ""
    seldom = [name for name in names if name not in gradients]
    aside += f"; in this pass none of {_listed(seldom)}, which several processes cannot train" if seldom else ""
    which = len(gradients) if frozen or seldom else f"all {len(names)}"
    return Finding(task, "gradients", "ok", f"finite ones of {which} parameter tensors{aside}")


def _trained(network: nn.Module) -> list[str]:
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def _evaluation(task: str, network: nn.Module, images: Tensor) -> Finding:
    network.eval()
    with torch.no_grad():
        first, again, alone = (tried_outputs(network, each) for each in (images, images, images[:1]))
    if not all(torch.equal(one, other) for one, other in zip(first, again, strict=True)):
        remark = "two passes over the same images differ. Let eval() switch off what is random"
        return Finding(task, "evaluation", "failed", remark)
    if any(_distance(one[:1], other) > 1e-3 for one, other in zip(first, alone, strict=True)):
        remark = (
            "an image's features depend on the others of its batch. In eval() let nothing reach over the batch, such "
            "as statistics over dimension 0"
        )
        return Finding(task, "evaluation", "failed", remark)
    return Finding(task, "evaluation", "ok", "the same twice, and for an image alone")


def _half_precision(task: str, network: nn.Module, images: Tensor) -> Finding:
    exact: list[Tensor] = []
    with torch.no_grad():
        with suppress(Exception, SystemExit):  # some kernels take half precision alone
            exact = outputs_of(network, images)
        with torch.autocast(images.device.type, torch.bfloat16):
            rounded = outputs_of(network, images)
    if not all(each.isfinite().all() for each in rounded):
        remark = "infinite or undefined numbers. Compute what overflows in float32, or use --set precision=fp32"
        return Finding(task, "bf16 autocast", "failed", remark)
    if not exact:
        return Finding(task, "bf16 autocast", "ok", "needed, for a pass in fp32 fails: use --set precision=bf16")
    distance = max(_distance(one, other.float()) for one, other in zip(exact, rounded, strict=True))
    return Finding(task, "bf16 autocast", "ok", f"within {distance:.1%} of fp32")


def _distance(one: Tensor, other: Tensor) -> float:
    """The greatest difference, as a share of the greatest number."""
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-12))


def check_groups(task: str, network: nn.Module, groups: Sequence[dict[str, Any]], layered: nn.Module) -> Finding:
    """Whether each parameter is in one group, and learns no faster than those behind it."""
    names = {id(parameter): name for name, parameter in network.named_parameters() if parameter.requires_grad}
    scales: dict[str, float] = {}
    twice = []
    for group in groups:
        for parameter in filter(lambda each: each.requires_grad, group["params"]):
            name = names.get(id(parameter), "?")
            twice += [name] if name in scales else []
            scales[name] = group["lr_scale"]
    missing = [name for name in names.values() if name not in scales]
    if twice or missing:
        return Finding(task, "layers", "failed", f"twice in groups: {_listed(twice)}; in none: {_listed(missing)}")
    prefix = next((name for name, module in network.named_modules() if module is layered), "")
    inner = {f"{prefix}.{name}".lstrip("."): place for name, place in places_of(layered).items()}
    by_depth = sorted((place, scales[name]) for name, place in inner.items() if name in scales and len(place) > 1)
    rates = [rate for _, rate in by_depth]
    if any(later < earlier for earlier, later in pairwise(rates)):
        remark = "group_matcher gives a block a higher learning rate than one behind it. Count from the images on"
        return Finding(task, "layers", "failed", remark)
    return Finding(task, "layers", "ok", f"{len({*scales.values()})}; each parameter in one group")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return (", ".join(names[:_SHOWN]) or "none") + (f" and {rest} more" if rest > 0 else "")


def in_one_line(error: Exception | SystemExit) -> str:
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
