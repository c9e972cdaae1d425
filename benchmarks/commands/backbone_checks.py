"""Whether a backbone serves in every task, tried on random images of some sizes: on the CPU, where it runs there.

B images, C channels
"""

import copy
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

import backbones.adapters
import tasks.classification.classifier
from backbones.activations import recompute_activations
from backbones.adapters import Pyramid, build_pyramid
from backbones.adapters.own_forward import OwnTrunk
from backbones.architectures import count_parameters
from backbones.contract import has_timms_interface
from backbones.entries import BackboneEntry
from backbones.errors import InputError
from backbones.features import ChangedImagesError, Form, examine, in_half_if_need_be, pick, try_features
from backbones.frozen import FrozenBackbone
from backbones.normalising import normalisation_of
from backbones.registry import build_backbone, create_backbone, find_backbone
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.readers import is_reader
from benchmarks.commands.findings import ALL, CLASSIFICATION, DENSE, PROBES, Finding
from benchmarks.commands.network_checks import check_groups, in_one_line, try_network
from benchmarks.commands.places_check import check_places
from tasks.classification.classifier import add_head
from tasks.data_sets import pretraining_name
from tasks.probing.probes import parts_of
from tasks.probing.recipe import LAYERS, Pool
from tasks.registry import TASKS
from tasks.unused import USUAL_SIDE

_CLASSES = 8
_DECAY, _LAYER_DECAY = 0.05, 0.75
_DENSE_SIDE = 128
_SETTINGS: dict[str, dict[str, Any]] = {
    "model.adapter=fpn": {"adapter": "fpn", "window": 16},
    "model.adapter=simple": {"adapter": "simple", "window": 14},
    "model.adapter=simple --set model.window=null": {"adapter": "simple", "window": None},
}
"""To be tried one after the other; windows as in the recipes of detection."""

_OWN = "--set model.window=null (detection), --set model.taps=null --set model.layer_scale=null (segmentation)"


