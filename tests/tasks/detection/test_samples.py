"""What a detector is shown: jittered images with boxes and masks that agree with them, reproducibly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, Instances, PolygonMasks
from PIL import Image
from torch.utils.data import DataLoader

from backbones.errors import InputError
from backbones.training.randomness import mix
from tasks.datasets.coco.layout import CocoSet
from tasks.datasets.coco.rules import Split
from tasks.detection.recipe import LargeScaleJitter
from tasks.detection.samples import EvaluationSamples, TrainingSamples, gather
from tests.support.image_examples import save_tagged, tagged

SIZE = 64
SEED = 5
JITTER = LargeScaleJitter(scale=(0.3, 2.0), flip=0.5)
PLAIN = LargeScaleJitter(scale=(1.0, 1.0), flip=0.0)

TRIANGLE = [12.25, 8.5, 50.0, 20.75, 20.5, 40.0]
SQUARE = [30, 10, 54, 10, 54, 34, 30, 34]


def mask_of(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """The pixels of some polygons, by pycocotools."""
    return pycocotools.mask.decode(pycocotools.mask.merge(pycocotools.mask.frPyObjects(polygons, height, width)))


def as_runs(polygons: list[list[float]], height: int, width: int, *, compressed: bool) -> dict[str, Any]:
    """The polygons as COCO's run lengths."""
    mask = mask_of(polygons, height, width)
    if compressed:
        runs = pycocotools.mask.encode(np.asfortranarray(mask))
        return {"size": [height, width], "counts": runs["counts"].decode()}
    flat = np.concatenate([[0], mask.flatten(order="F"), [2]])
    changes = np.flatnonzero(np.diff(flat))
    lengths = np.diff(np.concatenate([[0], changes]))
    return {"size": [height, width], "counts": lengths.tolist()}


def box_of(polygon: list[float]) -> list[float]:
    xs, ys = polygon[::2], polygon[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def annotation(image_id: int, segmentation: Any, **other: Any) -> dict[str, Any]:
    box = box_of(segmentation[0]) if isinstance(segmentation, list) else box_of(TRIANGLE)
    fields = {"image_id": image_id, "category_id": 7, "bbox": box, "area": 400.0, "iscrowd": 0}
    return {**fields, "segmentation": segmentation, **other}


def write_set(
    root: Path, annotations: list[dict[str, Any]], sizes: list[tuple[int, int]], split: Split = "train"
) -> CocoSet:
    """Images of the given (height, width), black with the first polygons in white, numbered from 1."""
    folder = root / "images"
    folder.mkdir()
    entries = []
    for identity, (height, width) in enumerate(sizes, start=1):
        pixels = 255 * mask_of([TRIANGLE], height, width)
        Image.fromarray(pixels).convert("RGB").save(folder / f"{identity}.png")
        entries.append({"id": identity, "file_name": f"{identity}.png", "height": height, "width": width})
    content = {
        "images": entries,
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, start=1)],
        "categories": [{"id": 9, "name": "square"}, {"id": 7, "name": "triangle"}],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return CocoSet.open(folder, root / "instances.json", split)


def samples(coco: CocoSet, augment: LargeScaleJitter = JITTER, seed: int = SEED) -> TrainingSamples:
    return TrainingSamples(coco, SIZE, augment, seed)


def masks(instances: Instances) -> np.ndarray:
    """The masks as pixels, (objects, H, W), decoded by pycocotools."""
    height, width = instances.image_size
    found = instances.gt_masks
    if isinstance(found, BitMasks):
        return found.tensor.numpy()
    return np.stack([mask_of([polygon.tolist() for polygon in polygons], height, width) for polygons in found.polygons])


def described(sample: dict[str, Any]) -> list[Any]:
    """A sample's content in a form that can be compared."""
    inputs = sample["inputs"]
    instances = inputs["instances"]
    parts = [inputs["image"].tolist(), instances.gt_boxes.tensor.tolist(), instances.gt_classes.tolist()]
    return [*parts, masks(instances).tolist(), inputs["image_id"], sample["corrupt"]]


@pytest.fixture(scope="module")
def scenes(mini: Path) -> CocoSet:
    root = mini / "coco"
    return CocoSet.open(root / "train2017", root / "annotations/instances_train2017.json", "train")


def test_a_sample_depends_on_seed_epoch_and_index_only(scenes: CocoSet) -> None:
    first, again = samples(scenes), samples(scenes)
    expected = described(first[(3, 1)])
    np.random.seed(0)
    torch.manual_seed(0)
    assert described(first[(4, 1)]) != expected
    assert described(again[(3, 1)]) == expected
    assert described(again[(3, 2)]) != expected
    assert described(samples(scenes, seed=SEED + 1)[(3, 1)]) != expected
    draws = [[(5, 1)], [(3, 1)]]
    elsewhere = list(DataLoader(first, batch_sampler=draws, num_workers=2, collate_fn=gather))  # type: ignore[arg-type]
    (inputs,) = elsewhere[1]["inputs"]
    assert described({"inputs": inputs, "corrupt": {}}) == expected


