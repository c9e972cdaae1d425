"""The one door for backbones: by a registered name, any timm model name, or `package.module:function`."""

import difflib
import json
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import timm
from torch import nn

from backbones.architectures import build_timm_model
from backbones.contract import require_backbone
from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from backbones.names import SIZES
from backbones.plugins import describe_error, import_function, load_plugins
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.contradictions import GOOGLES_CLASSES
from backbones.weights.loading import load_weights
from backbones.weights.methods import ANY_NAMING, METHODS, Method, simplified
from backbones.weights.naming import Step
from backbones.weights.origin import Declared, choose_names, find_known
from backbones.weights.prefixes import looks_of
from backbones.weights.recognition import Recognised
from backbones.weights.statements import Statement, read_statement

Build = Callable[[int | None, float], nn.Module]


@dataclass(frozen=True)
class BackboneEntry:
    """What is known of a backbone before it is built.

    name:             as on the command line, "mae_vit_base"
    method:           as the tables print it, "MAE"
    pretrain_data:    as the tables print it, "IN1K"
    model:            the tables' column, "ViT-B"
    arch:             timm's name, "vit_base_patch16_224", or the name itself for code from elsewhere
    build:            (image_size, drop_path) -> the model without a head, its weights random unless they come with it
    steps:            how checkpoints of the method are read
    needs_checkpoint: None if either will do
    normalisation:    as its author states it; None where `normalisation_of` has to know
    """

    name: str
    method: str
    pretrain_data: str
    model: str
    arch: str
    build: Build
    steps: tuple[Step, ...] = ANY_NAMING
    needs_checkpoint: bool | None = True
    normalisation: Normalisation | None = None


_entries: dict[str, BackboneEntry] = {}


