"""Writing the generated data in ImageNet's layout, completely and once."""

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
from benchmarks.mini.files import image_path, write_scenes
from benchmarks.mini.materials import LEVELS, Level
from benchmarks.mini.scenes import SPLITS
from benchmarks.mini.shapes import SHAPES

# Raised whenever the same seed would draw other images.
DRAWING_VERSION = 3
MANIFEST = CARD
UNFINISHED_MANIFEST = f"{CARD}.unfinished"
SMALLEST_SIDE = 16
SCENES_PER_JOB = 250

README = """\
Generated images: one dominant object per image, whose shape is the label ({classes}).
Materials, colours, backgrounds, pose, size, light and the smaller objects beside it are independent of the label.

train/CLASS/       {train} labelled images to fine-tune on
val/CLASS/         {val} labelled images to evaluate on
unlabelled/        {unlabelled} images to pre-train on
classes.txt        the classes, one a line, in the order of their numbers
dataset.json       its name, and the settings from which `backbench data mini` draws these same images again

Level {level}, seed {seed}, {image_size} x {image_size} pixels, drawing version {version}.
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
    drawn: int


def write_mini(
    root: Path,
    *,
    seed: int = 0,
    unlabelled: int = 12_000,
    train: int = 1_000,
    val: int = 2_000,
    level: Level = "smooth",
    image_size: int = 56,
    processes: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> MiniSummary:
    """Draw the data set into `root`: train/CLASS, val/CLASS and unlabelled, JPEG and PNG, with classes.txt.

    The same arguments give the same bytes, whatever the number of processes. A call that was cut short is completed by
    the next, a complete set is recognised and left as it is, and a larger number of images is added to what is there.
    `on_progress` is called with the numbers of finished and of all images.

    Raises InputError if an argument is out of range, or if `root` holds anything else, fewer images were asked for than
    it holds, or it cannot be written.
    """
    name = "mini" if level == "smooth" else f"mini-{level}"
    settings = _Settings(DRAWING_VERSION, seed, level, image_size, train, val, unlabelled, name)
    _check(settings)
    if processes < 1:
        raise InputError(f"processes {processes}: expected at least 1.")
    drawn = 0
    try:
        if not _is_complete(root, settings):
            drawn = _write(root, settings, processes, on_progress)
    except OSError as error:
        raise InputError(f"{root}: cannot write the generated data: {error.strerror or error}.") from error
    return MiniSummary(root, SHAPES, level, image_size, train, val, unlabelled, drawn)


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
        grows = key in SPLITS and before <= value
        if before != value and not grows:
            raise InputError(f"{root}: holds generated data with {key} {before}, not {value}. Choose a new folder.")
    return manifest.name == MANIFEST and present == wanted


def _write(root: Path, settings: _Settings, processes: int, on_progress: Callable[[int, int], None] | None) -> int:
    """Draw what is missing; the manifest takes its final name when all is there."""
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / UNFINISHED_MANIFEST
    _replace_text(unfinished, json.dumps(asdict(settings), indent=2) + "\n")
    for split in SPLITS:
        for index in range(min(len(SHAPES), settings.count(split))):
            (root / image_path(split, index)).parent.mkdir(parents=True, exist_ok=True)
    total = sum(settings.count(split) for split in SPLITS)
    finished = drawn = 0
    for count, new in _run_jobs(root, settings, processes):
        finished += count
        drawn += new
        if on_progress is not None:
            on_progress(finished, total)
    _replace_text(root / "classes.txt", "".join(f"{shape}\n" for shape in SHAPES))
    _replace_text(root / "README.txt", README.format(classes=", ".join(SHAPES), **asdict(settings)))
    unfinished.replace(root / MANIFEST)
    return drawn


def _run_jobs(root: Path, settings: _Settings, processes: int) -> Iterator[tuple[int, int]]:
    """Yield, job by job, how many scenes it covered and how many it drew."""
    jobs = [
        (split, range(start, min(start + SCENES_PER_JOB, settings.count(split))))
        for split in SPLITS
        for start in range(0, settings.count(split), SCENES_PER_JOB)
    ]
    fixed = (settings.level, settings.image_size)
    if processes == 1:
        for split, indices in jobs:
            yield len(indices), write_scenes(root, settings.seed, split, indices, *fixed)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        with _ctrl_c_kept_for_this_process():
            covered = {
                pool.submit(write_scenes, root, settings.seed, split, indices, *fixed): len(indices)
                for split, indices in jobs
            }
        try:
            for future in as_completed(covered):
                yield covered[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


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
