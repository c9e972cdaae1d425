"""How long do `backbench collect` and `backbench table` take in a large store?

    python benchmarks/speed/store.py [--repeats 3] [--records 10000]

Half of the generated records are of classification, a quarter each of detection and of segmentation: with the settings
and the protocols of their recipes, all metrics, percentages by class and the report of what was loaded. Commands are
run as a user does, in processes of their own, and timed whole, start included.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from backbones.training.settings import protocol
from benchmarks.planning.recipe import load_recipe
from benchmarks.speed.comparing.arguments import require_counts
from results import Metric, Record, cell_key, run_directory
from results.metrics import METRICS

_KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("classification", "imagenet_vit_base", {"table": "imagenet", "classes": 1000, "images": 50_000}),
    ("detection", "coco_fpn_vit_base", {"table": "coco", "classes": 80, "images": 5_000}),
    ("classification", "imagenet_vit_base", {"table": "imagenet", "classes": 1000, "images": 50_000}),
    ("segmentation", "ade20k_vit_base", {"table": "ade20k", "classes": 150, "images": 2_000}),
)
_METRICS = {
    "classification": ("top1", "top5", "loss"),
    "detection": tuple(name for name in METRICS if name.startswith("A") and name.endswith(("_box", "_mask"))),
    "segmentation": ("mIoU", "mAcc", "aAcc"),
}


def fill(out: Path, records: int) -> None:
    """Write so many records below `out`: seeds 0 to 4 of ever other backbones."""
    settings = {name: load_recipe(name, [], {task}).recipe.model_dump(mode="json") for task, name, _ in _KINDS}
    report = {"used": {f"blocks.{number}.attn.qkv.weight": ["blocks.qkv"] for number in range(150)}}
    for number in range(records):
        (task, recipe, about), seed, backbone = _KINDS[number % 4], number // 4 % 5, f"mae_vit_base_{number // 20}"
        dataset, key = settings[recipe]["dataset"], cell_key({"number": number})
        record = Record(
            table=about["table"],
            task=task,
            dataset=dataset,
            metrics=[
                Metric(
                    name=name, value=50 + number % 97 / 7, split="val", ci_low=49, ci_high=65, n_eval=about["images"]
                )
                for name in _METRICS[task]
            ],
            method=f"method {number // 20 % 50}",
            pretrain_data="IN1K",
            model="ViT-B",
            backbone=backbone,
            seed=seed,
            recipe=recipe,
            recipe_settings=settings[recipe],
            protocol=protocol(settings[recipe]),
            key=key,
            per_class={f"class {index}": index % 51 * 2.0 for index in range(about["classes"])},
            load_report=report,
            evaluation_images=about["images"],
            normalisation={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
            versions={"torch": "2.14.1", "timm": "1.0.31"},
        )
        directory = run_directory(out, task, dataset, backbone, seed, key)
        directory.mkdir(parents=True)
        (directory / "record.json").write_text(record.to_json())


def seconds(*arguments: object) -> float:
    """How long one command takes."""
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--records", type=int, default=10_000)
    chosen = parser.parse_args()
    require_counts(parser, chosen)
    with TemporaryDirectory() as folder:
        out = Path(folder)
        fill(out, chosen.records)
        for arguments in (["collect"], *(["table", "--layout", each] for each in ("imagenet", "coco", "ade20k"))):
            took = median(seconds(*arguments, out) for _ in range(chosen.repeats))
            print(f"{' '.join(arguments)}: {took:.2f} s for {chosen.records:,} records")


if __name__ == "__main__":
    main()
