"""`backbench regress`: what it says of a night, what it writes, and with which exit status it ends."""

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from benchmarks.commands import regression
from benchmarks.launching import processes
from benchmarks.planning.records import load_records
from benchmarks.running.baselines import pin, promote
from benchmarks.running.collecting import collect
from benchmarks.scheduling.confirming import FurtherRun
from benchmarks.scheduling.folders import SuiteFolder
from results import Metric
from tests.support.baselines import put_run
from tests.support.in_process import call, refusal, success, usage_refusal
from tests.support.judged_stores import MAE, RANDOM, SEEDS, put, put_nights, put_record
from tests.support.suite_stores import make_job, put_finished, put_state, put_suite

OLD = Path(__file__).parents[2] / "support/store_0.1"
CELL = "mae_vit_base on imagenet1k (imagenet_vit_base)"
TWIN = "random_vit_base on imagenet1k (imagenet_vit_base)"


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    return put_nights(tmp_path / "nights")


def put_tonight(nights: Path, value: float = 83.6, twin: float | None = 78.6, **fields: Any) -> Path:
    """A night beside the others, one seed of each cell; `fields` are of the first."""
    store = nights.parent / "tonight"
    put(store, value, **MAE | fields)
    if twin is not None:
        put(store, twin, **RANDOM)
    return store


def judge(baseline: Path, current: Path, *options: object, status: int) -> str:
    """All that is said of a night, which ends with that status."""
    result = call("regress", "--baseline", baseline, "--current", current, *options)
    assert result.exit_code == status, result.output
    return result.output


def test_a_night_as_the_others_is_green(nights: Path) -> None:
    assert judge(nights, put_tonight(nights), status=0) == (
        "No regression in 2 cells.\n\n"
        "baseline: 4 nights, 2026-01-01 to 2026-01-04\n"
        "the course of 2 runs is not compared, the baseline has none of these seeds\n\n"
        "2 cells compared, 0 identical to the last digit.\n"
    )


def test_one_of_the_nights_is_held_against_the_others(nights: Path) -> None:
    said = judge(nights, nights / "2026-01-04", status=0)
    assert "baseline: 3 nights, 2026-01-01 to 2026-01-03\n" in said


def test_numbers_that_a_seed_repeats_are_told(nights: Path, tmp_path: Path) -> None:
    put(tmp_path / "again", SEEDS[1], 2, 5, **MAE)
    put(tmp_path / "again", SEEDS[1] - 5, 2, 5, **RANDOM)
    said = judge(nights, tmp_path / "again", status=0)
    assert said.endswith("\n2 cells compared, 2 identical to the last digit.\n")


def test_no_night_is_its_own_baseline_wherever_its_copy_lies(nights: Path, tmp_path: Path) -> None:
    bad = nights / "2026-01-05"
    put(bad, 60.0, 5, 5, **MAE)
    put(bad, 55.0, 5, 5, **RANDOM)
    collect(nights)
    copy = shutil.copytree(bad, tmp_path / "copies/2026-01-05")
    table = shutil.copy(nights / "results.csv", tmp_path / "all.csv")
    for baseline, current in ((nights, bad), (nights, copy), (table, bad)):
        said = judge(Path(baseline), Path(current), status=1)
        assert said.startswith("Regression in 2 cells: ") and "\nbaseline: 4 nights, 2026-01-01 to 2026-01-04\n" in said


def test_a_night_that_was_promoted_alone_is_identical_to_itself(nights: Path, tmp_path: Path) -> None:
    promote(tmp_path / "baseline", nights / "2026-01-04")
    said = judge(tmp_path / "baseline", nights / "2026-01-04", status=0)
    assert said.endswith("\n2 cells compared, 2 identical to the last digit.\n")


