"""What is wrong with --data."""

import shutil
from pathlib import Path

from tests.support.in_process import pretrain, refusal, run, success


def test_missing(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert refusal(*pretrain(gone, tmp_path / "out"), status=3) == f"{gone}: no such folder."
    assert refusal(*run(gone, tmp_path / "out"), status=3).startswith(f"{gone}: no such folder. Expected train/CLASS/")


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "images.tar"
    file.touch()
    assert refusal(*pretrain(file, tmp_path / "out"), status=3) == f"{file}: a file, not a folder."
    assert refusal(*run(file, tmp_path / "out"), status=3).startswith(f"{file}: a file, not a folder. Expected")


def test_without_images(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "no images found. Expected files ending in" in refusal(*pretrain(folder, tmp_path / "out"), status=3)
    assert "found an empty folder" in refusal(*run(folder, tmp_path / "out"), status=3)
    (folder / "notes.txt").touch()
    assert "found 1 .txt file" in refusal(*pretrain(folder, tmp_path / "out"), status=3)


def test_one_class(copied: Path, tmp_path: Path) -> None:
    for folder in sorted((copied / "train").iterdir())[1:]:
        shutil.rmtree(folder)
    assert "only one class, 'arrow'" in refusal(*run(copied, tmp_path / "out"), status=3)


def test_an_empty_class(copied: Path, tmp_path: Path) -> None:
    (copied / "train/zebra").mkdir()
    message = refusal(*run(copied, tmp_path / "out"), status=3)
    assert message.startswith(f"{copied}/train: 1 class folders without images: zebra (an empty folder). An image is a")


def test_no_validation_images(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "val")
    message = refusal(*run(copied, tmp_path / "out"), status=3)
    assert message.startswith(f"{copied}/val: no such folder. Expected val/CLASS/*.jpg")
    assert f"pass {copied}/train" in message


def test_a_class_that_is_validated_but_not_trained(copied: Path, tmp_path: Path) -> None:
    (copied / "val/arrow").rename(copied / "val/zebra")
    assert "1 class folders that train/ doesn't have: zebra" in refusal(*run(copied, tmp_path / "out"), status=3)


def test_images_directly_in_train(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small / "unlabelled", tmp_path / "flat/train")
    message = refusal(*run(tmp_path / "flat", tmp_path / "out"), status=3)
    assert "train: no class folders found. Expected train/CLASS/*.jpg; found 32 " in message
    success(*pretrain(tmp_path / "flat", tmp_path / "out"))


def test_nothing_is_left_behind(copied: Path, tmp_path: Path) -> None:
    (copied / "train/zebra").mkdir()
    refusal(*run(copied, tmp_path / "out"), status=3)
    assert not (tmp_path / "out").exists()
