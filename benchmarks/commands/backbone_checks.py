"""Whether a backbone serves in every task, tried on random images of some sizes on the CPU.

B images, C channels
"""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import backbones.adapters
import tasks.classification.classifier
from backbones.activations import recompute_activations
from backbones.adapters import Pyramid, build_pyramid
from backbones.adapters.own_forward import OwnTrunk
from backbones.architectures import count_parameters
from backbones.contract import has_timms_interface
from backbones.depth import places_of
from backbones.entries import BackboneEntry
from backbones.errors import InputError
from backbones.features import Form, examine, pick, try_features
from backbones.normalising import normalisation_of
from backbones.registry import build_backbone, create_backbone, find_backbone
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.readers import is_reader
from benchmarks.commands.findings import ALL, CLASSIFICATION, DENSE, Finding
from benchmarks.commands.places_check import check_places
from tasks.classification.classifier import add_head
from tasks.registry import TASKS, pretraining_name

_CLASSES = 8
_DECAY, _LAYER_DECAY = 0.05, 0.75
_SHOWN = 6
_DENSE_SIDE = 128
_ONE_MAP = "model.adapter=simple"
_SETTINGS: dict[str, dict[str, Any]] = {"model.adapter=fpn": {"adapter": "fpn"}, _ONE_MAP: {"adapter": "simple"}}
_OWN = "--set model.window=null (detection), --set model.taps=null --set model.layer_scale=null (segmentation)"


def check_backbone(name: str, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    """Try a backbone in all tasks, one check after the other; what needs something that failed is not tried.

    Raises InputError for an unknown name.
    """
    entry = find_backbone(name, with_checkpoint=checkpoint is not None)

    def build(**options: Any) -> nn.Module:
        return create_backbone(name, checkpoint, **options)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            backbone = build()
        except InputError as error:
            yield Finding(ALL, "builds", "failed", str(error))
            return
        report: Any = backbone.load_report
        yield Finding(ALL, "builds", "ok", f"{count_parameters(backbone):,} parameters{_landed(report)}")
        yield _normalisation(entry, checkpoint)
        try:
            form = examine(backbone, name)
        except InputError as error:
            yield Finding(ALL, "features", "told" if has_timms_interface(backbone) else "failed", str(error))
            return
        yield Finding(ALL, "features", "ok", str(form))
        yield _sizes(form, backbone)
        try:
            yield check_places(form, backbone)
            yield _round_trip(entry, backbone, form)
            yield _drop_path(build, form)
            yield _activation_checkpointing(build)
            yield from _classification(build, form)
            yield from _dense(build, form)
        except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
            remark = f"{_first_line(error)}, with normalised images, whose numbers lie on both sides of 0"
            yield Finding(ALL, "runs", "failed", remark)


def _landed(report: Any) -> str:
    return f"; {report.summary()}" if report else ""


def _normalisation(entry: BackboneEntry, checkpoint: Checkpoint | None) -> Finding:
    found = {task: str(normalisation_of(entry, checkpoint, task, spell=pretraining_name)) for task in TASKS}
    distinct = {*found.values()}
    told = distinct.pop() if len(distinct) == 1 else "; ".join(f"{task}: {each}" for task, each in found.items())
    source = "" if checkpoint or entry.normalisation else ". Others are stated by mean= and std= of register_backbone"
    return Finding(ALL, "normalisation", "told", f"{told}{source}")


def _sizes(form: Form, backbone: nn.Module) -> Finding:
    if form.fixed_size is None:
        return Finding(ALL, "sizes", "ok", f"any multiples of {max(form.strides)} pixels")
    can_be_set = callable(getattr(backbone, "set_input_size", None))
    instead = (
        "set_input_size brings it to model.image_size, and smaller images are padded to that"
        if can_be_set
        else "dense tasks pad images to it and take no larger ones: set model.image_size to it, or interpolate the "
        "position embeddings in forward_features"
    )
    return Finding(
        ALL, "sizes", "told", f"only {form.fixed_size} × {form.fixed_size} pixels, of those tried; {instead}"
    )


def _side(form: Form) -> int:
    """Of the images to try it on, in pixels."""
    return form.fixed_size or 4 * max(form.strides)


def _round_trip(entry: BackboneEntry, backbone: nn.Module, form: Form) -> Finding:
    """Save the weights, load them into a second model, by the door that files come through where it is open."""
    name = "state-dict round trip"
    file = io.BytesIO()
    torch.save(backbone.state_dict(), file)
    file.seek(0)
    try:
        twin = build_backbone(entry, None, 0.0)
        twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
        if entry.needs_checkpoint is not False and not any(map(is_reader, entry.steps)):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "weights.pth")
                path.write_bytes(file.getvalue())
                twin = create_backbone(entry.name, path)
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        return Finding(ALL, name, "failed", f"its own weights do not load into a second one: {_first_line(error)}")
    images = torch.randn(2, 3, _side(form), _side(form))
    ours, theirs = (pick(try_features(each, images), "") for each in (backbone, twin))
    if not all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(ours, theirs, strict=True)):
        remark = (
            "a second one with the same state_dict gives other features: something that decides them is no parameter "
            "and no buffer. Register it with register_buffer"
        )
        return Finding(ALL, name, "failed", remark)
    return Finding(ALL, name, "ok", f"{len(backbone.state_dict())} tensors")


