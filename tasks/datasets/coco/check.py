"""Check a data set in COCO's format before it is used: every mistake in both splits, and every image decoded."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from backbones.errors import DataError
from backbones.images.in_threads import each_in_threads
from backbones.images.reading import UnreadableImage
from backbones.images.sizes import in_words
from backbones.images.upright import Orientation, read_upright
from results.garbage_collection import garbage_collection_paused
from tasks.datasets.check_report import CheckReport
from tasks.datasets.coco.annotation_json import CocoJson, read_coco_json
from tasks.datasets.coco.ground_truth import open_with_hotcoco
from tasks.datasets.coco.layout import KIND, CocoDataSettings, compare_categories
from tasks.datasets.coco.missing import missing_files
from tasks.datasets.coco.rules import Split, examine, is_side
from tasks.datasets.json_lists import is_count, is_path_below
from tasks.datasets.orientations import describe_orientations
from tasks.datasets.places import explain_absence
from tasks.datasets.shared_images import shared_images
from tasks.datasets.wording import counted, name_some, plural

LAYOUT = "objects in COCO's format"

_TOLD_ALREADY = ("zero_instance_category", "degenerate_bbox")
"""hotcoco's findings that `examine` has made itself."""

_ADDED = {
    "bbox_out_of_bounds": ("annotation", "with a box that reaches beyond its image"),
    "extreme_aspect_ratio": ("annotation", "with a box over 20 times as long as wide"),
    "near_duplicate": ("annotation", "with an almost identical twin of the same category"),
    "zero_area": ("annotation", 'with an "area" of 0'),
    "near_duplicate_check_skipped": ("image", "with over 100 objects of one category, not searched for twins"),
    "low_instance_category": ("category", "with fewer than 10 annotations"),
}
"""hotcoco's other findings in our words: what the affected ids belong to, and what they have."""

_Stated = tuple[Split, tuple[int, int] | None]
"""Of an image: its split, and the (height, width) that the annotation file states, or None where it states none."""


