"""What a file of weights says of itself, or the hub's `config.json` beside it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backbones.weights.checkpoints import Checkpoint

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
}
# timm's tags of plain ViTs (vision_transformer.py, default_cfgs), what stands before the first dot or underscore.
_TIMM = {
    "mae": "MAE",
    "dino": "DINO",
    "augreg": "supervised",
    "augreg2": "supervised",
    "orig": "supervised",
    "fb": "supervised",
}


@dataclass(frozen=True)
class Statement:
    """A method and its pre-training data in the words of whoever wrote the file; None where nothing is said.

    who: the beginning of a sentence that ends with the method
    """

    method: str | None = None
    pretrain_data: str | None = None
    who: str = "the file says of itself"

    def __str__(self) -> str:
        data = f" on {self.pretrain_data}" if self.pretrain_data else ""
        return f"{self.who}: {self.method or 'pre-trained'}{data}"


def read_statement(checkpoint: Checkpoint) -> Statement:
    """Return what stands beside the weights: `method` and `pretrain_data`, as backbench writes them, or config.json."""
    method, data = (_words(checkpoint.extras.get(key)) for key in ("method", "pretrain_data"))
    if method or data:
        return Statement(method, data)
    return _from_config(_config_beside(checkpoint))


def _words(value: str | None) -> str | None:
    return None if value is None or _SUMMARY.match(value) else value


def _config_beside(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The hub's description of a file that has the hub's name; empty if there is none that can be read."""
    if checkpoint.path.name not in {"model.safetensors", "pytorch_model.bin"}:
        return {}
    try:
        content = json.loads(checkpoint.path.with_name("config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _from_config(config: Mapping[str, Any]) -> Statement:
    """Read transformers' or timm's config.json."""
    who = "config.json beside the file says"
    if method := _TRANSFORMERS.get(str(config.get("model_type"))):
        return Statement(method, who=who)
    described = config.get("pretrained_cfg")
    tag = str(described.get("tag") or "") if isinstance(described, dict) else ""
    method = "BEiT" if str(config.get("architecture")).startswith("beit_") else _TIMM.get(re.split(r"[._]", tag)[0])
    if method is None:
        return Statement()
    if method != "supervised":
        return Statement(method, who=who)
    return Statement(method, "IN21K w/ labels" if re.search(r"in2[12]k", tag) else "IN1K w/ labels", who)
