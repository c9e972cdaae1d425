"""Tables of finished runs."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.running.writing import write_record
from tasks.data_sets import DATA_SETS
from tasks.datasets.identity import Counts
from tests.support.commands import read_record, run_directory
from tests.support.in_process import call, pretrain, refusal, run, success
from tests.support.results_examples import make_record, read_markdown


@pytest.mark.parametrize(("format", "expected"), [("md", "| "), ("csv", ","), ("latex", "\\begin{tabular}")])
def test_every_format(finished: Path, format: str, expected: str) -> None:
    result = call("table", finished, "--layout", "transfer", "--format", format)
    assert result.exit_code == 0
    assert expected in result.output
    assert f"{read_record(finished)['metrics'][0]['value']:.1f}" in result.output


def test_only_some_of_the_runs(finished: Path) -> None:
    fixed = ["table", finished, "--layout", "transfer"]
    assert call(*fixed, "--where", "method=MAE").output == call(*fixed).output
    assert "none of the 1 runs. They have method MAE" in refusal(*fixed, "--where", "method=random")
    assert "none of the 1 runs" in refusal(*fixed, "--only-reference")  # a quick run's recipe deviates
    assert 'Did you mean "method"?' in refusal(*fixed, "--where", "methd=MAE")


def test_images_of_ones_own_are_no_imagenet(finished: Path) -> None:
    """They stood in ImageNet's layout, and results.csv called that their table."""
    message = refusal("table", finished, "--layout", "imagenet")
    assert message == 'no run belongs to layout "imagenet". Found: 1 of classification on shapes (layout transfer)'
    assert call("table", finished, "--layout", "transfer").output.startswith("### shapes: top-1 accuracy in %")
    assert set(pd.read_csv(finished / "results.csv")["table"]) == {"transfer"}


def test_runs_that_stand_elsewhere_are_told_with_their_layout(finished: Path, pretrained: Path, tmp_path: Path) -> None:
    other = make_record(48.0, task="segmentation", dataset="ade20k", table="ade20k", metric="mIoU")
    write_record(tmp_path / "ade20k", other)
    result = call("table", finished, pretrained, tmp_path, "--layout", "ade20k", "--format", "csv")
    assert result.stderr == "backbench: in other layouts: 1 of classification on shapes (layout transfer)\n"
    assert result.stdout.startswith("table,dataset,")


def test_without_runs(tmp_path: Path) -> None:
    message = refusal("table", tmp_path / "gone", "--layout", "imagenet", status=3)
    assert message.startswith(f"{tmp_path}/gone: no such directory")
    assert "no finished runs found. Expected record.json" in refusal(
        "table", tmp_path, "--layout", "imagenet", status=3
    )


def test_what_was_pretrained_here_on_imagenet_stands_in_the_papers_row(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Counts(train_images=32, evaluation_images=16, classes=8)
    monkeypatch.setitem(DATA_SETS, "imagenet1k", replace(DATA_SETS["imagenet1k"], counts=counts))
    success(*pretrain(small / "unlabelled", tmp_path / "pretrained", dataset="imagenet1k"))
    encoder = run_directory(tmp_path / "pretrained") / "checkpoints/encoder.pth"
    success(*run(small, tmp_path / "runs", f"mae_vit_mini={encoder}", dataset="imagenet1k"))
    record = read_record(tmp_path / "runs")
    assert (record["dataset"], record["pretrain_data"]) == ("imagenet1k", "IN1K")
    (heading, *rows), *_ = read_markdown(call("table", tmp_path / "runs", "--layout", "imagenet").output)
    ours = heading.index("ViT-mini")
    assert [row[:2] for row in rows if row[ours] != "–"] == [["MAE", "IN1K"]]
    assert [row[0] for row in rows].count("MAE") == 1
