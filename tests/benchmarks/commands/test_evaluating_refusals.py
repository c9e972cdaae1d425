"""What `backbench evaluate` says to what is no finished run, or not this one's, and to settings that came too late."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backbones.trained.file import WEIGHTS
from tests.support.commands import read_record, run_directory
from tests.support.evaluated_runs import EQUAL, arguments, evaluate
from tests.support.in_process import hide_training, refusal, run, success


@pytest.fixture
def spoilt(finished: Path, tmp_path: Path) -> Path:
    """A finished run's folder, to be spoilt."""
    return Path(shutil.copytree(run_directory(finished), tmp_path / "seed0"))


def cut(run: Path) -> None:
    path = run / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def cut_all(run: Path) -> None:
    cut(run)
    shutil.rmtree(run / "checkpoints")


def unfinish(run: Path) -> None:
    (run / "record.json").unlink()


def forget_weights(run: Path) -> None:
    (run / WEIGHTS).unlink()
    shutil.rmtree(run / "checkpoints")


def change_record(run: Path) -> None:
    content = json.loads((run / "record.json").read_text())
    content["key"] = "0123456789ab"
    (run / "record.json").write_text(json.dumps(content))


def spoil_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        with safe_open(run / WEIGHTS, "pt") as file:
            header = file.metadata()
        held = load_file(run / WEIGHTS)
        change(held)
        save_file(held, run / WEIGHTS, header)

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], object], str, int]] = {
    "cut short": (cut_all, "Copy the file anew, or run it anew: repeat the run's command with --rerun", 3),
    "not finished": (unfinish, ": this run has not finished. Repeat its command, to its end", 2),
    "nothing left": (forget_weights, ": neither weights.safetensors nor a checkpoint is left of this run. Run it", 2),
    "another's record": (change_record, "One of them was copied there: put back the run's own", 3),
    "a tensor renamed": (
        spoil_tensors(lambda held: held.update(neck=held.pop("head.weight"))),
        "1 of the network's 56 tensors are not in the file: head.weight",
        2,
    ),
    "a tensor missing": (
        spoil_tensors(lambda held: held.pop("head.bias")),
        "tensors are not in the file: head.bias",
        2,
    ),
    "another head": (
        spoil_tensors(lambda held: held.update({"head.bias": torch.zeros(3)})),
        "have another shape: head.bias (3,) instead of (8,)",
        2,
    ),
    "a number that is none": (
        spoil_tensors(lambda held: held["head.bias"].fill_(float("nan"))),
        "infinite or undefined numbers in head.bias",
        2,
    ),
}


@pytest.mark.parametrize("mistake", SPOILT)
def test_spoilt_runs(mistake: str, small: Path, spoilt: Path, tmp_path: Path) -> None:
    spoil, expected, status = SPOILT[mistake]
    spoil(spoilt)
    message = refusal(*arguments(small, spoilt, tmp_path / "out"), status=status)
    assert expected in message and str(spoilt) in message
    assert not list((tmp_path / "out").rglob("record.json"))


CALLS: dict[str, tuple[tuple[str, ...], str]] = {
    "of the training": (
        ("--set", "optimizer.base_lr=1"),
        "optimizer.base_lr was decided when ",
    ),
    "of the network": (("--set", "model.pool=token"), "An evaluation can have other settings of data, inference, eval"),
    "misspelt": (("--set", "inference.crop_ration=0.9"), 'Did you mean "crop_ratio"?'),
    "no such value": (("--set", "inference.crop_ratio=2"), "inference.crop_ratio"),
    "another task": (("--recipe", "mini_segmentation"), "was trained for classification. Name a recipe of that"),
    "another backbone": (("--backbone", "mae_vit_base"), "is a run's, of mae_vit_mini. Leave --backbone out"),
    "runtime": (("--set", "runtime.device=abacus"), "device"),
}


@pytest.mark.parametrize("mistake", CALLS)
def test_settings_that_came_too_late(mistake: str, small: Path, finished: Path, tmp_path: Path) -> None:
    more, expected = CALLS[mistake]
    assert expected in refusal(*arguments(small, run_directory(finished), tmp_path, *more))


