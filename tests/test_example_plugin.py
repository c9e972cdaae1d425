"""The package of examples/plugin: built, installed beside backbench, and run through all tasks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import read_record, run_arguments
from tests.support.detection_runs import TINY as DETECTION
from tests.support.in_process import QUICK
from tests.support.segmentation_runs import TINY as SEGMENTATION

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds the installed package, and backbench."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples/plugin", folder / "sources", ignore=shutil.ignore_patterns("__pycache__", "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "sources"]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], check=True)
    assert {path.name for path in target.iterdir()} == {"ripple_vision", "ripple_vision-0.1.0.dist-info"}
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(target), str(ROOT))), "OMP_NUM_THREADS": "1"}


def python(*arguments: object, environment: dict[str, str], folder: Path) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def weights(installed: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    python("-m", "ripple_vision", "ripple.pth", environment=installed, folder=folder)
    return folder / "ripple.pth"


def test_its_own_tests_pass(installed: dict[str, str], tmp_path: Path) -> None:
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, ROOT / "examples/plugin/tests"]
    assert "4 passed" in python(*tests, environment=installed, folder=tmp_path)


def test_it_is_listed_and_its_files_are_read(installed: dict[str, str], weights: Path, tmp_path: Path) -> None:
    def backbench(*arguments: object) -> str:
        return python("-P", "-m", "benchmarks", *arguments, environment=installed, folder=tmp_path)

    (listed,) = [line for line in backbench("list", "backbones").splitlines() if line.startswith("ripple_net")]
    assert "Ripple" in listed and "photos" in listed and "mean 0.5" in listed
    (method,) = [line for line in backbench("list", "methods").splitlines() if line.startswith("Ripple")]
    assert "ripple_net" in method
    found = json.loads(backbench("inspect", weights, "--backbone", "ripple_net", "--json"))
    assert found["report"]["dropped"] == {"online/predictor:weight": "left out by Ripple's reader"}
    assert found["origin"]["method"] == "Ripple"


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_its_row_stands_in_every_tasks_table(
    task: str, mini: Path, installed: dict[str, str], weights: Path, tmp_path: Path
) -> None:
    data, settings, layout = {
        "classification": (mini, QUICK, "transfer"),
        "detection": (mini / "coco", DETECTION, "coco"),
        "segmentation": (mini / "ade20k", SEGMENTATION, "ade20k"),
    }[task]
    arguments = run_arguments(data, tmp_path / "runs", f"ripple_net={weights}", recipe=f"mini_{task}", **settings)
    python("-P", "-m", "benchmarks", *arguments, environment=installed, folder=tmp_path)
    record = read_record(tmp_path / "runs")
    assert (record["method"], record["pretrain_data"], record["model"]) == ("Ripple", "photos", "RippleNet")
    assert record["model_code"] and record["normalisation"]["std"] == [0.25, 0.25, 0.25]
    table = ["-P", "-m", "benchmarks", "table", "runs", "--layout", layout]
    lines = python(*table, environment=installed, folder=tmp_path).splitlines()
    assert any("Ripple " in line and "photos" in line for line in lines) and any("RippleNet" in line for line in lines)
