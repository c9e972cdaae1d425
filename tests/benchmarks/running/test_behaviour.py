"""Whether a night's runs took the course of the baseline's: what is named, what is blamed, and what is not compared."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.running.baselines import counting, counting_nights, promote
from benchmarks.running.behaviour import behaviour_findings
from benchmarks.running.collecting import collect
from benchmarks.running.regressing import read_sides
from results.regression.findings import Finding, Severity
from tests.support.baselines import VERSIONS, put_run

GPU: dict[str, Any] = {"device": "NVIDIA H100", "cuda": "13.0", "driver": "580.1"}


def held(root: Path, *, strict_trace: bool = False) -> tuple[list[Finding], list[str]]:
    """Night 2 against night 1."""
    return of([root / "2026-01-01"], [root / "2026-01-02"], strict_trace=strict_trace)


def of(baseline: Sequence[Path], current: Sequence[Path], *, strict_trace: bool) -> tuple[list[Finding], list[str]]:
    return behaviour_findings(*read_sides(counting(baseline), current), strict_trace=strict_trace)


def put(root: Path, day: int, losses: list[float] | None, **fields: Any) -> Path:
    return put_run(root / f"2026-01-{day:02}", losses=losses, day=day, **fields)


def test_the_same_course_is_told(tmp_path: Path) -> None:
    for day in (1, 2):
        for seed in (0, 1):
            put(tmp_path, day, [3.0, 2.0 + seed], seed=seed)
    assert held(tmp_path) == ([], ["2 of 2 runs took the same course to the last digit"])


def test_another_course_is_a_notice_with_the_update_where_it_began(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0, 2.0, 1.0])
    put(tmp_path, 2, [3.0, 2.5, 1.5], code="b" * 12)
    ((finding,), remarks) = held(tmp_path)
    assert (finding.kind, finding.severity) == ("behaviour", Severity.notice)
    assert finding.words == "another course from update 2 on, seed 0: loss 2 → 2.5; code aaaaaaaa → bbbbbbbb"
    assert (finding.cell.backbone, finding.cell.metric, finding.cell.task) == ("mae_vit_base", "top1", "classification")
    assert remarks == ["0 of 1 run took the same course to the last digit"]
    ((finding,), _) = held(tmp_path, strict_trace=True)
    assert finding.severity is Severity.regression


def test_with_the_same_code_the_libraries_are_named(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0, 2.0])
    put(tmp_path, 2, [3.0, 2.0 + 1e-15], versions=VERSIONS | {"timm": "1.0.32", "hotcoco": "1.3.0"})
    ((finding,), _) = held(tmp_path)
    assert finding.words == (
        "another course from update 2 on, seed 0: loss 2 → 2.0000000000000009; same code; hotcoco none → 1.3.0; "
        "timm 1.0.31 → 1.0.32"
    )


def test_where_nothing_is_known_to_differ(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0])
    put(tmp_path, 2, [4.0])
    assert held(tmp_path)[0][0].words.endswith("loss 3 → 4; same code and libraries")
    put(tmp_path, 2, [4.0], code="")
    assert held(tmp_path)[0][0].words.endswith("loss 3 → 4; whether the code is the same is not known")


def test_what_of_a_line_differs_is_named_where_the_loss_does_not(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0, 2.0])
    log = put(tmp_path, 2, [3.0, 2.0]) / "log.jsonl"
    log.write_text(log.read_text().replace('"lr": 0.1', '"lr": 0.2'))
    assert "from update 1 on, seed 0: lr 0.1 → 0.2" in held(tmp_path)[0][0].words


def test_the_latest_night_of_the_baseline_counts(tmp_path: Path) -> None:
    for day, losses in ((1, [3.0]), (2, [4.0]), (3, [4.0])):
        put(tmp_path / "nights", day, losses)
    for day in (2, 1):
        promote(tmp_path / "baseline", tmp_path / f"nights/2026-01-0{day}", who="Ann")
    tonight = [tmp_path / "nights/2026-01-03"]
    for baseline in (counting_nights(tmp_path / "baseline"), [tmp_path / "baseline"]):
        assert of(baseline, tonight, strict_trace=False)[0] == []
    earlier = counting_nights(tmp_path / "baseline")[:1]
    assert "loss 3 → 4" in of(earlier, tonight, strict_trace=False)[0][0].words


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"device": "NVIDIA H200"}, "device NVIDIA H100 → NVIDIA H200"),
        ({"driver": "590.2", "cuda": "13.1"}, "CUDA 13.0 → 13.1; driver 580.1 → 590.2"),
        ({"versions": VERSIONS | {"torch": "2.15.0"}}, "PyTorch 2.14.1 → 2.15.0"),
        ({"world_size": 2}, "processes 1 → 2"),
    ],
)
def test_of_another_machine_nothing_is_compared(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        put(tmp_path, 1, [3.0], seed=seed, **GPU)
        put(tmp_path, 2, [4.0], seed=seed, **(GPU | changed))
    remark = f"the course of 2 runs is not compared, what rounds its numbers differs: {told}"
    assert held(tmp_path, strict_trace=True) == ([], [remark])


def test_an_earlier_night_on_the_same_machine_is_found(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0], **GPU)
    put(tmp_path, 2, [3.1], **(GPU | {"device": "NVIDIA H200"}))
    put(tmp_path, 3, [3.0], **GPU)
    nights = [tmp_path / f"2026-01-0{day}" for day in (1, 2, 3)]
    findings, remarks = of(nights[:2], nights[2:], strict_trace=True)
    assert (findings, remarks) == ([], ["1 of 1 run took the same course to the last digit"])


def test_on_a_gpu_what_its_precision_rounds_is_no_change(tmp_path: Path) -> None:
    for seed, now in ((0, 3.0), (1, 3.0 * (1 + 1e-6)), (2, 3.0 * (1 + 1e-5))):
        put(tmp_path, 1, [3.0], seed=seed, **GPU)
        put(tmp_path, 2, [now], seed=seed, **GPU)
    findings, remarks = held(tmp_path)
    assert [finding.words.split(":")[0] for finding in findings] == ["another course from update 1 on, seed 2"]
    assert remarks == ["1 of 3 runs took the same course to the last digit, 1 within what their precision rounds"]


def test_other_seeds_are_told_and_other_cells_are_not(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0])
    put(tmp_path, 2, [4.0], seed=1)
    put(tmp_path, 2, [4.0], seed=2, backbone="another")
    put(tmp_path, 2, [4.0], seed=3, protocol={"optimizer.weight_decay": "0.1"})
    told = "the course of 1 run is not compared, the baseline has none of these seeds"
    assert held(tmp_path) == ([], [told])


def pretrained(root: Path, day: int, weights: str, losses: list[float]) -> None:
    """A pre-training, and a fine-tuning of what it has made."""
    about: dict[str, Any] = {"task": "pretraining", "metric": "reconstruction_loss", "recipe": "mae"}
    put(root, day, [1.0], checkpoint_sha256=weights * 64, backbone="mae_vit", split="train", key="e" * 12, **about)
    put(root, day, losses, checkpoint_sha256=weights * 64)


def test_what_is_fine_tuned_from_another_pretraining_is_not_blamed(tmp_path: Path) -> None:
    pretrained(tmp_path, 1, "1", [3.0])
    pretrained(tmp_path, 2, "2", [4.0])
    findings, remarks = held(tmp_path, strict_trace=True)
    assert findings == []
    assert remarks == [
        "1 of 1 run took the same course to the last digit",
        "the pre-training changed: mae_vit (mae, seed 0), 11111111 → 22222222; the course of what is fine-tuned from "
        "it is not compared: mae_vit_base on imagenet1k (imagenet_vit_base)",
    ]


def test_what_is_fine_tuned_from_the_same_pretraining_is_held(tmp_path: Path) -> None:
    pretrained(tmp_path, 1, "1", [3.0])
    pretrained(tmp_path, 2, "1", [4.0])
    assert "loss 3 → 4" in held(tmp_path)[0][0].words


def test_other_weights_from_elsewhere_are_named(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0], checkpoint_sha256="1" * 64)
    put(tmp_path, 2, [4.0], checkpoint_sha256="2" * 64)
    assert held(tmp_path)[0][0].words.endswith("loss 3 → 4; same code; weights 11111111 → 22222222")


def test_without_logs_the_loss_at_the_end_is_held(tmp_path: Path) -> None:
    for day, last in ((1, 2.0), (2, 2.5)):
        put(tmp_path, day, [3.0, last])
        put(tmp_path, day, [3.0, 2.0], seed=1)
        collect(tmp_path / f"2026-01-0{day}")
    night = [tmp_path / f"2026-01-0{day}" for day in (1, 2)]
    tables = [shutil.copy(path / "results.csv", tmp_path / f"{path.name}.csv") for path in night]
    for baseline, tonight in (tables, (tables[0], night[1]), (night[0], tables[1])):
        ((finding,), remarks) = of([baseline], [tonight], strict_trace=True)
        assert finding.words == "the loss at the end differs, seed 0: 2 → 2.5; same code"
        assert finding.severity is Severity.regression
        assert remarks == ["1 of 2 runs took the same course to the last digit"]


def test_of_a_gpu_the_loss_at_the_end_may_round(tmp_path: Path) -> None:
    for day, last in ((1, 2.0), (2, 2.01)):
        put(tmp_path, day, None, train_loss=last, precision="bf16", **GPU)
    assert held(tmp_path) == (
        [],
        ["0 of 1 run took the same course to the last digit, 1 within what their precision rounds"],
    )


def test_a_damaged_or_shorter_log_is_not_the_same(tmp_path: Path) -> None:
    put(tmp_path, 1, [3.0, 2.0, 1.0])
    log = put(tmp_path, 2, [3.0, 2.0, 1.0]) / "log.jsonl"
    whole = log.read_text()
    for text, told in (
        ("".join(whole.splitlines(keepends=True)[:2]), "its log ends at update 2, that of the baseline at 3"),
        (whole.replace('"update": 2,', ""), ""),
        (whole.replace("2.0", "two"), "tonight: line 2 cannot be read"),
        ("", "log.jsonl: empty"),
    ):
        log.write_text(text)
        findings, _ = held(tmp_path)
        assert [told in finding.words for finding in findings] == ([True] if told else [])
        assert all(finding.severity is Severity.notice for finding in findings)
    assert held(tmp_path, strict_trace=True)[0][0].severity is Severity.unclear


def test_what_only_evaluated_took_no_course(tmp_path: Path) -> None:
    for day, value in ((1, 2.0), (2, 3.0)):
        put(tmp_path, day, None, train_loss=value, trained="elsewhere")
    assert held(tmp_path, strict_trace=True) == ([], [])