def _drop_path(build: Callable[..., nn.Module], form: Form) -> Finding:
    name = "drop path"
    try:
        network = build(drop_path=0.5).train()
    except InputError as error:
        return Finding(ALL, name, "told", f"{error} Recipes with model.drop_path need --set model.drop_path=0")
    images = torch.randn(4, 3, _side(form), _side(form))
    with torch.no_grad():
        runs = [pick(network.forward_features(images), "") for _ in range(2)]  # type: ignore[operator]
    if all(torch.equal(one, other) for one, other in zip(*runs, strict=True)):
        remark = (
            "ignored: two passes in training are the same under 0.5. Take drop_path, the function's second argument, "
            "or say so with --set model.drop_path=0"
        )
        return Finding(ALL, name, "told", remark)
    return Finding(ALL, name, "ok", "two passes in training differ under 0.5")


def _activation_checkpointing(build: Callable[..., nn.Module]) -> Finding:
    try:
        recompute_activations(build())
    except InputError as error:
        return Finding(ALL, "activation checkpointing", "told", str(error))
    return Finding(ALL, "activation checkpointing", "ok", "by set_grad_checkpointing")


def _classification(build: Callable[..., nn.Module], form: Form) -> Iterator[Finding]:
    side = _side(form)
    try:
        network = add_head(build(), _CLASSES, "avg", side)
        groups = tasks.classification.classifier.parameter_groups(network, _DECAY, _LAYER_DECAY)
    except InputError as error:
        yield Finding(CLASSIFICATION, "head and layers", "failed", str(error))
        return
    notes = tasks.classification.classifier.pooling_notes(network)
    token = "model.pool=avg or token" if form.prefix else "model.pool=avg"
    yield Finding(CLASSIFICATION, "head", "ok", "; ".join([token, *notes]))
    yield from _try_network(CLASSIFICATION, network, torch.randn(4, 3, side, side))
    yield _groups(CLASSIFICATION, network, groups, _layered(network))