def check_coco(
    root: Path, settings: CocoDataSettings | None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look for every mistake in both splits below `root`, and decode every image in full, on all cores.

    `on_progress(done, total)`, in images, is called now and then, and at the end. Raises nothing about the data: what
    cannot be read is a problem in the report.
    """
    settings = settings or CocoDataSettings()
    report = CheckReport(LAYOUT, kinds="categories", size_unit="annotation")
    if absent := explain_absence(root, settings.model_dump(), KIND):
        report.problems.append(absent)
        return report
    places: tuple[tuple[Split, str, str], ...] = (
        ("train", settings.train_images, settings.train_json),
        ("val", settings.val_images, settings.val_json),
    )
    files: dict[str, CocoJson] = {}
    images: dict[Path, _Stated] = {}
    for split, folder, annotations in places:
        try:
            with garbage_collection_paused():
                files[split] = read_coco_json(root / annotations)
        except DataError as error:
            report.problems.append(str(error))
            if not (root / folder).is_dir():
                report.problems.append(f"{root / folder}: no such folder of images.")
            continue
        _check_file(files[split], split, root / folder, report)
        images |= _stated_sizes(files[split], split, root / folder)
    _count_categories(files, report)
    _compare_splits(files, root / settings.train_images, root / settings.val_images, report)
    _check_images(images, report, on_progress)
    return report


def _check_file(file: CocoJson, split: Split, folder: Path, report: CheckReport) -> None:
    """Everything that the file and the folder's listing tell."""
    found = examine(file, split)
    report.counts[split], report.annotations[split] = len(file.images), len(file.annotations)
    report.problems += [f"{file.path}: {problem}" for problem in found.problems]
    if folder.is_dir():
        report.problems += [f"{file.path}: {problem}" for problem in missing_files(file, folder, split)]
    else:
        report.problems.append(f"{folder}: no such folder of images.")
    report.notes += found.notes
    if not found.problems:
        _ask_hotcoco(file, split, {file.annotations[position]["id"] for position in found.unusable}, report)
    used = {entry["image_id"] for entry in file.annotations if is_count(entry.get("image_id"))}
    empty = sum(1 for entry in file.images if is_count(entry.get("id")) and entry["id"] not in used)
    if empty and file.annotations:
        report.notes.append(f"{counted(empty, f'{split} image')} of {len(file.images):,} without annotations.")
    if split == "val" and any(entry.get("id") == 0 for entry in file.annotations):
        report.notes.append(
            "the val annotation of id 0: pycocotools takes it for never found, so its scores are lower than ours. "
            "Number annotations from 1."
        )


def _ask_hotcoco(file: CocoJson, split: Split, unusable: set[int], report: CheckReport) -> None:
    """Add what hotcoco, which computes the scores, finds beyond `examine`.

    Annotations whose ids are in `unusable` have been reported: what it says of them is left out.
    """
    try:
        health = open_with_hotcoco(file.path).healthcheck()
    except (ValueError, OSError) as error:
        report.problems.append(f"{file.path}: hotcoco, which computes the scores, cannot read it: {error}.")
        return
    for finding in health["errors"]:
        report.problems.append(f"{file.path}: {finding['message']} {_ids(finding['affected_ids'])}")
    for finding in health["warnings"]:
        code, affected = finding["code"], sorted(finding["affected_ids"])
        section, what = _ADDED.get(code, ("finding", f"of hotcoco: {finding['message'].rstrip('.')}"))
        if section == "annotation":
            affected = [identity for identity in affected if identity not in unusable]
        if affected and code not in _TOLD_ALREADY:
            count = counted(len(affected), f"{split} {section}", f"{split} {plural(section)}")
            report.notes.append(f"{count} {what} {_ids(affected)}.")


def _ids(affected: Sequence[int]) -> str:
    return f"(ids {name_some(affected, len(affected))})"


def _stated_sizes(file: CocoJson, split: Split, folder: Path) -> dict[Path, _Stated]:
    """What the file states of each image that is there."""
    sizes: dict[Path, _Stated] = {}
    for entry in file.images:
        name, height, width = entry.get("file_name"), entry.get("height"), entry.get("width")
        if is_path_below(name) and (folder / name).is_file():
            stated = (height, width) if is_side(height) and is_side(width) else None
            sizes[folder / name] = split, stated
    return sizes


def _count_categories(files: dict[str, CocoJson], report: CheckReport) -> None:
    if not files:
        return
    file = files.get("train") or files["val"]
    names = _category_names(file)
    report.classes = list(names.values())
    times = Counter(entry["category_id"] for entry in file.annotations if is_count(entry.get("category_id")))
    if "train" in files and names and times:
        report.set_extremes([times[identity] for identity in names])


def _category_names(file: CocoJson) -> dict[int, str]:
    sound = [entry for entry in file.categories if is_count(entry.get("id"))]
    return {entry["id"]: str(entry.get("name")) for entry in sorted(sound, key=lambda entry: entry["id"])}


def _compare_splits(files: dict[str, CocoJson], train_folder: Path, val_folder: Path, report: CheckReport) -> None:
    if len(files) < 2:
        return
    train, val = files["train"], files["val"]
    if difference := compare_categories(_category_names(train), _category_names(val)):
        report.problems.append(f"{val.path}: not the categories of {train.path}: {difference}")
    names = [[name for entry in file.images if is_path_below(name := entry.get("file_name"))] for file in (train, val)]
    report.notes += shared_images((train_folder, names[0]), (val_folder, names[1]))


def _check_images(
    images: dict[Path, _Stated],
    report: CheckReport,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Decode every image and hold its size against the one that the file states."""
    orientations: dict[Split, list[Orientation]] = {"train": [], "val": []}
    for done, ((path, (split, stated)), found) in enumerate(each_in_threads(_measure, images.items()), start=1):
        if isinstance(found, str):
            report.problems.append(f"{path}: unreadable image: {found}. Replace the file.")
        else:
            (height, width), orientation = found
            orientations[split].append(orientation)
            if stated is not None and (height, width) != stated:
                report.problems.append(
                    f"{path}: {in_words(height, width)} pixels, but {in_words(*stated)} in the annotations. Boxes and "
                    "masks would lie elsewhere; correct whichever is wrong."
                )
        if on_progress is not None:
            on_progress(done, len(images))
    for split, turned in orientations.items():
        report.notes += describe_orientations(split, turned)


def _measure(image: tuple[Path, _Stated]) -> tuple[tuple[int, int], Orientation] | str:
    """The image's (height, width) when it is upright and how it came to be so, or why it is unreadable."""
    path, (_, stated) = image
    try:
        pixels, orientation = read_upright(path, stated)
    except UnreadableImage as error:
        return error.why
    return (pixels.shape[1], pixels.shape[2]), orientation
