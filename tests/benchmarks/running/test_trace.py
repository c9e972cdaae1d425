"""Whether two runs took the same course, as their logs tell."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from benchmarks.running.trace import compare_traces
from tests.support.commands import run_directory
from tests.support.in_process import call, pretrain, refusal, run, success, usage_refusal

OLD = Path(__file__).parents[2] / "support/store_0.1/classification/mini/random_vit_mini"


def write(directory: Path, losses: list[float], *, precision: str = "fp32", **about: Any) -> Path:
    """A run that has logged each update; some of what the lines tell may be given, by name, for all of them."""
    directory.mkdir()
    (directory / "recipe.yaml").write_text(f"precision: {precision}\nruntime: {{log_every: 1}}\n")
    lines = [
        {"iteration": n, "update": n, "epoch": n / 10, "loss": loss, "lr": 0.1, "seconds": n * loss, "device": "cpu"}
        for n, loss in enumerate(losses, start=1)
    ]
    (directory / "log.jsonl").write_text("".join(json.dumps(line | about) + "\n" for line in lines))
    return directory


def test_that_a_log_of_earlier_has_fewer_entries_is_no_difference(tmp_path: Path) -> None:
    older, newer = write(tmp_path / "older", [3.0, 2.0]), write(tmp_path / "newer", [3.0, 2.0], updates=2)
    assert compare_traces(older, newer).differs_at is None


def shown(a: Path, b: Path, *options: object) -> tuple[int, list[str]]:
    result = call("compare", a, b, "--trace", *options)
    return result.exit_code, result.output.splitlines()


@pytest.fixture(scope="module")
def data(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 images to train on, 16 to evaluate on, 32 without labels."""
    root = tmp_path_factory.mktemp("few") / "shapes"
    for folder, each in (("train", 4), ("val", 2)):
        for place in sorted((mini / folder).iterdir()):
            (root / folder / place.name).mkdir(parents=True)
            for path in sorted(place.iterdir())[:each]:
                shutil.copy(path, root / folder / place.name)
    (root / "unlabelled").mkdir()
    for path in sorted((mini / "unlabelled").iterdir())[:32]:
        shutil.copy(path, root / "unlabelled")
    return root


