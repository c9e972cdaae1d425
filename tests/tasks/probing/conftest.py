"""The generated images probed once, and how many of them a backbone was shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from tasks.probing.features import FeatureStep
from tests.support.in_process import success
from tests.support.probing_runs import PROBES, arguments


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """How many images the backbone was shown, call by call, in a cache folder of this module's own."""
    counts: list[int] = []
    forward = FeatureStep.forward

    def counting(self: FeatureStep, images: Tensor, mode: str, **about: object) -> list[dict[str, Tensor]]:
        counts.append(len(images))
        return forward(self, images, mode, **about)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("features")))
        monkeypatch.setattr(FeatureStep, "forward", counting)
        yield counts


@pytest.fixture(scope="module")
def probed(mini: Path, shown: list[int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of each, of which only the first showed its backbone the images."""
    out, before = tmp_path_factory.mktemp("probes") / "store", sum(shown)
    for recipe in PROBES:
        success(*arguments(recipe, mini, out))
        assert sum(shown) - before == 64 + 80
    return out
