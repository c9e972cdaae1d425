"""Class-folder data sets in each of their layouts, and what is said about broken ones."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import ImageFolder, imagenet

from backbones.errors import InputError
from tasks.datasets.class_folders.check import check_class_folders
from tasks.datasets.class_folders.layout import ClassFolders
from tasks.datasets.class_folders.validation_labels import NAMED_FILES, ORDERED_FILES
from tests.support.image_examples import save_tagged

CLASSES = ["n01440764", "n01443537", "n02119789"]
FLAT = {"ILSVRC2012_val_00000001.JPEG": 2, "ILSVRC2012_val_00000002.JPEG": 0, "ILSVRC2012_val_00000003.JPEG": 2}


def add(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def images_of(data: ClassFolders) -> dict[str, str]:
    """Each image's path below the root, with the name of its class."""
    return {
        path.relative_to(data.root).as_posix(): data.classes[label]
        for path, label in zip(data.paths, data.labels, strict=True)
    }


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """ImageNet's layout without its mapping file."""
    add(tmp_path, *(f"train/{name}/{name}_1.JPEG" for name in CLASSES), *(f"val/{name}" for name in FLAT))
    return tmp_path


# train/ and val/


def test_labels_and_classes_are_torchvisions(tmp_path: Path) -> None:
    for name in ("train/zèbre/1.jpg", "train/a b/2.jpg", "train/a b/deep/er/3.JPG", "train/B/4.png", "val/B/5.jpg"):
        add(tmp_path, name)
    data, reference = ClassFolders.open(tmp_path, "train"), ImageFolder(str(tmp_path / "train"))
    assert data.classes == reference.classes == ["B", "a b", "zèbre"]
    assert sorted((str(path), label) for path, label in zip(data.paths, data.labels, strict=True)) == sorted(
        reference.samples
    )
    assert (data.split, data.note, data.root) == ("train", None, tmp_path)
    validation = ClassFolders.open(str(tmp_path), "val")
    assert images_of(validation) == {"val/B/5.jpg": "B"}
    assert validation.split == "val"
    assert "no image of 2 of 3 classes: a b, zèbre" in (validation.note or "")


def test_folder_called_validation_serves_too(tmp_path: Path) -> None:
    add(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "validation/a/3.jpg", "validation/b/4.jpg")
    assert images_of(ClassFolders.open(tmp_path, "val")) == {"validation/a/3.jpg": "a", "validation/b/4.jpg": "b"}


