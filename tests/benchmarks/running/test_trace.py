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
    assert lines[2:4] == ["same up to update 1, to the last digit", "first difference at update 2:"]
    a, b = (
        json.loads((run / "log.jsonl").read_text().splitlines()[1]) for run in (fine_tuned, run_directory(tmp_path))
    )
    assert lines[4].startswith(f"  loss: A {a['loss']!r}, B {b['loss']!r}, relative ")
    assert lines[5] == "settings that differ:" and lines[6].startswith("  optimizer.weight_decay: ")
    assert len(lines) == 7


def test_runs_are_compared_however_gradients_accumulate(data: Path, fine_tuned: Path, tmp_path: Path) -> None:
    success(*run(data, tmp_path, **SLOWLY | {"runtime__batch_per_device": 4, "runtime__log_every": 2}))
    status, lines = shown(fine_tuned, tmp_path, "--tolerance", 1e-4)
    assert (status, lines[2:]) == (0, ["same up to update 4, within a relative 0.0001"])


def test_the_document_says_what_the_lines_do(tmp_path: Path) -> None:
    """--json was passed over."""
    one, other = write(tmp_path / "one", [3.0, 2.0, 1.0]), write(tmp_path / "other", [3.0, 2.5])
    result = call("compare", one, other, "--trace", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1 and document["a"] == {"directory": str(one), "updates": 3}
    assert (document["same_up_to"], document["differs_at"]) == (1, 2)
    assert document["differences"] == [{"name": "loss", "a": 2.0, "b": 2.5}]
    assert json.loads(success("compare", one, one, "--trace", "--json").stdout)["differs_at"] is None


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
