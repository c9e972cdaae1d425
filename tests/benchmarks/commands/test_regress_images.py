"""`backbench regress` with results image by image: what it tells beside its findings, and that it decides nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from benchmarks.running.baselines import promote
from tests.support.in_process import call, run, success
from tests.support.paired_runs import IMAGES, answers, draw_areas, write_classification, write_segmentation

TESTED = f"Paired test on {IMAGES} images, seed 0 of both: "


def put(nights: Path, day: int, accuracy: float, seed: int = 0, **fields: Any) -> Path:
    """A night with a classification of 200 images, which are the same each night."""
    about = {"seed": seed, "key": f"{seed:012x}", "finished_at": datetime(2026, 1, day, tzinfo=UTC)}
    night = nights / f"2026-01-0{day}"
    write_classification(night / f"run{seed}", answers(accuracy), **about | fields)
    return night


def judge(baseline: Path, current: Path, *options: object, status: int) -> str:
    result = call("regress", "--baseline", baseline, "--current", current, *options)
    assert result.exit_code == status, result.output
    return result.output


def promoted(baseline: Path, *nights: Path, with_images: bool = True) -> Path:
    for night in nights:
        promote(baseline, night, who="Ann", with_images=with_images)
    return baseline


def test_a_cell_of_which_no_sigma_is_known_is_not_told_blindly(tmp_path: Path) -> None:
    baseline = promoted(tmp_path / "baseline", put(tmp_path, 1, 0.9))
    said = judge(baseline, put(tmp_path, 2, 0.7), status=3)
    assert "by how much seeds differ is not known" in said
    assert TESTED in said and "more than the choice of images explains; another seed may differ as much\n" in said
    said = judge(baseline, put(tmp_path, 3, 0.89), status=3)
    assert "which may be the choice of images alone\n" in said


def test_a_regression_is_told_with_its_images(tmp_path: Path) -> None:
    nights = [put(tmp_path, day, 0.9 + day / IMAGES, seed=day) for day in (1, 2, 3)]
    baseline = promoted(tmp_path / "baseline", *nights)
    said = judge(baseline, put(tmp_path, 4, 0.6, seed=3), status=1)
    assert f"Paired test on {IMAGES} images, seed 3 of both: " in said
    assert said.startswith("Regression in 1 cell") and "more than the choice of images explains\n" in said


def test_images_alone_do_not_alarm(tmp_path: Path) -> None:
    """A difference that images are sure of, and that seeds have, is green."""
    nights = [put(tmp_path, day, accuracy, seed=day) for day, accuracy in ((1, 0.9), (2, 0.7), (3, 0.8))]
    baseline = promoted(tmp_path / "baseline", *nights)
    said = judge(baseline, put(tmp_path, 4, 0.7, seed=1), status=0)
    assert said.startswith("No regression in 1 cell.\n") and "Paired test" not in said


def test_a_baseline_without_images_is_told_how_to_keep_them(tmp_path: Path) -> None:
    baseline = promoted(tmp_path / "baseline", put(tmp_path, 1, 0.9), with_images=False)
    said = judge(baseline, put(tmp_path, 2, 0.7), status=3)
    assert "Paired test" not in said
    assert (
        "\n1 cell not tested image by image: the baseline has kept no results of images; `backbench baseline promote "
        "NIGHT --to BASELINE --with-images` keeps them\n"
    ) in said


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"image,top1,loss\nval/000.png,wrong,1\n"])
def test_damaged_images_are_told_and_the_verdict_stands(tmp_path: Path, content: bytes) -> None:
    baseline = promoted(tmp_path / "baseline", put(tmp_path, 1, 0.9))
    tonight = put(tmp_path, 2, 0.7)
    (tonight / "run0/per_image.csv").write_bytes(content)
    said = judge(baseline, tonight, status=3)
    assert f". Not tested image by image: {tonight}/run0/per_image.csv: not a table of " in " ".join(said.split())
    assert "by how much seeds differ is not known" in said


def test_every_file_has_it(tmp_path: Path) -> None:
    for day, share in ((1, 0.8), (2, 0.6)):
        run = tmp_path / f"2026-01-0{day}/run"
        write_segmentation(run, draw_areas(share), finished_at=datetime(2026, 1, day, tzinfo=UTC))
    baseline = promoted(tmp_path / "baseline", tmp_path / "2026-01-01")
    files = {suffix: tmp_path / f"verdict{suffix}" for suffix in (".md", ".csv", ".xml", ".json", ".txt")}
    written = [part for file in files.values() for part in ("--write", file)]
    judge(baseline, tmp_path / "2026-01-02", *written, status=3)
    assert all("Paired test on 80 images, seed 0 of both: " in file.read_text() for file in files.values())
    (row,) = pd.read_csv(files[".csv"]).to_dict("records")
    (finding,) = json.loads(files[".json"].read_text())["findings"]
    for one in (row, finding):
        assert one["images"] == 80 and one["images_worse_by"] == pytest.approx(one["worse_by"])
        assert one["images_p_value"] == pytest.approx(1 / 1001)
    assert len(ElementTree.parse(files[".xml"]).getroot().findall("*/*/error")) == 1


def test_runs_that_were_really_trained(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed, the second time with an optimizer that forgets to step."""
    success(*run(small, tmp_path / "2026-01-01"))
    monkeypatch.setattr("torch.optim.AdamW.step", lambda *arguments, **options: None)
    success(*run(small, tmp_path / "2026-01-02"))
    baseline = promoted(tmp_path / "baseline", tmp_path / "2026-01-01")
    said = judge(baseline, tmp_path / "2026-01-02", "--strict-trace", status=1)
    assert said.count("Paired test on 16 images, seed 0 of both: ") == 1
