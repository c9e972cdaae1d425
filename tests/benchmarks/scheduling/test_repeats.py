"""A finished suite is not planned again while nothing has changed, and is as soon as anything has."""

import json
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
from benchmarks.scheduling.folders import SuiteFolder, write_plan
from benchmarks.scheduling.repeats import FILE, Call, find_repeat, look_at_ground, note_nothing_to_do
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
OF_PAPER = "".join(f"  {name}: null\n" for name in ("coco", "ade20k", "transfer", "imagenet"))
CALL = {"suite": "small.yaml", "jobs": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a finished suite small.yaml, and the runs of its two cells in out."""
    use_stand_in(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    carried_out(plan_cells(tmp_path))
    collect(tmp_path / "out")
    monkeypatch.setattr(repeats, "MARGIN", -60.0)  # as if the call had begun a minute later
    return tmp_path


def note(folder: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    """What a call does that plans the suite, and finds it finished; what happens between the two."""
    call = Call(CALL)
    plan = plan_suite(str(folder / "small.yaml"), folder / "out", site=folder / "site.yaml")
    ground = look_at_ground(plan, call)
    meanwhile()
    note_nothing_to_do(plan, call, ground)


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


def linked(path: Path, to: Path) -> None:
    path.rename(to)
    path.symlink_to(to)


def cut_short(path: Path) -> None:
    """Leave out the end, from within the last row."""
    path.write_bytes(path.read_bytes()[:-5])


CHANGES: dict[str, Callable[[Path], object]] = {
    "the suite": lambda folder: replaced(folder / "small.yaml", "[0, 1]", "[0, 2]"),
    "the site": lambda folder: replaced(folder / "site.yaml", "mini: data", "mini: dato"),
    "no site": lambda folder: (folder / "site.yaml").unlink(),
    "the data": lambda folder: (folder / "data").rmdir(),
    "the data, elsewhere": lambda folder: linked(folder / "data", folder / "v1"),
    "a record": lambda folder: replaced(next((folder / "out").rglob("record.json")), '"seed"', '"sead"'),
    "a run": lambda folder: shutil.rmtree(next((folder / "out").rglob("record.json")).parent),
    "a state": lambda folder: replaced(
        folder / f"out/suites/small/cells/{name_of(1)}/state.json", "finished", "failed"
    ),
    "a run's place": lambda folder: replaced(folder / f"out/suites/small/cells/{name_of(1)}/run", "seed1", "seed0"),
    "the plan": lambda folder: replaced(folder / "out/suites/small/plan.json", "classification", "detection"),
    "a row": lambda folder: replaced(folder / "out/results.csv", f"{1:012x}", f"{2:012x}"),
    "the last rows": lambda folder: cut_short(folder / "out/results.csv"),
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
def layered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with a suite of three files, and weights in the second of two folders."""
    (folder / "below.yaml").write_text(BELOW)
    (folder / "own.yaml").write_text(RECIPE)
    (folder / "small.yaml").write_text(SUITE)
    (folder / "site.yaml").write_text(SITE)
    (folder / "second").mkdir()
    (folder / "second/some.pth").write_bytes(b"weights")
    monkeypatch.setattr("benchmarks.scheduling.finished.is_finished", lambda cell, folder: True)
    for cell in (folder / "out/suites/small/cells").iterdir():
        cell.rename(cell.with_name(cell.name.replace("mini_classification", "own")))
    return folder


def more(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n# more")


def replaced_unseen(path: Path, content: bytes) -> None:
    """Put another file of the same size and time in a file's place, as rsync and tar do."""
    before = path.stat()
    assert len(content) == before.st_size
    path.with_name("new").write_bytes(content)
    os.utime(path.with_name("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_name("new").replace(path)


LAYERED: dict[str, Callable[[Path], object]] = {
    "the suite": lambda folder: replaced(folder / "small.yaml", "[0, 1]", "[0, 2]"),
    "the suite below": lambda folder: more(folder / "below.yaml"),
    "the recipe": lambda folder: replaced(folder / "own.yaml", "mini", "many"),
    "no recipe": lambda folder: (folder / "own.yaml").unlink(),
    "the site": lambda folder: replaced(folder / "site.yaml", "first", "third"),
    "the weights": lambda folder: more(folder / "second/some.pth"),
    "the weights, unseen": lambda folder: replaced_unseen(folder / "second/some.pth", b"WEIGHTS"),
    "no weights": lambda folder: (folder / "second/some.pth").unlink(),
    "other weights before them": lambda folder: more(folder / "first/some.pth"),
    "what describes them": lambda folder: more(folder / "second/preprocessor_config.json"),
}


@pytest.mark.parametrize("what", LAYERED)
def test_all_that_a_plan_is_read_from_is_looked_at(layered: Path, what: str) -> None:
    note(layered)
    assert is_repeat(layered)
    LAYERED[what](layered)
    assert not is_repeat(layered)


@pytest.mark.parametrize("what", LAYERED)
def test_so_it_is_where_that_changes_while_the_suite_is_carried_out(layered: Path, what: str) -> None:
    note(layered, meanwhile=lambda: LAYERED[what](layered))
    assert not is_repeat(layered)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors", "checkpoints/encoder.pth"])
def test_so_it_is_where_a_folder_of_weights_gets_another_file(layered: Path, name: str) -> None:
    replaced(layered / "below.yaml", "some.pth", "some")
    (layered / "second/some/checkpoints").mkdir(parents=True)
    (layered / "second/some.pth").rename(layered / "second/some/pytorch_model.bin")
    note(layered)
    assert is_repeat(layered)
    more(layered / "second/some" / name)
    assert not is_repeat(layered)


def test_so_it_is_where_a_packaged_suite_is_followed_by_a_file_of_its_name(folder: Path) -> None:
    replaced(folder / "small.yaml", "comparisons:", f"extends: paper.yaml\ncomparisons:\n{OF_PAPER}")
    note(folder)
    assert is_repeat(folder)
    (folder / "paper.yaml").write_text("comparisons: {}\n")
    assert not is_repeat(folder)


def test_another_process_that_plans_the_suite_as_it_is_now_has_its_plan(folder: Path) -> None:
    def plan_more() -> None:
        replaced(folder / "small.yaml", "[0, 1]", "[0, 1, 2]")
        plan = plan_suite(str(folder / "small.yaml"), folder / "out", site=folder / "site.yaml")
        write_plan(SuiteFolder(plan.out, plan.name), plan)

    note(folder, meanwhile=plan_more)
    assert not is_repeat(folder)


def test_code_that_changes_while_the_suite_is_carried_out_has_not_planned_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(folder, meanwhile=lambda: monkeypatch.setattr(repeats, "code_digest", lambda: "0" * 12))
    assert not is_repeat(folder)


def test_a_copy_of_a_store_is_another(folder: Path) -> None:
    note(folder)
    shutil.copytree(folder / "out", folder / "copy")
    assert find_repeat(folder / "copy", Call(CALL)) is None


def test_packages_without_a_version_are_no_hindrance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_DECIDING", ("torch", "no-such-distribution"))
    note(folder)
    assert is_repeat(folder)


@pytest.mark.parametrize("written", ["small.yaml", "second/some.pth"])
def test_what_was_written_while_the_call_began_is_not_relied_on(
    layered: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note_of_what_was_written_seconds_before(seconds: float) -> None:
        changed = max(path.stat().st_ctime for path in (layered / written, layered / "out"))
        with monkeypatch.context() as patch:
            patch.setattr(repeats, "_changed", lambda path: changed - seconds if path == layered / written else 0.0)
            patch.setattr(repeats, "MARGIN", 5.0)
            note(layered)

    note_of_what_was_written_seconds_before(1.0)
    assert not is_repeat(layered)
    note_of_what_was_written_seconds_before(3600.0)
    assert is_repeat(layered)


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
    summary = json.loads((folder / "out/suites/small/tables/summary.json").read_text())
    assert summary["wall_seconds"] > 0.0
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


def test_a_path_that_json_cannot_have_is_no_hindrance(layered: Path) -> None:
    place = layered / os.fsdecode(b"caf\xe9")
    place.symlink_to(layered)
    call = Call(CALL)
    plan = plan_suite(str(place / "small.yaml"), layered / "out", site=place / "site.yaml")
    ground = look_at_ground(plan, call)
    assert ground is not None
    note_nothing_to_do(plan, call, ground)
    assert not is_repeat(layered)