def test_boxes_are_tight_around_what_is_left_of_the_masks(scenes: CocoSet) -> None:
    """Of the generated scenes, some have polygons alone and some also run lengths."""
    dataset = samples(scenes)
    kinds, cut_off = set(), 0
    for index in range(len(dataset)):
        inputs = dataset[(index, index)]["inputs"]
        height, width = inputs["image"].shape[1:]
        assert max(height, width) <= SIZE
        instances = inputs["instances"]
        assert instances.image_size == (height, width)
        cut_off += len(dataset.records[index][1]) - len(instances)
        kinds.add(type(instances.gt_masks))
        boxes = instances.gt_boxes.tensor.numpy()
        if isinstance(instances.gt_masks, PolygonMasks):
            for box, polygons in zip(boxes, instances.gt_masks.polygons, strict=True):
                corners = np.concatenate(polygons).reshape(-1, 2)
                np.testing.assert_allclose(box, [*corners.min(0), *corners.max(0)], atol=1e-4)
        else:
            for box, mask in zip(boxes, masks(instances), strict=True):
                rows, columns = np.nonzero(mask)
                assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [width, height]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert kinds == {PolygonMasks, BitMasks}
    assert cut_off > 0


@pytest.mark.parametrize("form", ["polygons", "runs", "compressed runs"])
def test_the_mask_stays_on_its_object(tmp_path: Path, form: str) -> None:
    """The white triangle of the image is where its mask is, however both were resized, cut and flipped."""
    height, width = 48, 72
    forms: dict[str, Any] = {
        "polygons": [TRIANGLE],
        "runs": as_runs([TRIANGLE], height, width, compressed=False),
        "compressed runs": as_runs([TRIANGLE], height, width, compressed=True),
    }
    dataset = samples(write_set(tmp_path, [annotation(1, forms[form])], [(height, width)]))
    shapes = set()
    for epoch in range(30):
        inputs = dataset[(0, epoch)]["inputs"]
        shapes.add(tuple(inputs["image"].shape[1:]))
        (mask,) = masks(inputs["instances"])
        white = inputs["image"][0].numpy() > 127
        differing = np.count_nonzero(white != mask.astype(bool))
        outline = inputs["instances"].gt_boxes.tensor[0]
        assert differing <= float(outline[2:].sum() - outline[:2].sum())
    assert len(shapes) > 20


def test_without_resizing_a_flip_mirrors_everything(tmp_path: Path) -> None:
    """Pixel for pixel. The image's longer side is as long as the samples'."""
    height, width = 48, SIZE
    runs = as_runs([TRIANGLE], height, width, compressed=True)
    coco = write_set(tmp_path, [annotation(1, runs), annotation(2, [SQUARE])], [(height, width)] * 2)
    mirror = LargeScaleJitter(scale=(1.0, 1.0), flip=1.0)
    for index, polygon in enumerate((TRIANGLE, SQUARE)):
        plain, mirrored = (samples(coco, augment)[(index, 0)]["inputs"] for augment in (PLAIN, mirror))
        assert torch.equal(plain["image"][0], torch.from_numpy(255 * mask_of([TRIANGLE], height, width)))
        assert torch.equal(mirrored["image"], plain["image"].flip(2))
        assert np.array_equal(masks(plain["instances"])[0], mask_of([polygon], height, width))
        assert np.array_equal(masks(mirrored["instances"])[0], masks(plain["instances"])[0][:, ::-1])
        left, top, right, bottom = plain["instances"].gt_boxes.tensor[0].tolist()
        assert mirrored["instances"].gt_boxes.tensor[0].tolist() == [width - right, top, width - left, bottom]


def test_whole_numbers_in_polygons_are_scaled_like_fractions(tmp_path: Path) -> None:
    """JSON writers leave out ".0". Two thirds of such a corner are no whole number."""
    coco = write_set(tmp_path, [annotation(1, [SQUARE])], [(96, 96)])
    (box,) = samples(coco, PLAIN)[(0, 0)]["inputs"]["instances"].gt_boxes.tensor
    assert box.tolist() == pytest.approx([20, 10 * 2 / 3, 36, 34 * 2 / 3])


