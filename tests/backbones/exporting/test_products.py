"""Files of an export are written whole or not at all, and only an export's are replaced."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.errors import InputError, TryAgainError
from backbones.exporting.products import (
    About,
    Content,
    Product,
    as_pickle,
    as_safetensors,
    as_text,
    as_torch,
    write_product,
)
from backbones.images.normalisation import IMAGENET
from tests.support.in_process import FullDisk

ABOUT = About("MAE", "IN1K", "ViT-B", IMAGENET)
TENSORS = {"whole": torch.arange(6.0), "part": torch.arange(12.0)[3:6]}


def folder_of(text: str) -> Product:
    files = {"config.json": as_text(text), "model.safetensors": as_safetensors(TENSORS, ABOUT)}
    return Product(files, TENSORS, "a test's", is_folder=True)


def file_of(text: str) -> Product:
    return Product({"": as_text(text), ".py": as_text("beside")}, TENSORS, "a test's")


def fail(path: Path) -> None:
    path.write_text("half")
    raise OSError(28, "No space left on device")


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "export"
    assert write_product(folder_of("1"), out) == [out / "config.json", out / "model.safetensors"]
    with pytest.raises(InputError, match="is there already"):
        write_product(folder_of("2"), out)
    write_product(folder_of("2"), out, overwrite=True)
    assert (out / "config.json").read_text() == "2"
    assert [path.name for path in out.parent.iterdir()] == ["export"]


def test_a_folder_with_other_files_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match=r"thesis\.tex, which no export writes"):
        write_product(folder_of("1"), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_files_are_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "model.pth"
    (tmp_path / "model.py").write_text("mine")
    with pytest.raises(InputError, match=r"model\.py: is there already"):
        write_product(file_of("1"), out)
    assert not out.exists()
    write_product(file_of("1"), out, overwrite=True)
    assert ((tmp_path / "model.py").read_text(), out.read_text()) == ("beside", "1")


@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_left_half_written(tmp_path: Path, is_folder: bool) -> None:
    names = ("config.json", "model.safetensors") if is_folder else ("", ".py")
    product = Product({names[0]: as_text("whole"), names[1]: fail}, TENSORS, "a test's", is_folder)
    with pytest.raises(InputError, match="No space left") as refusal:
        write_product(product, tmp_path / "export")
    assert refusal.value.status == 75
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("written_by", [as_torch, as_pickle, as_text])
def test_a_full_disk_is_worth_trying_again(tmp_path: Path, written_by: Callable[[Any], Content]) -> None:
    product = Product({"": written_by("0123456789" * 100_000)}, TENSORS, "a test's")
    with FullDisk(tmp_path, "model"), pytest.raises(TryAgainError, match=r"written \(No space left on device\)"):
        write_product(product, tmp_path / "model.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_by_tensors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("backbones.exporting.products.write_tensors", full)
    with pytest.raises(TryAgainError, match=r"written \(No space left on device\)"):
        write_product(Product({"": as_safetensors(TENSORS, ABOUT)}, TENSORS, "a test's"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_a_folder_and_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, and this target writes a folder"):
        write_product(folder_of("1"), tmp_path / "file", overwrite=True)
    with pytest.raises(InputError, match="is a folder, and this target writes a file"):
        write_product(file_of("1"), tmp_path, overwrite=True)


def test_a_program_is_no_place_for_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the weights are no program"):
        write_product(file_of("1"), tmp_path / "model.py")
