"""The sets that torchvision reads: the same images under the same classes as torchvision's own, from any folder."""

import hashlib
import json
import pickle
import pkgutil
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from backbones.cache import cache_folder, clear, entries
from backbones.errors import DataError
from tasks.data_sets import DATA_SETS, name_data_set, open_labelled
from tasks.datasets.identity import Contents
from tasks.datasets.labelled import LabelledSplit, contents_of
from tasks.datasets.torchvision_layouts import sets
from tasks.datasets.torchvision_layouts.counts import COUNTS
from tasks.datasets.torchvision_layouts.reading import is_pickled
from tasks.datasets.torchvision_layouts.sets import TorchvisionSet
from tests.support.torchvision_examples import WRITERS, draw, torchvision_pairs, write_set

SETS = [each for each in vars(sets).values() if isinstance(each, TorchvisionSet)]
each_set = pytest.mark.parametrize("spec", SETS, ids=lambda spec: spec.name)


def pairs_of(split: LabelledSplit) -> list[tuple[bytes, str]]:
    """The pixels and the class's name of each image."""
    return [
        (np.asarray(Image.open(path).convert("RGB")).tobytes(), split.classes[label])
        for path, label in zip(split.paths, split.labels, strict=True)
    ]


def test_all_sets_are_known_with_their_counts() -> None:
    assert {spec.name for spec in SETS} == COUNTS.keys() == WRITERS.keys()
    for spec in SETS:
        data_set = DATA_SETS[spec.name]
        assert data_set.counts == COUNTS[spec.name] and data_set.opener and data_set.layout.startswith(spec.folder)
        assert pkgutil.resolve_name(data_set.opener).args == (spec,) == pkgutil.resolve_name(data_set.checker).args