def _dense(build: Callable[..., nn.Module], form: Form) -> Iterator[Finding]:
    pyramid, remark = _first_pyramid(build, form)
    if pyramid is None:
        yield Finding(DENSE, "pyramid", "failed", remark)
        return
    yield Finding(DENSE, "pyramid", "ok", remark)
    side = pyramid.largest_image or _DENSE_SIDE
    for height, width in ((side, side), (side, side // 2), (side // 2 + 3, side - 5)):
        if wrong := _wrong_maps(pyramid, height, width):
            yield Finding(DENSE, "maps", "failed", wrong)
            return
    yield Finding(DENSE, "maps", "ok", f"strides 4, 8, 16, 32 with {', '.join(map(str, pyramid.channels))} channels")
    yield from _try_network(DENSE, pyramid, torch.randn(4, 3, side, side))
    try:
        groups = backbones.adapters.parameter_groups(
            pyramid, pyramid, weight_decay=_DECAY, layer_decay=_LAYER_DECAY, no_weight_decay="one_dimensional"
        )
    except InputError as error:
        yield Finding(DENSE, "layers", "failed", str(error))
        return
    yield _groups(DENSE, pyramid, groups, pyramid.trunk.layered)


def _first_pyramid(build: Callable[..., nn.Module], form: Form) -> tuple[Pyramid | None, str]:
    """The pyramid of the first adapter that takes it, with the settings to use; or why there is none."""
    why = ""
    for setting, options in _SETTINGS.items():
        backbone = build(for_pyramid=True)
        fixed = form.fixed_size if not callable(getattr(backbone, "set_input_size", None)) else None
        try:
            pyramid = build_pyramid(
                backbone, image_size=fixed or _DENSE_SIDE, window=None, relative_position=False, channels=32, **options
            )
        except InputError as error:
            why = str(error)
            continue
        if setting == _ONE_MAP and isinstance(pyramid.trunk, OwnTrunk):
            return pyramid, f"from one map, by --set {setting} --set model.relative_position=false, and {_OWN}"
        return pyramid, f"by {setting}, with the other settings as recipes have them"
    return None, why


def _wrong_maps(pyramid: Pyramid, height: int, width: int) -> str:
    try:
        with torch.no_grad():
            maps = pyramid.eval()(torch.randn(1, 3, height, width))
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        return f"images of {width} × {height} pixels: {_first_line(error)}. Let forward_features take several sizes"
    expected = [(-(-height // stride), -(-width // stride)) for stride in pyramid.strides]
    found = [tuple(each.shape[2:]) for each in maps]
    return "" if found == expected else f"images of {width} × {height} pixels gave maps {found}, and not {expected}"


def _try_network(task: str, network: nn.Module, images: Tensor) -> Iterator[Finding]:
    """Gradients, evaluation and half precision of a task's whole network."""
    try:
        yield _gradients(task, network, images)
        yield _evaluation(task, network, images)
        yield _half_precision(task, network, images)
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        yield Finding(task, "runs", "failed", f"{_first_line(error)}, with {tuple(images.shape)} images")


def _outputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    output = network(images)
    return [output] if isinstance(output, Tensor) else [*output]


def _gradients(task: str, network: nn.Module, images: Tensor) -> Finding:
    with torch.no_grad():  # what begins with zeros would keep gradients from others
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    network.train()
    sum((each.float() * torch.randn_like(each)).sum() for each in _outputs(network, images)).backward()  # type: ignore[union-attr]
    trained = [(name, parameter.grad) for name, parameter in network.named_parameters() if parameter.requires_grad]
    unused = [name for name, gradient in trained if gradient is None or not gradient.any()]
    broken = [name for name, gradient in trained if gradient is not None and not gradient.isfinite().all()]
    network.zero_grad()
    if broken:
        return Finding(task, "gradients", "failed", f"infinite or undefined ones of {_listed(broken)}")
    inner = [name for name, _ in trained if "backbone." in name]
    if inner and all(name in unused for name in inner):
        remark = "forward_features passes no gradient on: it runs under no_grad, or detaches. Let it be differentiated"
        return Finding(task, "gradients", "failed", remark)
    if unused:
        remark = (
            f"none of {_listed(unused)}: several processes would wait for them in vain. Leave them out of the module, "
            "or freeze them with requires_grad_(False)"
        )
        return Finding(task, "gradients", "failed", remark)
    return Finding(task, "gradients", "ok", f"finite ones of all {len(trained)} parameter tensors")


def _evaluation(task: str, network: nn.Module, images: Tensor) -> Finding:
    network.eval()
    with torch.no_grad():
        first, again, alone = (_outputs(network, each) for each in (images, images, images[:1]))
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
    with torch.no_grad():
        exact = _outputs(network, images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = _outputs(network, images)
    if not all(each.isfinite().all() for each in rounded):
        remark = "infinite or undefined numbers. Compute what overflows in float32, or use --set precision=fp32"
        return Finding(task, "bf16 autocast", "failed", remark)
    distance = max(_distance(one, other.float()) for one, other in zip(exact, rounded, strict=True))
    return Finding(task, "bf16 autocast", "ok", f"within {distance:.1%} of fp32")


def _distance(one: Tensor, other: Tensor) -> float:
    """The greatest difference, as a share of the greatest number."""
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-12))


def _layered(network: Any) -> nn.Module:
    layered: nn.Module = getattr(network, "backbone", network)
    return layered


def _groups(task: str, network: nn.Module, groups: Sequence[dict[str, Any]], layered: nn.Module) -> Finding:
    """Whether each parameter is in one group, and learns no faster than those behind it."""
    names = {id(parameter): name for name, parameter in network.named_parameters() if parameter.requires_grad}
    scales: dict[str, float] = {}
    twice = []
    for group in groups:
        for parameter in group["params"]:
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


def _first_line(error: Exception | SystemExit) -> str:
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
