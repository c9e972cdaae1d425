"""What a repeated command says of a finished run whose code, model or libraries have changed, and what it does."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from backbones.registry import find_backbone
from benchmarks.running import repeating
from results import code
from tests.support.commands import run_directory
from tests.support.in_process import QUICK, call, hide_training, pretrain, run, run_arguments, success

MODEL = """
import timm

def vit(image_size, drop_path):
    return timm.create_model(
        "vit_mini_patch8_48", num_classes=0, img_size=image_size or 48, drop_path_rate=drop_path{more}
    )
"""


@pytest.fixture(scope="module")
def small(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "shapes"
    for split in ("train", "val"):
        for folder in sorted((mini / split).iterdir()):
            (root / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:2]:
                shutil.copy(path, root / split / folder.name)
    return root


@pytest.fixture(scope="module")
def finished(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    success(*run(small, out))
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def change_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = repeating.deciding_versions() | {"torch": "9.9.9"}
    monkeypatch.setattr(repeating, "deciding_versions", lambda: now)


def change_backbench(monkeypatch: pytest.MonkeyPatch, root: Path) -> str:
    """Let it be other sources; their digest."""
    for name in code.PACKAGES:
        (root / "house" / name).mkdir(parents=True)
    monkeypatch.setattr(code, "_HOUSE", root / "house")
    monkeypatch.setattr(repeating, "code_digest", code.code_digest.__wrapped__)
    return repeating.code_digest()


def records(out: Path) -> dict[str, dict[str, Any]]:
    """All below `out`, by the ends of their directories' names."""
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(out.rglob("record.json"))}
    return {name.partition(".")[2]: record for name, record in found.items()}


def assert_kept_with(arguments: list[str], lines: list[str]) -> None:
    """Repeated, the command does nothing, and tells these changes, unless it is to fail."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        hide_training(monkeypatch)
        for policy in ([], ["--if-changed", "keep"], ["--if-changed", "fail"]):
            result = call(*arguments, *policy)
            assert result.exit_code == (1 if "fail" in policy and lines else 0), result.output
            assert "finished before; nothing to do" in result.output
            told = [line for line in result.output.splitlines() if "changed since" in line]
            assert told == [f"  changed since this run: {line}" for line in lines]
            assert ("--rerun" in result.output) == bool(lines)
    assert_planned_alike(arguments, lines)


def assert_planned_alike(arguments: list[str], lines: list[str]) -> None:
    """A dry run tells the same changes, what would be done about them, and ends with the same status."""
    for policy in ([], ["--if-changed", "keep"], ["--if-changed", "fail"], ["--if-changed", "rerun"], ["--rerun"]):
        runs = "--rerun" in policy or ("rerun" in policy and bool(lines))
        result = call(*arguments, *policy, "--dry-run")
        assert result.exit_code == (1 if "fail" in policy and lines else 0), result.output
        told = [line for line in result.output.splitlines() if "changed since" in line]
        assert told == [f"  changed since: {line}" for line in lines]
        assert ("to be run anew, beside what has finished on shapes" in result.output) == runs
        assert ("  finished on shapes" in result.output) != runs
        assert ("kept as it is" in result.output) == (bool(lines) and not runs)
        document = call(*arguments, *policy, "--dry-run", "--json")
        assert document.exit_code == result.exit_code
        plan = json.loads(document.stdout)
        assert (plan["changes"], plan["to_be_run"]) == (lines, runs) and Path(plan["finished"]).is_dir()


def test_unchanged_it_is_kept_whatever_is_to_happen_otherwise(small: Path, out: Path) -> None:
    arguments = run(small, out)
    assert_kept_with(arguments, [])
    assert "nothing to do" in success(*arguments, "--if-changed", "rerun").output
    assert list(records(out)) == [""]


def test_another_torch_is_told_and_leads_to_another_run(
    small: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = repeating.deciding_versions()["torch"]
    change_torch(monkeypatch)
    assert_kept_with(run(small, out), [f"torch {before} then, 9.9.9 now"])
    output = success(*run(small, out), "--if-changed", "rerun").output
    assert "changed since the run before: torch" in output and "nothing to do" not in output
    assert [record["run"] for record in records(out).values()] == [1, 2]


def test_other_code_is_told_and_leads_to_another_run(
    small: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = (record["code"] for record in records(out).values())
    assert before == code.code_digest()
    now = change_backbench(monkeypatch, tmp_path)
    assert_kept_with(run(small, out), [f"backbench's code {before} then, {now} now"])
    success(*run(small, out), "--if-changed", "rerun")
    first, second = records(out).values()
    assert (first["key"], first["metrics"]) == (second["key"], second["metrics"])
    assert (first["code"], second["code"]) == (before, now)
    assert_kept_with(run(small, out), [])  # the latest run is the one that counts
    rows = pd.read_csv(out / "results.csv")
    assert len(rows[["key", "run"]].drop_duplicates()) == 2 and set(rows["code"]) == {before, now}


def test_a_changed_file_of_the_model_is_told_and_leads_to_another_run(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the module that is named nor the tensors' names have to change: all of its package counts."""
    package = tmp_path / "my_models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "vits.py").write_text(MODEL.format(more=""))
    monkeypatch.syspath_prepend(tmp_path)
    arguments = run(small, tmp_path / "out", "my_models.vits:vit")
    success(*arguments)
    (first,) = records(tmp_path / "out").values()
    assert len(first["model_code"]) == 12
    assert_kept_with(arguments, [])
    (package / "norms.py").write_text("EPS = 1e-6")
    now = repeating.Code.of(find_backbone("my_models.vits:vit")).model_code
    assert_kept_with(arguments, [f"the model's code {first['model_code']} then, {now} now"])
    success(*arguments, "--if-changed", "rerun")
    assert len({record["model_code"] for record in records(tmp_path / "out").values()}) == 2


