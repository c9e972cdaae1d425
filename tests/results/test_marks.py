"""What tables mark and do not rank: parts of a data set, seeds that were made differently; and names of checkpoints."""

from pathlib import Path
from typing import Any

import pytest

from results import Record, build_table, render
from results.measurements import Number
from tests.support.results_examples import DEVIATION, make_random, make_record

WHOLE = {"evaluation_images": 50_000}


def shown(records: list[Record], layout: str = "imagenet") -> dict[str, Number]:
    """Our only number of each method."""
    found = {}
    for row in build_table(records, layout).blocks[0].rows:
        for cell in row.cells:
            if isinstance(cell, Number):
                assert row.labels[-2] not in found
                found[row.labels[-2]] = cell
    return found


class TestPartsOfADataSet:
    def test_are_marked_and_not_ranked_beside_the_whole(self) -> None:
        records = [
            make_record(83.0, **WHOLE),
            make_random(78.0, **WHOLE),
            make_record(90.0, method="BEiT", backbone="beit_vit_base", n_eval=49_998, **WHOLE),
        ]
        numbers = shown(records)
        assert numbers["BEiT"].note == "evaluated on 49,998 of 50,000 images"
        assert {name: number.best for name, number in numbers.items()} == {"MAE": True, "random": False, "BEiT": False}
        text = render(build_table(records, "imagenet"))
        assert "| 90.0 †" in text and ": evaluated on 49,998 of 50,000 images\n" in text

    def test_are_marked_where_there_is_nothing_else(self) -> None:
        (number,) = shown([make_record(n_eval=400, **WHOLE)]).values()
        assert number.note == "evaluated on 400 of 50,000 images"
        (number,) = shown([make_record(n_eval=400, evaluation_images=300)]).values()
        assert number.note == "evaluated on 400 images instead of 300"

    def test_are_not_averaged_with_the_whole(self) -> None:
        records = [make_record(83.0, 0, **WHOLE), make_record(85.0, 1, n_eval=49_998, **WHOLE)]
        with pytest.raises(AssertionError):
            shown(records)

    def test_the_whole_is_not_marked(self) -> None:
        assert [number.note for number in shown([make_record(**WHOLE)]).values()] == [""]
        assert [number.note for number in shown([make_record()]).values()] == [""]


class TestSeeds:
    @pytest.mark.parametrize(
        ("one", "other", "note"),
        [
            ({"git_commit": "a" * 40}, {"git_commit": "b" * 40}, "code (aaaaaaa, bbbbbbb)"),
            ({"git_commit": "a" * 40}, {"git_commit": "a" * 40 + "-dirty"}, "code (aaaaaaa, aaaaaaa-dirty)"),
            ({"backbench_version": "0.1.0"}, {"backbench_version": "0.2.0"}, "code (0.1.0, 0.2.0)"),
            ({"versions": {"torch": "1", "timm": "1"}}, {"versions": {"torch": "2", "timm": "1"}}, "torch (1, 2)"),
            ({"versions": {"torch": "2.13"}}, {"versions": {}}, "torch (2.13, not stated)"),
            ({"device": "NVIDIA H100"}, {"device": "cpu"}, "device (NVIDIA H100, cpu)"),
            ({"world_size": 1}, {"world_size": 8, "device": "cpu"}, "device (cpu, not stated), processes (1, 8)"),
        ],
    )  # fmt: skip
    def test_that_were_made_differently_say_so_and_are_not_ranked(
        self, one: dict[str, Any], other: dict[str, Any], note: str
    ) -> None:
        """Their mean was bold, as if the seed alone were different."""
        records = [make_record(83.0, 0, **one), make_record(85.0, 1, **other), make_random(78.0, **one)]
        numbers = shown(records)
        assert (numbers["MAE"].value, numbers["MAE"].seeds) == (84.0, (0, 1))
        assert numbers["MAE"].note == f"its seeds differ in {note}"
        assert not any(number.best for number in numbers.values())
        third = make_random(70.0, method="BEiT", backbone="beit_vit_base", **one)
        assert [name for name, number in shown([*records, third]).items() if number.best] == ["random"]

    def test_that_were_made_alike_say_nothing(self) -> None:
        made: dict[str, Any] = {"git_commit": "a" * 40, "versions": {"torch": "2.14"}, "device": "cpu", "world_size": 2}
        numbers = shown([make_record(83.0, 0, **made), make_record(85.0, 1, **made), make_random(78.0)])
        assert (numbers["MAE"].note, numbers["MAE"].best) == ("", True)

    def test_are_averaged_also_where_they_deviate(self) -> None:
        records = [make_record(83.0, seed, deviations=[DEVIATION], world_size=1 + seed) for seed in (0, 1)]
        assert shown(records)["MAE"].note == f"{DEVIATION}; its seeds differ in processes (1, 2)"


@pytest.mark.parametrize("path", ["weights/mae_pretrain.pth", Path("/elsewhere/mae_pretrain.pth")])
def test_checkpoints_are_named_by_their_file(path: object) -> None:
    report = {"path": path, "method": "MAE"}
    records = [
        make_record(83.0, checkpoint_sha256="a" * 64, load_report=report),
        make_record(84.0, checkpoint_sha256="b" * 64),
        make_record(70.0),
    ]
    text = render(build_table(records, "imagenet"))
    for note in ("checkpoint mae_pretrain.pth (aaaaaaaa)", "checkpoint bbbbbbbb", "no checkpoint"):
        assert f": {note}\n" in text


def test_what_stands_in_other_layouts_is_told_with_the_layout() -> None:
    records = [
        make_record(),
        make_record(dataset="photos", table="transfer"),
        make_record(50.0, task="detection", dataset="coco2017", table="coco", metric="AP_box"),
        make_record(0.3, task="pretraining", table="", metric="reconstruction_loss"),
    ]
    assert build_table(records, "imagenet").left_out == (
        "1 of classification on photos (layout transfer)",
        "1 of detection on coco2017 (layout coco)",
    )
    assert build_table(records[:1], "imagenet").left_out == ()


def test_parts_of_one_file_are_told_apart() -> None:
    """A student and its teacher are two backbones, not two seeds of one."""
    of_file = {"checkpoint_sha256": "a" * 64, "checkpoint": "dino.pth"}
    records = [
        make_record(83.0, seed=0, **of_file, checkpoint_part="student"),
        make_record(84.0, seed=1, **of_file, checkpoint_part="teacher.backbone"),
        make_record(85.0, seed=2, **of_file),
    ]
    text = render(build_table(records, "imagenet"))
    for part in ("::student", "::teacher.backbone", ""):
        assert f"checkpoint dino.pth{part} (aaaaaaaa)" in text
