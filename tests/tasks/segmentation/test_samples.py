"""What a segmentor is shown: the images and labels of mmsegmentation's pipelines, and what happens to broken files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmseg.registry import MODELS
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from backbones.training.randomness import mix
from backbones.training.runner import stack
from benchmarks.planning.recipe import load_recipe
from tasks.datasets.label_maps.maps import IGNORED, WrongLabels
from tasks.segmentation.recipe import Inference, SegmentationAugmentation
from tasks.segmentation.samples import EvaluationSamples, TrainingSamples
from tasks.segmentation.segmentor import Segmentor
from tests.support.ade20k_examples import annotation, write_labels, write_set
from tests.support.image_examples import save_tagged
from tests.support.mmseg_examples import as_mmseg, mmseg_set, own_set, packaged, write_scenes

SEED = 5
SIDE = 16
PLAIN = SegmentationAugmentation(resize=(64, 24), flip=0.0, photometric_distortion=False)
LOOK = Inference(resize=(64, 24), stride=10)
Sample = dict[str, Any]


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load_recipe("ade20k_vit_base", [], {"segmentation"}).recipe


def samples(root: Path, augment: SegmentationAugmentation = PLAIN, seed: int = SEED) -> TrainingSamples:
    return TrainingSamples(own_set(root, "train"), SIDE, augment, seed)


def same(one: Sample, other: Sample) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[key], other[key]) for key in one)


# ---- Against mmsegmentation


def own_input(batch: Sample, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """What the segmentor hands to its network and its losses."""
    segmentor = Segmentor.__new__(Segmentor)
    torch.nn.Module.__init__(segmentor)
    monkeypatch.setattr(Segmentor, "loss", lambda self, images, annotated: (images, annotated))
    images, annotated = segmentor.forward("loss", **batch)
    return images, torch.stack([each.gt_sem_seg.data for each in annotated])


def test_training_samples_are_those_of_mmsegmentation(
    tmp_path: Path, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packaged data set, pipeline and preprocessor, untouched, on the same files with the same random numbers."""
    sizes = [(300, 401), (500, 333), (512, 512), (97, 120), (64, 700), (900, 130)]
    for split in ("train", "val"):
        write_scenes(tmp_path, sizes, split)
    settings = packaged()
    theirs = mmseg_set(tmp_path, "train", settings.train_pipeline)
    ours = TrainingSamples(own_set(tmp_path, "train"), 512, recipe.augment, SEED)
    with as_mmseg():
        preprocessor = MODELS.build(settings.model.data_preprocessor)
    padded = flipped = 0
    for epoch in range(4):
        drawn, expected = [ours[(index, epoch)] for index in range(len(sizes))], []
        for index, sample in enumerate(drawn):
            np.random.seed(mix(SEED, "image", epoch, index) & 0xFFFFFFFF)
            expected.append(theirs[index])
            rows, columns = sample["heights"], sample["widths"]
            assert torch.equal(sample["images"][:, :rows, :columns], expected[-1]["inputs"].flip(0)), (epoch, index)
            padded += rows < 512 or columns < 512
            flipped += expected[-1]["data_samples"].flip
        images, labels = own_input(stack(drawn), monkeypatch)
        prepared = preprocessor(pseudo_collate(expected), training=True)
        torch.testing.assert_close(images, prepared["inputs"], rtol=0, atol=1e-6)
        assert labels.dtype == torch.int64
        assert torch.equal(labels, torch.stack([each.gt_sem_seg.data for each in prepared["data_samples"]]).long())
    assert 4 < padded < 24
    assert 4 < flipped < 20


