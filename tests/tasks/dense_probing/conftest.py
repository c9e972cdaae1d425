"""Few scenes, for runs of a second or two."""

from pathlib import Path

import pytest

from tests.support.segmentation_runs import few_scenes


@pytest.fixture(scope="session")
def few(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_scenes(mini / "ade20k", tmp_path_factory.mktemp("few") / "scenes")
