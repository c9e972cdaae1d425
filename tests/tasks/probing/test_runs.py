"""Probes through the command line: features are computed once, and what is learnt from them is scikit-learn's."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from backbones import kept_features
from backbones.errors import InputError
from backbones.frozen import FrozenBackbone
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.images.reading import UnreadableImage
from backbones.images.views import View
from backbones.kept_features import KeptFeatures, features_folder, remove_features
from backbones.registry import create_backbone
from backbones.training.randomness import seed_generators
from results import Record, find_records
from tasks.data_sets import open_labelled
from tasks.datasets.labelled import LabelledSplit
from tasks.probing import features as passes
from tasks.probing import linear_grid
from tasks.probing.features import FeatureStep
from tasks.probing.linear_grid import Head, Schedule, batches
from tasks.probing.probes import hold_out
from tasks.probing.samples import ShownImages
from tests.support.in_process import call, refusal, success
from tests.support.two_machines import backbench_in_two

ROOT = Path(__file__).resolve().parents[3]
PROBES = ("mini_knn", "mini_linear_grid", "mini_logistic_regression", "mini_few_labels")
QUICK = {
    "mini_linear_grid": {"grid.iterations": 40, "grid.rates": "[0.001,0.1]", "held_out.share": 0.25},
    "mini_logistic_regression": {"regression.steps": 3, "regression.least_exponent": -1, "held_out.share": 0.25},
    "mini_few_labels": {"few_labels.per_class": "[1,2]", "few_labels.draws": 2},
}


def arguments(
    recipe: str, data: Path, out: Path, *more: object, backbone: str = "random_vit_mini", **changes: object
) -> list[object]:
    settings = QUICK.get(recipe, {}) | {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    own = ["--set", "runtime.workers=0", "--set", "runtime.device=cpu"]
    return ["run", "--recipe", recipe, "--data", data, "--backbone", backbone, "--out", out, *own, *overrides, *more]


def only(out: Path) -> Record:
    ((_, record),) = find_records([out])
    return record


def values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """How many images the backbone was shown, call by call, in a cache folder of this module's own."""
    counts: list[int] = []
    forward = FeatureStep.forward

    def counting(self: FeatureStep, images: Tensor, mode: str, **about: object) -> list[dict[str, Tensor]]:
        counts.append(len(images))
        return forward(self, images, mode, **about)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("features")))
        monkeypatch.setattr(FeatureStep, "forward", counting)
        yield counts