@each_set
def test_images_and_classes_are_torchvisions(
    spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(spec, tmp_path, monkeypatch)
    train, val = open_labelled(spec.name, tmp_path)
    expected = [*torchvision_pairs(spec, tmp_path)]
    if spec.listing is None:
        assert sorted(pairs_of(train)) == sorted(pair[1:] for pair in expected if pair[0] == "train")
        assert sorted(pairs_of(val)) == sorted(pair[1:] for pair in expected if pair[0] == "val")
        unlisted = "1 image in no list, left out: images/beagle_999.jpg." if spec.name == "pets" else None
        assert (train.split, val.split, train.note, val.note) == ("train", "test", unlisted, None)
    else:
        ours = Counter(pairs_of(train) + pairs_of(val))
        assert ours <= Counter(pair[1:] for pair in expected) and max(ours.values()) == 1
    assert train.classes == val.classes and train.labels.dtype == np.int32
    assert [*train.paths] == sorted(train.paths) and {*train.labels} == {*range(len(train.classes))}
    assert spec.kind in train.layout == val.layout


@each_set
def test_is_the_same_from_its_own_folder_and_from_another_place(
    spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_set(spec, tmp_path / "one", monkeypatch)
    splits = open_labelled(spec.name, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "and a half")
    monkeypatch.chdir(base)
    others = [open_labelled(spec.name, root) for root in (base, Path(), tmp_path / "two" / "and a half")]
    contents = contents_of(*splits)
    for other in others:
        assert contents_of(*other) == contents
        for split, same in zip(splits, other, strict=True):
            assert [*same.paths.names()] == [*split.paths.names()] and (same.labels == split.labels).all()
            assert [path.relative_to(same.root) for path in same.paths[:3]] == [
                path.relative_to(split.root) for path in split.paths[:3]
            ]


@each_set
def test_what_was_found_is_remembered_until_it_changes(
    spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_set(spec, tmp_path, monkeypatch)
    monkeypatch.setattr("backbones.images.observing.SETTLED_NS", 0)
    first = open_labelled(spec.name, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            "tasks.datasets.torchvision_layouts.reading._divide", lambda *_, **__: pytest.fail("it was read again")
        )
        again = open_labelled(spec.name, tmp_path)
    assert [*map(pairs_of, again)] == [*map(pairs_of, first)] and again[1].root == first[1].root
    shutil.rmtree(base / spec.files[0]) if (base / spec.files[0]).is_dir() else (base / spec.files[0]).unlink()
    with pytest.raises(DataError, match="not there"):
        open_labelled(spec.name, tmp_path)


class TestDrawn:
    def test_thirty_of_each_class_of_caltech_train(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = write_set(sets.CALTECH101, tmp_path, monkeypatch)
        (base / "101_ObjectCategories" / "beagle" / ".DS_Store").touch()  # torchvision would take it for an image
        train, val = open_labelled("caltech101", tmp_path)
        assert [*np.bincount(train.labels)] == [30] * 3 and [*np.bincount(val.labels)] == [3] * 3
        assert "BACKGROUND_Google" not in train.classes
        assert (train.split, val.split) == ("train", "holdout") and val.note and "30 images of each class" in val.note

    def test_a_fifth_of_each_class_of_eurosat_evaluates(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_set(sets.EUROSAT, tmp_path, monkeypatch)
        train, val = open_labelled("eurosat", tmp_path)
        assert [*np.bincount(train.labels)] == [4] * 3 and [*np.bincount(val.labels)] == [1] * 3
        (first,) = (name for name in val.paths.names() if "beagle" in name)
        names = [f"2750/beagle/beagle_{number}.jpg" for number in range(5)]
        assert first == min(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())

    def test_a_partition_of_sun_is_taken_where_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = write_set(sets.SUN397, tmp_path, monkeypatch)
        train, val = open_labelled("sun397", tmp_path)
        assert [path.name for path in train.paths if "abbey" in str(path)] == ["sun_00.jpg", "sun_02.jpg"]
        assert [path.name for path in val.paths] == ["sun_03.jpg", "sun_13.jpg", "sun_23.jpg"]
        assert train.classes == ["abbey", "apartment_building/outdoor", "beach"] and val.split == "test"
        (base / "Partitions").mkdir()
        for name in ("Training_01.txt", "Testing_01.txt"):
            (base / name).rename(base / "Partitions" / name)
        assert [*open_labelled("sun397", tmp_path)[1].paths] == [*val.paths]
        (base / "Partitions" / "Testing_01.txt").write_text("/a/abbey/sun_gone.jpg\n")
        with pytest.raises(DataError, match=r"Testing_01.txt names 1 images that are not there, a/abbey/sun_gone.jpg"):
            open_labelled("sun397", tmp_path)
        (base / "Partitions" / "Testing_01.txt").unlink()
        with pytest.raises(DataError, match=r"No such file or directory: .*Testing_01.txt"):
            open_labelled("sun397", tmp_path)

    def test_another_partition_of_sun_is_drawn_and_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = write_set(sets.SUN397, tmp_path, monkeypatch)
        for name in ("Training_01.txt", "Testing_01.txt"):
            (base / name).unlink()
        for number in range(110):
            draw(base / "b" / "beach" / f"sun_{number + 100}.jpg", number)
        for name in ("a/abbey", "a/apartment_building/outdoor"):
            for number in range(100):
                draw(base / name / f"sun_{number + 100}.jpg", number)
        train, val = open_labelled("sun397", tmp_path)
        assert [*np.bincount(train.labels)] == [50] * 3 == [*np.bincount(val.labels)]
        assert not {*train.paths} & {*val.paths} and val.note and "not the makers' partition" in val.note


@pytest.mark.parametrize("spec", [sets.CALTECH101, sets.EUROSAT, sets.SUN397], ids=lambda spec: spec.name)
def test_what_systems_leave_behind_changes_nothing(
    spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision took it for classes and images, or gave up."""
    base = write_set(spec, tmp_path / "one", monkeypatch)
    contents = contents_of(*open_labelled(spec.name, tmp_path / "one"))
    inner = base if spec is sets.SUN397 else base / spec.files[0]
    shutil.rmtree(inner / "BACKGROUND_Google", ignore_errors=True)
    images = [*inner.rglob("*.jpg")]
    for folder in {inner, images[0].parent}:
        for name in (".DS_Store", "Thumbs.db"):
            (folder / name).touch()
        for name in ("@eaDir", ".ipynb_checkpoints", "__MACOSX"):
            (folder / name).mkdir()
            shutil.copy(images[0], folder / name)
        shutil.copy(images[0], folder / f"._{images[0].name}")
    (tmp_path / "one").rename(tmp_path / "two")
    assert contents_of(*open_labelled(spec.name, tmp_path / "two")) == contents


class TestUnpacking:
    def test_is_lossless_in_files_of_one_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_set(sets.CIFAR10, tmp_path, monkeypatch)
        train, val = open_labelled("cifar10", tmp_path)
        data_set = torchvision.datasets.CIFAR10(tmp_path, train=True)
        for path, label in zip(train.paths, train.labels, strict=True):
            image, expected = data_set[int(path.stem)]
            assert np.array_equal(np.asarray(Image.open(path)), np.asarray(image)) and label == expected
            assert path.parent.name == train.classes[label] and path.stat().st_size == 3 * 32 * 32 + 13
        assert train.root == val.root and train.root.is_relative_to(cache_folder()) and len(train.paths) == 30

    def test_is_done_once_listed_and_cleared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        base = write_set(sets.CIFAR100, tmp_path, monkeypatch)
        (folder,) = {split.root for split in open_labelled("cifar100", tmp_path)}
        inode = folder.stat().st_ino
        shutil.copytree(base, tmp_path / "copy" / base.name)
        open_labelled("cifar100", tmp_path / "copy")
        assert folder.stat().st_ino == inode and [*folder.parent.iterdir()] == [folder]
        (entry,) = (entry for entry in entries() if entry.what == "unpacked images")
        assert (entry.subject, entry.path) == (str(base), folder) and entry.bytes == 12 * 3085
        assert clear() >= entry.bytes and not folder.exists()
        assert [len(split.paths) for split in open_labelled("cifar100", tmp_path)] == [6, 6] and folder.is_dir()

    def test_where_nothing_can_be_written_it_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_set(sets.CIFAR100, tmp_path, monkeypatch)
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(DataError, match=r"file/backbench/unpacked/cifar100-\w+: cannot be written: .*XDG_CACHE_HO"):
            open_labelled("cifar100", tmp_path)

    def test_a_foreign_pickle_is_not_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = write_set(sets.CIFAR10, tmp_path, monkeypatch)
        (base / "batches.meta").write_bytes(pickle.dumps(_Trap()))
        with pytest.raises(DataError, match=r"batches\.meta: not the file that is distributed, whose MD5 is \w{32}"):
            open_labelled("cifar10", tmp_path)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("it was opened",)


def test_a_tree_of_class_folders_serves_too(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            draw(tmp_path / split / name / "1.png", 1)
    train, val = open_labelled("pets", tmp_path)
    assert (train.classes, len(val.paths), train.layout) == (["cat", "dog"], 2, "class folders")


def test_the_name_is_earned_by_the_counts(tmp_path: Path) -> None:
    whole = Contents(3_680, 3_669, 37, "f" * 16)
    assert name_data_set("pets", tmp_path, whole).name == "pets"
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "pets"}))
    assert name_data_set("pets", tmp_path, Contents(3_681, 3_669, 37, "f" * 16)).name == "own-pets"


class TestMisplaced:
    """Each message's advice, followed, opens the set."""

    @pytest.mark.parametrize("spec", [sets.FOOD101, sets.AIRCRAFT, sets.DTD], ids=lambda spec: spec.name)
    def test_one_folder_too_many(self, spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        outer = tmp_path / spec.folder
        write_set(spec, outer, monkeypatch)
        with pytest.raises(
            DataError, match=f"{outer / spec.folder}: one folder too many. Pass {outer}, or move"
        ) as told:
            open_labelled(spec.name, tmp_path)
        assert "not there" not in str(told.value)
        assert open_labelled(spec.name, outer)[0].layout.startswith(f"torchvision's {spec.kind}")

    def test_dtd_without_the_folder_that_torchvision_makes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = write_set(sets.DTD, tmp_path, monkeypatch)
        (base / "dtd").rename(tmp_path / "inner")
        base.rmdir()
        (tmp_path / "inner").rename(base)
        for root in (tmp_path, base):
            with pytest.raises(
                DataError, match=f"images/ and labels/ belong one folder deeper.* {base / 'dtd'} and mo"
            ):
                open_labelled("dtd", root)
        (base / "dtd").mkdir()
        for name in ("images", "labels"):
            (base / name).rename(base / "dtd" / name)
        assert len(open_labelled("dtd", tmp_path)[0].paths) == 12

    @pytest.mark.parametrize(
        ("spec", "name"),
        [(sets.CALTECH101, "caltech-101"), (sets.DTD, "dtd-r1.0.1"), (sets.FLOWERS102, "oxford-102-flowers")],
        ids=lambda value: getattr(value, "name", value),
    )
    def test_another_name(
        self, spec: TorchvisionSet, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = write_set(spec, tmp_path, monkeypatch).rename(tmp_path / name)
        for root in (tmp_path, other)[: 1 if spec is sets.DTD else 2]:  # a level of DTD's has its right name
            with pytest.raises(
                DataError, match=f"{other}: looks like {spec.name}. Rename it to {spec.folder}, and pass"
            ):
                open_labelled(spec.name, root)
        other.rename(tmp_path / spec.folder)
        open_labelled(spec.name, tmp_path)


@each_set
class TestMissing:
    def test_the_set(self, spec: TorchvisionSet, tmp_path: Path) -> None:
        (tmp_path / "somewhere").mkdir()
        with pytest.raises(DataError) as caught:
            open_labelled(spec.name, tmp_path)
        for part in (f"no {spec.name} found", spec.folder, spec.kind, *spec.files, spec.source, "somewhere/"):
            assert part in str(caught.value)

    def test_the_folder_above_was_passed(
        self, spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_set(spec, tmp_path / "data", monkeypatch)
        with pytest.raises(DataError, match=f"{tmp_path / 'data' / spec.folder} is there: pass {tmp_path / 'data'}"):
            open_labelled(spec.name, tmp_path)

    def test_a_file(self, spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = write_set(spec, tmp_path, monkeypatch)
        (base / spec.files[-1]).rename(base / "elsewhere")
        with pytest.raises(DataError, match=f"{base / spec.files[-1]}: not there") as caught:
            open_labelled(spec.name, tmp_path)
        assert spec.source in str(caught.value)

    def test_an_image(self, spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = write_set(spec, tmp_path, monkeypatch)
        if is_pickled(spec) or (spec.listing and spec is not sets.SUN397):
            return  # no list names an image
        image = next(iter(open_labelled(spec.name, tmp_path)[0].paths))
        image.unlink()
        with pytest.raises(DataError, match=image.name) as caught:
            open_labelled(spec.name, tmp_path)
        assert str(base) in str(caught.value) and "not there" in str(caught.value)
