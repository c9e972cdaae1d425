import csv
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backbones.weights.published import LIST, PublishedFile, find_published, published

BEIT_IN1K = "beit_base_patch16_224_pt1k_800ep.pth"
PAPER = Path(__file__).parents[3] / "results" / "reference" / "paper_tables.csv"


def test_every_cell_of_the_papers_tables_is_there_once() -> None:
    with PAPER.open(newline="") as file:
        wanted = {
            tuple(row[name] for name in ("table", "method", "pretrain_data", "model"))
            for row in csv.DictReader(file)
            if row["table"] != "robustness"  # which is of the weights of the ImageNet table
        }
    places = [tuple(cell.place) for cell in published().cells]
    assert len(places) == len(set(places))
    assert set(places) == wanted


def test_a_cell_without_weights_says_how_that_is_known() -> None:
    without = [cell for cell in published().cells if not cell.weights]
    assert {cell.place.method for cell in without} == {"supervised", "MoCo v3", "BEiT", "scratch", "prev best"}
    assert all(cell.evidence for cell in without)


def test_a_digest_in_a_files_name_is_that_of_its_entry() -> None:
    for file in published().files:
        in_name = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
        assert file.sha256_prefix == (in_name[1] if in_name else None), file.name


def test_what_is_not_the_papers_own_file_says_how_it_differs() -> None:
    listed = published()
    own = {name for cell in listed.cells for name in cell.weights}
    assert [file.name for file in listed.files if not file.differs and file.name not in own] == []


def test_a_file_is_found_by_its_digests() -> None:
    deit = find_published("b5f2ef4d" + "0" * 56)
    assert deit is not None and (deit.method, deit.pretrain_data, deit.model) == (
        "supervised",
        "IN1K w/ labels",
        "ViT-B",
    )
    mae = find_published("0" * 64, "8cad7c" + "0" * 26)
    assert mae is not None and (mae.name, mae.method) == ("mae_pretrain_vit_base.pth", "MAE")
    assert find_published("0" * 64, "8cad7d" + "0" * 26) is None
    assert find_published("0" * 64) is None


def test_a_whole_sha256_outweighs_the_prefixes() -> None:
    file = PublishedFile(
        name="a.pth", page="https://a.org", method="MAE", pretrain_data="IN1K", model="ViT-B", sha256="a" * 64,
        sha256_prefix="b" * 8, md5_prefix="c" * 6,
    )  # fmt: skip
    assert file.is_file("a" * 64, None)
    assert not file.is_file("b" * 64, "c" * 32)


def test_beits_own_files_are_of_another_row_than_the_papers() -> None:
    released = [file for file in published().files if "microsoft/unilm" in file.page]
    assert [file.name for file in released if file.pretrain_data.startswith("IN1K")] == [BEIT_IN1K]
    assert sum("IN22K" in file.pretrain_data for file in released) == len(released) - 1 == 4


def test_beit_of_imagenet_1k_is_offered_for_vit_b_alone() -> None:
    """microsoft/unilm, beit/README.md:190 and beit2/README.md:102; nobody says that it is the paper's."""
    cells = [cell for cell in published().cells if cell.place.method == "BEiT"]
    assert {cell.place.table for cell in cells} == {"coco", "ade20k", "imagenet"}
    assert {cell.place.model: cell.weights for cell in cells} == {"ViT-B": (BEIT_IN1K,), "ViT-L": ()}
    differs = {file.name: file.differs for file in published().files}
    assert "position embeddings instead of relative positions" in differs[BEIT_IN1K]
    assert "is unknown" in differs[BEIT_IN1K]


def test_mmpretrains_beit_says_that_its_number_had_other_pixels() -> None:
    """configs/beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py:7-12, after ImageNet's in pre-training."""
    file = find_published("ab79e626" + "0" * 56)
    assert file is not None and "mean and std 0.5 (127.5 of 255), though ImageNet's while" in file.differs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it["cells"][0].update(nearest=["no.pth"]), "no.pth: named by a cell, but not among the files"),
        (lambda it: it["cells"][0].update(weights=["vit-b-300ep.pth.tar"]), "not of the cell's row and column"),
        (lambda it: it["cells"][0].pop("evidence"), "says how that is known"),
        (lambda it: it["files"].append(it["files"][0]), "mae_pretrain_vit_base.pth: listed twice"),
        (lambda it: it["files"][0].update(md5="8cad7c"), "Extra inputs are not permitted"),
        (lambda it: it["files"][0].update(md5_prefix="8CAD7C"), "md5_prefix"),
        (
            lambda it: it["files"].append(it["files"][0] | {"name": "unused.pth"}),
            "unused.pth: named by no cell",
        ),
    ],
)
def test_a_mistake_in_the_list_is_an_error(tmp_path: Path, change: Any, message: str) -> None:
    content = yaml.safe_load(LIST.read_text())
    change(content)
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=re.escape(message)):
        published(path)