def test_a_night_that_was_promoted_is_not_held_against_itself(nights: Path, tmp_path: Path) -> None:
    put(nights / "2026-01-05", 82.9, 5, 5, **MAE)
    put(nights / "2026-01-05", 78.6, 5, 5, **RANDOM)
    for night in sorted(nights.iterdir()):
        promote(tmp_path / "baseline", night, who="Ann")
    said = judge(tmp_path / "baseline", nights / "2026-01-05", status=1)
    assert "baseline: 4 nights, 2026-01-01 to 2026-01-04\n" in said


def test_the_only_night_of_a_baseline_is_as_it_was(nights: Path, tmp_path: Path) -> None:
    promote(tmp_path / "baseline", nights / "2026-01-01", who="Ann")
    said = judge(tmp_path / "baseline", nights / "2026-01-01", status=0)
    assert said.endswith("2 cells compared, 2 identical to the last digit.\n")


def test_a_regression(nights: Path) -> None:
    first, heading, cell, words, *_ = [
        line for line in judge(nights, put_tonight(nights, 82.9), status=1).splitlines() if line
    ]
    assert first == f"Regression in 1 cell: {CELL}." and heading == "Regressions" and cell == f"  {CELL}"
    assert words.startswith("    top-1 82.90 % over 1 seed, in the baseline 83.57 % over 4 seeds: 0.67 worse (p ")


def test_an_improvement_is_told_and_green(nights: Path) -> None:
    said = judge(nights, put_tonight(nights, 84.4), status=0)
    assert said.startswith(f"No regression in 2 cells, improvement in 1 cell: {CELL}.\n\nImprovements\n  {CELL}\n")


def test_a_stated_sigma_goes_before_what_seeds_tell(nights: Path) -> None:
    said = judge(nights, put_tonight(nights, 82.9), "--sigma", "top1=1", status=0)
    assert said.startswith("No regression in 2 cells.\n")


def test_another_course_is_a_notice_and_a_regression_where_that_is_wished(tmp_path: Path) -> None:
    for day, losses in ((1, (3.0, 2.0)), (2, (3.0, 2.5))):
        put_run(tmp_path / f"2026-01-0{day}", losses=losses, day=day)
    sides = (tmp_path / "2026-01-01", tmp_path / "2026-01-02")
    words = "another course from update 2 on, seed 0: loss 2 → 2.5; same code and libraries"
    of_images = "Paired test on 1 image, seed 0 of both: no difference (p 1.0000)"
    assert f"    {words}. {of_images}\n" in judge(*sides, status=0)
    assert judge(*sides, "--strict-trace", status=1).startswith("Regression in 1 cell: ")


@pytest.mark.parametrize("named", ["baseline", "baseline/results.csv"])
def test_of_a_baseline_the_nights_that_count_are_read(tmp_path: Path, named: str) -> None:
    for day, value in ((1, 20.0), (2, 83.0)):
        promote(tmp_path / "baseline", put_run(tmp_path / f"2026-01-0{day}", value, day=day).parents[3], who="Ann")
    pin(tmp_path / "baseline", ["2026-01-02"], why="the first was broken")
    put_run(tmp_path / "2026-01-03", 83.0, day=3)
    said = judge(tmp_path / named, tmp_path / "2026-01-03", status=0)
    assert "baseline: 1 night, 2026-01-02\n" in said and "1 of 1 run took the same course to the last digit" in said


def put_suspicious(store: Path) -> SuiteFolder:
    """A suite whose first cell may be worse."""
    arguments = ("run", "--recipe", "imagenet_vit_base", "--seed", "9", "--out", str(store))
    mae, twin = make_job("mae", 9, arguments=arguments), make_job("twin", 9, backbone=RANDOM["backbone"])
    folder = put_suite(store, mae, twin)
    put_finished(folder, mae, 83.2, **MAE)
    put_finished(folder, twin, 78.6, **RANDOM)
    return folder


