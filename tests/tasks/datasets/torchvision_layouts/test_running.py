"""Miniatures of torchvision's sets, fine-tuned by their recipes, stand in the table of more data sets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backbones.cache import clear
from tasks.data_sets import DATA_SETS
from tasks.datasets.identity import Counts
from tasks.datasets.torchvision_layouts import sets
from tests.support.commands import Moment, read_record, run_arguments
from tests.support.in_process import run, success
from tests.support.results_examples import read_markdown
from tests.support.resuming import LOG, WRITE, assert_same_result, finish, finish_killed
from tests.support.torchvision_examples import write_set

SMALL = {
    "model__arch": "vit_mini_patch8_48",
    "model__image_size": 48,
    "optimizer__batch_size": 6,
}


def test_runs_of_two_sets_stand_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "runs"
    for spec, train, val in ((sets.EUROSAT, 12, 3), (sets.CIFAR10, 30, 6)):
        monkeypatch.setitem(DATA_SETS, spec.name, replace(DATA_SETS[spec.name], counts=Counts(train, val, 3)))
        root = tmp_path / spec.name / "data"
        write_set(spec, root, monkeypatch)
        arguments = run(root, out / spec.name, recipe=f"{spec.name}_vit_base", **SMALL)
        success(*arguments)
        record = read_record(out / spec.name)
        assert (record["dataset"], record["table"]) == (spec.name, "transfer-more")
        assert {metric["split"] for metric in record["metrics"]} == {"holdout" if spec is sets.EUROSAT else "test"}
        assert any("drawn by a hash" in note for note in record["notes"]) == (spec is sets.EUROSAT)
    clear()  # the unpacked images too: the run of the last set has finished all the same
    assert "finished before; nothing to do" in success(*arguments).output
    ((heading, *lines),) = read_markdown(success("table", out, "--layout", "transfer-more").output)
    assert [line[0] for line in lines] == ["CIFAR-10", "EuroSAT"] and "ViT-mini" in heading[-1]


@pytest.mark.slow
def test_a_killed_run_of_a_drawn_set_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    write_set(sets.CALTECH101, data, monkeypatch)
    settings: dict[str, Any] = {
        "dataset": "caltech101",
        "optimizer__batch_size": 30,
        "schedule__epochs": 3,
        "schedule__warmup_epochs": 1,
        "augment__mixup": 0.8,
        "runtime__checkpoint_every": 2,
        "runtime__log_every": 1,
        "runtime__workers": 0,
        "precision": "fp32",
    }  # nine updates of 30 of the 90 images
    reference, out = tmp_path / "whole/runs", tmp_path / "killed/runs"
    whole, killed = (run_arguments(data, each, **settings) for each in (reference, out))
    finish(whole, reference)
    finish_killed(killed, out, [Moment(LOG, 3), Moment(WRITE, 2)])
    assert_same_result(out, reference)
    record = read_record(out)
    assert {metric["split"] for metric in record["metrics"]} == {"holdout"}
    assert any("30 images of each class, drawn by a hash" in note for note in record["notes"])
