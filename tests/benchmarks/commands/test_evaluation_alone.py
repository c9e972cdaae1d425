"""`backbench evaluate` where only images to evaluate on lie there, for all tasks."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.support.commands import metric_values, read_record, run_directory
from tests.support.evaluated_runs import evaluate
from tests.support.in_process import refusal, success

WITHOUT_TRAINING: dict[str, tuple[str, ...]] = {
    "classification": ("train",),
    "detection": ("train2017",),
    "segmentation": ("images/training", "annotations/training"),
}
"""What is missing where nobody needs it: COCO's archive of annotations has those of both splits."""

NOTE = "no training images lie beside the evaluation images"


def without_training(task: str, source: Path, root: Path) -> Path:
    """A copy of a data set without its training split."""
    gone = {source / place for place in WITHOUT_TRAINING[task]}
    shutil.copytree(source, root, ignore=lambda folder, names: {name for name in names if Path(folder, name) in gone})
    return root


def test_evaluation_images_alone_are_enough(task: str, sources: dict[str, Path], trained: Path, tmp_path: Path) -> None:
    data = without_training(task, sources[task], tmp_path / "data")
    record = evaluate(data, run_directory(trained), tmp_path / "runs")
    expected, found = metric_values(read_record(trained)), metric_values(record)
    shots = {"many_shot", "medium_shot", "few_shot"}
    assert found == {name: value for name, value in expected.items() if name not in shots}
    assert any(note.startswith(NOTE) for note in record["notes"])
    assert record["data_fingerprint"] != read_record(trained)["data_fingerprint"]


def test_a_class_may_have_no_evaluation_image(small: Path, finished: Path, tmp_path: Path) -> None:
    data = without_training("classification", small, tmp_path / "data")
    absent, *others = sorted(path for path in (data / "val").iterdir() if path.is_dir())
    shutil.rmtree(absent)
    record = evaluate(data, run_directory(finished), tmp_path / "evaluated")
    assert [*record["per_class"]] == [path.name for path in others]
    assert any(f"no image of 1 of {len(others) + 1} classes: {absent.name}" in note for note in record["notes"])

    (data / "val" / "unheard-of").mkdir()
    shutil.copy(next(others[0].iterdir()), data / "val" / "unheard-of")
    message = refusal(
        *("evaluate", "--data", data, "--weights", run_directory(finished), "--out", tmp_path / "evaluated")
    )
    assert f"it knows {absent.name}, which they lack; they have unheard-of, which it does not know" in message


@pytest.mark.parametrize("file", ["val_labels.txt", "synset_labels.txt"])
def test_flat_validation_images_alone(file: str, small: Path, finished: Path, tmp_path: Path) -> None:
    """Of which a file tells the classes: as names, or by their numbers among the network's."""
    weights = run_directory(finished)
    (data := tmp_path / "data").mkdir()
    source = small / "val"
    classes = sorted(path.name for path in source.iterdir() if path.is_dir())
    (data / "val").mkdir()
    lines = []
    for path in sorted(source.rglob("*.jpg"), key=lambda path: f"{path.parent.name}_{path.name}"):
        name = f"{path.parent.name}_{path.name}"
        shutil.copy(path, data / "val" / name)
        label = classes.index(path.parent.name)
        lines.append(path.parent.name if file == "synset_labels.txt" else f"{name} {label}")
    (data / "val" / file).write_text("\n".join(lines))
    found = metric_values(evaluate(data, weights, tmp_path / "evaluated"))
    expected = metric_values(read_record(finished))
    assert found["top1"] == expected["top1"] and found["loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_the_validation_folder_itself_is_not_divided_anew(small: Path, finished: Path, tmp_path: Path) -> None:
    data = without_training("classification", small, tmp_path / "data")
    message = refusal(
        *("evaluate", "--data", data / "val", "--weights", run_directory(finished), "--out", tmp_path / "new"),
        status=3,
    )
    assert message.strip() == f"{data / 'val'}: the validation images themselves. Pass the folder above, {data}"


def test_two_evaluations_that_saw_no_training_images_are_compared(small: Path, finished: Path, tmp_path: Path) -> None:
    data = without_training("classification", small, tmp_path / "data")
    evaluate(data, run_directory(finished), tmp_path / "a")
    evaluate(data, run_directory(finished), tmp_path / "b", "--set", "inference.crop_ratio=1")
    frame = pd.read_csv(run_directory(tmp_path / "a") / "per_image.csv")
    assert "train_images" not in frame and "confidences" in frame
    text = success("compare", run_directory(tmp_path / "a"), run_directory(tmp_path / "b")).output
    assert f"both on the same {len(frame)} images" in text
    assert {"top1", "mean_class_accuracy", "ECE"} <= {line.split("\t")[0] for line in text.splitlines()}