def check_backbone(name: str, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    """Try a backbone in all tasks, one check after the other; what needs something that failed is not tried.

    Raises InputError for an unknown name.
    """
    entry = find_backbone(name, with_checkpoint=checkpoint is not None)

    device = "cpu"

    def build(**options: Any) -> nn.Module:
        return create_backbone(name, checkpoint, **options).to(device)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            backbone = build()
        except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
            yield Finding(ALL, "builds", "failed", in_one_line(error))
            return
        report: Any = backbone.load_report
        yield Finding(ALL, "builds", "ok", f"{count_parameters(backbone):,} parameters{_landed(report)}")
        yield _guarded("normalisation", lambda: _normalisation(entry, checkpoint))
        try:
            form = examine(backbone, name)
        except ChangedImagesError as error:
            yield Finding(ALL, "images", "failed", str(error))
            return
        except InputError as error:
            yield Finding(ALL, "features", "told" if has_timms_interface(backbone) else "failed", str(error))
            return
        except (Exception, SystemExit) as error:  # as above
            yield Finding(ALL, "features", "failed", in_one_line(error))
            return
        yield Finding(ALL, "features", "ok", f"{form}{', on a GPU alone' if form.needs_gpu else ''}")
        if form.needs_gpu:
            device = "cuda"
            backbone.to(device)
        yield _guarded("sizes", lambda: _sizes(form, backbone))
        side = _side(form, backbone)
        try:
            yield check_places(form, backbone, side)
            yield _round_trip(entry, backbone, form, side)
            yield _drop_path(build, form, side)
            yield _activation_checkpointing(build)
            yield from _classification(build, form, side)
            yield from _dense(build, form, side)
            yield _probes(build, form, side)
        except (Exception, SystemExit) as error:  # as above
            remark = f"{in_one_line(error)}, with normalised images, whose numbers lie on both sides of 0"
            yield Finding(ALL, "runs", "failed", remark)


def _guarded(check: str, found: Callable[[], Finding]) -> Finding:
    try:
        return found()
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        return Finding(ALL, check, "failed", in_one_line(error))


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


def _side(form: Form, backbone: nn.Module) -> int:
    """Of the images to try it on, in pixels: small ones, if it takes them and after them others as before.

    A model with windows may make them smaller for small images, and have them so for good (transformers' Swin).
    """
    small = 4 * max(form.strides)
    if form.fixed_size:
        return form.fixed_size
    try:
        twin = copy.deepcopy(backbone)
        for side in (small, USUAL_SIDE):
            try_features(twin, torch.zeros(1, 3, side, side), form.needs_gpu)
    except (Exception, SystemExit):  # modules of other authors can fail in any way
        return USUAL_SIDE
    return small


def _device(form: Form) -> str:
    return "cuda" if form.needs_gpu else "cpu"


def _round_trip(entry: BackboneEntry, backbone: nn.Module, form: Form, side: int) -> Finding:
    """Save the weights, load them into a second model, by the door that files come through where it is open."""
    name = "state-dict round trip"
    file = io.BytesIO()
    try:
        torch.save(backbone.state_dict(), file)
        file.seek(0)
        twin = build_backbone(entry, None, 0.0)
        twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
        if entry.needs_checkpoint is not False and not any(map(is_reader, entry.steps)):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "weights.pth")
                path.write_bytes(file.getvalue())
                twin = create_backbone(entry.name, path)
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        return Finding(ALL, name, "failed", f"its own weights do not load into a second one: {in_one_line(error)}")
    images = torch.randn(2, 3, side, side, device=_device(form))
    twin.to(_device(form))
    ours, theirs = (pick(try_features(each, images), "") for each in (backbone, twin))
    if not all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(ours, theirs, strict=True)):
        remark = (
            "a second one with the same state_dict gives other features: something that decides them is no parameter "
            "and no buffer. Register it with register_buffer"
        )
        return Finding(ALL, name, "failed", remark)
    return Finding(ALL, name, "ok", f"{len(backbone.state_dict())} tensors")


def _drop_path(build: Callable[..., nn.Module], form: Form, side: int) -> Finding:
    name = "drop path"
    try:
        network = build(drop_path=0.5).train()
    except InputError as error:
        return Finding(ALL, name, "told", f"{error} Recipes with model.drop_path need --set model.drop_path=0")
    images = torch.randn(4, 3, side, side, device=_device(form))

    def forward() -> Any:
        return network.forward_features(images)  # type: ignore[operator]

    with torch.no_grad():
        runs = [pick(in_half_if_need_be(forward, images.device.type), "") for _ in range(2)]
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


def _classification(build: Callable[..., nn.Module], form: Form, side: int) -> Iterator[Finding]:
    try:
        network = add_head(build(), _CLASSES, "avg", side).to(_device(form))
        groups = tasks.classification.classifier.parameter_groups(network, _DECAY, _LAYER_DECAY)
    except InputError as error:
        yield Finding(CLASSIFICATION, "head and layers", "failed", str(error))
        return
    notes = tasks.classification.classifier.pooling_notes(network)
    token = "model.pool=avg or token" if form.prefix else "model.pool=avg"
    yield Finding(CLASSIFICATION, "head", "ok", "; ".join([token, *notes]))
    yield from try_network(CLASSIFICATION, network, torch.randn(4, 3, side, side, device=_device(form)))
    yield check_groups(CLASSIFICATION, network, groups, _layered(network))


