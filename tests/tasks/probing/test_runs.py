"""Probes through the command line: what is learnt from features is scikit-learn's, and what stands in the records."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from backbones.frozen import FrozenBackbone
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.images.views import View
from backbones.kept_features import features_folder
from backbones.registry import create_backbone
from backbones.training.randomness import seed_generators
from tasks.data_sets import open_labelled
from tasks.datasets.labelled import LabelledSplit
from tasks.probing.linear_grid import Schedule, batches
from tasks.probing.probes import hold_out
from tests.support.in_process import refusal, success
from tests.support.probing_runs import arguments, of, only, values
from tests.support.two_machines import backbench_in_two

ROOT = Path(__file__).resolve().parents[3]


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


def test_few_labels_tell_what_was_not_solved(
    mini: Path, probed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.probing.logistic.ITERATIONS", 1)
    success(*arguments("mini_few_labels", mini, tmp_path))
    assert "4 of 4 regressions ended before their derivatives were near 0" in only(tmp_path).notes


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


def test_heads_that_diverge_are_not_chosen(mini: Path, probed: Path, tmp_path: Path) -> None:
    success(*arguments("mini_linear_grid", mini, tmp_path, grid__rates="[1e+38,0.1]"))
    (note,) = [note for note in only(tmp_path).notes if "heads" in note]
    assert note.startswith("of 8 heads (4 have diverged) that of learning rate 0.1 on")


@pytest.mark.parametrize(("share", "fewest"), [(0.1, 0), (0.99, 3), (0.999, 3)])
def test_a_large_share_holds_out_of_every_class_and_leaves_one_image_of_each(share: float, fewest: int) -> None:
    """A class all of whose images are drawn took part in no choice, and one of them alone stayed behind."""
    targets = torch.tensor([0, *[1] * 4, *[2] * 40, *[4] * 8])  # of class 3 there are none
    learnt, chosen_by = hold_out(targets, share, 0)
    assert sorted([*learnt.tolist(), *chosen_by.tolist()]) == [*range(len(targets))]
    left, held = (torch.bincount(targets[each], minlength=5).tolist() for each in (learnt, chosen_by))
    assert left[0] == 1 and held[0] == held[3] == left[3] == 0
    assert all(count >= 1 for count in (left[1], left[2], left[4])) and held[1] >= fewest
    assert share < 0.9 or (left[1], left[4]) == (1, 1)


def test_a_record_says_of_how_many_images_a_head_was_chosen(mini: Path, shown: list[int], tmp_path: Path) -> None:
    success(*arguments("mini_linear_grid", mini, tmp_path, held_out__share=0.99))
    assert any("% of 56 held-out training images when trained on the other 8" in note for note in only(tmp_path).notes)


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
