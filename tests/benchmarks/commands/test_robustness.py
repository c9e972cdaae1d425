"""`backbench evaluate` on ImageNet-A, -C, -R, -Sketch, -V2 and -ReaL, from the folders to the table."""

import csv
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from timm.data.real_labels import RealLabelsImagenet
from torch import nn

from backbones.images.crops import evaluation_crop
from backbones.images.pixels import normalise
from backbones.images.reading import read_image
from tasks.classification.metric import ClassificationMetric
from tasks.datasets.imagenet_variants.classes import classes_of_subset, imagenet_classes
from tasks.datasets.imagenet_variants.corruptions import ALEXNET_ERRORS, all_parts, category_of
from tests.support.commands import metric_values, read_record, run_directory, torchrun
from tests.support.folders import age
from tests.support.in_process import call, refusal, success
from tests.support.results_examples import read_markdown
from tests.support.variant_examples import (
    FEW,
    IMAGENET,
    draw_classes,
    draw_corrupted,
    draw_validation,
    write_classifier,
    write_image,
    write_reassessed,
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    directory = tmp_path_factory.mktemp("run")
    return directory, write_classifier(directory)


@pytest.fixture(scope="module")
def weights(classifier: tuple[Path, nn.Module]) -> Path:
    return classifier[0]


@pytest.fixture(scope="module")
def network(classifier: tuple[Path, nn.Module]) -> nn.Module:
    return classifier[1]


TWO = ("gaussian_noise", "fog")
PARTS = [part for part in all_parts() if part[0] in TWO]


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_corrupted(tmp_path_factory.mktemp("imagenet-c"), PARTS)


@pytest.fixture
def two_corruptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no others."""
    monkeypatch.setattr("tasks.datasets.imagenet_variants.corrupted.CORRUPTIONS", TWO)


def arguments(recipe: str, data: Path, weights: Path, out: Path, *more: object) -> list[object]:
    settings = ("--set", "runtime.device=cpu", "--set", "runtime.workers=0")
    return ["evaluate", "--recipe", recipe, "--data", data, "--weights", weights, "--out", out, *settings, *more]


def evaluate(recipe: str, data: Path, weights: Path, out: Path, *more: object) -> dict[str, Any]:
    success(*arguments(recipe, data, weights, out, *more))
    return read_record(out)


def logits_of(network: nn.Module, paths: list[Path], ratio: float | None) -> torch.Tensor:
    """What the network says of each image by itself."""
    with torch.inference_mode():
        crops = torch.stack([evaluation_crop(read_image(path), 48, ratio) for path in paths])
        logits: torch.Tensor = network(normalise(crops, IMAGENET)).float()
    return logits


@pytest.mark.parametrize("letter", ["a", "r"])
def test_answers_are_restricted_to_the_200_classes(
    letter: str, weights: Path, network: nn.Module, tmp_path: Path
) -> None:
    """As their authors do: the columns of the 200, and the best of those."""
    data = draw_classes(tmp_path / f"imagenet-{letter}", classes_of_subset(letter)[::20])
    record = evaluate(f"imagenet_{letter}", data, weights, tmp_path / "runs")
    paths = sorted(data.rglob("*.jpg"))
    names = imagenet_classes()
    columns = [names.index(name) for name in classes_of_subset(letter)]
    outputs = logits_of(network, paths, None)[:, columns]
    targets = torch.tensor([classes_of_subset(letter).index(path.parent.name) for path in paths])
    assert metric_values(record)["top1"] == 100 * (outputs.argmax(1) == targets).double().mean().item()
    frame = pd.read_csv(run_directory(tmp_path / "runs") / "per_image.csv")
    assert [columns[best] for best in outputs.argmax(1)] == frame["predictions"].tolist()
    assert frame["confidences"].to_numpy() == pytest.approx(outputs.softmax(1).amax(1).numpy(), rel=1e-4)
    assert metric_values(record)["loss"] == pytest.approx(
        nn.functional.cross_entropy(outputs, targets).item(), rel=1e-4
    )
    assert (record["dataset"], record["table"]) == (f"own-imagenet-{letter}", "robustness")


def restated_mce(right: dict[tuple[str, int], np.ndarray]) -> tuple[float, float]:
    """Step by step as ImageNet-C's authors do it: errors by severity, their mean, AlexNet's, the mean over all."""
    rates = {}
    for corruption in dict.fromkeys(name for name, _ in right):
        errs = []
        for severity in range(1, 6):
            correct = right[corruption, severity]
            errs.append(1 - 1.0 * correct.sum() / len(correct))
        rates[corruption] = np.mean(errs)
    relative = [rate / ALEXNET_ERRORS[corruption] for corruption, rate in rates.items()]
    return 100 * float(np.mean(relative)), 100 * float(np.mean([*rates.values()]))


@pytest.mark.usefixtures("two_corruptions")
def test_mce_is_that_of_its_authors(weights: Path, network: nn.Module, corrupted: Path, tmp_path: Path) -> None:
    assert_mce(weights, network, corrupted, PARTS, tmp_path)


@pytest.mark.slow
def test_mce_of_all_parts_is_that_of_its_authors(weights: Path, network: nn.Module, tmp_path: Path) -> None:
    data = draw_corrupted(tmp_path / "imagenet-c", all_parts(), images=1)
    assert_mce(weights, network, data, all_parts(), tmp_path / "runs")


def assert_mce(weights: Path, network: nn.Module, data: Path, parts: Sequence[tuple[str, int]], out: Path) -> None:
    record = evaluate("imagenet_c", data, weights, out)
    names = imagenet_classes()
    right, predictions = {}, {}
    for corruption, severity in parts:
        folder = data / category_of(corruption) / corruption / str(severity)
        paths = sorted(folder.rglob("*.JPEG"))
        targets = np.array([names.index(path.parent.name) for path in paths])
        predictions[corruption, severity] = logits_of(network, paths, 1.0).argmax(1).numpy()
        right[corruption, severity] = predictions[corruption, severity] == targets
    found = metric_values(record)
    mce, mean_error = restated_mce(right)
    assert (found["mCE"], found["mean_error"]) == (pytest.approx(mce, abs=1e-9), pytest.approx(mean_error, abs=1e-9))
    assert [*found][:2] == ["mCE", "mean_error"] and len(found) == 2 + len(parts) // 5
    (first,) = [metric for metric in record["metrics"] if metric["name"] == "mCE"]
    assert first["n_eval"] == len(targets) and first["ci_low"] <= first["value"] <= first["ci_high"]
    directory = run_directory(out)
    with (directory / "corruptions.csv").open() as file:
        lines = [*csv.DictReader(file)]
    assert [(line["corruption"], int(line["severity"])) for line in lines] == parts
    assert [float(line["error"]) for line in lines] == [100 * (1 - right[part].mean()) for part in parts]
    frame = pd.read_csv(directory / "per_image.csv")
    assert frame["mCE"].mean() == pytest.approx(mce) and frame["image"][0] == f"{FEW[0]}/ILSVRC2012_val_00000001.JPEG"
    assert not (directory / "checkpoints" / "parts").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("two_corruptions")
def test_the_layout_without_categories_is_the_same_data(weights: Path, corrupted: Path, tmp_path: Path) -> None:
    flat = draw_corrupted(tmp_path / "flat", PARTS, categories=False)
    one, other = (evaluate("imagenet_c", data, weights, tmp_path / data.name) for data in (corrupted, flat))
    assert one["data_fingerprint"] == other["data_fingerprint"]
    assert metric_values(one) == metric_values(other)


@pytest.mark.usefixtures("two_corruptions")
def test_a_killed_evaluation_goes_on_with_the_next_part(
    weights: Path, corrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is finished is not looked at again, and the result is that of an evaluation in one go."""
    from backbones.images import views

    read: list[Path] = []

    def reading(path: Path) -> torch.Tensor:
        read.append(path)
        if len(read) == 8 * 4 + 3:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(views, "read_image", reading)
    command = arguments("imagenet_c", corrupted, weights, tmp_path / "killed")
    with pytest.raises(BaseException):  # noqa: B017 - whatever ends the process
        success(*command)
    success(*command)
    assert len(read) == 8 * 10 + 3
    whole = evaluate("imagenet_c", corrupted, weights, tmp_path / "whole")
    assert metric_values(read_record(tmp_path / "killed")) == metric_values(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("two_corruptions")
def test_a_signal_between_two_parts_ends_it_well(
    weights: Path, corrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's were the death of it, without a word."""
    made: list[ClassificationMetric] = []

    def metric(*given: Any, **named: Any) -> ClassificationMetric:
        made.append(ClassificationMetric(*given, **named))
        if len(made) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return made[-1]

    monkeypatch.setattr("tasks.classification.corrupted.ClassificationMetric", metric)
    former = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody listens"))
    try:
        ended = call(*arguments("imagenet_c", corrupted, weights, tmp_path / "runs"))
    finally:
        signal.signal(signal.SIGTERM, former)
    assert ended.exit_code == 130 and "backbench: interrupted; repeat the command" in ended.output
    assert len(made) == 3 and len([*tmp_path.rglob("evaluation.pt")]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("two_corruptions")
def test_two_classifiers_are_compared_on_the_same_corrupted_images(
    weights: Path, corrupted: Path, tmp_path: Path
) -> None:
    write_classifier(tmp_path / "other", scale=0.3)
    for name, run in (("a", weights), ("b", tmp_path / "other")):
        evaluate("imagenet_c", corrupted, run, tmp_path / name)
    text = success("compare", run_directory(tmp_path / "a"), run_directory(tmp_path / "b")).output
    assert "both on the same 8 images" in text
    assert {"mCE", "mean_error", "CE_fog"} <= {line.split("\t")[0] for line in text.splitlines()}


@pytest.mark.usefixtures("two_corruptions")
def test_an_unreadable_corrupted_image_counts_in_no_part(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All such are named before the first part is evaluated."""
    data = draw_corrupted(tmp_path / "imagenet-c", PARTS, images=1)
    broken = data / "weather" / "fog" / "3" / FEW[1] / "ILSVRC2012_val_00000002.JPEG"
    broken.write_bytes(b"no image")
    message = refusal(*arguments("imagenet_c", data, weights, tmp_path / "runs"), status=3)
    assert "1 unreadable evaluation image(s)" in message and str(broken) in message
    (data / "noise/gaussian_noise/5" / FEW[0] / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"no image either")
    with monkeypatch.context() as patch:
        patch.setattr("mmengine.runner.ValLoop.run", lambda loop: pytest.fail("a part was evaluated"))
        message = refusal(*arguments("imagenet_c", data, weights, tmp_path / "runs"), status=3)
    assert "2 unreadable evaluation image(s)" in message and str(broken) in message
    write_image(data / "noise/gaussian_noise/5" / FEW[0] / "ILSVRC2012_val_00000001.JPEG", 1)
    record = evaluate("imagenet_c", data, weights, tmp_path / "runs", "--set", "evaluation.allow_unreadable=true")
    assert {metric["n_eval"] for metric in record["metrics"]} == {3}
    assert any("1 of 4 images left out" in note for note in record["notes"])


def test_an_answer_among_several_labels_is_right(weights: Path, network: nn.Module, tmp_path: Path) -> None:
    """As timm counts it, whose own evaluator is given the same logits."""
    numbers = [1, 2, 3, 5, 8, 40_000]
    paths = [draw_validation(tmp_path / "val", [number]) / f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers]
    logits = logits_of(network, paths, None)
    best = logits.topk(7, dim=1).indices.tolist()
    labels = {1: [best[0][0]], 2: [999, best[1][0], 7], 3: [best[2][3], 1], 5: [best[3][6]], 40_000: [0, 1]}
    write_reassessed(tmp_path / "real.json", labels)
    record = evaluate("imagenet_real", tmp_path, weights, tmp_path / "runs")
    reference = RealLabelsImagenet([f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 50_001)], tmp_path / "real.json")
    for number, row in zip(numbers, logits, strict=True):
        reference.sample_idx = number - 1
        reference.add_result(row[None])
    found = metric_values(record)
    assert {"top1": found["top1"], "top5": found["top5"]} == {
        "top1": pytest.approx(reference.get_accuracy(1)),
        "top5": pytest.approx(reference.get_accuracy(5)),
    }
    assert found["top1"] == pytest.approx(40) and set(found) == {"top1", "top5", "ECE"}
    assert {metric["n_eval"] for metric in record["metrics"]} == {5}
    assert any("1 of 6 images left out" in note for note in record["notes"])


def test_the_recipe_decides_what_a_run_is_measured_against(weights: Path, tmp_path: Path) -> None:
    """Its own data set and crop are no deviation; another crop is one."""
    data = draw_classes(tmp_path / "sketch", FEW)
    assert evaluate("imagenet_sketch", data, weights, tmp_path / "a")["deviations"] == []
    cropped = evaluate("imagenet_sketch", data, weights, tmp_path / "b", "--set", "inference.crop_ratio=1")
    assert cropped["deviations"] == ["inference.crop_ratio=1.0 (reference None)"]
    ((heading, *rows), *_) = read_markdown(success("table", tmp_path / "a", "--layout", "robustness").output)
    assert heading == ["data set", "method", "pre-train data", "ViT-mini"]
    assert [row[:3] for row in rows] == [["own-imagenet-sketch", "MAE", "IN1K"]]


def test_a_classifier_of_fewer_images_has_no_number_of_imagenets(tmp_path: Path) -> None:
    """A run on a part of ImageNet's images stands under a name of its own, and its evaluations say so."""
    write_classifier(tmp_path / "run", dataset="own-imagenet1k")
    record = evaluate("imagenet_sketch", draw_classes(tmp_path / "sketch", FEW), tmp_path / "run", tmp_path / "out")
    assert record["deviations"] == ["trained on own-imagenet1k (reference imagenet1k)"]


def test_a_classifier_of_other_classes_is_refused(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "sketch", FEW)
    write_classifier(tmp_path / "subset", classes=[*imagenet_classes()[:100]])
    message = refusal(*arguments("imagenet_sketch", data, tmp_path / "subset", tmp_path / "runs"))
    assert "was trained for other classes than the data have (100 and 1,000)" in message


def test_there_is_nothing_to_train_on(weights: Path, tmp_path: Path) -> None:
    """Nor is there after an evaluation, which keeps what it found."""
    data = age(draw_classes(tmp_path / "sketch", FEW))
    evaluate("imagenet_sketch", data, weights, tmp_path / "evaluated")
    message = refusal(
        *("run", "--recipe", "imagenet_sketch", "--data", data, "--backbone", "random_vit_mini", "--out", tmp_path)
    )
    assert message.startswith("data set imagenet-sketch: is there to evaluate") and "backbench evaluate" in message


@pytest.mark.usefixtures("two_corruptions")
def test_a_first_look_at_some_of_the_images(weights: Path, corrupted: Path, tmp_path: Path) -> None:
    """Of ImageNet-C the same images in every part."""
    record = evaluate("imagenet_c", corrupted, weights, tmp_path / "runs", "--limit", 3)
    whole = evaluate("imagenet_c", corrupted, weights, tmp_path / "whole")
    assert {metric["n_eval"] for metric in record["metrics"]} == {3} and record["evaluation_images"] == 8
    frames = [pd.read_csv(run_directory(tmp_path / name) / "per_image.csv", index_col=0) for name in ("runs", "whole")]
    pd.testing.assert_frame_equal(frames[0], frames[1].loc[frames[0].index])
    assert metric_values(whole)["mCE"] == frames[1]["mCE"].mean()


@pytest.mark.slow
def test_two_processes_find_the_same(weights: Path, tmp_path: Path) -> None:
    data = draw_corrupted(tmp_path / "imagenet-c", all_parts(), images=1)
    one = evaluate("imagenet_c", data, weights, tmp_path / "one")
    torchrun([*map(str, arguments("imagenet_c", data, weights, tmp_path / "two"))])
    two = read_record(tmp_path / "two")
    assert two["world_size"] == 2 and metric_values(one) == metric_values(two)
