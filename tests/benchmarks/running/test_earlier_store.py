"""A store that an earlier version left behind is collected, tabled and compared beside today's runs."""

import json
import shutil
from pathlib import Path

import pytest

from results import read_results_csv
from tests.support.in_process import success
from tests.support.results_examples import read_markdown

STORE = Path(__file__).parents[2] / "support/store_0.1"
RUNS = "classification/mini/random_vit_mini"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORE, tmp_path / "runs"))


def values(directory: Path) -> dict[str, float]:
    return {each["name"]: each["value"] for each in json.loads((directory / "record.json").read_text())["metrics"]}


def test_it_is_collected(store: Path) -> None:
    before = read_results_csv(store / "results.csv")
    assert "3 finished runs" in success("collect", store).output
    after = read_results_csv(store / "results.csv")
    assert after["value"].tolist() == before["value"].tolist() and after["key"].tolist() == before["key"].tolist()
    assert all((store / place / "record.json").is_file() for place in after["directory"])
    rates = after.groupby(after["settings"].map(json.loads).str["optimizer.base_lr"])["key"].nunique()
    assert rates.to_dict() == {0.008: 2, 0.004: 1}
    assert after.groupby(["task", "metric"])["protocol"].nunique().tolist() == [1] * 4


def test_it_is_tabled(store: Path) -> None:
    ((heading, row),) = read_markdown(success("table", store, "--layout", "transfer").output)
    assert (heading[3:], row[:3]) == (["ViT-mini"], ["mini", "random", "none"])
    mean = sum(values(directory)["top1"] for directory in (store / RUNS).iterdir()) / 2
    assert row[3].startswith(f"{mean:.1f} [") and "(2 seeds)" in row[3]


def test_it_is_compared(store: Path) -> None:
    first, second = sorted((store / RUNS).iterdir())
    output = success("compare", first, second).output
    (line,) = [line.split() for line in output.splitlines() if line.startswith("top1\t")]
    assert line[1:3] == [f"{values(each)['top1']:.2f}" for each in (first, second)]
    assert "not the same protocol" not in output