def test_evaluation_images_are_those_of_mmsegmentation(tmp_path: Path, recipe: Any) -> None:
    sizes = [(300, 401), (500, 333), (512, 512), (97, 120), (64, 700), (900, 130)]
    for split in ("train", "val"):
        write_scenes(tmp_path, sizes, split)
    theirs = mmseg_set(tmp_path, "val", packaged().test_pipeline)
    ours = EvaluationSamples(own_set(tmp_path, "val"), recipe.inference)
    for index, (sample, size) in enumerate(zip(ours, sizes, strict=True)):
        expected = theirs[index]
        (view,) = sample["views"]
        assert torch.equal(view, expected["inputs"].flip(0))
        assert torch.equal(sample["labels"], expected["data_samples"].gt_sem_seg.data[0])
        assert tuple(sample["labels"].shape) == size
        assert (sample["numbers"], sample["readable"], sample["corrupt"]) == (index, True, {})
    assert [tuple(ours[index]["views"][0].shape[1:]) for index in (0, 4)] == [(512, 684), (187, 2048)]


def test_tagged_images_are_those_of_mmsegmentation(tmp_path: Path, recipe: Any) -> None:
    """Turned by all eight orientations, the label maps never."""
    sizes = [(60 + 3 * tag, 97) for tag in range(1, 9)]
    for split in ("train", "val"):
        write_scenes(tmp_path, sizes, split)
    for path in tmp_path.glob("images/*/*.jpg"):
        with Image.open(path) as opened:
            upright = opened.copy()
        save_tagged(upright, path, int(path.stem) + 1)
    settings, look = packaged(), recipe.inference
    theirs, ours = mmseg_set(tmp_path, "val", settings.test_pipeline), EvaluationSamples(own_set(tmp_path, "val"), look)
    for index, size in enumerate(sizes):
        sample, expected = ours[index], theirs[index]
        assert torch.equal(sample["views"][0], expected["inputs"].flip(0))
        assert torch.equal(sample["labels"], expected["data_samples"].gt_sem_seg.data[0])
        assert (tuple(sample["labels"].shape), sample["corrupt"]) == (size, {})
    theirs = mmseg_set(tmp_path, "train", settings.train_pipeline)
    trained = TrainingSamples(own_set(tmp_path, "train"), 512, recipe.augment, SEED)
    for index in range(len(sizes)):
        sample = trained[(index, 0)]
        np.random.seed(mix(SEED, "image", 0, index) & 0xFFFFFFFF)
        expected, rows, columns = theirs[index], sample["heights"], sample["widths"]
        assert torch.equal(sample["images"][:, :rows, :columns], expected["inputs"].flip(0))
        assert torch.equal(sample["labels"][:rows, :columns], expected["data_samples"].gt_sem_seg.data[0])