def test_crowds_and_images_without_objects_are_not_trained_on(tmp_path: Path) -> None:
    runs = as_runs([TRIANGLE], 48, 72, compressed=False)
    annotations = [
        annotation(1, [TRIANGLE]),
        annotation(1, [SQUARE], category_id=9),
        annotation(1, runs, iscrowd=1),
        annotation(2, runs, iscrowd=1),
        annotation(4, [SQUARE]),
    ]
    dataset = samples(write_set(tmp_path, annotations, [(48, 72)] * 4), PLAIN)
    found = [dataset[(index, 0)]["inputs"] for index in range(len(dataset))]
    assert [inputs["image_id"] for inputs in found] == [1, 4]
    assert [inputs["instances"].gt_classes.tolist() for inputs in found] == [[0, 1], [0]]


def test_a_crop_may_leave_no_object(tmp_path: Path) -> None:
    corner = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0]
    coco = write_set(tmp_path, [annotation(1, [corner])], [(72, 72)])
    dataset = samples(coco, LargeScaleJitter(scale=(2.0, 2.0), flip=0.0))
    counts = [len(dataset[(0, epoch)]["inputs"]["instances"]) for epoch in range(30)]
    assert set(counts) == {0, 1}


def test_what_cannot_be_learnt_from_is_left_out_and_said(tmp_path: Path) -> None:
    """A box without a mask, among others; with nothing else there is no set to train on."""
    boxed = annotation(1, [TRIANGLE])
    del boxed["segmentation"]
    coco = write_set(tmp_path, [annotation(1, [SQUARE]), boxed], [(48, 72)])
    assert len(samples(coco, PLAIN)[(0, 0)]["inputs"]["instances"]) == 1
    assert any("1 train annotation" in note and "left out of training (ids 2)" in note for note in coco.notes)
    (tmp_path / "boxes").mkdir()
    with pytest.raises(InputError, match=r"instances\.json: no annotation can be trained on: .*needs a box and a mask"):
        write_set(tmp_path / "boxes", [boxed], [(48, 72)])


def test_an_image_that_scaling_leaves_nothing_of_is_refused(tmp_path: Path) -> None:
    coco = write_set(tmp_path, [annotation(1, [[0.0, 0.0, 90.0, 0.0, 90.0, 3.0]])], [(3, 200)])
    assert samples(coco, PLAIN)[(0, 0)]["inputs"]["image"].shape == (3, 1, SIZE)
    with pytest.raises(InputError, match=r"1\.png: 200 × 3 pixels\. Resized to a longer side of 19\.2, it has no"):
        samples(coco)
    assert EvaluationSamples(coco.images, SIZE)[0]["inputs"]["image"].shape == (3, 1, SIZE)
    with pytest.raises(InputError, match=r"1\.png: 200 × 3 pixels\. Resized to a longer side of 16, it has no"):
        EvaluationSamples(coco.images, 16)


def test_unusable_images_are_replaced_by_the_next_and_named(tmp_path: Path) -> None:
    coco = write_set(tmp_path, [annotation(identity, [TRIANGLE]) for identity in range(1, 5)], [(48, 72)] * 4)
    folder = tmp_path / "images"
    (folder / "2.png").write_bytes(b"no image")
    Image.new("RGB", (48, 72)).save(folder / "3.png")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:60])
    dataset = samples(coco)
    whole, second, last = (dataset[(index, 0)] for index in (0, 1, 3))
    assert whole["corrupt"] == {}
    assert last["inputs"]["image_id"] == second["inputs"]["image_id"] == 1
    assert set(second["corrupt"]) == {str(folder / f"{identity}.png") for identity in (2, 3, 4)}
    assert second["corrupt"][str(folder / "3.png")] == "it has 48 × 72 pixels, its annotations are for 72 × 48"
    assert set(last["corrupt"]) == {str(folder / "4.png")}
    assert gather([second, last])["corrupt"] == second["corrupt"]
    assert gather([whole, last])["inputs"] == [whole["inputs"], last["inputs"]]


def test_with_no_usable_image_at_all_a_black_one_without_objects_stands_in(tmp_path: Path) -> None:
    coco = write_set(tmp_path, [annotation(1, [TRIANGLE]), annotation(2, [TRIANGLE])], [(48, 72)] * 2)
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"")
    sample = samples(coco)[(1, 0)]
    assert len(sample["corrupt"]) == 2
    assert not sample["inputs"]["image"].any()
    assert len(sample["inputs"]["instances"]) == 0


