"""What a file of weights says of itself, or the hub's `config.json` and others beside it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import timm

from backbones.weights import hub_files
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.deviating import DEVIATIONS

_KEYS = ("method", "pretrain_data", "model", "arch")
_SUMMARY = re.compile(r"(?:\w+ of \d+|tensor \(.*\)|not read|None|)$")
"""How other things than words are abridged (backbones/weights/checkpoints.py)."""

# transformers' `model_type`s of image encoders that one method alone has; "vit" is MAE's, DINO's and Google's alike.
_TRANSFORMERS = {
    "vit_mae": "MAE",
    "beit": "BEiT",
    "deit": "supervised",
    "vit_msn": "MSN",
    "data2vec-vision": "data2vec",
    "dinov2": "DINOv2",
    "dinov2_with_registers": "DINOv2",
    "ijepa": "I-JEPA",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
}
# timm's tags (vision_transformer.py, default_cfgs), how they begin: the method, and its data where they do not follow.
# LAION's files are open_clip's, which trains as CLIP does.
_TIMM = {
    r"mae\b|mae_": ("MAE", "IN1K"),
    r"dino\b": ("DINO", "IN1K"),
    r"lvd142m\b": ("DINOv2", "LVD-142M"),
    r"openai\b|openai_": ("CLIP", "WIT"),
    r"laion2b\b|laion2b_": ("CLIP", "LAION-2B"),
    r"laion400m\b|laion400m_": ("CLIP", "LAION-400M"),
    r"in1k_ijepa\b": ("I-JEPA", "IN1K"),
    r"in22k_ijepa\b": ("I-JEPA", "IN22K"),
    r"(augreg2?|orig)\b|(augreg2?|orig)_|fb_(in\d+k|dist)": ("supervised", None),
}
# How timm's names of architectures begin that one method alone has; BEiT v2's files for use were pre-trained on
# ImageNet-1K (microsoft/unilm, beit2/README.md:26-37).
_ARCHITECTURES = {"beit_": ("BEiT", "+DALLE"), "beitv2_": ("BEiT v2", "")}


@dataclass(frozen=True)
class Statement:
    """A method and its pre-training data in the words of whoever wrote the file; None where nothing is said.

    who:          the beginning of a sentence that ends with the method
    architecture: timm's name, of the hub's description
    model:        the tables' column, or timm's name of the architecture, that lies beside the weights
    pixels:       mean and std of each channel, as the hub's description has them, unchecked
    deviations:   where the training that made them departed from the literature's; empty where it did not, or untold
    """

    method: str | None = None
    pretrain_data: str | None = None
    who: str = "the file says of itself"
    architecture: str | None = None
    model: str | None = None
    pixels: tuple[Any, Any] | None = None
    deviations: str = ""

    def __str__(self) -> str:
        data = f" on {self.pretrain_data}" if self.pretrain_data else ""
        return f"{self.who}: {self.method or 'pre-trained'}{data}"


def read_statement(checkpoint: Checkpoint) -> Statement:
    """Return what stands beside the weights, or the hub's description.

    `method`, `pretrain_data` and `model` or `arch`, as backbench writes them and others may.
    """
    config = _beside(checkpoint, hub_files.MODEL)
    pixels = _pixels(config, _beside(checkpoint, hub_files.PIXELS)) or _open_clips_pixels(checkpoint)
    method, data, model, arch = (_words(checkpoint.extras.get(key)) for key in _KEYS)
    model, deviations = model or arch, _words(checkpoint.extras.get(DEVIATIONS)) or ""
    if method or data:
        return Statement(method, data, model=model, pixels=pixels, deviations=deviations)
    said = _from_config(config)
    return replace(said, model=model or said.architecture, pixels=pixels)


def _words(value: str | None) -> str | None:
    return None if value is None or _SUMMARY.match(value) else value


def _beside(checkpoint: Checkpoint, name: str, of: frozenset[str] = hub_files.WEIGHTS) -> Mapping[str, Any]:
    """The description of that name beside a file that is called as one `of` these; empty if none can be read."""
    if checkpoint.path.name not in of:
        return {}
    try:
        content = json.loads(checkpoint.path.with_name(name).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _from_config(config: Mapping[str, Any]) -> Statement:
    """Read transformers' or timm's config.json."""
    who = "config.json beside the file says"
    if method := _TRANSFORMERS.get(str(config.get("model_type"))):
        return Statement(method, who=who)
    architecture, tag = _architecture_and_tag(config)
    for beginning, (method, tokens) in _ARCHITECTURES.items():
        if architecture.startswith(beginning):
            return Statement(method, _trained_on(tag, tokens), who, architecture)
    method, data = next((told for beginning, told in _TIMM.items() if re.match(beginning, tag)), (None, None))
    first, _, then = tag.partition("_ft_")
    if method == "supervised":
        data = "IN21K w/ labels" if re.search(r"in2[12]k", first) else "IN1K w/ labels"
    if data:
        data += "".join(f", then {name.upper()} w/ labels" for name in re.findall(r"in\d+k", then))
    if method == "CLIP" and architecture.startswith("eva"):
        method = None  # EVA-CLIP goes on from EVA's own pre-training
    return Statement(method, data, who, architecture or None)


def statement_of_tag(architecture: str, tag: str) -> Statement:
    """What timm's name of a model says of its weights, as "vit_base_patch16_224" and "mae" do."""
    return _from_config({"architecture": architecture, "pretrained_cfg": {"tag": tag}})


def _architecture_and_tag(config: Mapping[str, Any]) -> tuple[str, str]:
    """Of timm's config.json; empty where it does not say."""
    described = config.get("pretrained_cfg")
    tag = described.get("tag") if isinstance(described, dict) else None
    return str(config.get("architecture") or ""), str(tag or "")


def _trained_on(tag: str, tokens: str) -> str | None:
    """The data of timm's tag: "in1k_ft_in22k", labels of the second after visual tokens of the first."""
    data = [name.upper() for name in re.findall(r"in\d+k", tag)]
    return ", then ".join([data[0] + tokens, *(f"{name} w/ labels" for name in data[1:])]) if data else None


def _pixels(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Mean and std: of timm's config.json, or else timm's own of that name; or of transformers' preprocessor_config."""
    described = config.get("pretrained_cfg")
    if isinstance(described, dict) and "mean" in described and "std" in described:
        return described["mean"], described["std"]
    name = ".".join(_architecture_and_tag(config))
    if timm.is_model_pretrained(name) and (known := timm.get_pretrained_cfg(name)):
        return known.mean, known.std
    if "image_mean" in preprocessor and "image_std" in preprocessor and preprocessor.get("do_normalize", True):
        return preprocessor["image_mean"], preprocessor["image_std"]
    return None


def _open_clips_pixels(checkpoint: Checkpoint) -> tuple[Any, Any] | None:
    """Mean and std of open_clip's description beside its weights."""
    described = _beside(checkpoint, hub_files.OPEN_CLIPS, hub_files.OPEN_CLIPS_WEIGHTS).get("preprocess_cfg")
    if isinstance(described, dict) and "mean" in described and "std" in described:
        return described["mean"], described["std"]
    return None
