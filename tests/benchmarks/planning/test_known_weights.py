"""Planning looks once at a file of weights, and finds records without reading the others."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import normalising, registry
from backbones.cache import cache_folder
from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET
from backbones.mae.model import create_mae
from backbones.training.settings import deciding_settings, protocol
from backbones.weights import checkpoints, methods
from benchmarks.planning.cells import PlannedCell, plan_pretraining, plan_task
from benchmarks.planning.known_weights import KnownWeights
from benchmarks.running.writing import write_record
from results import Record, run_directory, store
from tests.support.checkpoint_examples import save
from tests.support.results_examples import make_record

LONG_AGO = time.time_ns() - 10**12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return age(save({"cls_token": torch.zeros(1)}, tmp_path, "weights.pth"))


def age(path: Path, by: int = 0) -> Path:
    os.utime(path, ns=(LONG_AGO + by, LONG_AGO + by))
    return path


def planned(weights: Path, *overrides: str, seed: int = 0) -> PlannedCell:
    backbone = f"vit_tiny_patch16_224={weights}"
    return plan_task("mini_classification", Path("shapes"), backbone, seed=seed, overrides=list(overrides))


def hide_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "read_checkpoint", lambda path, **_: pytest.fail(f"read {path}"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once_for_all_plans(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned(weights)
    assert first.decided_by(sha256(weights), first.normalisation) == first.decided_by(first._sha256, HALF)
    hide_reading(monkeypatch)
    for overrides in ([], ["optimizer.weight_decay=0.3"], ["model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]"]):
        again = planned(weights, *overrides)
        assert len(again.digest) == 12
        assert again.normalisation == (HALF if len(overrides) == 2 else first.normalisation)
    assert planned(weights).digest == first.digest


def test_a_digest_is_known_by_itself(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each plan of a pre-training that begins with a file, or under a recipe that insists on pixels, hashed it."""

    def plans() -> list[PlannedCell]:
        insisting = planned(weights, "model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]")
        return [insisting, plan_pretraining("mae_vit_mini", Path("shapes"), seed=0, overrides=[], begin=weights)]

    for number in range(2):
        before = plans()[number].digest
        with monkeypatch.context() as patch:
            hide_reading(patch)
            assert plans()[number].digest == before
        shutil.rmtree(cache_folder())


def test_what_a_pre_training_can_begin_with_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = age(save(create_mae("mae_vit_mini_patch8").state_dict(), tmp_path, "autoencoder.pth"))

    def plan(*overrides: str) -> PlannedCell:
        return plan_pretraining("mae_vit_mini", Path("photos"), seed=0, overrides=list(overrides), begin=file)

    assert plan().digest  # which makes the digest known, and not that it fits
    plan().require_beginning()
    for _ in range(2):  # and another model is another question
        with pytest.raises(InputError, match=r"Set model\.decoder_depth=1"):
            plan("model.decoder_depth=2").require_beginning()
    hide_reading(monkeypatch)
    plan().require_beginning()


