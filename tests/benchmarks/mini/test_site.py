"""The site file beside the generated data."""

from pathlib import Path

import pytest

from backbones.errors import InputError
from benchmarks.mini.site import PLACES, SITE, write_site
from benchmarks.mini.weights import STAND_INS
from benchmarks.planning.suites.site import load_site
from tests.support.in_process import success

FEW = (
    "--unlabelled",
    1,
    "--train",
    8,
    "--val",
    8,
    "--coco-train",
    1,
    "--coco-val",
    1,
    "--ade-train",
    1,
    "--ade-val",
    1,
)


def test_it_names_what_is_there_from_wherever_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = tmp_path / "drawn"
    small = [*FEW, "--image-size", 16, "--transfer-train", 16, "--transfer-val", 16]
    assert (
        "random weights of 11 mini models in their authors' files, written"
        in success("data", "mini", drawn, *small).output
    )
    moved = drawn.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    site = load_site(Path("moved/site.yaml"), {})
    assert {name: root.resolve() for name, root in site.data.items()} == {
        name: (moved / folder).resolve() for name, folder in PLACES.items()
    }
    assert all(root.is_dir() for root in site.data.values())
    assert all(site.find_weights(f"{name}.pth") for name in STAND_INS)
    again = success("data", "mini", moved, *small).output
    assert "authors' files, complete already" in again


def test_it_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    for folder in ("coco", "inat2018"):
        (tmp_path / folder).mkdir()
    site = load_site(write_site(tmp_path), {})
    assert [*site.data] == ["mini", "mini-coco", "imagenet1k", "coco2017", "inat2018"]
    assert site.folders == ()
    (tmp_path / "weights").mkdir()
    assert load_site(write_site(tmp_path), {}).folders == (tmp_path / "weights",)


def test_somebody_elses_stays(tmp_path: Path) -> None:
    (tmp_path / SITE).write_text("data: {}\n")
    write_site(tmp_path)
    assert (tmp_path / SITE).read_text() == "data: {}\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"site.yaml: cannot be written: "):
        write_site(tmp_path / "file")