SLOWLY: dict[str, Any] = {"optimizer__batch_size": 8, "runtime__log_every": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def fine_tuned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four updates, each logged."""
    out = tmp_path_factory.mktemp("fine_tuned")
    success(*run(data, out, **SLOWLY))
    return run_directory(out)


def test_two_runs_of_one_seed_are_the_same(data: Path, fine_tuned: Path, tmp_path: Path) -> None:
    success(*run(data, tmp_path, **SLOWLY))
    status, lines = shown(fine_tuned, run_directory(tmp_path))
    assert (status, lines[2:]) == (0, ["same up to update 4, to the last digit"])
    assert lines[0] == f"A  {fine_tuned}, 4 updates"


def test_another_weight_decay_shows_once_it_has_changed_the_weights(
    data: Path, fine_tuned: Path, tmp_path: Path
) -> None:
    success(*run(data, tmp_path, **SLOWLY, optimizer__weight_decay=5.0))
    status, lines = shown(fine_tuned, tmp_path)
    assert status == 1
    logs = [map(json.loads, (run / "log.jsonl").open()) for run in (fine_tuned, run_directory(tmp_path))]
    a, b = next((a, b) for a, b in zip(*logs, strict=True) if a["loss"] != b["loss"])
    first = a["update"]  # the second, but where a processor rounds the first step's little away
    assert 2 <= first <= 3
    assert lines[2:4] == [f"same up to update {first - 1}, to the last digit", f"first difference at update {first}:"]
    assert lines[4].startswith(f"  loss: A {a['loss']!r}, B {b['loss']!r}, relative ")
    assert lines[5] == "settings that differ:" and lines[6].startswith("  optimizer.weight_decay: ")
    assert len(lines) == 7


def test_runs_are_compared_however_gradients_accumulate(data: Path, fine_tuned: Path, tmp_path: Path) -> None:
    success(*run(data, tmp_path, **SLOWLY | {"runtime__batch_per_device": 4, "runtime__log_every": 2}))
    status, lines = shown(fine_tuned, tmp_path, "--tolerance", 1e-4)
    assert (status, lines[2:]) == (0, ["same up to update 4, within a relative 0.0001"])


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--trace", "--fail-if-worse", "top1=1"], "--fail-if-worse"), (["--tolerance", 1], "--trace")],
)
def test_no_option_is_passed_over(options: list[object], named: str, tmp_path: Path) -> None:
    assert named in usage_refusal("compare", tmp_path, tmp_path, *options)


def test_pretrainings_are_compared(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        success(*pretrain(data / "unlabelled", tmp_path / name, **SLOWLY), "--seed", seed)
    assert shown(tmp_path / "a", tmp_path / "b")[1][2:] == ["same up to update 4, to the last digit"]
    status, lines = shown(tmp_path / "a", tmp_path / "c")
    assert (status, lines[2]) == (1, "same up to update 0, to the last digit")


def test_an_unfinished_run_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    whole, part = write(tmp_path / "whole", [3.0, 2.0, 1.0]), write(tmp_path / "part", [3.0, 2.0])
    with (part / "log.jsonl").open("a") as log:
        log.write('{"iteration": 3, "ep')
    for pair, name in (((whole, part), "B"), ((part, whole), "A")):
        status, lines = shown(*pair)
        assert (status, lines[2:]) == (0, ["same up to update 2, to the last digit", f"{name} ends there"])


def test_a_last_digit_is_a_difference_on_a_cpu(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [3.0, 0.1 + 0.2]), write(tmp_path / "b", [3.0, 0.3])
    status, lines = shown(a, b)
    assert status == 1
    assert lines[2:] == [
        "same up to update 1, to the last digit",
        "first difference at update 2:",
        "  loss: A 0.30000000000000004, B 0.3, relative 1.9e-16",
    ]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1.3e-6), ("fp16", 1e-3), ("bf16", 1.6e-2)])
def test_on_a_gpu_losses_are_the_same_within_its_precision(precision: str, tolerance: float, tmp_path: Path) -> None:
    a = write(tmp_path / "a", [2.0, 2.0], precision=precision, device="cuda")
    for name, factor, same in (("near", 0.9, True), ("far", 1.1, False)):
        b = write(tmp_path / name, [2.0, 2.0 * (1 - tolerance * factor)], precision=precision, device="cuda")
        found = compare_traces(a, b)
        assert (found.tolerance, found.same_up_to, found.differs_at is None) == (tolerance, 2 if same else 1, same)
    changed = write(tmp_path / "changed", [2.0, 2.0], precision=precision, device="cuda", lr=0.1000001)
    assert [each.name for each in compare_traces(a, changed).differences] == ["lr"]


def test_a_part_of_the_loss_that_one_run_has_not_is_a_difference(tmp_path: Path) -> None:
    found = compare_traces(write(tmp_path / "a", [2.0], loss_mask=1.5), write(tmp_path / "b", [2.0]))
    assert (found.same_up_to, found.differs_at) == (0, 1)
    assert [(each.name, each.a, each.b, each.relative) for each in found.differences] == [
        ("loss_mask", 1.5, None, None)
    ]


def test_what_is_no_number_is_like_nothing(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [2.0]), write(tmp_path / "b", [float("nan")])
    assert compare_traces(a, b).differs_at == compare_traces(b, b).differs_at == 1


def test_logs_of_earlier_versions_are_compared() -> None:
    first, second = sorted(OLD.iterdir())
    assert compare_traces(first, first).same_up_to == 8
    found = compare_traces(first, second)
    assert (found.same_up_to, found.differs_at, found.differences[0].name) == (0, 1, "loss")


RECORDED = {
    "task": "classification",
    "dataset": "mini",
    "model": "ViT-mini",
    "backbone": "b",
    "recipe": "r",
    "key": "0123456789ab",
    "seed": 0,
    "metrics": [{"name": "top1", "value": 1.0, "split": "val"}],
}


def write_earlier(directory: Path, losses: list[float], recipe: str = "precision: fp32", **recorded: Any) -> Path:
    """A run whose log says neither device nor update; with what its record says, if there is one."""
    log = write(directory, losses) / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name not in ("device", "update")} for line in lines]
    log.write_text("".join(json.dumps(line) + "\n" for line in kept))
    (directory / "recipe.yaml").write_text(recipe)
    if recorded:
        (directory / "record.json").write_text(json.dumps(RECORDED | recorded))
    return directory


def test_the_record_says_on_what_device_an_earlier_run_was(tmp_path: Path) -> None:
    for number, (recorded, tolerance) in enumerate(
        [
            ({"device": "AMD EPYC, 2 cores"}, 0.0),
            ({"device": "NVIDIA H100"}, 1.3e-6),
            ({"device": "NVIDIA H100", "precision": "bf16"}, 1.6e-2),
            ({}, 1.3e-6),  # nobody knows
        ]
    ):
        a, b = (
            write_earlier(tmp_path / f"{name}{number}", [loss], "precision: auto", **recorded)
            for name, loss in (("a", 1.0), ("b", 1.0000005))
        )
        found = compare_traces(a, b)
        assert (found.tolerance, found.differs_at) == (tolerance, None if tolerance else 1)


EARLIER = """
task: classification
precision: auto
model: {arch: vit_mini_patch8_48, pool: avg}
optimizer: {weight_decay: 0.05, spare: norms}
"""
LATER = """
task: classification
precision: fp32
model: {arch: vit_mini_patch8_48, pool: avg, mean: null, std: null}
inference: {crop_ratio: null}
optimizer: {weight_decay: 0.05, no_weight_decay: norms_and_positions}
"""


def test_settings_that_came_later_are_no_difference_where_nothing_changed(tmp_path: Path) -> None:
    now = write_earlier(tmp_path / "now", [1.0], LATER)
    for name, recorded in (("finished", {"precision": "fp32"}), ("unfinished", {})):
        assert compare_traces(write_earlier(tmp_path / name, [1.0], EARLIER, **recorded), now).settings == []
    other = write_earlier(tmp_path / "other", [1.0], EARLIER, precision="bf16")
    assert compare_traces(other, now).settings == ['precision: "bf16" against "fp32"']
    cropped = write_earlier(tmp_path / "cropped", [1.0], LATER.replace("crop_ratio: null", "crop_ratio: 0.9"))
    assert compare_traces(cropped, now).settings == ["inference.crop_ratio: 0.9 against not set"]


def test_how_many_processes_and_what_code_it_was_is_told(tmp_path: Path) -> None:
    a = write_earlier(tmp_path / "a", [1.0], world_size=2, code="a" * 12)
    b = write_earlier(tmp_path / "b", [1.0], world_size=1, code="b" * 12)
    assert shown(a, b)[1][3:] == [f"what else differs: code ({'a' * 12}, {'b' * 12}), processes (1, 2)"]


def test_as_json(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [3.0, 2.0]), write(tmp_path / "b", [3.0, float("nan")], precision="bf16")
    result = call("compare", a, b, "--trace", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (document["same"], document["same_up_to"], document["tolerance"]) == (False, 1, 0.0)
    value = {"name": "loss", "a": 2.0, "b": "nan", "relative": "nan"}
    assert document["first_difference"] == {"update": 2, "values": [value]}
    assert document["settings"] == ['precision: "fp32" against "bf16"']
    result = call("compare", a, a, "--trace", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["same"] and document["first_difference"] is None and document["a"]["updates"] == 2


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [*lines[:3], lines[3][:20], *lines[4:]], "B: line 4 cannot be read"),
        (lambda lines: [*lines[:3], lines[3].replace('"loss": 3.0', '"loss": "abc"'), *lines[4:]], "B: line 4 cannot"),
        (lambda lines: lines[4:], "A: 5 of 8 lines tell of updates that no line of B tells of, the first after"),
        (lambda lines: [*lines[:5], *lines[2:]], "B: line 6 and 2 more told of before"),
    ],
)
def test_a_damaged_log_is_not_the_same(damage: Any, told: str, tmp_path: Path) -> None:
    """Lines without a counterpart were passed over, and the rest called the same to the last digit."""
    a, b = write(tmp_path / "a", [3.0] * 8), write(tmp_path / "b", [3.0] * 8)
    lines = (b / "log.jsonl").read_text().splitlines()
    (b / "log.jsonl").write_text("\n".join(damage(lines)) + "\n")
    status, shown_lines = shown(a, b)
    assert status == 1 and any(told in line for line in shown_lines), shown_lines
    assert not json.loads(call("compare", a, b, "--trace", "--json").stdout)["same"]


def test_a_byte_order_mark_and_a_torn_last_line_are_no_damage(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [3.0] * 4), write(tmp_path / "b", [3.0] * 4)
    text = (b / "log.jsonl").read_text()
    (b / "log.jsonl").write_text("\ufeff" + text + text[:20])
    assert shown(a, b)[0] == 0


def test_logs_that_share_no_line_are_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [2.0]), write(tmp_path / "b", [2.0], epoch=0.2)
    with pytest.raises(InputError, match=r"no line of one log tells.*same runtime\.log_every"):
        compare_traces(a, b)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "run", [2.0])
    write(tmp_path / "other", [2.0])
    (tmp_path / "empty").mkdir()
    assert "expected a run's directory" in refusal("compare", tmp_path / "empty", run, "--trace")
    assert f"found 2 runs, for example {tmp_path / 'other'}" in refusal("compare", run, tmp_path, "--trace")
    (tmp_path / "other/log.jsonl").write_text("")
    assert "log.jsonl: empty" in refusal("compare", run, tmp_path / "other", "--trace")
    (run / "recipe.yaml").write_text("task: [")
    assert "recipe.yaml: cannot be read as a run's settings" in refusal("compare", run, run, "--trace", status=3)
