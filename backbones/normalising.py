"""How a backbone's pixels are normalised: as its weights were trained, whoever says how."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import timm

from backbones.entries import BackboneEntry
from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.contradictions import GOOGLES_CLASSES
from backbones.weights.methods import METHODS, simplified, spell_method
from backbones.weights.origin import Declared, choose_names, find_known
from backbones.weights.prefixes import looks_of
from backbones.weights.recognition import Recognised
from backbones.weights.statements import Statement, read_statement

_LABEL_MAPS = ("segmentation", "dense_probing")
"""The tasks on ADE20K, for which BEiT's code has a normalisation of its own."""


def normalisation_of(
    entry: BackboneEntry,
    checkpoint: Checkpoint | None = None,
    task: str = "",
    override: Normalisation | None = None,
    declared: Declared | None = None,
    *,
    spell: Callable[[str], str] = str,
) -> Normalisation:
    """How a backbone's pixels are normalised in a task, such as "classification", "detection" or "segmentation".

    The first that there is: what the recipe insists on (`override`), what the checkpoint says of itself, what the hub's
    or open_clip's description beside it says (but of BEiT on ADE20K), what the backbone's author registered, the
    method's as its code has it, timm's `pretrained_cfg` of a timm model (a tag in its name counts), ImageNet's. The
    method is the one that is `declared` or registered; that of a file under timm's name the one that it states, is
    published as, or is recognised by; where the name has a tag, only BEiT is: some of LAION's have 0.5, unlike CLIP. A
    declared one that is not known here, or whose files differ, leaves it to the registered one: the name of a row
    decides no number. Files that are known by their bytes have their own. `spell` gives the tables' name of a data set.

    Raises InputError for a tag that timm does not know.
    """
    if override:
        return override
    if checkpoint and (stated := _stated_in(checkpoint.extras)):
        return stated
    statement = read_statement(checkpoint) if checkpoint else Statement()
    recognised = looks_of(checkpoint) if checkpoint else Recognised()
    known = find_known(checkpoint) if checkpoint else None
    if timm.is_model(entry.name):  # whatever its tag says of the method, timm's own normalisation goes with it
        entry = replace(entry, method=METHODS["custom"].name)
        if "." in entry.name and recognised.method != "BEiT":  # whose code has others on ADE20K
            recognised = replace(recognised, method=None, positions=None)
    declared = declared or Declared()
    if declared.method and spell_method(declared.method) not in METHODS:
        declared = replace(declared, method=None)
    names = choose_names(entry, declared, statement, None, recognised, spell)
    method, data = names.method, names.pretrain_data
    if known:
        method, data = known.method, known.pretrain_data
    elif method == METHODS["custom"].name:
        method = recognised.likely_method or method
    of_method = _of_method(method, data, task, recognised.classes)
    if of_method is None and not known and entry.method != METHODS["custom"].name:
        of_method = _of_method(entry.method, declared.pretrain_data or entry.pretrain_data, task, recognised.classes)
    is_beits_own = method == "BEiT" and task in _LABEL_MAPS
    of_hub = _valid(*statement.pixels) if statement.pixels and not is_beits_own else None
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

    BEiT has 0.5 unless it was pre-trained on ImageNet-1K (microsoft/unilm, beit/README.md:119), and on ADE20K
    ImageNet's whatever it was pre-trained on (beit/semantic_segmentation/configs/_base_/datasets/ade20k.py:5). A head
    of as many `classes` as Google counts in ImageNet-21K is that of weights with 0.5: all of timm's are.
    """
    if method == "BEiT":
        if task in _LABEL_MAPS or simplified(pretrain_data).startswith("in1k"):
            return IMAGENET
        return None if pretrain_data == METHODS["custom"].pretrain_data else HALF
    if method in ("supervised", METHODS["custom"].name) and classes == GOOGLES_CLASSES:
        return HALF
    known = METHODS.get(method)
    return known.normalisation if known else None


def _of_timm(name: str) -> Normalisation | None:
    """timm's for a model of its own, None for any other or where timm has none."""
    if not timm.is_model(name):
        return None
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(f"backbone {name}: {error}") from error
    return Normalisation.of(config.mean, config.std) if config else None