def test_what_is_no_run(small: Path, finished: Path, pretrained: Path, tmp_path: Path) -> None:
    nothing = refusal(*arguments(small, tmp_path / "nowhere", tmp_path))
    assert "nowhere: no such file or folder. Expected a finished run's folder" in nothing
    store = refusal(*arguments(small, finished, tmp_path))
    assert f"a folder of runs. Name one of them: {run_directory(finished)}" in store
    assert "a folder of runs" in refusal(*arguments(small, run_directory(finished).parent, tmp_path))
    autoencoder = refusal(*arguments(small, run_directory(pretrained), tmp_path))
    assert "a pre-training has no head that could be evaluated: fine-tune it" in autoencoder
    evaluate(small, run_directory(finished), tmp_path / "evaluated")
    evaluation = refusal(*arguments(small, run_directory(tmp_path / "evaluated"), tmp_path))
    assert "holds an evaluation alone, no weights. Give the run that trained them, with the key" in evaluation
    assert read_record(finished)["key"] in evaluation
    trace = refusal("compare", run_directory(tmp_path / "evaluated"), run_directory(finished), "--trace")
    assert f"an evaluation of the run {read_record(finished)['key']}, which took no course to compare" in trace


def test_other_classes(small: Path, finished: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(small, tmp_path / "data"))
    for split in ("train", "val"):
        first = min((data / split).iterdir())
        first.rename(first.with_name("zebra"))
    message = refusal(*arguments(data, run_directory(finished), tmp_path / "out"))
    assert "was trained for other classes than the data have (8 and 8)" in message and "zebra" in message


def test_a_run_of_an_earlier_version_is_read_from_its_last_checkpoint(
    task: str, sources: dict[str, Path], trained: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_directory(trained), tmp_path / "seed0"))
    (run / WEIGHTS).unlink()
    record = evaluate(sources[task], run, tmp_path / "runs")
    expected = read_record(trained)
    assert {name: record[name] for name in EQUAL} == {name: expected[name] for name in EQUAL}
    assert record["trained"] == expected["key"]
    assert "/checkpoints/iteration_" in record["load_report"]["path"]


def test_a_run_whose_weights_are_damaged_is_read_from_its_last_checkpoint(
    small: Path, finished: Path, spoilt: Path, tmp_path: Path
) -> None:
    """To repeat the run, as was advised, did nothing: it had finished."""
    cut(spoilt)
    said = success(*arguments(small, spoilt, tmp_path / "runs")).stderr
    assert f"{spoilt / WEIGHTS}: cannot be read, so the run's last checkpoint is taken instead" in said
    record = read_record(tmp_path / "runs")
    assert {name: record[name] for name in EQUAL} == {name: read_record(finished)[name] for name in EQUAL}
    assert "/checkpoints/iteration_" in record["load_report"]["path"]


def test_other_settings_of_the_evaluation(small: Path, finished: Path, tmp_path: Path) -> None:
    """Another number, in a table beside the run's own, which stands; both on the same images, which are compared."""
    store = Path(shutil.copytree(finished, tmp_path / "runs"))
    trained = run_directory(store)
    alone = success("table", store).output
    success(*arguments(small, trained, store))
    assert success("table", store).output == alone
    success(*arguments(small, trained, store, "--set", "inference.crop_ratio=1"))
    records = [json.loads(path.read_text()) for path in store.rglob("record.json")]
    (other,) = [
        record for record in records if record["trained"] and record["protocol"] != read_of(trained)["protocol"]
    ]
    assert other["protocol"]["inference.crop_ratio"] == "1.0"
    assert "inference.crop_ratio=1.0 (reference None)" in other["deviations"]
    assert "crop_ratio=1.0" in success("table", store).output
    chosen = success("table", store, "--where", f"trained={read_of(trained)['key']}").output
    assert "evaluated by itself, after the training" in chosen
    found = success("compare", trained, next(path.parent for path in store.rglob("record.json") if is_of(path, other)))
    assert "both on the same 16 images" in found.output and "inference.crop_ratio" in found.output
    listed = success("runs", store).output
    assert listed.count(f"an evaluation of the run {read_of(trained)['key']}") == 2


def read_of(directory: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((directory / "record.json").read_text())
    return content


def is_of(path: Path, record: dict[str, object]) -> bool:
    return bool(read_of(path.parent)["key"] == record["key"])


def test_a_repeated_run_does_not_take_an_evaluation_for_itself(
    small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is the latest in the folder; nor does it give one the names that are declared for the run."""
    hide_training(monkeypatch)
    store = Path(shutil.copytree(finished, tmp_path / "runs"))
    trained = run_directory(store)
    success(*arguments(small, trained, store))
    before = {path: path.read_bytes() for path in store.rglob("record.json") if path.parent != trained}
    command = [*run(small, store, f"mae_vit_mini={encoder}"), "--method", "Mine"]
    assert f"finished on shapes, if those are the data still: {trained}" in success(*command, "--dry-run").output
    document = json.loads(success(*command, "--json").stdout)
    assert document["directory"] == str(trained) and document["skipped"] and document["record"]["method"] == "Mine"
    assert {path: path.read_bytes() for path in before} == before

    anew = json.loads(success(*arguments(small, trained, tmp_path / "anew"), "--json").stdout)
    assert anew["record"]["method"] == "Mine"
