"""Few scenes, for runs of a second or two."""

import shutil
from pathlib import Path

import pytest

from tests.support.detection_runs import few_scenes


@pytest.fixture(scope="session")
def few(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_scenes(mini / "coco", tmp_path_factory.mktemp("few") / "scenes")


@pytest.fixture
def copied(few: Path, tmp_path: Path) -> Path:
    """The few scenes, to be spoilt."""
    return Path(shutil.copytree(few, tmp_path / "scenes"))
