"""A finished suite is not planned again while nothing has changed, and is as soon as anything has."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.planning.suites.plan import plan_suite
from benchmarks.running.collecting import collect
from benchmarks.scheduling import repeats
from benchmarks.scheduling.repeats import FILE, Call, find_repeat, note_nothing_to_do
from tests.support.in_process import success
from tests.support.suites import carried_out, name_of, plan_cells, use_stand_in

RECIPE = "extends: mini_classification\n"
SUITE = """\
extends: below.yaml
comparisons:
  c: {backbones: [b], recipes: own.yaml, seeds: [0, 1], set: {}}
"""
BELOW = """\
backbones: {b: {backbone: mae_vit_mini, method: M, pretrain_data: none, weights: some.pth}}
comparisons:
  c: {backbones: [b], recipes: mini_classification}
"""
SITE = "data: {mini: data}\nweights: [first, second]\n"
CALL = {"suite": "small.yaml", "jobs": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a finished suite small.yaml, and the runs of its two cells in out."""
    use_stand_in(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    carried_out(plan_cells(tmp_path))
    collect(tmp_path / "out")
    age(tmp_path)
    return tmp_path


def age(folder: Path) -> None:
    """Make all texts an hour older."""
    for path in folder.glob("*.yaml"):
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)


def note(folder: Path, **options: object) -> None:
    call = Call({**CALL, **options})
    plan = plan_suite(str(folder / "small.yaml"), folder / "out", site=folder / "site.yaml")
    note_nothing_to_do(plan, call, call.seconds)


def is_repeat(folder: Path, **options: object) -> bool:
    return find_repeat(folder / "out", Call({**CALL, **options})) is not None


def test_a_finished_suite_is_known_again(folder: Path) -> None:
    assert not is_repeat(folder)
    note(folder)
    found = find_repeat(folder / "out", Call(CALL))
    assert found is not None
    assert (found.folder.name, found.cells) == ("small", (name_of(0), name_of(1)))


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    os.utime(path, (0, 0))  # some editors and version control keep times


CHANGES: dict[str, Callable[[Path], object]] = {
    "the suite": lambda folder: replaced(folder / "small.yaml", "[0, 1]", "[0, 2]"),
    "the site": lambda folder: replaced(folder / "site.yaml", "mini: data", "mini: dato"),
    "no site": lambda folder: (folder / "site.yaml").unlink(),
    "the data": lambda folder: (folder / "data").rmdir(),
    "a record": lambda folder: replaced(next((folder / "out").rglob("record.json")), '"seed"', '"sead"'),
    "a run": lambda folder: shutil.rmtree(next((folder / "out").rglob("record.json")).parent),
    "a state": lambda folder: replaced(
        folder / f"out/suites/small/cells/{name_of(1)}/state.json", "finished", "failed"
    ),
    "a run's place": lambda folder: replaced(folder / f"out/suites/small/cells/{name_of(1)}/run", "seed1", "seed0"),
    "the plan": lambda folder: replaced(folder / "out/suites/small/plan.json", "classification", "detection"),
    "a row": lambda folder: replaced(folder / "out/results.csv", f"{1:012x}", f"{2:012x}"),
    "no rows": lambda folder: (folder / "out/results.csv").unlink(),
    "a damaged note": lambda folder: (folder / "out/suites/small" / FILE).write_text("{"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_the_suite_is_planned_again(folder: Path, what: str) -> None:
    note(folder)
    assert is_repeat(folder)
    CHANGES[what](folder)
    assert not is_repeat(folder)


def test_so_it_is_for_another_question(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(folder)
    assert not is_repeat(folder, seeds=1)
    with monkeypatch.context() as other:
        other.setenv("BACKBENCH_DATA_MINI", str(folder))
        assert not is_repeat(folder)
    with monkeypatch.context() as other:
        other.setattr(repeats, "code_digest", lambda: "0" * 12)
        assert not is_repeat(folder)
    with monkeypatch.context() as other:
        other.chdir(folder / "data")
        assert not is_repeat(folder)
    assert is_repeat(folder)


@pytest.fixture
def layered(folder: Path) -> Path:
    """The same with a suite of three files, and weights in the second of two folders."""
    (folder / "below.yaml").write_text(BELOW)
    (folder / "own.yaml").write_text(RECIPE)
    (folder / "small.yaml").write_text(SUITE)
    (folder / "site.yaml").write_text(SITE)
    (folder / "second").mkdir()
    (folder / "second/some.pth").write_bytes(b"weights")
    age(folder)
    return folder


@pytest.mark.parametrize("place", ["below.yaml", "own.yaml", "second/some.pth", "first/some.pth"])
def test_all_that_a_plan_is_read_from_is_looked_at(layered: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scheduling.finished.is_finished", lambda cell, folder: True)
    for cell in (layered / "out/suites/small/cells").iterdir():
        cell.rename(cell.with_name(cell.name.replace("mini_classification", "own")))
    note(layered)
    assert is_repeat(layered)
    path = layered / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n# more")
    assert not is_repeat(layered)


def test_what_was_written_while_the_call_began_is_not_relied_on(folder: Path) -> None:
    (folder / "small.yaml").touch()
    note(folder)
    assert not is_repeat(folder)


def test_nor_is_what_has_not_finished(folder: Path) -> None:
    next((folder / "out").rglob("record.json")).unlink()
    note(folder)
    assert not is_repeat(folder)


def test_nor_code_of_ones_own(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from backbones import register_method\n"
        'register_method("Repeated", pretrain_data="photos", convert=dict, mean=[0.5] * 3, std=[0.5] * 3)\n'
    )
    with (folder / "small.yaml").open("a") as file:
        file.write("plugins: own.py\n")
    age(folder)
    note(folder)
    assert not is_repeat(folder)


def test_the_command_tells_the_same_without_planning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["suite", "small.yaml", "--site", "site.yaml", "--out", "out"]
    first = success(*command)
    monkeypatch.setattr("benchmarks.planning.suites.plan.plan_suite", None)
    again = success(*command)

    def told(text: str) -> list[str]:
        return [line for line in text.splitlines() if "this call took" not in line]

    assert told(again.stdout) == told(first.stdout) and told(first.stdout)
    assert again.stderr == first.stderr


def test_a_repeat_imports_no_pytorch(folder: Path) -> None:
    note(folder)
    program = (
        "import sys; from pathlib import Path; from benchmarks.commands.suite_endings import show_repeat; "
        "from benchmarks.scheduling.repeats import Call; "
        f"assert show_repeat(Path('out').absolute(), Call({CALL!r}), as_json=True); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
