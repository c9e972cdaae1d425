"""The mini backbones of the suites, and the random weights that stand in for theirs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.registry import create_backbone, find_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.origin import settle_origin
from backbones.weights.prefixes import looks_of
from benchmarks.mini.weights import STAND_INS, stand_in_files, write_stand_ins
from tests.support.folders import contents
from tests.support.mini_backbones import registered

COLUMNS = {"base": "mini-B", "large": "mini-L", "huge": "mini-H"}
METHODS = {"mae": "MAE", "supervised": "supervised", "mocov3": "MoCo v3", "beit": "BEiT", "dino": "DINO"}
TOLD = {"mae": "MAE", "mocov3": "MoCo v3", "beit": "BEiT"}
"""Methods whose files say by their names or positions whose they are."""


@pytest.fixture(scope="module", name="registered")
def mini_backbones() -> Iterator[list[str]]:
    with registered() as names:
        yield names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("stand_ins") / "weights"
    assert write_stand_ins(written, 0) == len(STAND_INS)
    return written


def test_every_registered_backbone_has_its_file(registered: list[str]) -> None:
    random = [name for name in registered if name.startswith("random_")]
    assert {*registered} - {*random} == {*STAND_INS}
    assert random == [f"random_vit_mini_{size}" for size in COLUMNS]
    assert find_backbone("vit_mini_large_patch8_48").model == "mini-L"


@pytest.mark.parametrize("name", STAND_INS)
def test_it_is_recognised_as_its_methods_and_read_whole(name: str, folder: Path, registered: list[str]) -> None:
    prefix, size = name.split("_")[0], name.split("_")[-1]
    checkpoint = read_checkpoint(stand_in_files(folder)[name])
    origin = settle_origin(find_backbone(name), checkpoint)
    assert (origin.method, origin.pretrain_data, origin.model) == (METHODS[prefix], "stand-in", COLUMNS[size])
    assert origin.remarks == ()
    looks = looks_of(checkpoint)
    assert looks.likely_method == TOLD.get(prefix)
    assert looks.timm_name == find_backbone(name).arch
    report: Any = create_backbone(name, checkpoint).load_report
    assert not report.initialised and len(report.used) > 50


@pytest.mark.parametrize("name", STAND_INS)
def test_dense_tasks_take_it(name: str, folder: Path, registered: list[str]) -> None:
    images = torch.rand(1, 3, 64, 64)
    for adapter in ("fpn", "beit", "simple"):
        backbone = create_backbone(name, stand_in_files(folder)[name], for_pyramid=True)
        pyramid = build_pyramid(backbone, adapter, image_size=64, window=None if adapter == "beit" else 4)
        with torch.no_grad():
            maps = pyramid(images)
        assert [map.shape[2:] for map in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def test_sizes_grow(registered: list[str]) -> None:
    def parameters(model: nn.Module) -> int:
        return sum(each.numel() for each in model.parameters())

    sizes = [parameters(create_backbone(f"random_vit_mini_{size}")) for size in COLUMNS]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2] / 5


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    ahead = torch.rand(3)
    torch.manual_seed(5)
    write_stand_ins(tmp_path / "again", 0)
    assert torch.equal(torch.rand(3), ahead)
    assert contents(tmp_path / "again") == contents(folder)
    write_stand_ins(tmp_path / "other", 1)
    others = stand_in_files(tmp_path / "other")
    assert all(path.read_bytes() != others[name].read_bytes() for name, path in stand_in_files(folder).items())


def test_what_was_cut_short_is_completed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "weights"
    whole = dict(STAND_INS)

    def cut_short() -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setitem(STAND_INS, "dino_vit_mini_base", cut_short)
    with pytest.raises(KeyboardInterrupt):
        write_stand_ins(written, 0)
    assert 0 < len([*written.glob("*.pth")]) < len(STAND_INS)
    monkeypatch.setitem(STAND_INS, "dino_vit_mini_base", whole["dino_vit_mini_base"])
    assert 0 < write_stand_ins(written, 0) < len(STAND_INS)
    assert contents(written) == contents(folder)
    assert write_stand_ins(written, 0) == 0


def test_those_of_another_seed_stay(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    with pytest.raises(InputError, match=r"README.txt: not that of random weights of version 1 and seed 3"):
        write_stand_ins(folder, 3)
    assert contents(folder) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot write the random weights"):
        write_stand_ins(tmp_path / "file", 0)
