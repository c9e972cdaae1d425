"""A new method's one command: its row in every table, at miniature scale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from tests.support.in_process import success

SUITE = """\
backbones: {random: random_vit_mini}
comparisons:
  classification:
    backbones: random
    recipes:
      ViT-mini: {recipe: mini_classification, set: {schedule.epochs: 1, schedule.warmup_epochs: 0}}
  detection:
    backbones: random
    recipes: {ViT-mini: {recipe: mini_detection, set: &two {schedule.iterations: 2, schedule.warmup_iterations: 1}}}
  segmentation:
    backbones: random
    recipes: {ViT-mini: {recipe: mini_segmentation, set: *two}}
"""

MODEL = """\
import timm


def my_vit(image_size, drop_path):
    options = {"img_size": image_size or 48, "patch_size": 8, "drop_path_rate": drop_path}
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=4, embed_dim=64, num_heads=2, **options)
"""


@pytest.mark.slow
def test_a_row_in_every_table_and_a_column_of_its_own(sources: dict[str, Path], tmp_path: Path) -> None:
    column = "ViT-micro"
    (tmp_path / "small.yaml").write_text(SUITE)
    (tmp_path / "my_vit.py").write_text(MODEL)
    names = {"classification": "mini", "detection": "mini-coco", "segmentation": "mini-ade20k"}
    data = "".join(f"  {names[task]}: {root}\n" for task, root in sources.items())
    (tmp_path / "site.yaml").write_text(f"data:\n{data}runtime: {{all: {{workers: 0}}}}\n")
    out = tmp_path / "runs"
    declared = ["--method", "MyMethod", "--pretrain-data", "none", "--model", column, "--recipes-of", "ViT-mini"]
    command = ["suite", "small.yaml", "--site", "site.yaml", "--out", out, "--backbone", "my_vit:my_vit", *declared]
    program = [sys.executable, "-P", "-m", "benchmarks", *map(str, command)]
    environment = {**os.environ, "PYTHONPATH": str(Path(benchmarks.__file__).parents[1])}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    logs = [path.read_text() for path in out.rglob("log.txt")]
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
    for layout in ("transfer", "coco", "ade20k"):
        table = success("table", out, "--layout", layout).stdout
        row = next(line for line in table.splitlines() if "MyMethod" in line)
        assert any(character.isdigit() for character in row), table
        assert column in table