@pytest.mark.parametrize(("further", "status"), [(83.2, 1), (83.6, 0)])
def test_a_suspicious_cell_is_run_again_before_it_alarms(
    nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, further: float, status: int
) -> None:
    folder = put_suspicious(tmp_path / "store")
    assert judge(nights, folder.out, status=1).startswith("Regression")
    begun = []

    def carry_out(run: FurtherRun, on_begin: Callable[[FurtherRun], None], until: float) -> None:
        on_begin(run)
        begun.append([*run.arguments[:4], *run.arguments[4:5], str(until)])
        put(folder.out, further, run.seed, **MAE, key=f"{run.seed:012x}")

    monkeypatch.setattr(regression, "carry_out", carry_out)
    said = judge(nights, folder.out, "--confirm", 2, status=status)
    assert begun == [["run", "--recipe", "imagenet_vit_base", "--seed", seed, "inf"] for seed in ("10", "11")]
    assert "backbench: mae: seed 10 before the verdict (" in said
    if status:
        assert "83.20 % over 3 seeds, in the baseline 83.57 % over 4 seeds" in said


def test_what_no_suite_has_run_cannot_be_run_again(nights: Path) -> None:
    tonight = put_tonight(nights, 82.9)
    said = judge(nights, tonight, "--confirm", 2, status=1)
    why = f"--confirm: {CELL}: no suite of --current has this cell, so it cannot be run again"
    assert f"\n{why}. Judged without\n" in said and said.startswith(f"Regression in 1 cell: {CELL}.\n")


def test_a_further_seed_that_fails_is_in_the_verdict_in_every_format(
    nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_suspicious(tmp_path / "store")
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, "-c", "raise SystemExit(4)"))
    files = [tmp_path / f"verdict{suffix}" for suffix in regression.SUFFIXES]
    said = judge(nights, folder.out, "--confirm", 1, *(part for file in files for part in ("--write", file)), status=1)
    words = f"seed 10 failed with exit status 4 (log: {folder.path}/further-seeds/mae-seed10.txt)"
    for text in (said, *(file.read_text() for file in files)):
        assert words in text.replace("\\", "")


def test_a_verdict_is_given_when_the_time_for_further_seeds_is_over(nights: Path, tmp_path: Path) -> None:
    folder = put_suspicious(tmp_path / "store")
    said = judge(nights, folder.out, "--confirm", 2, "--hours", 0, status=1)
    assert said.startswith(f"Regression in 1 cell: {CELL}.\n") and "before the verdict" not in said
    for seed in (10, 11):
        assert f"    seed {seed} was not begun: the hours for further seeds were over\n" in said
    message = refusal("regress", "--baseline", nights, "--current", folder.out, "--hours", 1)
    assert message == "--hours: a limit for the further seeds of --confirm, of which none are asked for"
    call_of_nan = ("regress", "--baseline", nights, "--current", folder.out, "--confirm", 2, "--hours", "nan")
    assert "expected a value greater than or equal to 0" in usage_refusal(*call_of_nan)