def register_backbone(
    name: str,
    *,
    method: str | Method,
    model: str,
    pretrain_data: str | None = None,
    arch: str | None = None,
    needs_checkpoint: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Callable[[Build], Build]:
    """Register, as a decorator, a function (image_size, drop_path) -> nn.Module as the backbone of that name.

    method is the name of one in METHODS or a new one, whose files are then read by any naming known here; or a Method
    of your own. pretrain_data defaults to the method's. With needs_checkpoint=False the function brings the weights.
    mean and std are those of its pixels, of red, green and blue between 0 and 1; by default the method's, ImageNet's
    where that is not known here.

    Raises InputError if the name is taken, by another backbone or by timm, or mean and std cannot be meant.
    """
    if name in _entries or timm.is_model(name):
        raise InputError(f"backbone {name}: the name is taken. Register it under another.")
    if isinstance(method, str):
        method = METHODS.get(method, Method(method, "unstated", ANY_NAMING))
    data = pretrain_data if pretrain_data is not None else method.pretrain_data
    steps, method_name = method.steps, method.name
    try:
        normalisation = Normalisation.of(mean, std)
    except InputError as error:
        raise InputError(f"backbone {name}: {error}") from None

    def register(build: Build) -> Build:
        _entries[name] = BackboneEntry(
            name, method_name, data, model, arch or name, build, steps, needs_checkpoint, normalisation
        )
        return build

    return register


def list_backbones() -> list[BackboneEntry]:
    """Return the registered backbones, plug-ins included, in order of registration.

    Warns of each plug-in that cannot be loaded. Every timm model name is a backbone as well; `timm.list_models()`
    lists those.
    """
    for failure in load_plugins():
        warnings.warn(failure, stacklevel=2)
    return list(_entries.values())


def find_backbone(name: str, with_checkpoint: bool = False) -> BackboneEntry:
    """Return what is known of a backbone. A timm model is "random", or "custom" with a checkpoint.

    Raises InputError for an unknown name, with the nearest known ones and the plug-ins that could not be loaded.
    """
    if name in _entries:
        return _entries[name]
    if ":" in name:
        return _foreign_entry(name)
    if timm.is_model(name):
        return _timm_entry(name, METHODS["custom" if with_checkpoint else "random"])
    failures = load_plugins()
    if name in _entries:
        return _entries[name]
    if timm.is_model(name):
        return _timm_entry(name, METHODS["custom" if with_checkpoint else "random"])
    raise InputError(_unknown(name, failures))


def create_backbone(
    name: str,
    checkpoint: str | Path | Checkpoint | None = None,
    image_size: int | None = None,
    drop_path: float = 0.0,
    for_pyramid: bool = False,
) -> nn.Module:
    """Build a backbone and load its weights, strictly.

    name:       see `list_backbones`; any timm model name; or "package.module:function", where the function takes
                (image_size, drop_path) and returns a module as `backbones.contract` has it
    checkpoint: the file or folder with its weights, "FILE::PART" for a part of it, or one already read
    image_size: side in pixels, for models that are built for one; position embeddings are interpolated to it
    drop_path:  rate in [0, 1)
    for_pyramid: whether `build_pyramid` follows: files whose patch filters have the size that it would bring them to,
                such as 16 pixels for ViT-H/14, are then taken as well

    Returns the model in training mode, without a classifier. Its `load_report` says what became of every weight
    (LoadReport), or is None if there was no checkpoint. Raises InputError for whatever does not fit. What the
    features of another author's module are, the tasks find out, and say what to mend.
    """
    entry = find_backbone(name, with_checkpoint=checkpoint is not None)
    require_checkpoint(entry, checkpoint is not None)
    model = build_backbone(entry, image_size, drop_path)
    report = None
    if checkpoint is not None:
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = read_checkpoint(checkpoint)
        report = load_weights(model, checkpoint, Method(entry.method, entry.pretrain_data, entry.steps), for_pyramid)
    model.load_report = report  # type: ignore[assignment]
    return model


def require_checkpoint(entry: BackboneEntry, given: bool) -> None:
    """Raise InputError if a backbone needs a checkpoint and none is given, or the reverse."""
    name = entry.name
    if not given and entry.needs_checkpoint:
        raise InputError(f"{name} needs its checkpoint: --backbone {name}=FILE")
    if given and entry.needs_checkpoint is False:
        raise InputError(
            f"{name} takes no checkpoint: its weights are {entry.method}. "
            f"Use the name of the method that made the file, or timm's: --backbone {entry.arch}=FILE"
        )


def normalisation_of(
    entry: BackboneEntry,
    checkpoint: Checkpoint | None = None,
    task: str = "",
    override: Normalisation | None = None,
    declared: Declared | None = None,
    *,
    spell: Callable[[str], str] = str,
) -> Normalisation:
    """How a backbone's pixels are normalised in a task, "classification", "detection" or "segmentation".

    The first that there is: what the recipe insists on (`override`), what the checkpoint says of itself, what the hub's
    description beside it says (but of BEiT on ADE20K), what the backbone's author registered, the method's as its code
    has it, timm's `pretrained_cfg` of a timm model (a tag in its name counts), ImageNet's. The method is the one that
    is `declared` or registered; that of a file under timm's name the one that it states, is published as, or is
    recognised by. Files that are known by their bytes have their own. `spell` gives the tables' name of a data set.

    Raises InputError for a tag that timm does not know.
    """
    if override:
        return override
    if checkpoint and (stated := _stated_in(checkpoint.extras)):
        return stated
    statement = read_statement(checkpoint) if checkpoint else Statement()
    recognised = looks_of(checkpoint) if checkpoint else Recognised()
    known = find_known(checkpoint) if checkpoint else None
    names = choose_names(entry, declared or Declared(), statement, None, recognised, spell)
    method, data = names.method, names.pretrain_data
    if known:
        method, data = known.method, known.pretrain_data
    elif method == METHODS["custom"].name:
        method = recognised.likely_method or method
    of_method = _of_method(method, data, task, recognised.classes)
    of_hub = _valid(*statement.pixels) if statement.pixels and (method, task) != ("BEiT", "segmentation") else None
    if stated := of_hub or entry.normalisation or of_method:
        return stated
    return (None if known else _of_timm(entry.name)) or IMAGENET


def _stated_in(extras: Mapping[str, str]) -> Normalisation | None:
    """The mean and std that lie beside the weights, as `backbench pretrain` leaves them; None for anything else."""
    try:
        return _valid(json.loads(extras["mean"]), json.loads(extras["std"]))
    except (KeyError, TypeError, ValueError):
        return None


def _valid(mean: Any, std: Any) -> Normalisation | None:
    """The normalisation of what others call mean and std; None where that is something else."""
    try:
        return Normalisation.of(mean, std)
    except (TypeError, ValueError):
        return None


def _of_method(method: str, pretrain_data: str, task: str, classes: int | None) -> Normalisation | None:
    """What a method's released code pre-trains and fine-tunes with; None for a method that is not known for one.

    Of facebookresearch: mae, main_pretrain.py:127 and util/datasets.py:31-32; moco-v3, main_moco.py:258; deit,
    datasets.py:108; dino, main_dino.py:431. BEiT has 0.5 unless it was pre-trained on ImageNet-1K
    (microsoft/unilm, beit/README.md:119), and on ADE20K ImageNet's whatever it was pre-trained on
    (beit/semantic_segmentation/configs/_base_/datasets/ade20k.py:5). BEiT v2 was pre-trained on ImageNet-1K under
    ImageNet's (beit2/README.md:26; timm's `pretrained_cfg`). A head of as many `classes` as Google counts in
    ImageNet-21K is that of weights with 0.5: all of timm's are.
    """
    if method == "BEiT":
        if task == "segmentation" or simplified(pretrain_data).startswith("in1k"):
            return IMAGENET
        return None if pretrain_data == METHODS["custom"].pretrain_data else HALF
    if method in ("supervised", METHODS["custom"].name) and classes == GOOGLES_CLASSES:
        return HALF
    return IMAGENET if method in ("MAE", "MoCo v3", "DeiT", "DINO", "BEiT v2") else None


def _of_timm(name: str) -> Normalisation | None:
    """timm's for a model of its own, None for any other or where timm has none."""
    if not timm.is_model(name):
        return None
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(f"backbone {name}: {error}") from error
    return Normalisation.of(config.mean, config.std) if config else None


def build_backbone(entry: BackboneEntry, image_size: int | None, drop_path: float) -> nn.Module:
    """Build what an entry describes, without loading anything. Raises InputError if its author's function fails."""
    try:
        model = entry.build(image_size, drop_path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the function may be another author's
        raise InputError(f"backbone {entry.name}: building it failed with {describe_error(error)}") from error
    return require_backbone(model, entry.name)


@cache
def _timm_build(arch: str, **options: Hashable) -> Build:
    """Return one and the same function for one architecture: whoever caches what it builds, builds it once."""

    def build(image_size: int | None, drop_path: float) -> nn.Module:
        return build_timm_model(arch, image_size, drop_path, **options)

    return build


def _timm_entry(arch: str, method: Method) -> BackboneEntry:
    build, column = _timm_build(arch), _columns().get(arch.partition(".")[0], arch)
    return BackboneEntry(arch, method.name, method.pretrain_data, column, arch, build, method.steps, None)


def _columns() -> dict[str, str]:
    """The table's column of each timm architecture that a registered backbone has; any other is its own column."""
    return {entry.arch: entry.model for entry in _entries.values()}


def _foreign_entry(name: str) -> BackboneEntry:
    """Describe `package.module:function`, whose weights may come with it."""
    method = METHODS["custom"]
    build = import_function(name)
    return BackboneEntry(name, method.name, method.pretrain_data, name, name, build, method.steps, None)


def _unknown(name: str, failures: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name, [*_entries, *timm.list_models()], n=4, cutoff=0.5)
    lines = [
        f"backbone {name}: no such name."
        + (f" Did you mean {', '.join(nearest)}?" if nearest else "")
        + " `backbench list backbones` lists them; every timm model name and package.module:function work too.",
        *failures,
    ]
    return "\n".join(lines)


def _register_published(prefix: str, sizes: Sequence[str], method: Method, **options: Hashable) -> None:
    """Register sizes of a method as PREFIX_SIZE."""
    for size in sizes:
        arch, model = SIZES[prefix][size]
        name, build = f"{prefix}_{size}", _timm_build(arch, **options)
        _entries[name] = BackboneEntry(
            name, method.name, method.pretrain_data, model, arch, build, method.steps, method.name != "random"
        )


_register_published("mae", [*SIZES["mae"]], METHODS["MAE"])
_register_published("supervised", [*SIZES["supervised"]], METHODS["supervised"])
_register_published("mocov3", ["vit_base", "vit_large"], METHODS["MoCo v3"])
# MoCo v3's ViT-S has 12 heads, timm's 6 (facebookresearch/moco-v3, vits.py).
_register_published("mocov3", ["vit_small"], METHODS["MoCo v3"], num_heads=12)
# BEiT's pre-trained files have the norm over tokens, which timm's BEiT has with this pooling only.
_register_published("beit", ["vit_base", "vit_large"], METHODS["BEiT"], global_pool="token")
# The authors' file of ImageNet-1K has position embeddings, no relative positions and no layer scale (microsoft/unilm,
# beit/README.md:190).
_register_published(
    "beit",
    ["vit_base_in1k"],
    replace(METHODS["BEiT"], pretrain_data="IN1K+DALLE"),
    global_pool="token",
    use_abs_pos_emb=True,
    use_rel_pos_bias=False,
    init_values=0.0,
)
_register_published("random", [*SIZES["random"]], METHODS["random"])
