"""Bugs as they happen, planted into a copy of the sources, and nights run with them.

    python -m tests.support.planted_bugs MINI OUT [--seeds N]

runs `nightly-mini` on the generated data in MINI as it is, then with each bug, and prints the verdicts of `regress`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parents[2]
PACKAGES = ("backbones", "benchmarks", "results", "tasks")


@dataclass(frozen=True)
class Bug:
    """A line of a file, and what stands there instead. tasks: of the cells whose course it changes, at least."""

    file: str
    right: str
    wrong: str
    tasks: tuple[str, ...]


BUGS = {
    "learning rate halved": Bug(
        "backbones/training/settings.py",
        "return self.base_lr * self.batch_size / 256",
        "return self.base_lr * self.batch_size / 512",
        ("pretraining", "classification"),
    ),
    "normalisation wrong": Bug(
        "backbones/images/pixels.py",
        "shift = _per_channel(normalisation.mean, images.device).mul_(255)",
        "shift = _per_channel(normalisation.mean, images.device)",
        ("pretraining", "classification"),
    ),
    "flip missing": Bug(
        "backbones/images/crops.py",
        "return image.flip(-1) if rng.random() < p else image",
        "return image if rng.random() < p else image",
        ("pretraining", "classification"),
    ),
    "layer decay off": Bug(
        "backbones/adapters/layer_decay.py",
        "name: (layer_decay or 1.0) ** (",
        "name: 1.0 ** (",
        ("detection", "segmentation"),
    ),
    "crop scale swapped": Bug(
        "tasks/classification/samples.py",
        "random_resized_crop(image, self.size, self.augment.crop_scale, ASPECT_RATIO, rng)",
        "random_resized_crop(image, self.size, self.augment.crop_scale[::-1], ASPECT_RATIO, rng)",
        ("classification",),
    ),
    "drop path of the last block missing": Bug(
        "backbones/architectures.py",
        "        return timm.create_model(arch, pretrained=False, drop_path_rate=drop_path, **options)\n",
        "        model = timm.create_model(arch, pretrained=False, drop_path_rate=drop_path, **options)\n"
        "        model.blocks[-1].drop_path1 = model.blocks[-1].drop_path2 = nn.Identity()\n"
        "        return model\n",
        ("classification",),
    ),
}


def plant(bug: Bug | None, folder: Path) -> Path:
    """A copy of the sources with a bug, or without, for PYTHONPATH."""
    for package in PACKAGES:
        shutil.copytree(HOUSE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    if bug:
        path = folder / bug.file
        text = path.read_text()
        if text.count(bug.right) != 1:
            raise ValueError(f"{bug.file}: expected one place with {bug.right!r}, found {text.count(bug.right)}")
        path.write_text(text.replace(bug.right, bug.wrong))
    return folder


def run_night(sources: Path, site: Path, out: Path, *options: str) -> int:
    """Run `nightly-mini` with these sources; the exit status."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "benchmarks",
        "suite",
        "nightly-mini",
        "--site",
        str(site),
        "--out",
        str(out),
    ]
    return subprocess.run([*command, *options], env={**os.environ, "PYTHONPATH": str(sources)}).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mini", type=Path, help="where `backbench data mini` has put its data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    site, seeds = chosen.mini / "site.yaml", ("--seeds", str(chosen.seeds), "--jobs", "2")
    run_night(plant(None, chosen.out / "sources"), site, chosen.out / "baseline", *seeds)
    for name, bug in BUGS.items():
        place = chosen.out / name.replace(" ", "-")
        run_night(plant(bug, place / "sources"), site, place / "night", *seeds)
        print(f"\n== {name}", flush=True)
        sides = ["--baseline", str(chosen.out / "baseline"), "--current", str(place / "night")]
        subprocess.run([sys.executable, "-m", "benchmarks", "regress", *sides])


if __name__ == "__main__":
    main()
