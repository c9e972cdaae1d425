"""How long does it take to read lists of real size, and how much memory?

    python benchmarks/speed/lists_start.py [--folder FOLDER] [--share 1.0] [--images]

Generated: lists of Places205 (2,448,873 and 20,500 lines) and Places365-Standard (1,803,460 and 36,500), names as long
and as unsorted as the real ones. Each is read in a process of its own: time, peak memory above what the libraries take,
and the bytes of the arrays that stay. With --images the files that they name are there too, empty: then the whole data
set is opened twice, the second time from what the first left in the cache.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

KINDS = ("places205", "places365")

_SMALLEST = 0.02
"""Share of the real size: of fewer validation images there is none of each class."""

_IMAGES_205 = "data/vision/torralba/deeplearning/images256"


def write_places205(root: Path, share: float, images: bool) -> None:
    """205 classes, names of a hash, in the order of nothing."""
    folder = root / "trainvalsplit_places205"
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for split, count in (("train", 2_448_873), ("val", 20_500)):
        labels = [number % 205 for number in range(int(count * share))]
        rng.shuffle(labels)
        lines = [f"{_folder(label)}/gsun_{rng.getrandbits(128):032x}.jpg {label}" for label in labels]
        (folder / f"{split}_places205.csv").write_text("\n".join(lines) + "\n")
        _touch(root / _IMAGES_205, lines if images else [])


def write_places365(root: Path, share: float, images: bool) -> None:
    """365 classes, numbered images, class after class."""
    root.mkdir(parents=True)
    classes = [f"/{_folder(label)} {label}" for label in range(365)]
    (root / "categories_places365.txt").write_text("\n".join(classes) + "\n")
    count = int(1_803_460 * share)
    train = [f"/{_folder(number * 365 // count)}/{number:08d}.jpg {number * 365 // count}" for number in range(count)]
    val = [f"Places365_val_{number:08d}.jpg {number * 7 % 365}" for number in range(1, int(36_500 * share) + 1)]
    for name, lines, folder in (
        ("places365_train_standard.txt", train, "data_256"),
        ("places365_val.txt", val, "val_256"),
    ):
        (root / name).write_text("\n".join(lines) + "\n")
        _touch(root / folder, lines if images else [])


def _folder(label: int) -> str:
    name = f"{'abcdefgh'[label // 60]}/scene_number_{label:03d}"
    return f"{name}/indoor" if label % 10 == 0 else name


def _touch(folder: Path, lines: list[str]) -> None:
    made: set[Path] = set()
    for line in lines:
        path = folder / line.rpartition(" ")[0].lstrip("/")
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def measure_lists(kind: str, root: Path) -> None:
    """Print the figures of reading each list."""
    from tasks.datasets.image_lists.lines import read_list

    for path in _lists(kind, root):
        before, start, computed = _peak(), time.perf_counter(), time.process_time()
        images = read_list(path)
        seconds, computing = time.perf_counter() - start, time.process_time() - computed
        paths = images.paths(root)
        kept = (images.labels.astype("int32").nbytes + sum(array.nbytes for array in paths.arrays.values())) / 2**20
        print(
            f"{kind} {path.name}: {len(images.names):,} lines in {seconds:.1f} s ({computing:.1f} s of a processor), "
            f"peak above libraries {_peak() - before:.0f} MiB, kept {kept:.0f} MiB"
        )


def measure_opening(kind: str, root: Path) -> None:
    """Print the figures of opening both splits."""
    import tasks.datasets.image_lists.listed  # noqa: F401 - the libraries first
    from tasks.data_sets import open_labelled

    before, start, computed = _peak(), time.perf_counter(), time.process_time()
    train, val = open_labelled(kind, root)
    seconds, computing = time.perf_counter() - start, time.process_time() - computed
    print(
        f"{kind} opened: {len(train.paths):,} and {len(val.paths):,} images in {seconds:.1f} s ({computing:.1f} s of a "
        f"processor), peak above libraries {_peak() - before:.0f} MiB"
    )


def _lists(kind: str, root: Path) -> Iterator[Path]:
    folder = root / "trainvalsplit_places205" if kind == "places205" else root
    return (path for path in sorted(folder.iterdir()) if path.is_file() and "categories" not in path.name)


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Generate what is missing, and read each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the data there, for another time")
    parser.add_argument("--share", type=float, default=1.0, help="of the real size")
    parser.add_argument("--images", action="store_true", help="with the files that the lists name, empty")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not _SMALLEST <= arguments.share <= 1:
        parser.error(f"--share {arguments.share:g}: expected from {_SMALLEST:g} to 1")
    if arguments.measure:
        what, kind, root = arguments.measure
        (measure_opening if what == "opening" else measure_lists)(kind, Path(root))
        return
    with TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        for kind, write in zip(KINDS, (write_places205, write_places365), strict=True):
            if not (folder / kind).exists():
                write(folder / kind, arguments.share, arguments.images)
                time.sleep(2.5)  # what was just written is not trusted
            for what in ["lists", *(["opening", "opening"] if arguments.images else [])]:
                command = [sys.executable, __file__, "--measure", what, kind, str(folder / kind)]
                subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": f"{temporary}/cache"})


if __name__ == "__main__":
    main()
