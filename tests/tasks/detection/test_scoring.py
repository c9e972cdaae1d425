import codecs
import copy
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as masks

from backbones.errors import InputError
from tasks.detection.scoring import score
from tests.support.scoring_examples import (
    HEIGHT,
    IOU_TYPES,
    STATISTICS,
    WIDTH,
    draw_detections,
    draw_truth,
    image_ids,
    perfect_detections,
    pycocotools_evaluation,
    write_truth,
)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [True, False])
def test_all_statistics_are_pycocotools_to_the_last_digit(seed: int, ties: bool, tmp_path: Path) -> None:
    """On sets with crowds, empty images, ties in score, polygons and RLE; the last five images are left out."""
    truth = draw_truth(seed)
    images = image_ids(truth)[:-5]
    detections = [one for one in draw_detections(truth, seed, ties=ties) if one["image_id"] in images]
    scores = score(write_truth(tmp_path / "truth.json", truth), detections, images)
    for kind in IOU_TYPES:
        reference = pycocotools_evaluation(truth, detections, kind, images)
        assert (reference.stats > 0).all()
        assert [scores.metrics[f"{name}_{kind}"] for name in STATISTICS] == (100 * reference.stats).tolist()
        precision = reference.eval["precision"][:, :, :, 0, -1]
        for index, category in enumerate(truth["categories"]):
            assert scores.per_category[f"AP_{kind}/{category['name']}"] == 100 * precision[:, :, index].mean()
    assert len(scores.metrics) == 24
    assert len(scores.per_category) == 8
    assert scores.notes == []


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    truth = draw_truth(0)
    path, detections = write_truth(tmp_path / "truth.json", truth), draw_detections(truth, 0)
    plain = score(path, detections, image_ids(truth))
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    marked = score(path, detections, image_ids(truth))
    assert (marked.metrics, marked.per_category) == (plain.metrics, plain.per_category)


def test_more_than_a_hundred_detections_of_a_category_count_as_in_pycocotools(tmp_path: Path) -> None:
    truth = draw_truth(0, images=4, categories=1)
    detections = draw_detections(truth, 0, per_image=130)
    scores = score(write_truth(tmp_path / "truth.json", truth), detections, image_ids(truth))
    for kind in IOU_TYPES:
        reference = pycocotools_evaluation(truth, detections, kind)
        assert [scores.metrics[f"{name}_{kind}"] for name in STATISTICS] == (100 * reference.stats).tolist()
        weights = np.ones((1, 4), dtype=int)
        ours = scores.matches[f"AP_{kind}"].average_precision(weights)
        assert ours == pytest.approx([100 * reference.stats[0]], abs=1e-9)


def test_empty_masks_and_boxes_without_area_are_wrong_detections(tmp_path: Path) -> None:
    truth = draw_truth(8)
    detections = draw_detections(truth, 8)
    encoded = masks.encode(np.zeros((HEIGHT, WIDTH), np.uint8, order="F"))
    nothing = {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
    for one in detections[::3]:
        one["segmentation"] = nothing
        one["bbox"][2] = 0.0
    scores = score(write_truth(tmp_path / "truth.json", truth), detections, image_ids(truth))
    for kind in IOU_TYPES:
        reference = pycocotools_evaluation(truth, detections, kind)
        assert [scores.metrics[f"{name}_{kind}"] for name in STATISTICS] == (100 * reference.stats).tolist()


def test_finding_every_object_is_a_hundred_percent(tmp_path: Path) -> None:
    truth = draw_truth(1)
    for one in truth["annotations"]:
        one["category_id"] = 2
    detections = perfect_detections(truth)
    scores = score(write_truth(tmp_path / "truth.json", truth), detections, image_ids(truth))
    assert scores.metrics["AP_box"] == scores.metrics["AP_mask"] == pytest.approx(100)
    assert scores.per_category == pytest.approx({"AP_box/thing 0": 100, "AP_mask/thing 0": 100})


def test_no_detections_at_all_are_zero_percent(tmp_path: Path) -> None:
    truth = draw_truth(2)
    scores = score(write_truth(tmp_path / "truth.json", truth), [], image_ids(truth))
    assert scores.metrics == {f"{name}_{kind}": 0 for kind in IOU_TYPES for name in STATISTICS}
    assert set(scores.per_category.values()) == {0}
    assert scores.matches["AP_mask"].average_precision(np.ones((1, 30), dtype=int)) == [0]


def test_statistics_without_an_object_are_left_out_and_named(tmp_path: Path) -> None:
    truth = draw_truth(3, largest=15)
    truth["annotations"] = [one for one in truth["annotations"] if one["category_id"] != 5]
    scores = score(write_truth(tmp_path / "truth.json", truth), draw_detections(truth, 3), image_ids(truth))
    missing = {f"{name}_{kind}" for kind in IOU_TYPES for name in ("APm", "APl", "ARm", "ARl")}
    assert set(scores.metrics) == {f"{name}_{kind}" for kind in IOU_TYPES for name in STATISTICS} - missing
    assert {note.split()[0] for note in scores.notes} == missing
    assert all("no medium object" in note for note in scores.notes if note.startswith("APm"))
    assert {name for name in scores.per_category if name.startswith("AP_box/")} == {
        "AP_box/thing 0",
        "AP_box/thing 2",
        "AP_box/thing 3",
    }


def test_the_order_of_images_and_repeated_ids_do_not_matter_and_nothing_is_changed(tmp_path: Path) -> None:
    truth = draw_truth(4)
    images, detections = image_ids(truth), draw_detections(truth, 4)
    before = copy.deepcopy(detections)
    path = write_truth(tmp_path / "truth.json", truth)
    scores = score(path, detections, images)
    other = score(path, detections, [*images[::-1], images[0]])
    assert detections == before
    assert other.metrics == scores.metrics
    assert other.matches["AP_box"].image_ids.tolist() == scores.matches["AP_box"].image_ids.tolist() == images


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    truth = draw_truth(5, largest=15)
    score(write_truth(tmp_path / "truth.json", truth), draw_detections(truth, 5), image_ids(truth))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [{"image_id": 6}, {"category_id": 3}])
def test_detections_that_belong_nowhere_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    truth = draw_truth(6)
    detections = draw_detections(truth, 6)
    detections[3] |= wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        score(write_truth(tmp_path / "truth.json", truth), detections, image_ids(truth))


def test_images_with_nothing_but_crowds_cannot_be_scored(tmp_path: Path) -> None:
    truth = draw_truth(7)
    for one in truth["annotations"]:
        one["iscrowd"] = 1
    path = write_truth(tmp_path / "truth.json", truth)
    with pytest.raises(InputError, match=r"truth\.json.*no object to find"):
        score(path, draw_detections(truth, 7), image_ids(truth))
