"""What COCO's annotations must fulfil, and which of them cannot be trained on."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, TypeGuard

from tasks.datasets.coco.annotation_json import CocoJson
from tasks.datasets.coco.boxes import LOOKED_AT, misread_boxes
from tasks.datasets.coco.masks import Masks, examine_masks
from tasks.datasets.json_lists import is_count, is_path_below, is_text
from tasks.datasets.places import Split
from tasks.datasets.wording import counted, name_some, plural

_LARGEST_NUMBER = 1e9
"""Of pixels. Larger ones, like infinity, are mistakes."""


@dataclass
class Findings:
    """What `examine` found in one file.

    Attributes:
        problems: what makes the file unusable, each with what to do about it.
        notes: what a reader of the numbers should know.
        unusable: positions of the annotations that a model cannot learn from.
        segmentations: by position, what to use instead of the file's segmentation.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unusable: set[int] = field(default_factory=set)
    segmentations: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Field:
    name: str
    expected: str
    is_valid: Callable[[Any], bool]
    default: Any = None


def is_side(value: Any) -> TypeGuard[int]:
    """Whether `value` can be the height or width of an image."""
    return type(value) is int and 0 < value < _LARGEST_NUMBER


def _is_number(value: Any) -> bool:
    return (type(value) is float or type(value) is int) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER


def _is_area(value: Any) -> bool:
    return (type(value) is float or type(value) is int) and 0 <= value < _LARGEST_NUMBER**2


def _is_unknown_or_area(value: Any) -> bool:
    return value is None or (type(value) is float and isnan(value)) or _is_area(value)


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


_ID = "a whole number from 0 on"
_IMAGE_FIELDS = (
    _Field("id", _ID, is_count),
    _Field("file_name", "a path below the folder of images, not absolute and without ..", is_path_below),
    _Field("height", "a whole number of pixels above 0", is_side),
    _Field("width", "a whole number of pixels above 0", is_side),
)
_CATEGORY_FIELDS = (_Field("id", _ID, is_count), _Field("name", "a text", is_text))
_AREA = "the number of pixels that the object covers, which decides what counts as small, medium and large"
_AREA_FIELD = {"train": _Field("area", _AREA, _is_unknown_or_area, default=0), "val": _Field("area", _AREA, _is_area)}
"""Training makes no use of it, and not every program writes or knows it."""

_ANNOTATION_FIELDS = (
    _Field("id", _ID, is_count),
    _Field("image_id", _ID, is_count),
    _Field("category_id", _ID, is_count),
    _Field("bbox", "four finite numbers, [left, top, width, height] in pixels", _is_box),
    _Field("iscrowd", "0 or 1", lambda value: value in (0, 1), default=0),
)


def examine(file: CocoJson, split: Split, on_progress: Callable[[int, int], None] | None = None) -> Findings:
    """Hold one file's content against COCO's format; finds every kind of mistake in it, not only the first.

    `on_progress(done, total)` is called for every few thousand annotations.
    """
    found = Findings()
    for section, fields in (("image", _IMAGE_FIELDS), ("category", _CATEGORY_FIELDS)):
        _examine_fields(_entries(file, section), section, fields, found)
    _examine_fields(file.annotations, "annotation", (*_ANNOTATION_FIELDS, _AREA_FIELD[split]), found)
    for section in ("image", "annotation", "category"):
        _examine_ids(_entries(file, section), section, found)
    _examine_category_names(file, found)
    _examine_references(file, found)
    sizes = _image_sizes(file)
    masks = _examine_masks(file, sizes, found, on_progress)
    if split == "val":
        _require_masks(file, masks, found)
    _examine_boxes(file, masks, found)
    _note_unusable(file, split, _find_unusable(file, sizes, masks), found)
    _require_objects(file, split, found)
    _note_unused_categories(file, split, found)
    return found


def _entries(file: CocoJson, section: str) -> list[dict[str, Any]]:
    return {"image": file.images, "annotation": file.annotations, "category": file.categories}[section]


