"""Read one of iNaturalist's lists of labelled images, and say all that is wrong in it.

They have COCO's form: `images` with id and file_name, `annotations` with image_id and category_id, `categories` with id
and name. The species of an image is its annotation's category_id, and nothing else says it: not its folder, whose name
is the category's in some years and a number in others, and not a position in a list.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.errors import DataError
from results.garbage_collection import garbage_collection_paused
from tasks.datasets.json_lists import (
    Form,
    is_count,
    is_path_below,
    is_text,
    parse_json,
    read_bytes,
    require_object,
    take_list,
)
from tasks.datasets.wording import counted, name_some

_FORM = Form(
    "a list of labelled images as iNaturalist's are",
    "Expected an object with the lists images (id, file_name), annotations (image_id, category_id) and categories "
    "(id, name); the lists of test images have no labels.",
)
_CATEGORIES = Form(
    "iNaturalist's names of categories", "Expected a list of objects with id and name, as in categories.json."
)
_KEYS = frozenset({"images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name"})


@dataclass
class SpeciesList:
    """What one file lists.

    Attributes:
        path: the file.
        categories: the names by category_id, as they stand there.
        names: the images' paths below the data set's folder, with / between folders, in the file's order.
        category_ids: the species of each.
        faults: what makes it unusable, each with the file and what to do.
        flaws: what is wrong but can be trained on.
        notes: what a reader of the numbers should know.
    """

    path: Path
    categories: dict[int, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tell(self, items: Sequence[Any], singular: str, plural: str, what: str, advice: str) -> None:
        """Add a fault with these items, if there are any."""
        if items:
            some = name_some(items, len(items))
            self.faults.append(f"{self.path}: {counted(len(items), singular, plural)} {what}: {some}. {advice}".strip())


def read_species_list(path: Path) -> SpeciesList:
    """Read a file such as train2018.json.

    Raises DataError if it is missing, empty, cut short or no JSON, saying where, or if it lacks one of the lists.
    """
    found = SpeciesList(path)
    with garbage_collection_paused():
        content = require_object(path, parse_json(path, read_bytes(path), _FORM, _KEYS), _FORM)
        images, annotations, categories = (
            take_list(path, content, name, _FORM) for name in ("images", "annotations", "categories")
        )
        found.categories = _names_by_id(found, categories)
        names = _examine_images(found, images)
        _examine_annotations(found, annotations, names)
    return found


def read_category_names(path: Path) -> dict[int, str]:
    """The names by category_id in a file such as categories.json, which was released after the lists.

    Raises DataError for a file that is broken or has no name for some id, or two.
    """
    content = parse_json(path, read_bytes(path), _CATEGORIES, _KEYS)
    whole = content if isinstance(content, dict) else {"categories": content}
    found = SpeciesList(path)
    names = _names_by_id(found, take_list(path, whole, "categories", _CATEGORIES))
    if found.faults:
        raise DataError(" ".join(found.faults))
    return names


def _names_by_id(found: SpeciesList, categories: Sequence[dict[str, Any]]) -> dict[int, str]:
    names: dict[int, str] = {}
    unusable, repeated = [], []
    for position, entry in enumerate(categories):
        identity, name = entry.get("id"), entry.get("name")
        if not is_count(identity) or not is_text(name):
            unusable.append(f"categories[{position}]")
        elif identity in names:
            repeated.append(identity)
        else:
            names[identity] = name.strip()
    found.tell(unusable, "category", "categories", "without a usable id and name", "An id is a whole number from 0 on.")
    found.tell(repeated, "category", "categories", "whose id another has", "Give each its own id.")
    return names


def _examine_images(found: SpeciesList, images: Iterable[dict[str, Any]]) -> dict[int, str | None]:
    """The images' names by their ids; None for one without a usable name."""
    names: dict[int, str | None] = {}
    unusable, unnamed, repeated, rewritten = [], [], [], 0
    for position, entry in enumerate(images):
        identity, name = entry.get("id"), entry.get("file_name")
        if not is_count(identity):
            unusable.append(f"images[{position}]")
        elif identity in names:
            repeated.append(identity)
        elif not is_path_below(name) or not (clean := _with_plain_slashes(name)):
            unnamed.append(f"images[{position}]")
            names[identity] = None
        else:
            names[identity] = clean
            rewritten += clean != name
    found.tell(unusable, "image", "images", "without a usable id", "An id is a whole number from 0 on.")
    found.tell(repeated, "image", "images", "whose id another has", "Give each its own id.")
    advice = "Expected a path below the data set's folder, not absolute and without .. in it."
    found.tell(unnamed, "image", "images", 'without a usable "file_name"', advice)
    if rewritten:
        found.notes.append(
            f"{found.path.name}: {counted(rewritten, 'file_name')} with backslashes, ./, // or line ends, read "
            "as paths with / between folders."
        )
    return names


def _with_plain_slashes(name: str) -> str:
    """The path with one / between folders, and no folder called `.`."""
    clean = name.strip().replace("\\", "/")
    if "//" in clean or "./" in clean:
        clean = "/".join(part for part in clean.split("/") if part not in ("", "."))
    return clean


def _examine_annotations(
    found: SpeciesList, annotations: Iterable[dict[str, Any]], names: dict[int, str | None]
) -> None:
    """Fill in the names and category_ids of all images that have both."""
    labels: dict[int, int] = {}
    unusable, unknown_images, unknown_categories, contradicted, repeated = [], [], [], [], 0
    for position, entry in enumerate(annotations):
        image, category = entry.get("image_id"), entry.get("category_id")
        if not is_count(image) or not is_count(category):
            unusable.append(f"annotations[{position}]")
        elif image not in names:
            unknown_images.append(image)
        elif category not in found.categories:
            unknown_categories.append(category)
            labels.setdefault(image, -1)
        elif labels.setdefault(image, category) != category:
            contradicted.append(image)
        else:
            repeated += 1
    kinds = ("annotation", "annotations")
    found.tell(unusable, *kinds, "without a usable image_id and category_id", "Both are whole numbers from 0 on.")
    found.tell(unknown_images, *kinds, "of an image_id that no image has", "Is the file put together from others?")
    found.tell(unknown_categories, *kinds, "of a category_id that no category has", "Is the list categories whole?")
    found.tell(contradicted, "image", "images", "with two annotations of different categories", "Keep the right one.")
    repeated -= sum(1 for label in labels.values() if label >= 0)
    if repeated:
        found.flaws.append(f"{found.path}: {counted(repeated, 'annotation')} told twice. Remove the copies.")
    if not unusable and not unknown_images:
        unlabelled = [image for image in names if image not in labels]
        found.tell(unlabelled, "image", "images", "without an annotation", "Remove them from the list, or label them.")
    _collect(found, names, labels)


def _collect(found: SpeciesList, names: dict[int, str | None], labels: dict[int, int]) -> None:
    """The labelled images, each file once."""
    first: dict[str, int] = {}
    doubled: list[str] = []
    contradicted: list[str] = []
    for image, name in names.items():
        label = labels.get(image, -1)
        if name is None or label < 0:
            continue
        if name in first:
            (doubled if first[name] == label else contradicted).append(name)
        else:
            first[name] = label
    found.tell(doubled, "file", "files", "listed twice", "Keep one entry of each.")
    found.tell(contradicted, "file", "files", "listed twice, with two categories", "Keep the right entry of each.")
    found.names, found.category_ids = [*first], [*first.values()]
