"""How long does it take to open iNaturalist 2018 from its lists, and how much memory?

    python benchmarks/speed/inaturalist_start.py [--folder FOLDER] [--share 1.0]

Generated: lists of 437,513 and 24,426 images with all that the genuine ones say of each, 8,142 categories in a long
tail, and empty files for the images. First the larger list is read alone, then both splits are opened, and opened again
with what the first left in the cache: each in a process of its own, with its time, how much of it a processor worked,
and its peak of memory above what the libraries take.
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

GROUPS = ("Actinopterygii", "Amphibia", "Animalia", "Arachnida", "Aves", "Bacteria", "Chromista", "Fungi", "Insecta")
IMAGES, CATEGORIES = {"train": 437_513, "val": 24_426}, 8_142


def write_inaturalist(root: Path, share: float) -> None:
    """Both lists, their images and categories.json; of each category at least one image in either split."""
    rng = random.Random(0)
    classes = range(int(CATEGORIES * share))
    groups = [GROUPS[label % len(GROUPS)] for label in classes]
    for label in classes:
        (root / "train_val2018" / groups[label] / str(label)).mkdir(parents=True)
    categories = [{"id": label, "name": str(label), "supercategory": str(label % 14)} for label in classes]
    for split, total in IMAGES.items():
        count = max(len(classes), int(total * share))
        tail = rng.choices(classes, [1 / (label + 50) for label in classes], k=count - len(classes))
        labels = [*classes, *tail]
        rng.shuffle(labels)
        first = IMAGES["train"] if split == "val" else 0
        images = [_image(first + number, groups[label], label, rng) for number, label in enumerate(labels)]
        annotations = [
            {"id": first + number, "image_id": first + number, "category_id": label}
            for number, label in enumerate(labels)
        ]
        listed = {"info": {}, "images": images, "licenses": [], "annotations": annotations, "categories": categories}
        (root / f"{split}2018.json").write_text(json.dumps(listed))
        for image in images:
            os.close(os.open(root / str(image["file_name"]), os.O_CREAT | os.O_WRONLY))
    names = [{**each, "name": f"Genus species {each['id']}"} for each in categories]
    (root / "categories.json").write_text(json.dumps(names))


def _image(identity: int, group: str, label: int, rng: random.Random) -> dict[str, str | int]:
    return {
        "license": 3,
        "file_name": f"train_val2018/{group}/{label}/{rng.getrandbits(128):032x}.jpg",
        "rights_holder": "A photographer of wild animals",
        "height": 600,
        "width": 800,
        "id": identity,
    }


def measure(what: str, root: Path) -> None:
    """Print the figures of reading the larger list, or of opening both splits."""
    from tasks.data_sets import open_labelled
    from tasks.datasets.image_lists.inaturalist import read_species_list

    before, start, computed = _peak(), time.perf_counter(), time.process_time()
    if what == "list":
        listed = len(read_species_list(root / "train2018.json").names)
        told = f"train2018.json, {(root / 'train2018.json').stat().st_size / 2**20:.0f} MiB: {listed:,} images read"
    else:
        train, val = open_labelled("inat2018", root)
        told = f"inat2018: {len(train.paths):,} and {len(val.paths):,} images opened"
    seconds, computing = time.perf_counter() - start, time.process_time() - computed
    print(
        f"{told} in {seconds:.1f} s ({computing:.1f} s of a processor), peak above libraries {_peak() - before:.0f} MiB"
    )


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Generate what is missing, read and open."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the data there, for another time")
    parser.add_argument("--share", type=float, default=1.0, help="of the real size")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with TemporaryDirectory() as temporary:
        root = (arguments.folder or Path(temporary)).resolve() / "inat2018"
        if not root.exists():
            write_inaturalist(root, arguments.share)
            time.sleep(2.5)  # what was just written is not trusted
        for what in ("list", "opening", "opening"):
            command = [sys.executable, __file__, "--measure", what, str(root)]
            subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": f"{temporary}/cache"})


if __name__ == "__main__":
    main()
