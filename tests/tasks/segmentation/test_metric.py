"""The scores against mmsegmentation's IoUMetric; unreadable images, several processes, kept predictions."""

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from backbones.errors import InputError
from tasks.datasets.label_maps.images import AnnotatedImage
from tasks.datasets.label_maps.layout import SegmentationSet
from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation import metric as metric_module
from tasks.segmentation.metric import SegmentationMetric

CLASSES = ["sky", "wall", "tree", "cup", "sea", "never seen"]
PREDICTED_ONLY, MISSED = 3, 4
NAMES = ("mIoU", "mAcc", "aAcc")
Maps = tuple[np.ndarray, np.ndarray]


def data_set(images: int) -> SegmentationSet:
    """The names alone: the metric opens no file."""
    names = [f"scene/{number:02d}.jpg" for number in range(images)]
    pairs = [AnnotatedImage(name, Path("images", name), Path("labels", name).with_suffix(".png")) for name in names]
    return SegmentationSet("val", pairs, CLASSES, reduce_zero_label=True, folders=(Path("images"), Path("labels")))


def draw_maps(seed: int, images: int) -> list[Maps]:
    """Labels and predictions of sizes that differ. "cup" is only predicted, "sea" never, the last class neither."""
    generator = np.random.default_rng(seed)
    maps = []
    for _ in range(images):
        size = tuple(generator.integers(5, 60, 2))
        labels = generator.choice([0, 1, 2, MISSED, IGNORED], size, p=[0.5, 0.2, 0.1, 0.05, 0.15])
        guessed = generator.choice([0, 1, 2, PREDICTED_ONLY], size, p=[0.5, 0.3, 0.15, 0.05])
        right = (generator.random(size) < 0.6) & (labels != IGNORED) & (labels != MISSED)
        maps.append((labels.astype(np.uint8), np.where(right, labels, guessed).astype(np.uint8)))
    return maps


def offer(
    metric: SegmentationMetric, maps: Mapping[int, Maps], faults: Mapping[int, str] | None = None, dtype: Any = np.uint8
) -> None:
    """One batch for each image, by number; some of them unreadable."""
    for number, (labels, prediction) in maps.items():
        why = (faults or {}).get(number)
        path = str(metric.dataset.images[number].image)
        batch = {
            "numbers": torch.tensor([number]),
            "labels": torch.from_numpy(labels)[None],
            "readable": torch.tensor([why is None]),
            "corrupt": {} if why is None else {path: why},
        }
        metric.process(batch, [{"predictions": torch.from_numpy(prediction.astype(dtype))[None]}])


def scores_of(maps: Sequence[Maps], **settings: Any) -> tuple[dict[str, float], SegmentationMetric]:
    metric = SegmentationMetric(data_set(len(maps)), allow_unreadable=False)
    offer(metric, dict(enumerate(maps)), **settings)
    return metric.evaluate(len(maps)), metric


