"""Finding images in folders."""

import hashlib
import os
from pathlib import Path
from threading import Barrier, current_thread, main_thread

import pytest

from backbones.errors import InputError
from backbones.images import folders
from backbones.images.folders import describe_files, find_images, fingerprint, image_names, list_folder


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_images_are_found_at_any_depth_and_sorted_by_name(tmp_path: Path) -> None:
    _touch(tmp_path, "b/2.JPG", "b/10.jpeg", "a b/Ü.png", "top.WebP", "b/c/d.tif", "b/notes.txt", "jpg", "b.jpg/x.gif")
    _touch(tmp_path, ".hidden.jpg", ".folder/x.jpg", "b/.x.png", "__MACOSX/x.jpg", "b/@eaDir/2.JPG/thumb.jpg")
    _touch(tmp_path, "lost+found/x.jpg", ".ipynb_checkpoints/x.jpg")
    expected = ["a b/Ü.png", "b.jpg/x.gif", "b/10.jpeg", "b/2.JPG", "b/c/d.tif", "top.WebP"]
    assert image_names(tmp_path) == expected
    assert find_images(str(tmp_path)) == [tmp_path / name for name in expected]


def test_netpbm_images_of_all_suffixes_are_listed(tmp_path: Path) -> None:
    _touch(tmp_path, "a.pgm", "b.PBM", "c.pnm", "d.ppm", "e.pam")
    assert image_names(tmp_path) == ["a.pgm", "b.PBM", "c.pnm", "d.ppm"]


def test_other_files_are_listed_apart(tmp_path: Path) -> None:
    _touch(tmp_path, "b/2.JPG", "b/1.heic", "a/2.HEIC", "README", "b/Thumbs.db", "@eaDir/x.txt", ".DS_Store")
    images, others = list_folder(tmp_path)
    assert (images, others) == (["b/2.JPG"], ["README", "a/2.HEIC", "b/1.heic"])
    assert (describe_files(others), describe_files([])) == ("2 .heic files, 1 other file", "")


def test_linked_folders_are_followed_without_going_round(tmp_path: Path) -> None:
    _touch(tmp_path, "data/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/a/up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/3.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    assert image_names(tmp_path / "data") == ["3.jpg", "a/1.jpg", "b/2.jpg"]


def test_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an empty folder"):
        find_images(tmp_path)
    _touch(tmp_path, "a.txt", "b.TXT", "c/d.csv", "README")
    with pytest.raises(InputError, match=r"no images found.*\.jpg.*2 \.txt files, 1 folder, 1 other file"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="absent: no such folder"):
        find_images(tmp_path / "absent")
    with pytest.raises(InputError, match=r"a\.txt: a file, not a folder"):
        find_images(tmp_path / "a.txt")


def test_fingerprint_depends_on_names_and_sizes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for copy in ("one", "two"):
        _touch(tmp_path / copy, "a/1.jpg", "b/2.jpg")
    paths = find_images(tmp_path / "one")
    original = fingerprint(paths, tmp_path / "one")
    assert len(original) == 16
    assert original == fingerprint(paths[::-1], tmp_path / "one")
    assert original == fingerprint(find_images(tmp_path / "two"), tmp_path / "two")
    monkeypatch.chdir(tmp_path)
    assert original == fingerprint(find_images("./one/"), "./one/")
    assert original != fingerprint(paths[:1], tmp_path / "one")
    (tmp_path / "one/a/1.jpg").rename(tmp_path / "one/a/3.jpg")
    assert original != fingerprint(find_images(tmp_path / "one"), tmp_path / "one")
    (tmp_path / "two/a/1.jpg").write_bytes(b"longer than before")
    assert original != fingerprint(find_images(tmp_path / "two"), tmp_path / "two")
    with pytest.raises(InputError, match=r"1\.jpg"):
        fingerprint(paths, tmp_path / "one")


def test_a_fingerprint_asks_a_slow_disk_for_many_files_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is what one after the other would give."""
    names = [f"{number:03d}.jpg" for number in range(64)]
    for size, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * size)
    paths, at_once, look = find_images(tmp_path), Barrier(8, timeout=20), os.stat
    asked = []
    expected = hashlib.sha256("".join(f"{name}\0{size}\n" for size, name in enumerate(names)).encode())

    def answer(path: Path, **options: bool) -> os.stat_result:
        if current_thread() is not main_thread():
            asked.append(at_once.wait())
        return look(path, **options)

    monkeypatch.setattr(folders, "_AT_A_TIME", 1)
    monkeypatch.setattr(os, "stat", answer)
    assert fingerprint(reversed(paths), tmp_path) == expected.hexdigest()[:16]
    assert len(asked) == len(names)
