"""Few images, and finished runs of them, for the tests of commands to use and to copy."""

import shutil
from pathlib import Path

import pytest

from tests.support import detection_runs, segmentation_runs
from tests.support.commands import run_directory
from tests.support.evaluated_runs import RUNS
from tests.support.in_process import pretrain, run, success


@pytest.fixture(scope="session")
def small(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few enough images that a run takes a second: 32 to train on, 16 to evaluate on, 32 unlabelled."""
    root = tmp_path_factory.mktemp("small") / "shapes"
    for split, each in (("train", 4), ("val", 2)):
        for folder in sorted((mini / split).iterdir()):
            (root / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:each]:
                shutil.copy(path, root / split / folder.name)
    (root / "unlabelled").mkdir()
    for path in sorted((mini / "unlabelled").iterdir())[:32]:
        shutil.copy(path, root / "unlabelled")
    return root


@pytest.fixture
def copied(small: Path, tmp_path: Path) -> Path:
    """The small data set, to be spoilt."""
    return Path(shutil.copytree(small, tmp_path / "shapes"))


@pytest.fixture(scope="session")
def pretrained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished pre-training."""
    out = tmp_path_factory.mktemp("pretrained")
    success(*pretrain(small / "unlabelled", out))
    return out


@pytest.fixture(scope="session")
def encoder(pretrained: Path) -> Path:
    return run_directory(pretrained) / "checkpoints/encoder.pth"


@pytest.fixture(scope="session")
def finished(small: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished fine-tuning of that."""
    out = tmp_path_factory.mktemp("finished")
    success(*run(small, out, f"mae_vit_mini={encoder}"))
    return out


@pytest.fixture(scope="session")
def sources(mini: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Few images of each task, by its name."""
    root = tmp_path_factory.mktemp("sources")
    return {
        "classification": small,
        "detection": detection_runs.few_scenes(mini / "coco", root / "coco"),
        "segmentation": segmentation_runs.few_scenes(mini / "ade20k", root / "ade20k"),
    }


@pytest.fixture(scope="session", params=[*RUNS])
def task(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def trained(task: str, sources: dict[str, Path], finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of one finished run of the task."""
    if task == "classification":
        return finished
    out = tmp_path_factory.mktemp(task)
    success(*RUNS[task](sources[task], out))
    return out
