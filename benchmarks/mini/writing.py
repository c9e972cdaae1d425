"""Writing the generated data in the layouts of ImageNet and COCO, completely and once."""

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context, resource_tracker
from pathlib import Path

from backbones.errors import InputError
from backbones.images.naming import CARD
from benchmarks.mini.coco import (
    FOLDER,
    CocoRecords,
    annotation_path,
    coco_file,
    coco_image_path,
    write_scattered_scenes,
)
from benchmarks.mini.files import image_path, write_scenes
from benchmarks.mini.materials import LEVELS, Level
from benchmarks.mini.scenes import ALL_SPLITS, SCATTERED_SPLITS, SPLITS
from benchmarks.mini.shapes import SHAPES

# Raised whenever the same seed would draw other images.
DRAWING_VERSION = 3
MANIFEST = CARD
UNFINISHED_MANIFEST = f"{CARD}.unfinished"
SMALLEST_SIDE = 16
SCENES_PER_JOB = 250
# A split and the scenes of it that are drawn in one go.
_Job = tuple[str, range]

README = """\
Generated images: one dominant object per image, whose shape is the label ({classes}).
Materials, colours, backgrounds, pose, size, light and the smaller objects beside it are independent of the label.

train/CLASS/       {train} labelled images to fine-tune on
val/CLASS/         {val} labelled images to evaluate on
unlabelled/        {unlabelled} images to pre-train on
classes.txt        the classes, one a line, in the order of their numbers
dataset.json       its name, and the settings from which `backbench data mini` draws these same images again

coco/ holds the same kinds of objects in COCO's layout, several in an image, each with its box and mask. A few images
are empty; a few show a crowd, many small objects of a shape, annotated as one with iscrowd 1.

coco/train2017/, coco/annotations/instances_train2017.json      {coco_train} images to train on
coco/val2017/, coco/annotations/instances_val2017.json          {coco_val} images to evaluate on

Level {level}, seed {seed}, {image_size} x {image_size} pixels (in coco/, other sizes), drawing version {version}.
"""


@dataclass(frozen=True)
class _Settings:
    """What decides the files; the manifest holds it, and names the data set for the records."""

    version: int
    seed: int
    level: Level
    image_size: int
    train: int
    val: int
    unlabelled: int
    coco_train: int
    coco_val: int
    name: str

    def count(self, split: str) -> int:
        return int(getattr(self, split))


@dataclass(frozen=True)
class MiniSummary:
    """What lies in `root` now: the number of images in each split, and how many of them this call drew."""

    root: Path
    classes: tuple[str, ...]
    level: Level
    image_size: int
    train: int
    val: int
    unlabelled: int
    coco_train: int
    coco_val: int
    drawn: int


