"""`backbench cache`, and `--rescan`: a finished run whose command is repeated lists no data again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.images import folders
from tests.support.folders import age
from tests.support.in_process import QUICK, call, pretrain, run, success

JOBS: dict[str, Callable[..., list[str]]] = {"pretraining": pretrain, "classification": run}


@pytest.mark.parametrize("job", JOBS)
def test_a_finished_run_lists_nothing(job: str, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("unlabelled",) if job == "pretraining" else ("train", "val"):
        shutil.copytree(mini / folder, tmp_path / "data" / folder)
    arguments = JOBS[job](age(tmp_path / "data"), tmp_path / "out", **QUICK)
    success(*arguments)
    listed: list[object] = []
    genuine = folders.os.scandir

    def scandir(path: Any) -> Any:
        listed.append(path)
        return genuine(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    within = str(tmp_path / "data")
    success(*arguments)
    assert not [path for path in listed if str(path).startswith(within)]
    success(*arguments, "--rescan")
    assert [path for path in listed if str(path).startswith(within)]


def test_it_is_listed_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mini: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(mini / "unlabelled", tmp_path / "data")
    success(*pretrain(age(tmp_path / "data"), tmp_path / "out", **QUICK))
    heading, line = success("cache", "ls").stdout.splitlines()
    assert heading.split("\t") == ["what", "size", "used", "of"]
    what, _, _, subject = line.split("\t")
    assert (what, subject) == ("contents", str(tmp_path / "data"))
    document = json.loads(success("cache", "ls", "--json").stdout)
    (entry,) = document["entries"]
    assert document["folder"] == str(tmp_path / "cache" / "backbench") and Path(entry["file"]).is_file()
    assert call("cache", "rm").output.startswith("freed ")
    assert success("cache", "ls").stdout.splitlines() == [heading]