def mmseg_of(maps: Sequence[Maps]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """mmsegmentation's scores as it reports them, to two decimals, and the shares behind them, not rounded."""
    metric = IoUMetric()
    metric.dataset_meta = {"classes": CLASSES}
    samples = [
        {
            "gt_sem_seg": {"data": torch.from_numpy(labels).long()},
            "pred_sem_seg": {"data": torch.from_numpy(found).long()},
        }
        for labels, found in maps
    ]
    metric.process({}, samples)
    totals = [sum(areas).double() for areas in zip(*metric.results, strict=True)]
    return metric.compute_metrics(metric.results), metric.total_area_to_metrics(*totals)


def special_maps() -> dict[str, list[Maps]]:
    full = draw_maps(1, 1)[0]
    ignored = (np.full((7, 9), IGNORED, np.uint8), np.full((7, 9), 2, np.uint8))
    corner = (np.full((4, 4), IGNORED, np.uint8), np.zeros((4, 4), np.uint8))
    corner[0][0, 0] = 1
    return {
        "many": draw_maps(0, 20),
        "one": [full],
        "one of them ignored": [full, ignored, draw_maps(2, 1)[0]],
        "all right": [(labels, labels) for labels in (np.zeros((3, 5), np.uint8), np.full((2, 2), 1, np.uint8))],
        "one pixel, wrong": [corner],
    }


@pytest.mark.parametrize("case", special_maps())
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_scores_equal_mmsegs(case: str, dtype: Any) -> None:
    maps = special_maps()[case]
    found, metric = scores_of(maps, dtype=dtype)
    rounded, shares = mmseg_of(maps)
    means = {"mIoU": np.nanmean(shares["IoU"]), "mAcc": np.nanmean(shares["Acc"]), "aAcc": shares["aAcc"]}
    assert found == pytest.approx({name: 100 * float(mean) for name, mean in means.items()}, rel=1e-12)
    assert {name: round(value, 2) for name, value in found.items()} == pytest.approx(rounded, abs=1e-9)
    expected = {name: 100 * iou for name, iou in zip(CLASSES, shares["IoU"].tolist(), strict=True) if iou == iou}
    assert metric.per_class == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", special_maps())
def test_areas_are_mmsegs_and_their_scores_the_evaluations(case: str) -> None:
    maps = special_maps()[case]
    found, metric = scores_of(maps)
    areas = metric.areas
    assert areas is not None
    assert areas.image_names == [image.name for image in metric.dataset.images]
    for number, (labels, prediction) in enumerate(maps):
        both, _, predicted, annotated = IoUMetric.intersect_and_union(
            torch.from_numpy(prediction), torch.from_numpy(labels), len(CLASSES), IGNORED
        )
        assert areas.intersection[number].tolist() == both.tolist()
        assert areas.predicted[number].tolist() == predicted.tolist()
        assert areas.annotated[number].tolist() == annotated.tolist()
    assert areas.intersection.dtype == areas.predicted.dtype == areas.annotated.dtype == np.int64
    ones = np.ones((1, len(maps)), dtype=int)
    assert {name: score(ones)[0] for name, score in areas.weighted.items()} == pytest.approx(found, rel=1e-12)


def test_absent_classes_are_left_out_and_missed_or_invented_ones_are_not() -> None:
    found, metric = scores_of(draw_maps(0, 20))
    iou = metric.per_class
    assert list(iou) == ["sky", "wall", "tree", "cup", "sea"]
    assert (iou["cup"], iou["sea"]) == (0, 0)
    assert min(iou["sky"], iou["wall"], iou["tree"]) > 10
    assert found["mIoU"] == pytest.approx(sum(iou.values()) / 5)
    areas = metric.areas
    assert areas is not None
    right, annotated = areas.intersection.sum(axis=0), areas.annotated.sum(axis=0)
    assert annotated[[PREDICTED_ONLY, 5]].tolist() == [0, 0]
    assert found["mAcc"] == pytest.approx(100 * sum(right[k] / annotated[k] for k in (0, 1, 2, MISSED)) / 4)


def test_two_processes_score_as_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = draw_maps(3, 7)
    expected, alone = scores_of(maps)
    metrics = [SegmentationMetric(data_set(7), allow_unreadable=True, shown=(0, 3, 6)) for _ in range(2)]
    parts: dict[int, bytes] = {}
    barrier = Barrier(2)

    def gather(mine: Any) -> list[Any]:
        parts[len(mine[0])] = pickle.dumps(mine)  # four images in one process, three in the other
        barrier.wait(timeout=30)
        return [pickle.loads(part) for part in parts.values()]

    monkeypatch.setattr(metric_module, "all_gather_object", gather)
    for _ in range(2):  # the second evaluation knows nothing of the first
        parts.clear()
        for rank, metric in enumerate(metrics):
            offer(metric, {number: maps[number] for number in range(rank, 7, 2)})
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda metric: metric.evaluate(7), metrics))
        assert found == [expected] * 2
    for metric in metrics:
        assert metric.areas is not None
        assert alone.areas is not None
        assert metric.areas.image_names == alone.areas.image_names
        for name in ("intersection", "annotated", "predicted"):
            assert getattr(metric.areas, name).tolist() == getattr(alone.areas, name).tolist()
        assert metric.per_class == alone.per_class
        assert sorted(metric.predictions) == [0, 3, 6]
        for number, prediction in metric.predictions.items():
            assert prediction.dtype == np.uint8
            assert prediction.tolist() == maps[number][1].tolist()


def test_an_image_that_could_not_be_read_once_counts_again_later() -> None:
    maps = draw_maps(4, 5)
    metric = SegmentationMetric(data_set(5), allow_unreadable=True, shown=(2, 3))
    offer(metric, dict(enumerate(maps)), faults={3: "cut short"})
    without = metric.evaluate(5)
    assert without == pytest.approx(scores_of([*maps[:3], maps[4]])[0], rel=1e-12)
    assert metric.unreadable == {"images/scene/03.jpg": "cut short"}
    assert metric.areas is not None
    assert metric.areas.image_names == [f"scene/{number:02d}.jpg" for number in (0, 1, 2, 4)]
    assert sorted(metric.predictions) == [2]
    offer(metric, dict(enumerate(maps)))
    assert metric.evaluate(5) == pytest.approx(scores_of(maps)[0], rel=1e-12)
    assert metric.unreadable == {}
    assert sorted(metric.predictions) == [2, 3]


def test_unreadable_images_end_the_run_unless_allowed() -> None:
    maps = dict(enumerate(draw_maps(5, 2)))
    with pytest.raises(InputError, match=r"00\.jpg: unreadable evaluation image: cut\. .*allow_unreadable=true"):
        offer(SegmentationMetric(data_set(2), allow_unreadable=False), maps, faults={0: "cut"})
    metric = SegmentationMetric(data_set(2), allow_unreadable=True)
    offer(metric, maps, faults={0: "cut", 1: "gone"})
    with pytest.raises(InputError, match=r"no evaluation image could be read, the first is images/scene/00\.jpg: cut"):
        metric.evaluate(2)


def test_a_set_without_any_label_is_refused() -> None:
    nothing = (np.full((6, 6), IGNORED, np.uint8), np.zeros((6, 6), np.uint8))
    with pytest.raises(InputError, match=r"labels/scene/00\.png: neither here nor in any other .* of the 2 evaluation"):
        scores_of([nothing, nothing])


def test_missing_and_repeated_images_are_noticed() -> None:
    maps = dict(enumerate(draw_maps(6, 3)))
    metric = SegmentationMetric(data_set(3), allow_unreadable=False)
    offer(metric, {number: maps[number] for number in (0, 2)})
    with pytest.raises(RuntimeError, match="results of 2 images for 3 evaluation images"):
        metric.evaluate(3)
    offer(metric, maps)
    offer(metric, {1: maps[1]})
    with pytest.raises(RuntimeError, match="4 images counted, of 3: some were evaluated twice"):
        metric.evaluate(3)