def test_a_method_that_is_registered_otherwise_is_asked_anew(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in's changed mean and std were planned as before, and the run had the new ones."""
    entries = dict(registry._entries)
    monkeypatch.setattr(registry, "_entries", entries)
    for normalisation in (HALF, IMAGENET):
        known = methods.METHODS | {"Mine": methods.Method("Mine", "IN1K", methods.ANY_NAMING, normalisation)}
        monkeypatch.setattr(methods, "METHODS", known)
        monkeypatch.setattr(normalising, "METHODS", known)
        entries["mine"] = registry.BackboneEntry("mine", "Mine", "IN1K", "ViT-Ti", "mine", lambda size, rate: None)
        plan = plan_task("mini_classification", Path("shapes"), f"mine={weights}", seed=0, overrides=[])
        assert plan.normalisation == normalisation


@pytest.mark.parametrize("change", ["size", "time", "nothing that a copy keeps"])
def test_another_file_under_its_name_is_read(weights: Path, tmp_path: Path, change: str) -> None:
    before = planned(weights).digest
    content = weights.read_bytes()
    other = tmp_path / "other.pth"
    other.write_bytes(content + b"\0" if change == "size" else content.replace(b"cls_token", b"cls_taken"))
    age(other.replace(weights), by=1 if change == "time" else 0)
    plan = planned(weights)
    assert plan.digest != before and plan._sha256 == sha256(weights)


TRANSFORMERS = {"image_mean": IMAGENET.mean, "image_std": IMAGENET.std, "image_processor_type": "ViTImageProcessor"}
OPEN_CLIPS = {"preprocess_cfg": {"mean": IMAGENET.mean, "std": IMAGENET.std}}


@pytest.mark.parametrize(
    ("name", "description", "described"),
    [
        ("pytorch_model.bin", "preprocessor_config.json", TRANSFORMERS),
        ("open_clip_pytorch_model.bin", "open_clip_config.json", OPEN_CLIPS),
    ],
)
def test_a_description_that_comes_to_lie_beside_it_is_read(
    tmp_path: Path, name: str, description: str, described: dict[str, object]
) -> None:
    """A planner went on with what it had remembered of the file alone, and found another run finished."""
    weights = age(save({"cls_token": torch.zeros(1)}, tmp_path, name))
    assert planned(weights).normalisation == HALF
    (tmp_path / description).write_text(json.dumps(described))
    assert planned(weights).normalisation == IMAGENET
    (tmp_path / description).unlink()
    assert planned(weights).normalisation == HALF


def test_machines_with_weights_of_their_own_under_one_path_know_both(tmp_path: Path) -> None:
    """In one folder each forgot what the other had read."""
    shown, places = tmp_path / "shown", (tmp_path / "one", tmp_path / "other")
    for value, place in enumerate(places):
        place.mkdir()
        age(save({"cls_token": torch.full((1,), value)}, place, "weights.pth"))
    for turn in range(2):
        for place in places:
            place.rename(shown)
            known, digest = KnownWeights(shown / "weights.pth"), sha256(shown / "weights.pth")
            assert known.sha256 == (digest if turn else None)
            known.remember(digest, {}, HALF)
            shown.rename(place)


def test_what_was_just_written_is_not_trusted(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be written again without its modification time telling."""
    weights.touch()
    before = planned(weights).digest
    content = bytearray(weights.read_bytes())
    state = weights.stat()
    content[content.index(b"cls_token")] += 1  # another name for the tensor
    weights.write_bytes(content)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert planned(weights).digest != before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 1}', None])
def test_a_broken_cache_costs_a_look(weights: Path, cache: Path, content: str | None) -> None:
    before = planned(weights).digest
    (file,) = cache.rglob("*.json")
    if content is None:
        file.write_text(file.read_text().replace('"mean"', '"average"').replace("[\n", "[ 5,"))
    else:
        file.write_text(content)
    assert planned(weights).digest == before


def test_without_a_cache_planning_works(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert planned(weights).digest == planned(weights).digest
    assert KnownWeights(weights).sha256 is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    assert cache_folder() == Path("/nonexistent/.cache/backbench")


def test_what_depends_on_the_name_is_asked_for_each(weights: Path) -> None:
    """timm's own ViT has 0.5, MAE's ImageNet's; the file is the same."""
    assert planned(weights).normalisation == HALF
    plan = plan_task("mini_classification", Path("shapes"), f"mae_vit_mini={weights}", seed=0, overrides=[])
    assert plan.normalisation == IMAGENET
    assert planned(weights).normalisation == HALF


def record_of(cell: PlannedCell, /, **fields: Any) -> Record:
    settings = deciding_settings(cell.recipe.model_copy(update={"precision": "fp32"}))
    about = {"task": cell.recipe.task, "backbone": cell.backbone, "protocol": protocol(settings), "plan": cell.digest}
    return make_record(seed=cell.seed, **about | fields)


def put(out: Path, record: Record, **fields: Any) -> Path:
    directory = run_directory(out, record.task, record.dataset, record.backbone, record.seed, record.key, record.run)
    write_record(directory, record)
    return directory


def test_a_plan_finds_its_latest_run(weights: Path, tmp_path: Path) -> None:
    plan = planned(weights)
    put(tmp_path / "out", record_of(plan, key="0" * 12))
    second = put(tmp_path / "out", record_of(plan, key="0" * 12, run=2))
    other = planned(weights, "precision=fp32")
    assert other.find_record(tmp_path / "out") is None  # its key is another, too
    found = plan.find_record(tmp_path / "out")
    assert found is not None and found[0] == second


def test_an_unreadable_record_beside_it_is_passed_over(weights: Path, tmp_path: Path) -> None:
    plan = planned(weights)
    directory = put(tmp_path / "out", record_of(plan))
    broken = directory.with_name("seed0-ffffffffffff")
    broken.mkdir()
    (broken / "record.json").write_text("{")
    told: list[str] = []
    found = plan.find_record(tmp_path / "out", on_unreadable=lambda error: told.append(str(error)))
    assert found is not None and found[0] == directory
    (message,) = told
    assert message.startswith(str(broken / "record.json"))


def test_records_of_other_plans_are_not_read(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(weights)
    directory = put(tmp_path / "out", record_of(plan))
    for number in range(20):
        put(tmp_path / "out", record_of(plan, key=f"{number:012x}", plan=f"{number:012x}"))
    read: list[Path] = []
    genuine = store.read_record
    monkeypatch.setattr(store, "read_record", lambda path: (read.append(path), genuine(path))[1])
    found = plan.find_record(tmp_path / "out")
    assert found is not None and read == [found[0]] == [directory]
