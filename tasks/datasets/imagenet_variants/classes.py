"""The 1,000 classes of ImageNet's classifiers: their WordNet ids in the order of the outputs, as timm.data has them."""

import json
import pkgutil
from functools import cache


@cache
def imagenet_classes() -> tuple[str, ...]:
    """All of them, sorted, as ImageNet's folders are."""
    return tuple(_read("imagenet_synsets.txt").split())


@cache
def classes_of_subset(letter: str) -> tuple[str, ...]:
    """The 200 of ImageNet-A ("a") or ImageNet-R ("r"), sorted."""
    return tuple(_read(f"imagenet_{letter}_synsets.txt").split())


def reassessed_labels() -> list[list[int]]:
    """What google-research/reassessed-imagenet has in real.json, of which timm holds a copy."""
    labels: list[list[int]] = json.loads(_read("imagenet_real_labels.json"))
    return labels


def _read(name: str) -> str:
    content = pkgutil.get_data("timm.data", f"_info/{name}")
    assert content is not None
    return content.decode()