def test_samples_equal_those_of_detectron2(tmp_path: Path) -> None:
    """Its DatasetMapper with the augmentations of ViTDet's data configuration (coco_loader_lsj.py), RGB, polygons."""
    hourglass = [5.0, 5.0, 60.5, 40.0, 60.5, 5.0, 5.0, 40.0]
    frame = [2.0, 2.0, 70.0, 2.0, 70.0, 10.0, 8.0, 10.0, 8.0, 38.0, 70.0, 38.0, 70.0, 46.0, 2.0, 46.0]
    shapes = [[TRIANGLE], [frame], [hourglass], [TRIANGLE, [60.0, 40.0, 70.5, 40.0, 65.0, 47.0]]]
    coco = write_set(tmp_path, [annotation(1, polygons) for polygons in shapes], [(48, 72)])
    noise = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    Image.fromarray(noise).save(coco.images[0].path)
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[
            T.RandomFlip(horizontal=True),
            T.ResizeScale(min_scale=0.3, max_scale=2.0, target_height=SIZE, target_width=SIZE),
            T.FixedSizeCrop(crop_size=(SIZE, SIZE), pad=False),
        ],
        image_format="RGB",
        use_instance_mask=True,
        recompute_boxes=True,
    )
    record = {
        "file_name": str(coco.images[0].path),
        "height": 48,
        "width": 72,
        "annotations": [
            {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "segmentation": polygons}
            for polygons in shapes
        ],
    }
    dataset = samples(coco)
    pieces = 0
    for epoch in range(20):
        ours = dataset[(0, epoch)]["inputs"]
        np.random.seed(mix(SEED, "image", epoch, 0) & 0xFFFFFFFF)
        theirs = mapper(record)
        assert torch.equal(ours["image"], theirs["image"])
        expected = theirs["instances"]
        assert torch.equal(ours["instances"].gt_boxes.tensor, expected.gt_boxes.tensor)
        assert len(ours["instances"]) == len(expected)
        for own, other in zip(ours["instances"].gt_masks.polygons, expected.gt_masks.polygons, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(own, other, strict=True))
            pieces += len(own)
    assert pieces > 20 * 5 / 2


@pytest.mark.parametrize("tag", range(2, 9))
def test_tagged_images_give_the_samples_of_upright_ones(tmp_path: Path, tag: int) -> None:
    coco = write_set(tmp_path, [annotation(1, [TRIANGLE])], [(48, 72)])
    with Image.open(coco.images[0].path) as opened:
        upright = opened.copy()
    trained, evaluated = samples(coco)[(0, 3)], EvaluationSamples(coco.images, SIZE)[0]
    save_tagged(upright, coco.images[0].path, tag)
    assert described(samples(coco)[(0, 3)]) == described(trained)
    found = EvaluationSamples(coco.images, SIZE)[0]
    assert found["corrupt"] == {}
    assert torch.equal(found["inputs"]["image"], evaluated["inputs"]["image"])
    assert (found["inputs"]["height"], found["inputs"]["width"]) == (48, 72)


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
def test_images_annotated_as_they_are_stored_stay_so(tmp_path: Path, tag: int) -> None:
    """Where detectron2 raises SizeMismatchError."""
    coco = write_set(tmp_path, [annotation(1, [TRIANGLE])], [(48, 72)])
    trained, evaluated = samples(coco)[(0, 3)], EvaluationSamples(coco.images, SIZE)[0]
    with Image.open(coco.images[0].path) as opened:
        opened.copy().save(coco.images[0].path, exif=tagged(tag))
    assert described(samples(coco)[(0, 3)]) == described(trained)
    found = EvaluationSamples(coco.images, SIZE)[0]["inputs"]
    assert torch.equal(found["image"], evaluated["inputs"]["image"])


def test_evaluation_images_have_the_longer_side_and_remember_their_size(tmp_path: Path) -> None:
    coco = write_set(tmp_path, [annotation(1, [SQUARE])], [(96, 128), (40, 20), (SIZE, 16)], "val")
    (tmp_path / "images/2.png").write_bytes(b"no image")
    dataset = EvaluationSamples(coco.images, SIZE)
    assert len(dataset) == 3
    found = [dataset[index] for index in range(3)]
    assert [tuple(sample["inputs"]["image"].shape) for sample in found] == [(3, 48, 64), (3, 64, 32), (3, 64, 16)]
    assert [(s["inputs"]["height"], s["inputs"]["width"]) for s in found] == [(96, 128), (40, 20), (64, 16)]
    assert [sample["inputs"]["image_id"] for sample in found] == [1, 2, 3]
    assert [sample["inputs"]["readable"] for sample in found] == [True, False, True]
    assert [list(sample["corrupt"]) for sample in found] == [[], [str(coco.images[1].path)], []]
    assert not found[1]["inputs"]["image"].any()
    original = torch.from_numpy(np.asarray(Image.open(coco.images[2].path))).permute(2, 0, 1)
    assert torch.equal(found[2]["inputs"]["image"], original)