def write_mini(
    root: Path,
    *,
    seed: int = 0,
    unlabelled: int = 12_000,
    train: int = 1_000,
    val: int = 2_000,
    coco_train: int = 1_000,
    coco_val: int = 500,
    level: Level = "smooth",
    image_size: int = 56,
    processes: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> MiniSummary:
    """Draw the data set into `root`: train/CLASS, val/CLASS and unlabelled, JPEG and PNG, with classes.txt; and coco/.

    coco/ is a data set in COCO's layout with a card of its own. `image_size` is the side of all other images, and
    decides the size of the objects in both.

    The same arguments give the same bytes, whatever the number of processes. A call that was cut short is completed by
    the next, a complete set is recognised and left as it is, and a larger number of images is added to what is there.
    `on_progress` is called with the numbers of finished and of all images.

    Raises InputError if an argument is out of range, or if `root` holds anything else, fewer images were asked for than
    it holds, or it cannot be written.
    """
    name = "mini" if level == "smooth" else f"mini-{level}"
    settings = _Settings(DRAWING_VERSION, seed, level, image_size, train, val, unlabelled, coco_train, coco_val, name)
    _check(settings)
    if processes < 1:
        raise InputError(f"processes {processes}: expected at least 1.")
    drawn = 0
    try:
        if not _is_complete(root, settings):
            drawn = _write(root, settings, processes, on_progress)
    except OSError as error:
        raise InputError(f"{root}: cannot write the generated data: {error.strerror or error}.") from error
    return MiniSummary(root, SHAPES, level, image_size, train, val, unlabelled, coco_train, coco_val, drawn)


def _check(settings: _Settings) -> None:
    if settings.level not in LEVELS:
        raise InputError(f'level "{settings.level}": no such level of the generated data. Known: {", ".join(LEVELS)}.')
    if settings.seed < 0:
        raise InputError(f"seed {settings.seed}: expected 0 or more.")
    if settings.image_size < SMALLEST_SIDE:
        raise InputError(f"image size {settings.image_size}: expected at least {SMALLEST_SIDE} pixels.")
    for split in ("train", "val"):
        if settings.count(split) < len(SHAPES):
            raise InputError(f"{split} {settings.count(split)}: expected at least {len(SHAPES)}, one image per class.")
    if settings.unlabelled < 0:
        raise InputError(f"unlabelled {settings.unlabelled}: expected 0 or more.")
    for split in SCATTERED_SPLITS:
        if settings.count(split) < 1:
            raise InputError(f"{split.replace('_', ' ')} {settings.count(split)}: expected at least 1.")


def _is_complete(root: Path, wanted: _Settings) -> bool:
    """Whether `root` holds exactly what is wanted. Raises InputError if what it holds cannot become that."""
    if not root.exists():
        return False
    manifest = next((root / name for name in (UNFINISHED_MANIFEST, MANIFEST) if (root / name).exists()), None)
    if manifest is None:
        if any(root.iterdir()):
            raise InputError(f"{root}: not empty, and not written by `backbench data mini`. Choose a new folder.")
        return False
    try:
        present = _Settings(**json.loads(manifest.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{manifest}: not a manifest of this version of `backbench data mini`. Choose a new folder."
        ) from error
    for key, value in asdict(wanted).items():
        before = getattr(present, key)
        grows = key in ALL_SPLITS and before <= value
        if before != value and not grows:
            raise InputError(f"{root}: holds generated data with {key} {before}, not {value}. Choose a new folder.")
    return manifest.name == MANIFEST and present == wanted


def _write(root: Path, settings: _Settings, processes: int, on_progress: Callable[[int, int], None] | None) -> int:
    """Draw what is missing; the manifest takes its final name when all is there."""
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / UNFINISHED_MANIFEST
    _replace_text(unfinished, json.dumps(asdict(settings), indent=2) + "\n")
    _make_folders(root, settings)
    total = sum(settings.count(split) for split in ALL_SPLITS)
    finished = drawn = 0
    coco: dict[tuple[str, int], CocoRecords] = {}
    for (split, indices), result in _run_jobs(root, settings, processes):
        finished += len(indices)
        if isinstance(result, CocoRecords):
            coco[split, indices.start] = result
        drawn += result.drawn if isinstance(result, CocoRecords) else result
        if on_progress is not None:
            on_progress(finished, total)
    _write_coco_files(root, settings, coco)
    _replace_text(root / "classes.txt", "".join(f"{shape}\n" for shape in SHAPES))
    _replace_text(root / "README.txt", README.format(classes=", ".join(SHAPES), **asdict(settings)))
    unfinished.replace(root / MANIFEST)
    return drawn


def _make_folders(root: Path, settings: _Settings) -> None:
    files = [image_path(split, index) for split in SPLITS for index in range(min(len(SHAPES), settings.count(split)))]
    files += [coco_image_path(split, 0) for split in SCATTERED_SPLITS]
    files += [annotation_path(split) for split in SCATTERED_SPLITS]
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)


def _write_coco_files(root: Path, settings: _Settings, records: dict[tuple[str, int], CocoRecords]) -> None:
    """Write the annotations, in the order of the images, and the card that names the folder."""
    name = f"{settings.name}-coco"
    for split in SCATTERED_SPLITS:
        parts = [records[key] for key in sorted(records) if key[0] == split]
        _replace_text(root / annotation_path(split), json.dumps(coco_file(parts, f"{name}, {split}")))
    _replace_text(root / FOLDER / CARD, json.dumps({"name": name}) + "\n")


def _run_jobs(root: Path, settings: _Settings, processes: int) -> Iterator[tuple[_Job, int | CocoRecords]]:
    """Yield each job with what it returned: how many scenes it drew, in COCO's format their records as well."""
    jobs = [
        (split, range(start, min(start + SCENES_PER_JOB, settings.count(split))))
        for split in ALL_SPLITS
        for start in range(0, settings.count(split), SCENES_PER_JOB)
    ]
    if processes == 1:
        for job in jobs:
            yield job, _draw(root, settings, job)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            with _ctrl_c_kept_for_this_process():
                submitted = {pool.submit(_draw, root, settings, job): job for job in jobs}
            for future in as_completed(submitted):
                yield submitted[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw(root: Path, settings: _Settings, job: _Job) -> int | CocoRecords:
    split, indices = job
    draw: Callable[..., int | CocoRecords] = write_scattered_scenes if split in SCATTERED_SPLITS else write_scenes
    return draw(root, settings.seed, split, indices, settings.level, settings.image_size)


@contextmanager
def _ctrl_c_kept_for_this_process() -> Iterator[None]:
    """Processes started within the block never see Ctrl-C, which a terminal sends to all; this one ends them in order.

    They inherit the blocked signal. Here it waits, and takes effect when the block ends.
    """
    resource_tracker.ensure_running()  # it would unblock the signal when the first process starts it
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text)
    partial.replace(path)