def _examine_fields(entries: Sequence[dict[str, Any]], section: str, fields: Sequence[_Field], found: Findings) -> None:
    if not entries:
        remedy = {
            "image": "Is it the right file?",
            "annotation": "Files of COCO's test images have none; training and scoring take instances_*.json.",
            "category": "List each as an object with id and name.",
        }
        found.problems.append(f"no {plural(section)}: the list is empty. {remedy[section]}")
    for part in fields:
        wrong = [
            position for position, entry in enumerate(entries) if not part.is_valid(entry.get(part.name, part.default))
        ]
        if wrong:
            cases = (
                f"{_name_entry(entries, section, position)} {_show(entries[position], part.name)}" for position in wrong
            )
            found.problems.append(
                f'{counted(len(wrong), section, plural(section))} without a usable "{part.name}" (expected '
                f"{part.expected}): {name_some(cases, len(wrong))}. Correct or remove what is wrong."
            )


def _name_entry(entries: Sequence[dict[str, Any]], section: str, position: int) -> str:
    identity = entries[position].get("id")
    return f"{section} {identity}" if is_count(identity) else f"{plural(section)}[{position}]"


def _show(entry: dict[str, Any], key: str) -> str:
    return f"has {json.dumps(entry[key])[:60]}" if key in entry else "has none"


def _examine_ids(entries: Sequence[dict[str, Any]], section: str, found: Findings) -> None:
    times = Counter(entry["id"] for entry in entries if is_count(entry.get("id")))
    repeated = [identity for identity, count in times.items() if count > 1]
    if repeated:
        found.problems.append(
            f"{counted(len(repeated), f'{section} id')} used more than once: {name_some(repeated, len(repeated))}. "
            f"Give each {section} an id of its own."
        )


def _examine_category_names(file: CocoJson, found: Findings) -> None:
    times = Counter(entry["name"] for entry in file.categories if is_text(entry.get("name")))
    repeated = [name for name, count in times.items() if count > 1]
    if repeated:
        found.problems.append(
            f"{counted(len(repeated), 'category name')} used more than once: {name_some(repeated, len(repeated))}. "
            "Rename or merge these categories."
        )


def _examine_references(file: CocoJson, found: Findings) -> None:
    for key, section, remedy in (
        ("image_id", "image", "Add the images, or remove these annotations"),
        ("category_id", "category", "Add the categories, or remove these annotations"),
    ):
        known = {entry.get("id") for entry in _entries(file, section) if is_count(entry.get("id"))}
        lost = [
            position
            for position, entry in enumerate(file.annotations)
            if is_count(entry.get(key)) and entry[key] not in known
        ]
        if lost:
            cases = (
                f"{_name_entry(file.annotations, 'annotation', position)} ({key} {file.annotations[position][key]})"
                for position in lost
            )
            found.problems.append(
                f"{counted(len(lost), 'annotation')} of {plural(section)} that the file doesn't list: "
                f"{name_some(cases, len(lost))}. {remedy}."
            )


def _image_sizes(file: CocoJson) -> list[tuple[int, int] | None]:
    """The (height, width) of each annotation's image; None where the file doesn't tell."""
    sizes = {
        entry["id"]: (entry["height"], entry["width"])
        for entry in file.images
        if is_count(entry.get("id")) and is_side(entry.get("height")) and is_side(entry.get("width"))
    }
    return [sizes.get(entry["image_id"]) if is_count(entry.get("image_id")) else None for entry in file.annotations]


def _examine_masks(
    file: CocoJson,
    sizes: Sequence[tuple[int, int] | None],
    found: Findings,
    on_progress: Callable[[int, int], None] | None,
) -> Masks:
    masks = Masks()
    segmentations = [entry.get("segmentation") for entry in file.annotations]
    for done, part in examine_masks(segmentations, sizes):
        masks.wrong |= part.wrong
        masks.absent |= part.absent
        masks.empty |= part.empty
        masks.replaced |= part.replaced
        if on_progress is not None:
            on_progress(done, len(segmentations))
    if masks.wrong:
        cases = (
            f"{_name_entry(file.annotations, 'annotation', position)}: {why}" for position, why in masks.wrong.items()
        )
        found.problems.append(
            f"{counted(len(masks.wrong), 'annotation')} with a segmentation in none of COCO's forms: "
            f"{name_some(cases, len(masks.wrong))}. Write polygons, or run lengths as pycocotools does."
        )
    found.segmentations = masks.replaced
    return masks


