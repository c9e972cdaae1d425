from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest

from backbones.errors import InputError
from results import paired_statistic_difference, statistic_interval
from tasks.detection import matches as matches_module
from tasks.detection.matches import Matches, load_matches, save_matches
from tasks.detection.scoring import score
from tests.support.paired_runs import of_a_later_zip
from tests.support.scoring_examples import (
    IOU_TYPES,
    draw_detections,
    draw_truth,
    image_ids,
    pycocotools_evaluation,
    repeated,
    write_truth,
)


def matches_of(truth: dict[str, Any], detections: list[dict[str, Any]], folder: Path) -> dict[str, Matches]:
    found = score(write_truth(folder / "truth.json", truth), detections, image_ids(truth)).matches
    return {kind: found[f"AP_{kind}"] for kind in IOU_TYPES}


def draw_weights(images: int, resamples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [True, False])
def test_with_equal_weights_it_is_cocos_ap(seed: int, ties: bool, tmp_path: Path) -> None:
    truth = draw_truth(seed)
    detections = draw_detections(truth, seed, ties=ties)
    for kind, matches in matches_of(truth, detections, tmp_path).items():
        expected = 100 * pycocotools_evaluation(truth, detections, kind).stats[0]
        weights = np.repeat([[1], [3]], len(matches.image_ids), axis=1)
        assert matches.average_precision(weights[:1]) == pytest.approx([expected], abs=1e-9)
        if not ties:
            assert matches.average_precision(weights) == pytest.approx([expected] * 2, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_repetitions_of_images(seed: int, tmp_path: Path) -> None:
    """Exactly, where no two detections of an image have the same score; drawn so that a rare category can vanish."""
    truth = draw_truth(seed, images=12, categories=6)
    detections = draw_detections(truth, seed, ties=False)
    weights = draw_weights(12, 6, seed)
    for kind, matches in matches_of(truth, detections, tmp_path).items():
        expected = [
            100 * pycocotools_evaluation(*repeated(truth, detections, row), kind).stats[0] for row in weights.tolist()
        ]
        assert matches.average_precision(weights) == pytest.approx(expected, abs=1e-9)


def test_equal_scores_within_an_image_move_ap_little(tmp_path: Path) -> None:
    """The coarsest scores, eleven values for twelve detections an image: far below the resampling's own spread."""
    truth = draw_truth(0)
    detections = draw_detections(truth, 0)
    weights = draw_weights(30, 12)
    for kind, matches in matches_of(truth, detections, tmp_path).items():
        expected = np.array(
            [100 * pycocotools_evaluation(*repeated(truth, detections, row), kind).stats[0] for row in weights.tolist()]
        )
        difference = np.abs(matches.average_precision(weights) - expected).max()
        assert difference < 0.2 * expected.std()


def test_pieces_give_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = draw_truth(1)
    matches = matches_of(truth, draw_detections(truth, 1), tmp_path)["mask"]
    weights = draw_weights(30, 50)
    whole = matches.average_precision(weights)
    monkeypatch.setattr(matches_module, "PIECE", 700)
    assert matches.average_precision(weights) == pytest.approx(whole, abs=1e-12)
    assert len(set(whole.tolist())) > 40


def test_a_resample_without_objects_has_no_ap(tmp_path: Path) -> None:
    truth = draw_truth(2)
    matches = matches_of(truth, draw_detections(truth, 2), tmp_path)["box"]
    without = {one["image_id"] for one in truth["annotations"]}
    weights = np.array([[0 if image_id in without else 3 for image_id in matches.image_ids], [1] * 30, [0] * 30])
    undefined = np.isnan(matches.average_precision(weights))
    assert undefined.tolist() == [True, False, True]


@pytest.mark.parametrize("weights", [np.ones((1, 29)), np.ones(30), -np.ones((1, 30))])
def test_wrong_weights_are_refused(weights: np.ndarray, tmp_path: Path) -> None:
    truth = draw_truth(3)
    matches = matches_of(truth, [], tmp_path)["box"]
    with pytest.raises(ValueError, match="weights"):
        matches.average_precision(weights)


def test_the_paired_interval_agrees_with_hotcocos(tmp_path: Path) -> None:
    """hotcoco resamples annotations and detections, and counts an image once however often it is drawn.

    Counted so, the intervals agree. Counted as the bootstrap has it, ours is wider: 63 % of N images without repetition
    spread less than N with it, by a factor of about (0.37 / 0.63) ** 0.5.
    """
    truth = draw_truth(4, images=60)
    better, worse = (draw_detections(truth, 4, jitter=jitter, ties=False) for jitter in (0.05, 0.09))
    reference = hotcoco.COCO(truth)
    before, after = (hotcoco.COCOeval(reference, reference.load_res(found), "bbox") for found in (worse, better))
    before.evaluate()
    after.evaluate()
    theirs = hotcoco.compare(before, after, n_bootstrap=1_500)
    low, high = (100 * theirs["ci"]["AP"][end] for end in ("lower", "upper"))

    a, b = (matches_of(truth, found, tmp_path)["box"].average_precision for found in (better, worse))
    once_RN = np.minimum(draw_weights(60, 3_000), 1)
    once = np.quantile(a(once_RN) - b(once_RN), [0.025, 0.975])
    assert once == pytest.approx([low, high], abs=0.1 * (high - low))
    ours = paired_statistic_difference(a, b, 60, resamples=3_000)
    assert ours.mean == pytest.approx(100 * theirs["deltas"]["AP"], abs=1e-9)
    assert (high - low) / (ours.high - ours.low) == pytest.approx((0.368 / 0.632) ** 0.5, abs=0.08)
    assert ours.p_value < 0.05


def test_the_interval_lies_around_ap_although_resamples_have_more(tmp_path: Path) -> None:
    """Few objects of many categories, where the bias of resampling is largest."""
    truth = draw_truth(8, images=60, categories=40)
    matches = matches_of(truth, draw_detections(truth, 8, per_image=4, ties=False), tmp_path)["mask"]
    value = matches.average_precision(np.ones((1, 60), dtype=int))[0]
    resampled = matches.average_precision(draw_weights(60, 500))
    low, high = statistic_interval(matches.average_precision, 60, resamples=500, bounds=(0, 100))
    assert resampled.mean() - value > 0.5 * resampled.std()
    assert low < value < high
    assert high - low == pytest.approx(4 * resampled.std(), rel=0.1)


def test_matches_come_back_from_their_file(tmp_path: Path) -> None:
    truth = draw_truth(5, categories=5)
    truth["annotations"] = [one for one in truth["annotations"] if one["category_id"] != 8]
    detections = [one for one in draw_detections(truth, 5) if one["category_id"] != 5]
    matches = matches_of(truth, detections, tmp_path)["mask"]
    save_matches(tmp_path / "matches.npz", matches)
    again = load_matches(tmp_path / "matches.npz")
    assert again.image_ids.tolist() == image_ids(truth)
    assert [category.category_id for category in again.categories] == [2, 5, 11, 14]
    weights = draw_weights(30, 40)
    assert again.average_precision(weights).tolist() == matches.average_precision(weights).tolist()
    assert {path.name for path in tmp_path.iterdir()} == {"matches.npz", "truth.json"}


def test_matches_without_any_detection_come_back(tmp_path: Path) -> None:
    truth = draw_truth(6)
    save_matches(tmp_path / "matches.npz", matches_of(truth, [], tmp_path)["box"])
    assert load_matches(tmp_path / "matches.npz").average_precision(np.ones((1, 30), dtype=int)) == [0]


def test_a_file_that_holds_no_matches_is_named(tmp_path: Path) -> None:
    path = tmp_path / "matches.npz"
    with pytest.raises(InputError, match=r"matches\.npz: no such file"):
        load_matches(path)
    truth = draw_truth(7)
    save_matches(path, matches_of(truth, draw_detections(truth, 7), tmp_path)["box"])
    whole = path.read_bytes()
    packed = whole.index(b"true_positive.npy") + 60
    no_stream = whole[:packed] + b"\xff" * 99 + whole[packed + 99 :]
    for content in (b"", b"not at all", whole[: len(whole) // 2], no_stream, of_a_later_zip(whole)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"matches\.npz: not a file of matches"):
            load_matches(path)
    np.savez(path, image_ids=np.arange(3))
    with pytest.raises(InputError, match=r"matches\.npz: not a file of matches"):
        load_matches(path)