def test_a_baseline_may_be_promoted_to_while_further_seeds_run(
    nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tmp_path / "baseline"
    for day in (1, 2):
        promote(baseline, nights / f"2026-01-0{day}", who="Ann", keep=2)
    folder = put_suspicious(tmp_path / "store")

    def carry_out(run: FurtherRun, on_begin: Callable[[FurtherRun], None], until: float) -> None:
        promote(baseline, nights / "2026-01-03", who="Ann", keep=2)

    monkeypatch.setattr(regression, "carry_out", carry_out)
    said = judge(baseline, folder.out, "--confirm", 1, status=1)
    assert "baseline: 2 nights, 2026-01-02 to 2026-01-03" in said


def test_a_regression_stays_one_where_a_further_seed_has_no_place_for_its_log(nights: Path, tmp_path: Path) -> None:
    folder = put_suspicious(tmp_path / "store")
    (folder.path / "further-seeds").touch()
    said = judge(nights, folder.out, "--confirm", 2, status=1)
    assert f"Regression in 1 cell: {CELL}.\n" in said
    assert f"\n--confirm: {folder.path}/further-seeds: File exists. Judged without\n" in said


def test_a_vanished_cell(nights: Path) -> None:
    said = judge(nights, put_tonight(nights, twin=None), status=3)
    assert said.startswith(f"Cannot tell for 1 cell: {TWIN}.\n\nCannot tell\n  {TWIN}\n    no such run tonight; ")
    assert "1 cell compared" in said


@pytest.mark.parametrize("dataset", ["imagenet1k", "imagenet1k-of-the-site"])
def test_a_failed_cell_says_why_and_where_its_log_is(nights: Path, tmp_path: Path, dataset: str) -> None:
    mae, twin = make_job("mae", 9), make_job("twin", 9, backbone=RANDOM["backbone"], dataset=dataset)
    folder = put_suite(tmp_path / "store", mae, twin)
    put_finished(folder, mae, 83.6, **MAE)
    put_state(folder, twin, "failed", "out of memory.\nLower runtime.batch_per_device")
    said = judge(nights, folder.out, status=1)
    assert said.startswith(f"Regression in 1 cell: {TWIN}.\n")
    reason = "seed 9 failed: out of memory. Lower runtime.batch_per_device"
    assert f"  {TWIN}\n    {reason} (log: {folder.path}/cells/twin/log.txt)\n" in said
    assert "no such run tonight" not in said


def test_a_cell_that_has_not_finished_cannot_be_told(nights: Path, tmp_path: Path) -> None:
    mae, twin = make_job("mae", 9), make_job("twin", 9, backbone=RANDOM["backbone"])
    folder = put_suite(tmp_path / "store", mae, twin)
    put_finished(folder, mae, 83.6, **MAE)
    assert f"  {TWIN}\n    seed 9 to do: not begun\n" in judge(
        nights, folder.out, "--write", tmp_path / "verdict.xml", "--write", tmp_path / "verdict.csv", status=3
    )
    error = ElementTree.parse(tmp_path / "verdict.xml").find(".//error")
    assert error is not None and (error.get("type"), error.text) == (
        "unfinished",
        "unfinished: seed 9 to do: not begun",
    )
    assert "failed" not in (tmp_path / "verdict.csv").read_text()


def test_another_protocol_names_the_settings(nights: Path) -> None:
    protocol = {"optimizer.lr": "0.0005", "schedule.epochs": "100", "model.drop_path": "0.1"}
    said = judge(nights, put_tonight(nights, protocol=protocol), status=3)
    assert "    another protocol: model.drop_path 0.1, was not set; optimizer.lr 0.0005, was 0.001\n" in said


def test_other_data(nights: Path) -> None:
    said = judge(nights, put_tonight(nights, data_fingerprint="fedcba987654"), status=3)
    assert "    other data: fingerprint fedcba987654, in the baseline 0123456789ab\n" in said


def test_of_another_gpu_accuracy_is_compared_and_speed_is_not(nights: Path) -> None:
    slow = {"device": "NVIDIA A100", "train_images_per_second": 400.0}
    store = put_tonight(nights, **slow)
    said = judge(nights, store, status=0)
    assert f"Notices\n  {CELL}\n    speed and memory are not compared: device NVIDIA H100 → NVIDIA A100\n" in said
    assert said.count("speed and memory") == 1 and "slower" not in said
    assert "device NVIDIA A100, NVIDIA H100, in the baseline NVIDIA H100\n" in said
    put(store, 82.0, seed=10, **MAE | slow)
    assert f"Regression in 1 cell: {CELL}." in judge(nights, store, status=1)


def test_a_slower_night(nights: Path) -> None:
    said = judge(nights, put_tonight(nights, train_images_per_second=800.0), status=1)
    assert f"  {CELL}\n    800 images/s, in 4 nights of the baseline 1,005: 20.4 % slower (p " in said


def test_a_file_serves_as_a_store_does(nights: Path) -> None:
    store = put_tonight(nights, 82.9)
    collect(nights)
    collect(store)
    from_files = judge(nights / "results.csv", store / "results.csv", status=1)
    assert from_files == judge(nights, store, status=1)


def test_files_that_do_not_serve(nights: Path, tmp_path: Path) -> None:
    store, path = put_tonight(nights), tmp_path / "kept.csv"
    collect(nights)
    whole = (nights / "results.csv").read_text()
    for text, expected in {
        whole.replace(",", ";"): "its columns are separated by semicolons. Save it with commas",
        whole[:-120]: "line 9: 43 of 51 columns; the file was cut off. Copy it whole, or",
        whole.replace("83.63", "a lot"): "column value: expected numbers: could not convert string to float: 'a lot'",
        "\x01\x02": "not a table of results, it lacks the columns suite, ",
        "\x00\x01\x02": "line 1: holds bytes of zero, as a crash of the machine leaves them. Copy it whole, or",
        "": "cannot be read as CSV: No columns to parse from file",
    }.items():
        path.write_text(text)
        message = refusal("regress", "--baseline", path, "--current", store, status=3)
        assert message.startswith(f"{path}") and expected in message and "\n" not in message
    for content, expected in {
        whole.encode("utf-16"): 'text in UTF-16. Save it as "CSV UTF-8", with commas',
        whole.replace("MAE", "MÄE").encode("latin-1"): 'no UTF-8. Save it as "CSV UTF-8", with commas',
        b"PK\x03\x04, and a workbook": 'a workbook. Save it as "CSV UTF-8", with commas',
        gzip.compress(whole.encode()): "compressed. Unpack it: gunzip",
        (whole + whole).encode(): "its heading stands in it again: files were put together. Leave only the first one",
    }.items():
        path.write_bytes(content)
        message = refusal("regress", "--baseline", path, "--current", store, status=3)
        assert message.startswith(f"{path}: ") and message.endswith(expected)


def test_a_baseline_of_an_earlier_version(tmp_path: Path) -> None:
    """Its records are completed, so that they stand under today's protocols."""
    for directory, record in load_records([OLD]):
        metrics = [Metric(name=one.name, value=one.value, split=one.split, n_eval=one.n_eval) for one in record.metrics]
        put_record(
            tmp_path / "now" / directory.name, record.model_copy(update={"schema_version": 2, "metrics": metrics})
        )
    said = judge(OLD, tmp_path / "now", status=0)
    assert said.startswith("No regression in 2 cells.\n") and said.endswith("2 identical to the last digit.\n")
    said = judge(OLD / "results.csv", tmp_path / "now", status=3)
    assert "    settings of the baseline not known: its results.csv is of an earlier version. " in said


def test_a_store_without_runs(nights: Path, tmp_path: Path) -> None:
    empty, others = tmp_path / "empty", tmp_path / "others"
    empty.mkdir()
    others.mkdir()
    (others / "notes.txt").write_text("no run")
    for path in (empty, others):
        message = refusal("regress", "--baseline", path, "--current", nights, status=3)
        assert message.startswith(f"--baseline {path}: no finished runs. Expected a store with some, or a results.csv")
        said = judge(nights, path, status=3)
        assert said.startswith(f"Cannot tell for 2 cells: {CELL}, {TWIN}.\n") and "\n0 cells compared" in said
    message = refusal("regress", "--baseline", nights, "--current", tmp_path / "gone", status=3)
    assert message.startswith(f"{tmp_path}/gone: no such file or directory. Expected a results.csv, a store, or")


def test_the_same_runs_on_both_sides(nights: Path) -> None:
    message = refusal("regress", "--baseline", nights, "--current", nights)
    assert message.startswith(f"--baseline {nights} and --current {nights}: the same runs, ")


def test_a_damaged_record_is_passed_over_and_its_cell_cannot_be_told(nights: Path) -> None:
    store = put_tonight(nights, twin=None)
    (put(store, 78.6, **RANDOM) / "record.json").write_text("{")
    said = judge(nights, store, status=3)
    assert "backbench: passed over: " in said and f"Cannot tell for 1 cell: {TWIN}." in said


def test_a_wrong_call(nights: Path) -> None:
    store = put_tonight(nights)
    both = ("--baseline", nights, "--current", store)
    assert refusal("regress", *both, "--sigma", "top1").startswith("--sigma top1: expected METRIC=POINTS")
    message = refusal("regress", *both, "--write", "verdict.html")
    assert message.startswith("--write verdict.html: expected a name that ends in .md, .csv, .xml, .json, .txt")
    assert "Missing option '--current'" in usage_refusal("regress", "--baseline", nights)


def test_each_file_has_the_verdict_as_its_name_says(nights: Path, tmp_path: Path) -> None:
    store, out = put_tonight(nights, 82.9), tmp_path / "new/verdict"
    files = [out.with_suffix(suffix) for suffix in (".md", ".csv", ".xml", ".json", ".txt")]
    said = judge(nights, store, *(part for file in files for part in ("--write", file)), status=1)
    markdown, csv, junit, document, text = files
    assert text.read_text() == said
    assert markdown.read_text().startswith(f"## Regression in 1 cell: {CELL}.\n")
    assert pd.read_csv(csv)["severity"].tolist() == ["regression"]
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert json.loads(document.read_text())["status"] == 1


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (
            "file/verdict.md",
            "cannot be written: Not a directory. Expected a file in a directory that you may write to; ",
        ),
        (
            f"{'x' * 300}.md",
            "cannot be written: File name too long. Expected a file in a directory that you may write ",
        ),
        ("folder.md", "a directory. Expected the name of a file"),
        ("link.md", "a directory. Expected the name of a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_judged(
    nights: Path, tmp_path: Path, place: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "link.md").symlink_to("folder.md")
    (tmp_path / "verdict.xml").write_text("of yesterday")
    monkeypatch.setattr(regression, "read_sides", None)
    message = refusal(
        *("regress", "--baseline", nights, "--current", put_tonight(nights, 82.9)),
        *("--write", tmp_path / "verdict.xml", "--write", tmp_path / place),
    )
    assert message.startswith(f"--write {tmp_path / place}: {told}")
    assert (tmp_path / "verdict.xml").read_text() == "of yesterday"


@pytest.mark.parametrize("place", ["kept.csv", "tonight/results.csv", "link.csv"])
def test_what_is_judged_is_not_written_over(nights: Path, tmp_path: Path, place: str) -> None:
    store = put_tonight(nights)
    collect(nights)
    collect(store)
    kept = Path(shutil.copy(nights / "results.csv", tmp_path / "kept.csv"))
    (tmp_path / "link.csv").symlink_to(kept)
    there = (tmp_path / place).read_bytes()
    message = refusal("regress", "--baseline", kept, "--current", store, "--write", tmp_path / place)
    assert message.startswith(f"--write {tmp_path / place}: would take the place of ")
    assert message.endswith(", which is judged. Name another file") and (tmp_path / place).read_bytes() == there


@pytest.mark.parametrize(("value", "status"), [(82.9, 1), (83.6, 75)])
def test_a_file_that_cannot_be_written_does_not_hide_the_verdict(
    nights: Path, tmp_path: Path, value: float, status: int
) -> None:
    (tmp_path / "full.md").symlink_to("/dev/full")
    files = ("--write", tmp_path / "full.md", "--write", tmp_path / "new/verdict.json")
    said = judge(nights, put_tonight(nights, value), *files, status=status)
    assert said.startswith("Regression in 1" if status == 1 else "No regression in 2 cells.\n")
    assert "full.md: cannot be written, no space is left in " in said
    assert json.loads((tmp_path / "new/verdict.json").read_text())["status"] == status % 75


def test_one_document(nights: Path) -> None:
    store = put_tonight(nights)
    result = success("regress", "--baseline", nights, "--current", store, "--json")
    document = json.loads(result.stdout)
    assert (document["verdict"], document["status"], document["compared"]) == ("no regression", 0, 2)
    assert [cell["backbone"] for cell in document["cells"]] == ["mae_vit_base", "random_vit_base"]