def test_models_of_timm_and_of_backbench_have_no_code_of_their_own(small: Path, out: Path) -> None:
    assert [record["model_code"] for record in records(out).values()] == [""]
    success(*run(small, out, "test_vit"))
    assert {record["model_code"] for record in records(out).values()} == {""}


def test_a_rerun_begins_beside_and_an_interrupted_one_goes_on(
    small: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = run(small, out)
    for number in (2, 3):
        assert "nothing to do" not in success(*arguments, "--rerun").output
        assert list(records(out)) == ["", "2", "3"][:number]
    (last,) = out.rglob("*.3")
    (last / "record.json").unlink()
    with monkeypatch.context() as patch:
        hide_training(patch)
        success(*arguments, "--rerun")  # its training was done, and is not begun anew in .4
        assert list(records(out)) == ["", "2", "3"]
        assert str(last) in success(*arguments).output
    assert [record["run"] for record in records(out).values()] == [1, 2, 3]
    assert len({json.dumps(record["metrics"]) for record in records(out).values()}) == 1


def test_an_unfinished_rerun_leaves_the_finished_run_in_place(small: Path, out: Path) -> None:
    first = run_directory(out)
    success(*run(small, out), "--rerun")
    (second,) = out.rglob("*.2")
    (second / "record.json").unlink()
    assert str(first / "record.json") in success(*run(small, out)).output


def test_a_pretraining_is_rerun_likewise(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((mini / "unlabelled").iterdir())[:16]:
        shutil.copy(path, images)
    arguments = pretrain(images, tmp_path / "out")
    success(*arguments)
    change_torch(monkeypatch)
    assert call(*arguments, "--if-changed", "fail").exit_code == 1
    success(*arguments, "--rerun")
    first, second = records(tmp_path / "out").values()
    assert first["checkpoint_sha256"] == second["checkpoint_sha256"]


def test_a_plan_passes_over_what_cannot_be_read(small: Path, out: Path) -> None:
    """With --json it failed."""
    finished = run_directory(out)
    broken = finished.with_name("seed0-ffffffffffff")
    broken.mkdir()
    (broken / "record.json").write_text("{")
    for form in ([], ["--json"]):
        result = success(*run(small, out), "--dry-run", *form)
        assert f"passed over: {broken}/record.json: not a record" in result.stderr
        assert str(finished) in result.stdout


def test_a_run_of_an_earlier_version_is_kept_and_its_code_unknown(small: Path, out: Path) -> None:
    """Under a key that is made otherwise today, and without a plan."""
    (path,) = out.rglob("record.json")
    record = json.loads(path.read_text())
    for name in ("plan", "run", "code", "model_code"):
        del record[name]
    record["key"] = "0" * 12
    shutil.rmtree(path.parent.with_name("seed0-000000000000"), ignore_errors=True)
    earlier = path.parent.rename(path.parent.with_name("seed0-000000000000"))
    (earlier / "record.json").write_text(json.dumps(record))
    arguments = run(small, out)
    assert_kept_with(arguments, [f"backbench's code not recorded then, {code.code_digest()} now"])
    success(*arguments, "--rerun")
    assert sorted(path.parent.name == earlier.name for path in out.rglob("record.json")) == [False, True]


def test_runs_that_differ_are_told_by_table_and_compare(
    small: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_backbench(monkeypatch, tmp_path)
    success(*run(small, out), "--rerun")
    (path,) = out.rglob("*.2/record.json")
    second = json.loads(path.read_text())
    before = second["metrics"][0]["value"]
    second["metrics"][0] |= {"value": before + 1, "ci_low": before, "ci_high": before + 2}
    path.write_text(json.dumps(second))
    told = f"seed 0 was run 2 times: top1 {before:.2f}, then {before + 1:.2f}; they differ in code ("
    assert told in success("table", out, "--layout", "transfer").output
    folder = path.parents[1]
    output = success("compare", folder, folder).output
    assert f"A's {told}" in output
    first = path.parent.with_name(path.parent.name.removesuffix(".2"))
    output = success("compare", first, path.parent).output
    assert f"A and B are runs 1 and 2 of one key, {second['key']}; they differ in code (" in output


def test_precision_is_kept_as_the_run_began(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key has it as written, so a run may go on where another precision is the fast one."""
    arguments = run_arguments(small, tmp_path / "out", **QUICK | {"schedule__epochs": 2})
    monkeypatch.setattr("backbones.training.precision.bf16_is_fast", lambda device: False)
    success(*arguments)
    directory = run_directory(tmp_path / "out")
    (path,) = directory.glob("checkpoints/iteration_2.pth")
    path.unlink()
    before = json.loads((directory / "record.json").read_text())
    (directory / "record.json").unlink()
    monkeypatch.setattr("backbones.training.precision.bf16_is_fast", lambda device: True)
    output = success(*arguments).output
    remark = "goes on in fp32, as it began; precision auto is bf16 on this machine"
    assert f"backbench: {directory}: {remark}" in output
    after = json.loads((directory / "record.json").read_text())
    assert (after["precision"], after["protocol"], after["metrics"]) == ("fp32", before["protocol"], before["metrics"])
    assert after["protocol"]["precision"] == '"fp32"' and remark in after["notes"]
    assert "\nprecision: fp32\n" in (directory / "recipe.yaml").read_text()
    success(*arguments, "--rerun")
    (second,) = directory.parent.glob("*.2/record.json")
    assert json.loads(second.read_text())["precision"] == "bf16"


def test_a_run_that_goes_on_under_other_code_says_so(
    small: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run_directory(out)
    before = json.loads((directory / "record.json").read_text())["code"]
    (directory / "record.json").unlink()
    now = change_backbench(monkeypatch, tmp_path)
    remark = f"resumed under other code: backbench's code {before} then {now}"
    assert f"backbench: {directory}: {remark}" in success(*run(small, out)).output
    after = json.loads((directory / "record.json").read_text())
    assert after["code"] == now and remark in after["notes"]
