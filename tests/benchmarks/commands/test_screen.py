"""What a finished run says of its numbers: what was expected of them, and how much of the data they are of."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from backbones.forward_cost import forward_cost
from backbones.registry import create_backbone
from benchmarks.planning.recipe import FOLDER
from tasks.classification.classifier import add_head
from tests.support.commands import read_record, run_arguments
from tests.support.in_process import success

WHOSE = {"method": "random", "pretrain_data": "none"}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a packaged recipe that takes a second and has a published number, of random weights."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    settings = yaml.safe_load((FOLDER / "mini_classification.yaml").read_text())
    settings["schedule"] |= {"epochs": 1, "warmup_epochs": 0}
    settings |= {"dataset": "shapes", "expect": {"top1": 12.34}, "expect_of": WHOSE, "runtime": {"workers": 0}}
    (folder / "quick.yaml").write_text(f"# 12.34 top-1\n{yaml.safe_dump(settings)}")
    monkeypatch.setattr("benchmarks.planning.recipe.FOLDER", folder)
    return "quick"


def test_the_published_number_stands_beside_ours(small: Path, recipe: str, tmp_path: Path) -> None:
    output = success(*run_arguments(small, tmp_path / "out", recipe=recipe)).output
    (line,) = [line for line in output.splitlines() if line.startswith("  top1 ")]
    assert " % (published 12.34 %, random on none)  95 % interval " in line and line.endswith(", 16 images")
    assert "(published" not in output.replace(line, "")
    expected = {metric["name"]: metric["expected"] for metric in read_record(tmp_path / "out")["metrics"]}
    assert expected == dict.fromkeys(("top1", "top5", "loss", "mean_class_accuracy", "ECE")) | {"top1": 12.34}
    frame = pd.read_csv(tmp_path / "out/results.csv").set_index("metric")
    assert frame["expected"].dropna().to_dict() == {"top1": 12.34}
    assert set(frame["evaluation_images"]) == {16}


def test_a_run_tells_what_a_forward_pass_takes(small: Path, recipe: str, tmp_path: Path) -> None:
    output = success(*run_arguments(small, tmp_path / "out", recipe=recipe)).output
    record = read_record(tmp_path / "out")
    assert f"{record['gflops']:.3g} GFLOPs a forward pass at {record['gflops_image_size']} pixels" in output
    (row,) = {*pd.read_csv(tmp_path / "out/results.csv")[["gflops", "gflops_image_size"]].itertuples(index=False)}
    assert tuple(row) == (record["gflops"], record["gflops_image_size"])
    size = record["recipe_settings"]["model"]["image_size"]
    network = add_head(create_backbone("random_vit_mini", image_size=size), 8, "avg")
    assert record["gflops"] == forward_cost(network, size).gflops


def test_of_a_run_that_deviates_nothing_is_expected(small: Path, recipe: str, tmp_path: Path) -> None:
    output = success(*run_arguments(small, tmp_path / "out", recipe=recipe, augment__flip=0.0)).output
    assert "deviates: augment.flip=0.0" in output and "(published" not in output
    assert pd.read_csv(tmp_path / "out/results.csv")["expected"].isna().all()


def test_an_evaluation_on_a_part_is_marked(copied: Path, recipe: str, tmp_path: Path) -> None:
    """Its number looked like any other, but for n_eval."""
    victim = sorted((copied / "val").glob("*/*"))[3]
    victim.write_bytes(b"no image")
    allowed = {"evaluation__allow_unreadable": "true"}
    output = success(*run_arguments(copied, tmp_path / "out", recipe=recipe, **allowed)).output
    assert ", 15 of 16 images" in output and "(published" not in output
    record = read_record(tmp_path / "out")
    assert (record["evaluation_images"], {metric["n_eval"] for metric in record["metrics"]}) == (16, {15})
    table = success("table", tmp_path / "out", "--layout", "transfer").output
    assert "\n- †a: evaluated on 15 of 16 images\n" in table
