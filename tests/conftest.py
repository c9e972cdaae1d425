"""What all tests share: the CPU, one thread a test process, and a small generated data set."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what they hold to the last digit, a GPU does not: it has `make gpu`
pytest.register_assert_rewrite("tests.support")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the tests' own, in their processes too."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _autograd() -> None:
    """Start autograd's engine while there is no GPU, claimed or compiled for: it would begin threads for that, and no
    fork of the test process could train any more."""
    import torch

    torch.zeros(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated images, few of them: 320 unlabelled, 64 to train on, 80 to evaluate on.

    In coco/ and in ade20k/, 24 to train on and 12 to evaluate on.
    """
    from benchmarks.mini import write_mini

    root = tmp_path_factory.mktemp("mini") / "images"
    scattered = {"coco_train": 24, "coco_val": 12, "ade_train": 24, "ade_val": 12}
    write_mini(root, unlabelled=320, train=64, val=80, **scattered, processes=1)
    return root