def _examine_boxes(file: CocoJson, masks: Masks, found: Findings) -> None:
    """Whether boxes lie where their masks do. A crowd's mask may be anything in its box."""
    unsuited = masks.wrong.keys() | masks.absent | masks.empty
    told = [
        position
        for position, entry in enumerate(file.annotations)
        if position not in unsuited and not entry.get("iscrowd") and _is_box(entry.get("bbox"))
    ]
    told = told[:: max(1, len(told) // LOOKED_AT)]
    segmentations = [masks.replaced.get(position, file.annotations[position]["segmentation"]) for position in told]
    found.problems += misread_boxes([file.annotations[position]["bbox"] for position in told], segmentations)


def _require_masks(file: CocoJson, masks: Masks, found: Findings) -> None:
    """hotcoco scores masks against the box where there is no segmentation; pycocotools fails."""
    if masks.absent:
        cases = (_name_entry(file.annotations, "annotation", position) for position in sorted(masks.absent))
        found.problems.append(
            f'{counted(len(masks.absent), "annotation")} with no segmentation (the key "segmentation" is missing or '
            f"null), against which no mask can be scored: {name_some(cases, len(masks.absent))}. Add polygons or run "
            "lengths, or remove these annotations."
        )


def _find_unusable(file: CocoJson, sizes: Sequence[tuple[int, int] | None], masks: Masks) -> dict[str, list[int]]:
    """Positions of the annotations that are of sound form and yet show nothing, each under its first reason."""
    flat: list[int] = []
    outside: list[int] = []
    absent: list[int] = []
    empty: list[int] = []
    for position, (entry, size) in enumerate(zip(file.annotations, sizes, strict=True)):
        box = entry.get("bbox")
        left, top, width, height = box if box is not None and _is_box(box) else (0, 0, 1, 1)
        if width <= 0 or height <= 0:
            flat.append(position)
        elif size and (left >= size[1] or top >= size[0] or left + width <= 0 or top + height <= 0):
            outside.append(position)
        elif position in masks.absent:
            absent.append(position)
        elif position in masks.empty:
            empty.append(position)
    return {
        "a box without width or height": flat,
        "a box wholly outside its image": outside,
        "no segmentation": absent,
        "a mask that covers nothing": empty,
    }


def _note_unusable(file: CocoJson, split: Split, reasons: dict[str, list[int]], found: Findings) -> None:
    fate = (
        "left out of training" if split == "train" else "kept in the ground truth, which is scored as the file has it"
    )
    for reason, positions in reasons.items():
        found.unusable.update(positions)
        if positions:
            ids = (file.annotations[position].get("id") for position in positions)
            found.notes.append(
                f"{counted(len(positions), f'{split} annotation')} with {reason}: {fate} "
                f"(ids {name_some(ids, len(positions))})."
            )


def _require_objects(file: CocoJson, split: Split, found: Findings) -> None:
    """Something has to be left to learn from, or to find, after crowds and what shows nothing."""
    unusable = found.unusable if split == "train" else set()
    crowds = {position for position, entry in enumerate(file.annotations) if entry.get("iscrowd") == 1} - unusable
    if not file.annotations or len(unusable) + len(crowds) < len(file.annotations):
        return
    reasons = found.notes if unusable else []
    if crowds:
        reasons = [*reasons, f'{counted(len(crowds), f"{split} annotation")} of crowds ("iscrowd": 1).']
    need = {
        "train": "trained on: {}. Mask R-CNN learns single objects; each needs a box and a mask.",
        "val": "scored: {}. Average precision counts single objects.",
    }[split]
    found.problems.append(f"no annotation can be {need.format(' '.join(reasons).removesuffix('.'))}")


def _note_unused_categories(file: CocoJson, split: Split, found: Findings) -> None:
    used = {entry["category_id"] for entry in file.annotations if is_count(entry.get("category_id"))}
    unused = [
        entry.get("name") for entry in file.categories if not is_count(entry.get("id")) or entry["id"] not in used
    ]
    if unused and file.annotations:
        consequence = "" if split == "train" else "; the mean over categories leaves them out"
        found.notes.append(
            f"no {split} annotation of {len(unused):,} of {counted(len(file.categories), 'category', 'categories')}"
            f"{consequence}: {name_some(unused, len(unused))}."
        )
