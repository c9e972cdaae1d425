"""`backbench suite --dry-run`: every cell before anything is started, and what is looked at before the first."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.planning.suites.plan import plan_suite
from benchmarks.running.lease import Lease
from benchmarks.scheduling.folders import CellState, SuiteFolder
from benchmarks.scheduling.previews import preview
from results.reference import PREVIOUS_BEST, reference_rows
from tests.support.commands import metric_values, read_record, run_directory
from tests.support.in_process import QUICK, call, refusal, success

SUITE = f"""\
about: two backbones
backbones:
  ours: {{backbone: mae_vit_mini, weights: encoder.pth}}
  random: random_vit_mini
comparisons:
  one:
    backbones: [ours, random]
    recipes:
      recipe: mini_classification
      set: {json.dumps({name.replace("__", "."): value for name, value in QUICK.items()})}
"""
OURS, RANDOM = "one-ours-mini_classification-seed0", "one-random-mini_classification-seed0"


@pytest.fixture
def suite(small: Path, encoder: Path, tmp_path: Path) -> Path:
    (tmp_path / "two.yaml").write_text(SUITE)
    (tmp_path / "site.yaml").write_text(f"data: {{mini: {small}}}\nweights: {encoder.parent}\n")
    return tmp_path / "two.yaml"


def _arguments(suite: Path, out: Path, *more: object) -> list[object]:
    return ["suite", suite, "--out", out, "--site", suite.with_name("site.yaml"), "--dry-run", *more]


def _cells(suite: Path, out: Path, status: int = 0) -> dict[str, dict[str, Any]]:
    result = call(*_arguments(suite, out, "--json"))
    assert result.exit_code == status, result.output
    return {cell["cell"]: cell for cell in json.loads(result.stdout)["cells"]}


def test_what_has_finished_and_what_is_to_be_run(suite: Path, finished: Path) -> None:
    cells = _cells(suite, finished)
    directory = run_directory(finished)
    record = read_record(finished)
    done, other = cells[OURS], cells[RANDOM]
    assert (done["state"], done["key"], done["run"]) == ("finished", record["key"], str(directory))
    assert done["metrics"] == {"top1": metric_values(record)["top1"]}
    assert (done["method"], done["pretrain_data"]) == (record["method"], record["pretrain_data"])
    assert (other["state"], other["published"], other["missing"]) == ("to be run", {}, [])
    assert other["run"] == str(finished / f"classification/shapes/random_vit_mini/seed0-{other['key']}")
    assert other["hours"] == pytest.approx(record["total_seconds"] / 3600)
    assert other["measured_on"] == record["device"]
    assert other["bytes"] > 1e5
    assert not (finished / "suites").exists()


def test_the_key_is_that_of_the_run(suite: Path, tmp_path: Path) -> None:
    before = _cells(suite, tmp_path / "runs")[RANDOM]
    assert before["hours"] is None
    success(*before["command"][1:])
    assert read_record(tmp_path / "runs")["key"] == before["key"]
    assert _cells(suite, tmp_path / "runs")[RANDOM]["state"] == "finished"


def test_a_run_on_other_data_is_not_the_cells(suite: Path, finished: Path, copied: Path) -> None:
    next(path for path in (copied / "train").rglob("*") if path.is_file()).unlink()
    site = suite.with_name("site.yaml")
    known = site.read_text().splitlines()
    site.write_text("\n".join([f"data: {{mini: {copied}}}", *known[1:]]))
    cell = _cells(suite, finished)[OURS]
    assert cell["state"] == "to be run"
    assert cell["key"] != read_record(finished)["key"]


def test_no_published_number_beside_data_of_ones_own(small: Path, tmp_path: Path) -> None:
    """In ImageNet's layout; where no data are known the plan's number stays."""
    site = tmp_path / "site.yaml"
    site.write_text(f"data: {{imagenet1k: {small}}}\n")
    call: dict[str, Any] = {"backbone": "vit_base_patch16_224", "method": "BEiT", "model": "ViT-B"}
    call |= {"pretrain_data": "IN1K+DALLE", "only": ["dataset=imagenet1k"]}
    (there,) = preview(plan_suite("paper", tmp_path / "runs", site=site, **call))
    assert (there.state, dict(there.cell.expected)) == ("to be run", {})
    site.write_text("data: {}\n")
    (missing,) = preview(plan_suite("paper", tmp_path / "runs", site=site, **call))
    assert (missing.state, dict(missing.cell.expected)) == ("missing", {"top1": 83.2})


def test_what_has_finished_is_held_against_what_its_record_says(suite: Path, finished: Path) -> None:
    plan = plan_suite(str(suite), finished, site=suite.with_name("site.yaml"))
    plan = replace(plan, cells=tuple(replace(cell, expected={"top1": 83.2}) for cell in plan.cells))
    assert [(each.state, dict(each.cell.expected)) for each in preview(plan)] == [("finished", {}), ("to be run", {})]


def test_half_done_at_work_and_failed(suite: Path, finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "runs"))
    (run_directory(out) / "record.json").unlink()
    log = run_directory(out) / "log.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])
    log.write_text(json.dumps(last | {"iteration": 1, "update": 1, "updates": 2, "epoch": 0.5, "seconds": 36.0}) + "\n")
    half = _cells(suite, out)[OURS]
    assert (half["state"], half["detail"], half["hours"]) == ("unfinished", "update 1 of 2", 0.01)
    folder = SuiteFolder(out, "two").cell(RANDOM)
    folder.path.mkdir(parents=True)
    folder.write(CellState(outcome="failed", reason="out of memory"))
    assert [_cells(suite, out)[RANDOM][name] for name in ("state", "detail")] == ["failed", "out of memory"]
    claim = Lease(folder.owner)
    try:
        assert _cells(suite, out)[RANDOM]["state"] == "at work"
    finally:
        claim.release()


def test_what_is_missing_is_said_and_decides_the_status(suite: Path, tmp_path: Path) -> None:
    suite.with_name("site.yaml").write_text("weights: nowhere\n")
    cells = _cells(suite, tmp_path / "runs", status=1)
    assert cells[OURS]["missing"] == [
        f"data mini: not in {tmp_path}/site.yaml",
        f"weights encoder.pth: not in {tmp_path}/nowhere",
    ]
    assert {cell["state"] for cell in cells.values()} == {"missing"}
    assert {cell["key"] for cell in cells.values()} == {None}
    assert not (tmp_path / "runs").exists()


def test_a_line_each_with_tabs_and_the_sum_beside_them(suite: Path, finished: Path) -> None:
    result = success(*_arguments(suite, finished))
    headings, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert headings[:3] == ["cell", "state", "detail"]
    assert [row[:2] for row in rows] == [[OURS, "finished"], [RANDOM, "to be run"]]
    assert all(len(row) == len(headings) for row in rows)
    assert result.stderr.startswith("2 cells: 1 finished, 1 to be run; ")


def test_the_paper_on_a_machine_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKBENCH_SITE", "BACKBENCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    result = call("suite", "paper", "--out", tmp_path / "runs", "--dry-run", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["states"] == {"missing": 36 + 9}
    assert document["measured"] == {"cells": 0, "hours": {}, "bytes": 0}
    published = Counter((cell["table"], metric) for cell in document["cells"] for metric in cell["published"])
    rows = [row for row in reference_rows() if row.method not in (PREVIOUS_BEST, "scratch")]
    assert published == Counter((row.table, row.metric) for row in rows if row.table != "robustness")
    assert all(cell["weights_source"] and cell["key"] is None for cell in document["cells"])
    assert not (tmp_path / "runs").exists()


def test_people_read_it_at_120_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.commands import suite_plans

    for name in ("BACKBENCH_SITE", "BACKBENCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    printed: list[str] = []

    class Console:
        width = 120

        def print(self, text: Any, soft_wrap: bool) -> None:
            printed.append(str(text))

    monkeypatch.setattr("benchmarks.commands.console.plain_console", Console)
    suite_plans._print_for_people(suite_plans.preview(plan_suite("paper", tmp_path)))
    assert max(map(len, printed)) <= 120
    assert printed[0] == "coco (table coco)"
    rows = [" ".join(line.split()) for line in printed]
    assert rows[1] == "supervised_vit_base-coco_fpn_vit_base missing AP_box 47.9, AP_mask 42.9 – data, weights"
    missing = rows[rows.index("missing") :]
    assert len(rows) - len(missing) == 45 + 4
    assert "data imagenet1k: give --site, or BACKBENCH_DATA_IMAGENET1K (9 cells)" in missing
    released = missing.index("weights vit-b-300ep.pth.tar: give --site, or BACKBENCH_WEIGHTS (3 cells)")
    assert missing[released + 1] == "https://github.com/facebookresearch/moco-v3/blob/main/CONFIG.md"
    lacking = missing.index("weights supervised_vit_base.pth: give --site, or BACKBENCH_WEIGHTS (2 cells)")
    assert missing[lacking + 1].startswith("never released: the paper's own were not found")


def test_a_cell_stands_where_its_file_of_weights_says_and_deviates_as_it_says(suite: Path, tmp_path: Path) -> None:
    ours = _cells(suite, tmp_path / "runs")[OURS]
    assert (ours["method"], ours["pretrain_data"], ours["model"]) == ("MAE", "unlabelled", "ViT-mini")
    assert "pre-training: optimizer.batch_size=16 (reference 128) and 2 more" in ours["deviations"]


def test_no_run_leaves_its_pictures_among_the_images_of_a_pre_training(suite: Path, small: Path) -> None:
    suite.write_text("pretraining: {short: {recipe: mae_vit_mini, data: mini}}\n")
    out = small / "runs"
    told = f"--out {out}: lies in {small}, of which all images are pre-trained on: the pictures that runs leave would "
    for arguments in (_arguments(suite, out), [*_arguments(suite, out)[:-1]]):
        assert f"two.yaml, line 1: data mini: {told}" in refusal(*arguments)
    command = ["pretrain", "--recipe", "mae_vit_mini", "--data", small, "--out", out]
    assert told in refusal(*command) and told in refusal(*command, "--dry-run")
    assert not out.exists()


def test_all_that_is_wrong_is_told_before_anything_starts(suite: Path, small: Path, encoder: Path) -> None:
    folder = suite.parent
    (folder / "empty").mkdir()
    (folder / "broken.pth").write_bytes(b"weights")
    (folder / "site.yaml").write_text(
        f"data: {{mini: {small}, mini-coco: empty, ade20k: gone}}\nweights: [., {encoder.parent}]\n"
    )
    suite.write_text(
        SUITE.replace("random: random_vit_mini", "random: {backbone: mae_vit_mini, weights: broken.pth}").replace(
            "ours: {backbone: mae_vit_mini", "ours: {backbone: supervised_vit_base"
        )
        + "  two: {backbones: [ours], recipes: mini_detection}\n"
        + "  three: {backbones: [ours], recipes: ade20k_vit_base}\n"
    )
    out = folder / "runs"
    for arguments in (_arguments(suite, out), [*_arguments(suite, out)[:-1]]):
        message = refusal(*arguments)
        contradicts, unreadable, data = message.replace(f"{folder}/", "").splitlines()
        assert contradicts.startswith("two.yaml, line 3: ours: ")
        assert "supervised_vit_base says supervised" in contradicts
        assert unreadable.startswith("two.yaml, line 4: random: broken.pth: ")
        assert data.startswith(
            "two.yaml, line 11: data mini-coco: empty: no data set mini-coco found. Expected train2017, "
        )
        assert not out.exists()