def test_images_outside_of_class_folders_are_left_out_and_mentioned(tmp_path: Path) -> None:
    add(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/stray.jpg", "val/a/3.jpg")
    data = ClassFolders.open(tmp_path, "train")
    assert list(images_of(data)) == ["train/a/1.jpg", "train/b/2.jpg"]
    assert "1 images lie directly in train/" in (data.note or "")


@pytest.mark.parametrize("divided", [True, False])
def test_files_that_are_no_images_are_counted_in_the_note(tmp_path: Path, divided: bool) -> None:
    below = ("train/", "val/") if divided else ("",)
    add(tmp_path, *(f"{split}{label}/{number}.pgm" for split in below for label in "ab" for number in range(5)))
    sizes = [len(ClassFolders.open(tmp_path, split).paths) for split in ("train", "val")]
    assert sizes == ([10, 10] if divided else [8, 2])
    assert "no images" not in (ClassFolders.open(tmp_path, "val").note or "")
    others = ("a/6.heic", "b/deep/7.HEIC", "b/x.txt", "top.txt", "a/Thumbs.db")
    add(tmp_path, *(f"{split}{name}" for split in below for name in others))
    for split, size in zip(("train", "val"), sizes, strict=True):
        data = ClassFolders.open(tmp_path, split)
        assert len(data.paths) == size
        assert "holds files that are no images, left out: 2 .heic files, 1 .txt file." in (data.note or "")


def test_other_files_of_a_flat_folder_are_counted_but_for_the_one_that_labels(flat: Path) -> None:
    (flat / "val/val.txt").write_text("".join(f"{name} {label}\n" for name, label in FLAT.items()))
    assert ClassFolders.open(flat, "val").note is None
    add(flat, "val/ILSVRC2012_val_00000004.heic")
    assert ClassFolders.open(flat, "val").note == "val/ holds files that are no images, left out: 1 .heic file."


LEFT_BEHIND = ("__MACOSX/a/._1.jpg", "__MACOSX/b/2.jpg", "a/@eaDir/1.jpg/thumb.jpg", ".ipynb_checkpoints/3.jpg")


@pytest.mark.parametrize("divided", [True, False])
def test_what_programs_left_behind_changes_nothing_but_the_note(tmp_path: Path, divided: bool) -> None:
    below = ("train/", "val/") if divided else ("",)
    for root in (tmp_path / "clean", tmp_path / "littered"):
        add(root, *(f"{split}{label}/{number}.jpg" for split in below for label in "ab" for number in range(5)))
    add(tmp_path / "littered", *(f"{split}{name}" for split in below for name in LEFT_BEHIND))
    (tmp_path / "littered" / below[0] / "lost+found").mkdir()
    for split in ("train", "val"):
        clean, littered = (ClassFolders.open(tmp_path / name, split) for name in ("clean", "littered"))
        assert images_of(littered) == images_of(clean)
        assert (littered.classes, littered.fingerprint) == (clean.classes, clean.fingerprint)
        assert "__MACOSX" not in (clean.note or "")
        assert "passed over, no class but what a program left there" in (littered.note or "")


def test_avif_images_are_read(tmp_path: Path) -> None:
    for name in ("train/a/1", "train/b/2", "val/a/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), "red").save(tmp_path / f"{name}.avif")
    report = check_class_folders(tmp_path)
    assert (report.counts, report.problems) == ({"train": 2, "val": 1}, [])


MISTAKES: dict[str, tuple[list[str], str]] = {
    "flat training folder": (["train/1.jpg", "train/2.jpg", "val/a/3.jpg"], r"train: no class folders.*2 \.jpg files"),
    "lone flat training folder": (["train/1.jpg"], r"train: no class folders.*train/CLASS"),
    "only images": (["1.jpg", "2.jpg", "3.png"], r"no class folders.*2 \.jpg files, 1 \.png file"),
    "no training folder": (["val/a/1.jpg", "val/b/1.jpg"], "train: no such folder"),
    "no validation folder": (["train/a/1.jpg", "train/b/1.jpg"], "val: no such folder.*pass .*train"),
    "one class": (["train/a/1.jpg", "val/a/1.jpg"], "only one class, 'a'"),
    "one class, undivided": (["a/1.jpg", "a/2.jpg"], "only one class, 'a'"),
    "empty classes": (
        [f"train/{x}/1.txt" for x in "abcdefg"] + ["train/h/1.jpg"],
        r"7 class.*: a \(1 \.txt file\), b \(.*\), c .*, e \(1 \.txt file\) and 2 more",
    ),
    "empty class, undivided": (["a/1.jpg", "b/1.txt"], r"1 class folders without images: b \(1 \.txt file\)\. An"),
    "unknown class": (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/B/1.jpg"], "doesn't have: B"),
    "no validation images": (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.txt"], r"no images.*: a \(1 \.txt file\)"),
    "empty flat folder": (["train/a/1.jpg", "train/b/1.jpg", "val/readme.txt"], r"val: no images.*1 \.txt file"),
    "single images": (["a/1.jpg", "b/1.jpg"], "leaves none to validate on"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_layout_is_explained(tmp_path: Path, mistake: str) -> None:
    names, message = MISTAKES[mistake]
    add(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        [ClassFolders.open(tmp_path, split) for split in ("train", "val")]


def test_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        ClassFolders.open(tmp_path / "absent", "train")


def test_fingerprint_goes_with_files_and_classes(tmp_path: Path) -> None:
    add(tmp_path / "one", "train/a/1.jpg", "train/a/2.jpg", "train/b/3.jpg", "val/a/4.jpg")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    train = ClassFolders.open(tmp_path / "one", "train")
    assert train.fingerprint == ClassFolders.open(tmp_path / "two", "train").fingerprint
    assert train.fingerprint != ClassFolders.open(tmp_path / "one", "val").fingerprint
    (tmp_path / "two/train/a/2.jpg").write_bytes(b"another size")
    assert train.fingerprint != ClassFolders.open(tmp_path / "two", "train").fingerprint


# Flat validation images

MAPPINGS: dict[str, str] = {
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    "ILSVRC2012_val_00000003,n02119789 1 2 3 4 n02119789 5 6 7 8 \n"
    "ILSVRC2012_val_00000001,n02119789 85 1 499 272 \nILSVRC2012_val_00000002,n01440764 0 0 9 9 \n",
    "val_annotations.txt": "".join(f"{name}\t{CLASSES[label]}\t0\t32\t44\t62\n" for name, label in FLAT.items()),
    "val.txt": "".join(f"{name} {label}\n" for name, label in FLAT.items()),
    "val_map.txt": "".join(f"val/{name}   {CLASSES[label]}\n\n" for name, label in FLAT.items()),
    "imagenet_val_map.txt": "".join(f"{name[:-5]} {CLASSES[label]} {label}\r\n" for name, label in FLAT.items()),
    "synset_labels.txt": "".join(f"{CLASSES[label]}\n" for label in FLAT.values()),
    "imagenet_2012_validation_synset_labels.txt": "".join(f"{CLASSES[label]}\n" for label in FLAT.values()),
}


@pytest.mark.parametrize("place", [".", "val"])
@pytest.mark.parametrize("name", MAPPINGS)
def test_flat_validation_images_are_labelled_by_their_mapping_file(flat: Path, name: str, place: str) -> None:
    assert name in NAMED_FILES + ORDERED_FILES
    (flat / place / name).write_text(MAPPINGS[name])
    data = ClassFolders.open(flat, "val")
    assert images_of(data) == {f"val/{image}": CLASSES[label] for image, label in FLAT.items()}
    assert name in data.layout


def test_mapping_decides_the_fingerprint(flat: Path) -> None:
    (flat / "val.txt").write_text(MAPPINGS["val.txt"])
    original = ClassFolders.open(flat, "val").fingerprint
    (flat / "val.txt").write_text(MAPPINGS["val.txt"].replace("2.JPEG 0", "2.JPEG 1"))
    assert ClassFolders.open(flat, "val").fingerprint != original


def test_tiny_imagenets_layout(tmp_path: Path) -> None:
    add(tmp_path, *(f"train/{name}/images/{name}_0.JPEG" for name in CLASSES), "val/images/val_0.JPEG")
    (tmp_path / "val/val_annotations.txt").write_text(f"val_0.JPEG\t{CLASSES[1]}\t0\t32\t44\t62\n")
    assert images_of(ClassFolders.open(tmp_path, "val")) == {"val/images/val_0.JPEG": CLASSES[1]}
    assert len(ClassFolders.open(tmp_path, "train").paths) == 3


def test_kaggles_archive_as_it_is_unpacked(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("kaggle")
    (root / "ILSVRC/Data").mkdir(parents=True)
    flat.rename(root / "ILSVRC/Data/CLS-LOC")
    (root / "LOC_val_solution.csv").write_text(MAPPINGS["LOC_val_solution.csv"])
    assert [data.labels.tolist() for data in (ClassFolders.open(root, "train"), ClassFolders.open(root, "val"))] == [
        *([0, 1, 2], [2, 0, 2]),
    ]


def _write_devkit(folder: Path) -> None:
    """A development kit whose class ids run against the order of the WordNet ids, with one inner node, as the real."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(1.0, CLASSES[2], "kit fox", "", 0.0), (2.0, CLASSES[0], "tench", "", 0.0)]
    rows += [(3.0, CLASSES[1], "goldfish", "", 0.0), (4.0, "n00001740", "entity", "", 3.0)]
    folder.mkdir(parents=True)
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1\n")


@pytest.mark.parametrize("place", [".", "val", "ILSVRC2012_devkit_t12/data"])
def test_development_kit_is_read_as_torchvision_reads_it(
    flat: Path, place: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = tmp_path_factory.mktemp("kit")
    _write_devkit(kit / "ILSVRC2012_devkit_t12/data")
    shutil.copytree(kit / "ILSVRC2012_devkit_t12/data", flat / place, dirs_exist_ok=True)
    with tarfile.open(kit / "kit.tar.gz", "w:gz") as archive:
        archive.add(kit / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    digest = hashlib.md5((kit / "kit.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setitem(imagenet.ARCHIVE_META, "devkit", ("kit.tar.gz", digest))
    imagenet.parse_devkit_archive(kit)
    expected = imagenet.load_meta_file(kit)[1]
    data = ClassFolders.open(flat, "val")
    assert [data.classes[label] for label in data.labels] == expected == [CLASSES[2], CLASSES[0], CLASSES[2]]


BAD_MAPPINGS: dict[str, tuple[str, str, str]] = {
    "missing": ("readme.txt", "", "no file that says which class.*LOC_val_solution.csv"),
    "incomplete": ("val.txt", "ILSVRC2012_val_00000001.JPEG 2\n", "no class for 2 of 3.*val_00000002"),
    "unknown class": ("val_map.txt", MAPPINGS["val_map.txt"].replace(CLASSES[0], "n9"), "'n9'.*Expected.*0 to 2"),
    "numbered from 1": ("val.txt", MAPPINGS["val.txt"].replace(" 2", " 3"), "'3'.*Expected.*0 to 2"),
    "list without classes": ("val.txt", "\n".join(FLAT), "val.txt, line 1: expected an image and its class"),
    "too short": ("synset_labels.txt", "n01440764\n", "1 lines for 3"),
    "no meta.mat": ("ILSVRC2012_validation_ground_truth.txt", "1\n2\n1\n", "meta.mat: not found"),
}


@pytest.mark.parametrize("mistake", BAD_MAPPINGS)
def test_bad_mapping_file_is_explained(flat: Path, mistake: str) -> None:
    name, text, message = BAD_MAPPINGS[mistake]
    (flat / name).write_text(text)
    with pytest.raises(InputError, match=message):
        ClassFolders.open(flat, "val")


def test_binary_mapping_and_broken_meta_file_are_explained(flat: Path) -> None:
    (flat / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1\n")
    (flat / "meta.mat").write_bytes(b"not MATLAB" * 99)
    with pytest.raises(InputError, match=r"meta\.mat: not the development kit's"):
        ClassFolders.open(flat, "val")
    (flat / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"val\.txt: cannot be read as text"):
        ClassFolders.open(flat, "val")


# An undivided folder


@pytest.fixture
def undivided(tmp_path: Path) -> Path:
    add(tmp_path, *(f"plane/{i}.jpg" for i in range(50)), *(f"train/x/{i}.jpg" for i in range(9)))
    (tmp_path / "train/x").rename(tmp_path / "train2")
    (tmp_path / "train").rmdir()
    (tmp_path / "train2").rename(tmp_path / "train")  # a class called "train", images directly in it
    add(tmp_path, "two/1.jpg", "two/2.jpg", "one/1.jpg")
    return tmp_path


def test_undivided_folder_is_split_in_each_class(undivided: Path) -> None:
    train, held_out = ClassFolders.open(undivided, "train"), ClassFolders.open(undivided, "val")
    assert (train.split, held_out.split) == ("train", "holdout")
    assert train.classes == held_out.classes == ["one", "plane", "train", "two"]
    assert [train.labels.tolist().count(label) for label in range(4)] == [1, 40, 7, 1]
    assert [held_out.labels.tolist().count(label) for label in range(4)] == [0, 10, 2, 1]
    assert not set(train.paths) & set(held_out.paths)
    assert all(name.startswith(label) for name, label in (images_of(train) | images_of(held_out)).items())
    assert "13 of 62 images, about 20% of each class" in (held_out.note or "")
    assert "1 classes with a single image are in training only: one" in (held_out.note or "")


def test_hold_out_is_the_same_everywhere_and_not_the_first_names(
    undivided: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy") / "elsewhere"
    shutil.copytree(undivided, copy)
    names = list(images_of(ClassFolders.open(undivided, "val")))
    assert names == list(images_of(ClassFolders.open(copy, "val")))
    # The smallest SHA-256. Fixed for good: another choice would make a new record incomparable with an old one.
    assert [name for name in names if not name.startswith("plane")] == ["train/4.jpg", "train/8.jpg", "two/2.jpg"]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_one_half_of_a_divided_set_is_refused_for_the_folder_above(
    tmp_path: Path, validation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run went to its end, trained on four fifths of that half and evaluated on the rest."""
    add(tmp_path, *(f"{half}/{name}/{i}.jpg" for half in ("train", validation) for name in "ab" for i in range(5)))
    monkeypatch.chdir(tmp_path / "train")
    for half in (tmp_path / "train", tmp_path / validation, Path(), Path(f"../{validation}"), Path("../train/")):
        with pytest.raises(
            InputError, match=rf"with train/ and {validation}/ beside.* pass the folder above, (.*)\. "
        ) as caught:
            ClassFolders.open(half, "train")
        assert f"above, {tmp_path}. " in str(caught.value)
    (tmp_path / "photos").symlink_to(tmp_path / "train")
    assert ClassFolders.open(tmp_path / "photos", "val").split == "holdout"
    assert ClassFolders.open(tmp_path, "val").split == "val"


def test_one_half_of_kaggles_archive_is_refused_for_its_root(tmp_path: Path) -> None:
    folder = tmp_path / "kaggle/ILSVRC/Data/CLS-LOC"
    add(folder, *(f"{half}/{name}/{i}.jpg" for half in ("train", "val") for name in "ab" for i in range(5)))
    with pytest.raises(InputError, match=rf"pass the folder above, {tmp_path / 'kaggle'}\. "):
        ClassFolders.open(folder / "train", "train")


@pytest.mark.parametrize("beside", [[], ["test/1.jpg"], ["val.txt"]])
def test_a_training_folder_without_its_other_half_is_divided(tmp_path: Path, beside: list[str]) -> None:
    add(tmp_path, *beside, *(f"train/{name}/{i}.jpg" for name in "ab" for i in range(5)))
    assert len(ClassFolders.open(tmp_path / "train", "train").paths) == 8


# Checking


def test_check_counts_images_with_an_orientation(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a/1.jpg", "train/a/2.jpg", "train/b/3.png", "val/a/4.jpg", "val/b/5.jpg")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save_tagged(Image.new("RGB", (20, 10)), tmp_path / name, (6, 1, 3, 1, 1)[number])
    report = check_class_folders(tmp_path)
    assert report.problems == []
    assert report.notes == ["2 train images with an EXIF orientation, not turned by it, as in torchvision."]


def test_check_counts_and_names_unreadable_files(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/a/2.jpg", "train/b/3.png", "train/c/4.png", "val/a/5.png", "val/b/6.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    (tmp_path / "train/c/4.png").write_bytes(b"")
    (tmp_path / "val/b/6.png").write_text("no picture")
    progress: list[tuple[int, int]] = []
    report = check_class_folders(tmp_path, None, lambda done, total: progress.append((done, total)))
    assert (report.layout, report.counts) == ("class folders", {"train": 4, "val": 2})
    assert report.classes == ["a", "b", "c"]
    assert (report.smallest, report.largest) == (("b", 1), ("a", 2))
    assert report.problems == [
        f"unreadable: {tmp_path}/train/c/4.png: the file is empty",
        f"unreadable: {tmp_path}/val/b/6.png: text, not an image",
    ]
    assert progress[-1] == (6, 6)
    assert len(report.notes) == 1
    assert "no image of 1 of 3 classes: c" in report.notes[0]
