"""Processes that list unlike data end before the first step, whatever the job: one message says what differs."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from backbones.images.normalisation import IMAGENET
from backbones.pretraining.job import pretrain
from backbones.pretraining.settings import PretrainingRecipe
from backbones.training import same_lists
from backbones.training.same_lists import Listing, require_same_lists
from benchmarks.planning.cells import plan_pretraining, plan_task
from tasks.registry import TASKS
from tests.support.two_machines import in_two

SOURCES = {"pretraining": "unlabelled", "classification": "", "detection": "coco", "segmentation": "ade20k"}


def copy(mini: Path, job: str, data: Path) -> None:
    others = shutil.ignore_patterns("unlabelled", "coco", "ade20k", "dataset.json")
    shutil.copytree(mini / SOURCES[job], data, ignore=others if job == "classification" else None)


def add_an_image(data: Path, split: str) -> str:
    """One more image, with its annotation, named here as the message has it."""
    folders = [path for path in sorted(data.rglob("*")) if path.is_dir() and path.name.startswith(split)]
    folder = folders[-1] if split else data  # images/ comes after annotations/
    image = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    new = image.with_stem(f"{image.stem}b")
    shutil.copy(image, new)
    for annotation in (data / "annotations").glob(f"{split}*/{image.stem}.*"):
        shutil.copy(annotation, annotation.with_stem(new.stem))
    for path in data.glob(f"annotations/instances_{split}*.json"):
        file = json.loads(path.read_text())
        file["images"].append({**file["images"][0], "id": 10**6, "file_name": new.name})
        path.write_text(json.dumps(file))
    return new.relative_to(folder).as_posix()


def carry_out(job: str, rank: int, directory: Path) -> None:
    data, out = directory / "data" / str(rank), directory / "out"
    if job == "pretraining":
        recipe = plan_pretraining("mae_vit_mini", data, seed=0, overrides=[]).recipe
        assert isinstance(recipe, PretrainingRecipe)
        pretrain(recipe, data, out, seed=0, pretrain_data="mini")
    else:
        plan = plan_task(f"mini_{job}", data, "random_vit_mini", seed=0, overrides=[])
        module = TASKS[job].module("task")
        module.fine_tune(plan.recipe, data, plan.backbone, None, out, seed=0, normalisation=IMAGENET)


@pytest.mark.parametrize(
    ("job", "split"),
    [
        ("pretraining", ""),
        *((job, split) for job in ("classification", "detection") for split in ("train", "val")),
        *(("segmentation", split) for split in ("training", "validation")),
    ],
)
def test_one_more_image_on_one_machine_ends_the_job(job: str, split: str, mini: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for rank in range(2):
        copy(mini, job, tmp_path / "data" / str(rank))
    name = add_an_image(tmp_path / "data" / "1", split)
    if job != "pretraining":
        TASKS[job].module("task")
    first, second = in_two(tmp_path, partial(carry_out, job))
    assert second == "FirstFailedError: "
    assert first.startswith(f"DataError: {tmp_path}/data/1 on node1: ")
    assert f"for the first process, in {tmp_path}/data/0 on node0: 1 only here, " in first
    assert f"{name}. Give all machines of a job the same data" in first
    assert not (tmp_path / "out").exists()


def compare(lists: list[list[str]], decided: list[bytes], rank: int, directory: Path) -> None:
    names = lists[rank]
    listing = Listing("images", len(names), ["\0".join(names).encode(), decided[rank]], lambda: names)
    require_same_lists(directory, listing)


@pytest.mark.parametrize(
    ("lists", "decided", "expected"),
    [
        ([["a", "b"], ["a", "b"]], [b"1", b"1"], None),
        ([["a", "b"], ["a", "b"]], [b"1", b"2"], "2 images, and 2 for {}: the same names, with other labels"),
        ([["a", "b"], ["c"]], [b"1", b"1"], "1 images, and 2 for {}: 1 only here, c; 2 only there, a among them"),
    ],
)
def test_what_differs_is_said(
    lists: list[list[str]], decided: list[bytes], expected: str | None, tmp_path: Path
) -> None:
    first, second = in_two(tmp_path, partial(compare, lists, decided))
    if expected is None:
        assert (first, second) == (None, None)
    else:
        assert expected.format(f"the first process, in {tmp_path} on node0") in first and second == "FirstFailedError: "


def test_one_process_compares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_lists, "each_says", lambda word: pytest.fail("asked"))
    require_same_lists(tmp_path, Listing("images", 1, [b"1"], lambda: ["a"]))
