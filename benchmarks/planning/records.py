"""The records in a store, those of earlier versions completed by what today's runs write themselves."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from backbones.images.normalisation import IMAGENET
from backbones.training.later import without_neutral
from backbones.training.settings import protocol
from results import Record, ResultsError, find_records
from results.garbage_collection import garbage_collection_paused
from results.record import Outline
from tasks.data_sets import pretraining_name, published_evaluation_images
from tasks.registry import RECIPES, TASKS

_NO_WEIGHT_DECAY = {"norms": "norms_and_positions", "vectors": "one_dimensional", "nothing": "nothing"}
"""By its value, what the setting optimizer.spare is today as optimizer.no_weight_decay."""

_PIXELS = {"mean": None, "std": None}
UNTIL_THEN: dict[str, dict[str, dict[str, Any]]] = {
    "classification": {"model": _PIXELS, "inference": {"crop_ratio": None}},
    "detection": {"model": {**_PIXELS, "patch_resampling": "pseudo_inverse", "position_embeddings": "loaded"}},
    "segmentation": {"model": {**_PIXELS, "adapter": "fpn", "patch_resampling": "pseudo_inverse"}},
    "pretraining": {"model": _PIXELS, "augment": {"crop_tries": 1}},
}
"""By task, the neutral values of settings that protocols held before such ones left them alone. The list is closed:
what is added to a recipe is declared with `backbones.training.later.Later`, and no protocol holds its neutral value."""

_OWN = re.compile(r"(model\.(?:mean|std)=.* \(reference )None\)")
"""What earlier versions said of a normalisation that takes the place of the backbone's."""

_SPARE = re.compile(r"optimizer\.spare=(\w+) \(reference (\w+)\)")


def load_records(
    roots: Iterable[Path], on_unreadable: Callable[[ResultsError], None] | None = None
) -> list[tuple[Path, Record]]:
    """Every finished run below the given directories, as `results.find_records` has them, each record completed.

    Without the percentages of classes, for tables and comparisons. Raises ResultsError as that does.
    """
    with garbage_collection_paused():
        return [(directory, complete(record)) for directory, record in find_records(roots, on_unreadable, Outline)]


def complete(record: Record) -> Record:
    """Give a record of an earlier version its table, its protocol, the paper's name of its pre-training data, and the
    normalisation that all had then, ImageNet's.

    And how many images there are to evaluate on, if its data set goes by a known name: earlier versions gave those to
    parts of a data set too. What was fine-tuned on images of one's own once stood in ImageNet's table.
    A protocol loses the settings that came later and have their neutral value. A record that has all that, or can have
    none, stays.
    """
    missing: dict[str, Any] = {}
    if (deviations := [_OWN.sub(r"\1the backbone's own)", text) for text in record.deviations]) != record.deviations:
        missing["deviations"] = deviations
    if record.task in TASKS and record.table != (table := TASKS[record.task].table_of(record.dataset)):
        missing["table"] = table
    if record.task in TASKS and record.evaluation_images is None:
        images = published_evaluation_images(record.dataset)
        missing |= {"evaluation_images": images} if images else {}
    if record.pretrain_data != pretraining_name(record.pretrain_data):
        missing["pretrain_data"] = pretraining_name(record.pretrain_data)
    if record.task in RECIPES and not record.normalisation:
        missing["normalisation"] = IMAGENET.as_dict()
    if record.recipe_settings and not record.protocol:
        settings = renamed(record.recipe_settings)
        deciding = without_neutral(settings, UNTIL_THEN.get(record.task, {}))
        missing |= {"recipe_settings": settings, "protocol": protocol(deciding)}
        missing["deviations"] = [_SPARE.sub(_as_no_weight_decay, text) for text in record.deviations]
    elif record.protocol:
        neutral = protocol(UNTIL_THEN.get(record.task, {})).items()
        lean = {name: value for name, value in record.protocol.items() if (name, value) not in neutral}
        missing |= {"protocol": lean} if lean != record.protocol else {}
    return record.model_copy(update=missing) if missing else record


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe of whatever version under today's names."""
    optimizer = settings.get("optimizer")
    if not isinstance(optimizer, Mapping) or "spare" not in optimizer:
        return dict(settings)
    others = {name: value for name, value in optimizer.items() if name != "spare"}
    spare = optimizer["spare"]
    return {**settings, "optimizer": others | {"no_weight_decay": _NO_WEIGHT_DECAY.get(spare, spare)}}


def _as_no_weight_decay(deviation: re.Match[str]) -> str:
    value, reference = (_NO_WEIGHT_DECAY.get(name, name) for name in deviation.groups())
    return f"optimizer.no_weight_decay={value} (reference {reference})"