def test_every_scale_is_of_the_resized_image(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    look = Inference(resize=(64, 24), stride=10, scales=(0.5, 1.0, 1.75))
    views = EvaluationSamples(own_set(root, "val"), look)[0]["views"]
    assert [tuple(view.shape) for view in views] == [(3, 12, 16), (3, 24, 32), (3, 42, 56)]


# ---- Randomness


def test_a_sample_depends_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    augment = SegmentationAugmentation(resize=(64, 24))
    dataset = samples(root, augment)
    draws = [(index, epoch) for epoch in range(3) for index in range(3)]
    first = [dataset[draw] for draw in draws]
    loader = DataLoader(dataset, sampler=draws[::-1], batch_size=None, num_workers=1)
    assert all(same(*pair) for pair in zip(first, reversed(list(loader)), strict=True))
    assert not same(first[0], first[3])
    assert not same(first[0], samples(root, augment, seed=SEED + 1)[(0, 0)])


def test_without_distortion_and_flip_a_crop_is_cut_from_the_image(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    augment = SegmentationAugmentation(
        resize=(8, 6), ratio=(1.0, 1.0), cat_max_ratio=1.0, flip=0.0, photometric_distortion=False
    )
    dataset = TrainingSamples(own_set(root, "train"), 4, augment, SEED)
    original = np.asarray(Image.open(root / "images/training/c.d.png")).transpose(2, 0, 1)
    labels = dataset.dataset.labels(dataset.dataset.images[1])
    corners = set()
    for epoch in range(30):
        sample = dataset[(1, epoch)]
        found = [
            (top, left)
            for top in range(3)
            for left in range(5)
            if np.array_equal(sample["images"], original[:, top : top + 4, left : left + 4])
        ]
        (top, left) = found[0]
        assert np.array_equal(sample["labels"], labels[top : top + 4, left : left + 4])
        corners.add((top, left))
    assert len(corners) > 7


# ---- Broken files


@pytest.mark.parametrize("broken", ["images/training/a.jpg", "annotations/training/a.png"])
def test_a_pair_with_an_unreadable_file_is_replaced_by_the_next(tmp_path: Path, broken: str) -> None:
    root = write_set(tmp_path)
    (root / broken).write_bytes(b"nothing of the kind")
    dataset = samples(root)
    assert [image.name for image in dataset.dataset.images] == ["a.jpg", "c.d.png", "deep/b.jpg"]
    sample, other = dataset[(0, 0)], dataset[(1, 0)]
    assert list(sample["corrupt"]) == [str(root / broken)]
    assert other["corrupt"] == {}
    assert sample["images"].any()


def test_labels_of_another_size_than_the_image_are_no_unreadable_file(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    path = write_labels(annotation(root, "training", "a.jpg"), np.ones((8, 6), np.uint8))
    with pytest.raises(WrongLabels, match=f"{path}: 6 × 8 pixels, but .* has 8 × 6"):
        samples(root)[(0, 0)]


def test_where_nothing_can_be_read_a_black_image_without_labels_stands_in(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    for image in own_set(root, "train").images:
        image.image.write_bytes(b"")
    sample = samples(root)[(0, 0)]
    assert len(sample["corrupt"]) == 3
    assert sample["images"].shape == (3, SIDE, SIDE)
    assert not sample["images"].any()
    assert (sample["labels"] == IGNORED).all()


def test_a_label_of_no_class_is_no_unreadable_file(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    write_labels(annotation(root, "training", "a.jpg"), np.full((6, 8), 4, np.uint8))
    with pytest.raises(WrongLabels, match="label 4 out of range"):
        samples(root)[(0, 0)]


@pytest.mark.parametrize("longer", [99, 100])
def test_images_of_which_resizing_would_leave_nothing_are_unreadable(tmp_path: Path, longer: int) -> None:
    """A line of 100 pixels is half a pixel thin where its length becomes 50."""
    root = write_set(tmp_path)
    for split in ("training", "validation"):
        image = root / "images" / split / "a.jpg"
        Image.fromarray(np.zeros((longer, 1, 3), np.uint8)).save(image)
        write_labels(annotation(root, split, "a.jpg"), np.ones((longer, 1), np.uint8))
    augment = SegmentationAugmentation(resize=(100, 24), ratio=(0.5, 0.5))
    look = Inference(resize=(100, 24), stride=10, scales=(1.0, 0.5))
    found = samples(root, augment)[(0, 0)], EvaluationSamples(own_set(root, "val"), look)[0]
    for sample in found:
        reasons = list(sample["corrupt"].values())
        assert reasons == ([] if longer == 99 else ["1 × 100 pixels are too thin to be resized"])
    if longer == 99:
        assert (found[0]["heights"], found[0]["widths"]) == (SIDE, 1)
        assert [tuple(view.shape) for view in found[1]["views"]] == [(3, 100, 1), (3, 50, 1)]


def test_an_unreadable_evaluation_image_is_named(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    broken = annotation(root, "validation", "a.jpg")
    broken.write_bytes(b"")
    dataset = EvaluationSamples(own_set(root, "val"), LOOK)
    assert len(dataset) == 3
    batch = stack([dataset[0]])
    assert batch["corrupt"] == {str(broken): "the file is empty"}
    assert batch["readable"].tolist() == [False]
    assert (batch["labels"] == IGNORED).all()
    assert batch["views"][0].shape == (1, 3, 24, 24)
    assert stack([dataset[1]])["readable"].tolist() == [True]
