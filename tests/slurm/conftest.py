"""All tests here need the Slurm of tests/slurm/one_machine.sh."""

from pathlib import Path

import pytest

from tests.support.slurm import answers

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    is_there = bool(ours) and answers()
    for item in ours:
        item.add_marker("slurm")
        if not is_there:
            item.add_marker(pytest.mark.skip(reason="needs make test-slurm"))