@pytest.fixture(scope="module")
def probed(mini: Path, shown: list[int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of each, of which only the first showed its backbone the images."""
    out, before = tmp_path_factory.mktemp("probes") / "store", sum(shown)
    for recipe in PROBES:
        success(*arguments(recipe, mini, out))
        assert sum(shown) - before == 64 + 80
    return out


def of(out: Path, task: str) -> tuple[Path, Record]:
    (found,) = [(directory, record) for directory, record in find_records([out]) if record.task == task]
    return found


def kept(split: int) -> np.ndarray:
    """The class tokens of the images of a split, by how many there are, as the first probe took them."""
    paths = sorted(features_folder().glob("*/token1.npy"), key=lambda path: path.stat().st_mtime_ns)
    arrays = [np.load(path) for path in paths]
    return next(each for each in arrays if len(each) == split)


def test_nearest_neighbours_are_scikit_learns(probed: Path, mini: Path) -> None:
    _, record = of(probed, "knn")
    train, val = open_labelled("mini", mini)
    for count in (10, 20):
        peer = KNeighborsClassifier(
            count, weights=lambda distances: np.exp((1 - distances) / 0.07), metric="cosine", algorithm="brute"
        ).fit(kept(64).astype(np.float64), train.labels)
        right = peer.predict(kept(80).astype(np.float64)) == val.labels
        assert values(record)[f"knn{count}_top1"] == pytest.approx(100 * right.mean())
    assert "knn100_top1 is of 64 neighbours: there are no more training images" in record.notes


def test_logistic_regression_is_scikit_learns(probed: Path, mini: Path) -> None:
    _, record = of(probed, "logistic_regression")
    train, val = open_labelled("mini", mini)
    (note,) = [note for note in record.notes if note.startswith("of 3 strengths")]
    strength = float(note.split("C = ")[1].split()[0])
    features = [each / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True) for each in (kept(64), kept(80))]
    peer = LogisticRegression(C=strength, max_iter=100_000, tol=1e-9).fit(features[0], train.labels)
    assert values(record)["logistic_top1"] == pytest.approx(100 * (peer.predict(features[1]) == val.labels).mean())


def test_few_labels_have_mean_and_spread(probed: Path) -> None:
    directory, record = of(probed, "few_labels")
    found = values(record)
    assert found.keys() == {"labels1_top1", "labels2_top1", "labels1_spread", "labels2_spread"}
    column = np.genfromtxt(directory / "per_image.csv", delimiter=",", skip_header=1, usecols=1)
    assert {*column} <= {0.0, 50.0, 100.0} and column.mean() == pytest.approx(found["labels1_top1"])


def test_the_table_has_a_column_for_each(probed: Path) -> None:
    shown_table = success("table", probed).output
    assert all(
        f"{label} ViT-mini" in shown_table for label in ("20-NN", "linear grid", "logistic", "1 label", "2 labels")
    )
    assert "mini: top-1 accuracy in % of what is trained on frozen features" in shown_table


def test_classes_have_the_metric_that_a_probe_is_judged_by(probed: Path) -> None:
    for task, name in (("knn", "knn20_top1"), ("few_labels", "labels2_top1")):
        record = of(probed, task)[1]
        per_image = np.genfromtxt(of(probed, task)[0] / "per_image.csv", delimiter=",", names=True, dtype=None)
        assert np.mean([*record.per_class.values()]) == pytest.approx(per_image[name].mean())  # as many of each class


def test_two_backbones_are_compared_on_the_same_images(probed: Path, mini: Path, tmp_path: Path) -> None:
    success(*arguments("mini_knn", mini, tmp_path / "other", "--seed", 1))
    found = success("compare", of(probed, "knn")[0], of(tmp_path / "other", "knn")[0]).output
    assert "knn20_top1" in found


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("model__image_size", 64),
        ("precision", "bf16"),
        ("model__mean", "[0.5,0.5,0.5]"),
        ("inference__crop_ratio", 1.0),
    ],
)
def test_what_changes_features_has_them_computed_anew(
    mini: Path, shown: list[int], probed: Path, tmp_path: Path, change: str, value: object
) -> None:
    more: dict[str, object] = {"model__std": "[0.5,0.5,0.5]"} if change == "model__mean" else {}
    before = sum(shown)
    success(*arguments("mini_knn", mini, tmp_path, **{change: value}, **more))
    assert sum(shown) - before == 64 + 80


def test_a_changed_image_and_another_seed_have_them_computed_anew(
    mini: Path, shown: list[int], probed: Path, tmp_path: Path
) -> None:
    data = tmp_path / "images"
    shutil.copytree(mini, data, ignore=shutil.ignore_patterns("unlabelled", "coco", "ade20k"))
    counts = []
    for step in range(3):
        before = sum(shown)
        success(*arguments("mini_knn", data, tmp_path / f"out{step}", "--seed", 2 if step == 2 else 0))
        counts.append(sum(shown) - before)
        path = next((data / "val").rglob("*.png"), None) or next((data / "val").rglob("*.jp*g"))
        if step == 0:
            Image.new("RGB", (56, 56), "red").save(path)
    assert counts == [0, 80, 64 + 80]  # a copy of the same files has what they have


def test_settings_of_the_probe_alone_take_the_same_features(
    mini: Path, shown: list[int], probed: Path, tmp_path: Path
) -> None:
    before = sum(shown)
    success(*arguments("mini_knn", mini, tmp_path / "a", knn__temperature=0.1))
    success(
        *arguments("mini_logistic_regression", mini, tmp_path / "b", features__pool="token_and_avg", features__layers=2)
    )
    assert sum(shown) == before


def test_permuted_labels_of_evaluation_images_change_the_score_alone(
    mini: Path, probed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.probing import task

    def permuted(dataset: str, data: Path) -> object:
        train, val = open_labelled(dataset, data)
        return train, replace(val, labels=np.roll(val.labels, 17))

    monkeypatch.setattr(task, "open_labelled", permuted)
    for name, recipe in (("linear_grid", "mini_linear_grid"), ("logistic_regression", "mini_logistic_regression")):
        out = tmp_path / name
        success(*arguments(recipe, mini, out))
        honest = of(probed, name)[1]
        assert [note for note in only(out).notes if "was chosen" in note] == [
            note for note in honest.notes if "was chosen" in note
        ]


def test_an_interrupted_pass_goes_on(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(passes, "BLOCK", 24)
    forward, counts = FeatureStep.forward, [0]

    def ending(self: FeatureStep, images: Tensor, mode: str, **about: object) -> list[dict[str, Tensor]]:
        counts[0] += len(images)
        if counts[0] == 64:
            raise KeyboardInterrupt
        return forward(self, images, mode, **about)

    monkeypatch.setattr(FeatureStep, "forward", ending)
    assert call(*arguments("mini_knn", mini, tmp_path / "out")).exit_code == 130
    counts[0] = 1000
    success(*arguments("mini_knn", mini, tmp_path / "out"))
    assert counts[0] == 1000 + 16 + 80
    monkeypatch.setattr(FeatureStep, "forward", forward)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    success(*arguments("mini_knn", mini, tmp_path / "whole"))
    assert values(only(tmp_path / "out")) == values(only(tmp_path / "whole"))


def test_ctrl_c_while_the_last_features_are_written_ends_before_the_next_pass(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write, images = KeptFeatures.write, list[int]()

    def interrupted(self: KeptFeatures, start: int, *features: Any) -> None:
        images.append(self.images)
        write(self, start, *features)
        if len(images) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(KeptFeatures, "write", interrupted)
    assert call(*arguments("mini_knn", mini, tmp_path / "out")).exit_code == 130
    assert images == [64]
    success(*arguments("mini_knn", mini, tmp_path / "out"))
    assert images == [64, 80]


def test_features_of_one_run_make_no_room_for_one_another(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_features, "LIMIT", 1)
    success(*arguments("mini_knn", mini, tmp_path / "out"))


def test_features_that_are_removed_meanwhile_are_told(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finish = KeptFeatures.finish

    def removing(self: KeptFeatures) -> None:
        finish(self)
        remove_features(self.folder)

    monkeypatch.setattr(KeptFeatures, "finish", removing)
    message = refusal(*arguments("mini_knn", mini, tmp_path / "out"), status=75)
    assert message.endswith("features were removed meanwhile. Repeat the command")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_features_that_do_not_fit_are_told(
    error: RuntimeError, mini: Path, probed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*about: object) -> None:
        raise error

    monkeypatch.setattr(linear_grid, "train", full)
    message = refusal(*arguments("mini_linear_grid", mini, tmp_path), status=75)
    assert "of features are to be on this device" in message and "grid.layers" in message and str(error) in message
    assert "activation_checkpointing" not in message


def test_an_image_that_could_not_be_read_in_one_view_is_not_learnt_from(
    mini: Path, probed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read, missed = ShownImages._read, list[Path]()

    def once(self: ShownImages, index: int) -> Tensor:
        if self.draw and not missed:
            missed.append(self.paths[index])
            raise UnreadableImage(missed[0], "Stale file handle")
        return read(self, index)

    counts, train = list[int](), linear_grid.train

    def counting(features: Any, targets: Tensor, *about: Any) -> list[Head]:
        counts.append(len(targets))
        return train(features, targets, *about)

    monkeypatch.setattr(ShownImages, "_read", once)
    monkeypatch.setattr(linear_grid, "train", counting)
    success(*arguments("mini_linear_grid", mini, tmp_path / "out", grid__views=1))
    assert counts[-1] == 63 and len(only(tmp_path / "out").corrupt_images) == 1


def test_an_evaluation_image_that_could_not_be_read_for_a_while_is_no_lasting_harm(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = ShownImages._read

    def refused(self: ShownImages, index: int) -> Tensor:
        if index == 70:
            raise UnreadableImage(self.paths[index], "Stale file handle")
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(ShownImages, "_read", refused)
        assert "Stale file handle" in refusal(*arguments("mini_knn", mini, tmp_path / "out"), status=3)
        assert "Stale file handle" in refusal(*arguments("mini_knn", mini, tmp_path / "out"), status=3)

    def locked(folder: Path) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(passes, "remove_features", locked)
        message = refusal(*arguments("mini_knn", mini, tmp_path / "out")).splitlines()[-1]
        assert "cannot be removed: Permission denied. Set XDG_CACHE_HOME" in message
    assert "can be read by now" in success(*arguments("mini_knn", mini, tmp_path / "out")).output


def test_files_are_looked_at_once_for_all_views(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    looked: list[Path] = []
    monkeypatch.setattr(passes, "state_of", lambda path: looked.append(path) or [1, 2])  # type: ignore[func-returns-value]
    success(*arguments("mini_linear_grid", mini, tmp_path / "out", grid__views=2))
    assert len(looked) == 64 + 80


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            "mini_few_labels",
            {"few_labels__per_class": "[20]"},
            'key "few_labels.per_class": 20 images of each class, and arrow has 8 to train on. '
            "Use --set few_labels.per_class=[1,2,5]",
        ),
        (
            "mini_linear_grid",
            {"held_out__share": 0.001},
            'key "held_out.share": 0.001 of 64 training images in 8 classes are none. Give a larger share',
        ),
        (
            "mini_linear_grid",
            {"held_out__share": 0.999},
            'key "held_out.share": 0.999 of 64 training images in 8 classes would leave none to learn from. '
            "Give a smaller share",
        ),
    ],
)
def test_too_few_images_are_told(
    mini: Path, shown: list[int], tmp_path: Path, recipe: str, changes: dict[str, object], message: str
) -> None:
    before = len(shown)
    assert refusal(*arguments(recipe, mini, tmp_path, **changes)).startswith(message)
    assert len(shown) == before  # hours of a pass over ImageNet come after


@pytest.mark.parametrize("share", [0.01, 0.1, 0.9])
def test_where_each_class_has_one_image_no_share_is_advised(share: float) -> None:
    with pytest.raises(InputError, match=r"each of 8 classes has one training image.*few_labels\.per_class=\[1\]"):
        hold_out(torch.arange(8), share, 0)


@pytest.mark.parametrize(
    ("recipe", "key"), [("mini_knn", "features.pool=avg"), ("mini_linear_grid", "grid.pools=[avg]")]
)
def test_a_backbone_without_a_class_token(mini: Path, shown: list[int], tmp_path: Path, recipe: str, key: str) -> None:
    message = refusal(*arguments(recipe, mini, tmp_path, backbone="resnet10t", model__image_size=64))
    assert "resnet10t has no class token" in message and f"--set {key}" in message


def test_more_blocks_than_there_are(mini: Path, shown: list[int], tmp_path: Path) -> None:
    message = refusal(*arguments("mini_knn", mini, tmp_path, features__pool="avg", features__layers=2))
    assert message.startswith('key "features.layers": 2') and "--set features.layers=1" in message


def test_an_evaluation_needs_a_network(mini: Path, probed: Path, tmp_path: Path) -> None:
    directory, _ = of(probed, "knn")
    message = refusal("evaluate", "--weights", directory, "--data", mini, "--out", tmp_path)
    assert "knn" in message
    message = refusal("evaluate", "--recipe", "mini_knn", "--weights", directory, "--data", mini, "--out", tmp_path)
    assert "knn" in message


def images_of(split: LabelledSplit) -> Tensor:
    return torch.stack([View(48).read(path) for path in split.paths])


def test_kept_features_are_those_that_the_backbone_gives(probed: Path, mini: Path) -> None:
    train, val = open_labelled("mini", mini)
    seed_generators(0, "weights")
    network = FrozenBackbone(create_backbone("random_vit_mini", image_size=48), 48)
    for split in (train, val):
        with torch.no_grad():
            found = network(normalise(images_of(split), IMAGENET))
        np.testing.assert_allclose(kept(len(split.paths)), found["token1"].numpy(), rtol=1e-4, atol=1e-5)


def test_it_is_the_plain_probe_epoch_by_epoch(probed: Path, mini: Path, tmp_path: Path) -> None:
    """A linear layer behind the network, which sees every image anew in every epoch."""
    rate, iterations, size = 0.1, 60, 16
    settings = {
        "grid__rates": f"[{rate}]",
        "grid__pools": "[token]",
        "grid__layers": "[1]",
        "grid__iterations": iterations,
    }
    success(*arguments("mini_linear_grid", mini, tmp_path, grid__batch_size=size, **settings))
    train, val = open_labelled("mini", mini)
    seed_generators(0, "weights")
    network = FrozenBackbone(create_backbone("random_vit_mini", image_size=48), 48)
    head = torch.nn.Linear(network.backbone.embed_dim, len(train.classes))
    torch.nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), lr=rate * size / 256, momentum=0.9)
    curve = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    shown_images, targets = images_of(train), torch.from_numpy(np.array(train.labels)).long()
    for batch in batches(len(targets), Schedule(iterations, size), seed=0):
        with torch.no_grad():
            features = network(normalise(shown_images[batch], IMAGENET))["token1"]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(features), targets[batch]).backward()
        optimizer.step()
        curve.step()
    with torch.no_grad():
        logits = head(network(normalise(images_of(val), IMAGENET))["token1"])
    right = (logits.argmax(1).numpy() == np.asarray(val.labels)).mean()
    assert values(only(tmp_path))["linear_grid_top1"] == pytest.approx(100 * right, abs=0.5)


def test_two_processes_find_the_same(probed: Path, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [sys.executable, "-P", "-m", "benchmarks", *map(str, arguments("mini_knn", mini, tmp_path / "out"))]
    subprocess.run(
        [*command, "--processes", "2"], check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    record = only(tmp_path / "out")
    assert record.world_size == 2 and values(record) == values(of(probed, "knn")[1])
    assert len([*features_folder().glob("*/features.json")]) == 2


def test_machines_with_unlike_weights_take_the_first_ones(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in training. Half of the features were another network's, and were kept as the first one's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = [tmp_path / "a", tmp_path / "b"]
    for number, place in enumerate(places):
        place.mkdir()
        seed_generators(number, "weights")
        network = create_backbone("random_vit_mini", image_size=48)
        torch.save(network.state_dict(), place / "weights.pth")
    backbone = "mae_vit_mini=weights.pth"
    command = arguments("mini_knn", mini, tmp_path / "out", "--method", "MAE", backbone=backbone, precision="fp32")
    assert backbench_in_two([*map(str, command)], places, tmp_path / "log") == [0, 0]
    seed_generators(0, "weights")
    network = FrozenBackbone(create_backbone("random_vit_mini", image_size=48), 48)
    _, val = open_labelled("mini", mini)
    with torch.no_grad():
        found = network(normalise(images_of(val), IMAGENET))["token1"]
    np.testing.assert_allclose(kept(len(val.paths)), found.numpy(), atol=1e-5)


def test_augmented_views_are_trained_on(mini: Path, probed: Path, shown: list[int], tmp_path: Path) -> None:
    before = sum(shown)
    success(*arguments("mini_linear_grid", mini, tmp_path, grid__views=2))
    assert sum(shown) - before == 2 * 64


def test_an_unreadable_training_image_is_left_out_and_an_evaluation_image_refused(
    mini: Path, shown: list[int], tmp_path: Path
) -> None:
    data = tmp_path / "images"
    shutil.copytree(mini, data, ignore=shutil.ignore_patterns("unlabelled", "coco", "ade20k"))
    broken = sorted((data / "train").rglob("*.*"))[0]
    broken.write_bytes(broken.read_bytes()[:200])
    success(*arguments("mini_knn", data, tmp_path / "out"))
    record = only(tmp_path / "out")
    assert len(record.corrupt_images) == 1 and str(broken) in record.corrupt_images[0]
    asked = sorted((data / "val").rglob("*.*"))[0]
    asked.write_bytes(asked.read_bytes()[:200])
    assert "1 unreadable evaluation image(s)" in refusal(*arguments("mini_knn", data, tmp_path / "refused"), status=3)
    success(*arguments("mini_knn", data, tmp_path / "allowed", evaluation__allow_unreadable="true"))
    assert {metric.n_eval for metric in only(tmp_path / "allowed").metrics} == {79}


class Constant(torch.nn.Module):
    """Says the same of every image, or nothing finite."""

    num_prefix_tokens = 1
    value = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, images: Tensor) -> Tensor:
        cells = (images.shape[2] // 8) * (images.shape[3] // 8)
        return self.scale * torch.full((len(images), 1 + cells, 4), self.value)


class Zero(Constant):
    value = 0.0


class NotANumber(Constant):
    value = float("nan")


class Rectified(Constant):
    """Is 0 for black images."""

    def forward_features(self, images: Tensor) -> Tensor:
        darkest_CHW = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), IMAGENET)[0]
        cells = torch.relu(images - darkest_CHW).unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)).flatten(2).mT
        return self.scale * torch.cat([cells.mean(1, keepdim=True), cells], 1)


def rectified(image_size: int | None, drop_path: float) -> Rectified:
    return Rectified()


def constant(image_size: int | None, drop_path: float) -> Constant:
    return Constant()


def zero(image_size: int | None, drop_path: float) -> Zero:
    return Zero()


def not_a_number(image_size: int | None, drop_path: float) -> NotANumber:
    return NotANumber()


@pytest.mark.parametrize(
    ("builder", "told"),
    [
        ("constant", "the features (token1) of all 64 training images are the same"),
        ("zero", "are the same"),
        ("not_a_number", "are not finite, nor are those of"),
    ],
)
def test_features_that_tell_nothing_are_refused(
    mini: Path, shown: list[int], tmp_path: Path, builder: str, told: str
) -> None:
    name = f"tests.tasks.probing.test_runs:{builder}"
    assert told in refusal(*arguments("mini_knn", mini, tmp_path, backbone=name))


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_whose_features_are_0_is_named(mini: Path, shown: list[int], tmp_path: Path, split: str) -> None:
    data = tmp_path / "images"
    shutil.copytree(mini, data, ignore=shutil.ignore_patterns("unlabelled", "coco", "ade20k"))
    black = sorted((data / split).rglob("*.jpg"))[0]
    Image.new("RGB", (48, 48)).save(black)
    message = refusal(*arguments("mini_knn", data, tmp_path / "out", backbone=f"{__name__}:rectified"))
    assert message.startswith(f"{black}: its features (token1) are all 0, which have no direction")


@pytest.mark.parametrize("rates", ["[1e+38]", "[1e+38,3e+38]"])
def test_a_grid_that_diverges_is_refused(mini: Path, probed: Path, tmp_path: Path, rates: str) -> None:
    message = refusal(*arguments("mini_linear_grid", mini, tmp_path, grid__rates=rates), status=4)
    assert "heads none has finite weights: training has diverged" in message


def test_heads_that_diverge_are_not_chosen(mini: Path, probed: Path, tmp_path: Path) -> None:
    success(*arguments("mini_linear_grid", mini, tmp_path, grid__rates="[1e+38,0.1]"))
    (note,) = [note for note in only(tmp_path).notes if "heads" in note]
    assert note.startswith("of 8 heads (4 have diverged) that of learning rate 0.1 on")


def test_few_labels_tell_what_was_not_solved(
    mini: Path, probed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.probing.logistic.ITERATIONS", 1)
    success(*arguments("mini_few_labels", mini, tmp_path))
    assert "4 of 4 regressions ended before their derivatives were near 0" in only(tmp_path).notes