def _probes(build: Callable[..., nn.Module], form: Form, side: int) -> Finding:
    """Take the features of which probes learn, and say which pools of how many blocks there are."""
    name = "frozen features"
    try:
        network = FrozenBackbone(build(), side)
        images = torch.randn(2, 3, side, side, device=_device(form))
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            with suppress(Exception, SystemExit):  # some kernels take half precision alone
                found = network(images)
            half = "" if found else "; in bfloat16, for a pass in fp32 fails: use --set precision=bf16"
            found = found or in_half_if_need_be(lambda: network(images), images.device.type)
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        return Finding(PROBES, name, "failed", in_one_line(error))
    if wrong := [kind for kind, each in found.items() if not each.isfinite().all()]:
        return Finding(PROBES, name, "failed", f"infinite or undefined numbers in {', '.join(wrong)}")
    most = {
        pool: max((count for count in range(1, LAYERS + 1) if {*parts_of(pool, count)} <= found.keys()), default=0)
        for pool in get_args(Pool)
    }
    told = [f"features.pool={pool} of {count} last block(s) at most" for pool, count in most.items() if count]
    return Finding(PROBES, name, "ok", "; ".join(told) + half)


def _dense(build: Callable[..., nn.Module], form: Form, smallest: int) -> Iterator[Finding]:
    usual = _DENSE_SIDE if smallest <= _DENSE_SIDE else 2 * smallest  # for halves of images are tried too
    pyramid, remark = _first_pyramid(build, form, usual)
    if pyramid is None:
        yield Finding(DENSE, "pyramid", "failed", remark)
        return
    yield Finding(DENSE, "pyramid", "ok", remark)
    side = pyramid.largest_image or usual
    for height, width in ((side, side), (side, side // 2), (side // 2 + 3, side - 5)):
        if wrong := _wrong_maps(pyramid, height, width, _device(form)):
            yield Finding(DENSE, "maps", "failed", wrong)
            return
    yield Finding(DENSE, "maps", "ok", f"strides 4, 8, 16, 32 with {', '.join(map(str, pyramid.channels))} channels")
    yield from try_network(DENSE, pyramid, torch.randn(4, 3, side, side, device=_device(form)))
    try:
        groups = backbones.adapters.parameter_groups(
            pyramid, pyramid, weight_decay=_DECAY, layer_decay=_LAYER_DECAY, no_weight_decay="one_dimensional"
        )
    except InputError as error:
        yield Finding(DENSE, "layers", "failed", str(error))
        return
    yield check_groups(DENSE, pyramid, groups, pyramid.trunk.layered)


def _first_pyramid(build: Callable[..., nn.Module], form: Form, side: int) -> tuple[Pyramid | None, str]:
    """The pyramid of the first adapter that takes it, with the settings to use; or why there is none."""
    why = ""
    for setting, options in _SETTINGS.items():
        backbone = build(for_pyramid=True)
        fixed = form.fixed_size if not callable(getattr(backbone, "set_input_size", None)) else None
        try:
            pyramid = build_pyramid(
                backbone, image_size=fixed or side, relative_position=False, channels=32, **options
            ).to(_device(form))
        except InputError as error:
            why = str(error)
            continue
        if options["adapter"] == "simple" and isinstance(pyramid.trunk, OwnTrunk):
            return (
                pyramid,
                f"from one map, by --set model.adapter=simple --set model.relative_position=false, and {_OWN}",
            )
        return pyramid, f"by {setting}, with the other settings as recipes have them"
    return None, why


def _wrong_maps(pyramid: Pyramid, height: int, width: int, device: str) -> str:
    try:
        with torch.no_grad():
            images = torch.randn(1, 3, height, width, device=device)
            maps = in_half_if_need_be(lambda: pyramid.eval()(images), device)
    except (Exception, SystemExit) as error:  # modules of other authors can fail in any way
        return f"images of {width} × {height} pixels: {in_one_line(error)}. Let forward_features take several sizes"
    expected = [(-(-height // stride), -(-width // stride)) for stride in pyramid.strides]
    found = [tuple(each.shape[2:]) for each in maps]
    return "" if found == expected else f"images of {width} × {height} pixels gave maps {found}, and not {expected}"


def _layered(network: Any) -> nn.Module:
    layered: nn.Module = getattr(network, "backbone", network)
    return layered
