"""How long does a job take from its start to the first sample, on data of real size, and how much memory?

    python benchmarks/speed/data_start.py [--folder FOLDER] [--share 1.0]

Generated: 118,287 images with 860,001 annotations in COCO's format, and 1,281,167 images in 1,000 class folders, all
of them links to one JPEG. Each is started twice, in processes of their own, the second time with what the first left in
the cache: time to identify the data (as a finished run does), time from there to the first sample, peak memory above
what the libraries take, and what a forked loader comes to hold of its own when it has looked at 2,000 samples.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

IMAGES, ANNOTATIONS, FILES, CLASSES = 118_287, 860_001, 1_281_167, 1_000
SAMPLES = 2_000

_SMALLEST = 0.02
"""Share of the real size: of fewer there is no image to evaluate on in each class."""


def write_coco(root: Path, share: float) -> None:
    """Polygons of 8 to 40 corners with two decimals, one crowd of run lengths in a hundred annotations."""
    rng = random.Random(0)
    categories = [{"id": number, "name": f"category {number}"} for number in range(1, 81)]
    (root / "annotations").mkdir(parents=True)
    Image.new("RGB", (640, 480), (90, 120, 60)).save(root / "image.jpg")
    for split, part in (("train", share), ("val", share * 0.042)):
        names = [f"{number:012d}.jpg" for number in range(int(IMAGES * part))]
        (root / f"{split}2017").mkdir()
        for name in names:
            (root / f"{split}2017" / name).symlink_to(root / "image.jpg")
        images = [{"id": at, "file_name": name, "height": 480, "width": 640} for at, name in enumerate(names)]
        annotations = [_annotation(number, rng, len(names)) for number in range(int(ANNOTATIONS * part))]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (root / "annotations" / f"instances_{split}2017.json").write_text(text)


def _annotation(number: int, rng: random.Random, images: int) -> dict[str, Any]:
    left, top, crowd = round(rng.uniform(0, 500), 2), round(rng.uniform(0, 350), 2), number % 100 == 0
    corners = [
        round(low + rng.random() * side, 2)
        for _ in range(rng.randint(8, 40))
        for low, side in ((left, 120), (top, 110))
    ]
    return {
        "id": number,
        "image_id": rng.randrange(images),
        "category_id": rng.randint(1, 80),
        "bbox": [left, top, 120.5, 110.25],
        "area": 6600.5,
        "iscrowd": int(crowd),
        "segmentation": {"size": [480, 640], "counts": [1000, 5000, 301_200]} if crowd else [corners],
    }


def write_class_folders(root: Path, share: float) -> None:
    """As ImageNet: 1,000 classes, and 50,000 images to evaluate on."""
    root.mkdir()
    Image.new("RGB", (500, 375), (90, 120, 60)).save(root / "image.jpg")
    for split, count in (("train", int(FILES * share)), ("val", int(50_000 * share))):
        for label in range(CLASSES):
            (root / split / f"n{label:08d}").mkdir(parents=True)
        for number in range(count):
            label = number % CLASSES
            (root / split / f"n{label:08d}" / f"n{label:08d}_{number}.JPEG").symlink_to(root / "image.jpg")


def measure(kind: str, root: Path) -> None:
    """Print one start's figures."""
    from benchmarks.planning.cells import plan_task
    from tasks.registry import TASKS

    recipe: Any = plan_task(
        {"coco": "coco_fpn_vit_base", "folders": "imagenet_vit_base"}[kind], root, "x", seed=0, overrides=[]
    ).recipe
    task = TASKS[recipe.task].module("task")
    import tasks.classification.samples
    import tasks.detection.samples  # noqa: F401

    before, start = _peak(), time.perf_counter()
    contents = task.identify_data(recipe, root)
    identified = time.perf_counter()
    samples = _coco_samples(root, recipe) if kind == "coco" else _labelled_images(root, recipe)
    samples[0, 0]
    ready, peak = time.perf_counter(), _peak()
    figures = {
        "identified": f"{identified - start:.1f} s",
        "first sample": f"{ready - identified:.1f} s",
        "peak above libraries": f"{peak - before:.0f} MiB",
        "each loader": f"{_loader(samples):.0f} MiB",
    }
    print(f"{kind} {contents.fingerprint}: {', '.join(f'{name} {figure}' for name, figure in figures.items())}")


def _coco_samples(root: Path, recipe: Any) -> Any:
    from tasks.datasets.coco.layout import open_coco
    from tasks.detection.samples import TrainingSamples

    train, _ = open_coco(root, recipe.data)
    return TrainingSamples(train, recipe.model.image_size, recipe.augment, 0)


def _labelled_images(root: Path, recipe: Any) -> Any:
    from backbones.images.normalisation import IMAGENET
    from tasks.classification.samples import LabelledImages
    from tasks.datasets.class_folders.layout import open_class_folders

    train, _ = open_class_folders(root)
    return LabelledImages(train.paths, train.labels, recipe.model.image_size, recipe.augment, 0, IMAGENET)


def _loader(samples: Any) -> float:
    """MiB that a forked process has of its own once it has taken every n-th sample's description."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        before = _private()
        for index in range(0, len(samples), max(1, len(samples) // SAMPLES)):
            samples.records[index] if hasattr(samples, "records") else (samples.paths[index], samples.labels[index])
        os.write(writing, f"{_private() - before}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    return float(os.read(reading, 100))


def _private() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Generate what is missing, and start twice on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the data there, for another time")
    parser.add_argument("--share", type=float, default=1.0, help="of the real size")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not _SMALLEST <= arguments.share <= 1:
        parser.error(f"--share {arguments.share:g}: expected from {_SMALLEST:g} to 1")
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        for kind, write in (("coco", write_coco), ("folders", write_class_folders)):
            if not (folder / kind).exists():
                write(folder / kind, arguments.share)
                time.sleep(2.5)  # what was just written is not trusted
            for _ in range(2):
                command = [sys.executable, __file__, "--measure", kind, str(folder / kind)]
                environment = os.environ | {"XDG_CACHE_HOME": f"{temporary}/cache"}
                subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
