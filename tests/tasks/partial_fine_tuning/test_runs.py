"""Partial fine-tuning from the command line: what runs leave, their table and curve, and that a killed one goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.planning.recipe import load_recipe
from results import build_table, find_records
from results.partial_picture import curves, draw_partial
from tests.support.commands import Moment, checkpoint_tensors, metric_values, read_record, run_arguments, run_directory
from tests.support.in_process import call, refusal, success
from tests.support.resuming import LOG, finish, finish_killed

SETTINGS: dict[str, Any] = {
    "schedule__epochs": 2,
    "schedule__warmup_epochs": 1,
    "optimizer__batch_size": 16,
    "model__drop_path": 0.2,
    "precision": "fp32",
    "runtime__workers": 0,
    "runtime__log_every": 1,
}
"""Eight updates."""


def partial(data: Path, out: Path, blocks: int, **changes: object) -> list[str]:
    return run_arguments(
        data, out, recipe="mini_partial_fine_tuning", model__trained_blocks=blocks, **SETTINGS | changes
    )


@pytest.fixture(scope="module")
def finished(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a run of two blocks that was never killed."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    return finish(partial(mini, out, 2), out)


@pytest.fixture(scope="module")
def several(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of runs of no, one and four blocks, of which one has two seeds."""
    out = tmp_path_factory.mktemp("several") / "runs"
    for blocks in (0, 1, 4):
        success(*partial(mini, out, blocks))
    success(*partial(mini, out, 1), "--seed", "1")
    return out


def test_what_it_leaves(finished: Path) -> None:
    record = read_record(finished)
    assert {"partial_top1", "top5", "loss"} <= metric_values(record).keys() and "top1" not in metric_values(record)
    assert (record["task"], record["table"]) == ("partial_fine_tuning", "partial")
    assert record["model"] == "ViT-mini, last 2 blocks"
    assert not [each for each in record["deviations"] if "trained_blocks" in each]
    assert any("are frozen: cls_token, pos_embed" in note for note in record["notes"])
    assert not (run_directory(finished) / "weights.safetensors").exists()
    assert "partial_top1" in success("compare", run_directory(finished), run_directory(finished)).output


def test_a_killed_run_ends_the_same(mini: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    finish_killed(partial(mini, out, 2, runtime__checkpoint_every=2), out, [Moment(LOG, 5)])
    reference, found = checkpoint_tensors(finished), checkpoint_tensors(out)
    assert found.keys() == reference.keys()
    assert all(torch.equal(found[name], reference[name]) for name in reference)
    assert metric_values(read_record(out)) == metric_values(read_record(finished))


def test_numbers_of_other_blocks_are_not_ranked_with_one_another(several: Path) -> None:
    table = build_table([record for _, record in find_records(several)], "partial")
    (block,) = table.blocks
    assert [column.label for column in block.columns] == [
        *("ViT-mini, head only", "ViT-mini, last 1 block", "ViT-mini, last 4 blocks")
    ]
    assert not block.remarks


def test_the_curve_has_every_number_of_the_table(several: Path, tmp_path: Path) -> None:
    records = [record for _, record in find_records(several)]
    table = build_table(records, "partial")
    (curve,) = curves(table.blocks[0])
    assert curve.label == "random, none: ViT-mini"
    assert [blocks for blocks, _ in curve.points] == [0, 1, 4]
    assert [number.seeds for _, number in curve.points] == [(0,), (0, 1), (0,)]
    (axes,) = draw_partial(table).axes
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 4]
    assert axes.lines[0].get_ydata().tolist() == [number.value for _, number in curve.points]
    picture = tmp_path / "partial.png"
    assert "last 4 blocks" in success("table", several, "--layout", "partial", "--picture", picture).output
    with Image.open(picture) as image:
        assert image.width > 300 and len(image.convert("RGB").getcolors(2**24) or []) > 3


def test_a_picture_of_anything_else_is_refused(several: Path, tmp_path: Path) -> None:
    picture = tmp_path / "partial.png"
    assert "Give --layout partial as well" in refusal("table", several, "--picture", picture)
    assert "expected a name that ends in .png" in refusal(
        "table", several, "--layout", "partial", "--picture", picture.with_suffix(".svg")
    )
    assert not picture.exists()


def test_more_blocks_than_there_are_are_refused(mini: Path, tmp_path: Path) -> None:
    assert "expected at most 4" in refusal(*partial(mini, tmp_path, 5))
    assert call(*partial(mini, tmp_path, -1)).exit_code == 2


@pytest.mark.parametrize("size", ["base", "large"])
def test_packaged_recipes_are_those_of_fine_tuning(size: str) -> None:
    ours = load_recipe(f"imagenet_partial_vit_{size}", [], {"partial_fine_tuning"}).recipe.model_dump()
    theirs = load_recipe(f"imagenet_vit_{size}", [], {"classification"}).recipe.model_dump()
    assert ours["model"].pop("trained_blocks") == 4
    assert all(ours[name] == theirs[name] for name in ("model", "optimizer", "schedule", "augment", "inference"))
