"""Choosing records for a table."""

import pytest

from results import ResultsError, select_records, to_frame
from tests.support.results_examples import DEVIATION, make_random, make_record

RECORDS = [
    make_record(83.0),
    make_record(83.1, 1),
    make_record(84.0, method="MoCo v3", backbone="mocov3_vit_base"),
    make_record(82.0, deviations=[DEVIATION]),
    make_random(78.0),
]


@pytest.mark.parametrize(
    ("conditions", "values"),
    [
        ([], [83.0, 83.1, 84.0, 82.0, 78.0]),
        (["method=MAE"], [83.0, 83.1, 82.0]),
        (["method=mocov3"], [84.0]),
        (["method=MAE", "seed=1"], [83.1]),
        (["method=random", "method=mocov3"], [84.0, 78.0]),
        (["checkpoint_sha256="], [83.0, 83.1, 84.0, 82.0, 78.0]),
    ],
)
def test_records_that_meet_all_conditions_are_chosen(conditions: list[str], values: list[float]) -> None:
    assert [record.metrics[0].value for record in select_records(RECORDS, conditions)] == values


def test_a_checkpoint_goes_by_the_name_of_its_file() -> None:
    """As footnotes print it."""
    report = {"path": "weights/mae_pretrain_vit_base.pth"}
    of_file = make_record(85.0, checkpoint_sha256="1a2b3c4d" * 8, load_report=report)
    records = [*RECORDS, of_file]
    for name in ("mae_pretrain_vit_base.pth", "MAE_pretrain_vit_base.pth"):
        assert select_records(records, [f"checkpoint={name}"]) == [of_file]
    assert select_records(records, ["checkpoint="]) == RECORDS
    with pytest.raises(ResultsError, match=r"They have checkpoint , mae_pretrain_vit_base\.pth$"):
        select_records(records, ["checkpoint=other.pth"])


def test_a_checkpoint_is_the_same_in_a_condition_and_in_its_column() -> None:
    """A pre-training's own encoder.pth was shown and not found, an earlier run's file found and not shown."""
    digest = "1a2b3c4d" * 8
    pretrained = make_record(checkpoint="encoder.pth", checkpoint_sha256=digest)
    earlier = make_record(checkpoint_sha256=digest, load_report={"path": "weights/old.pth"})
    for record, name in ((pretrained, "encoder.pth"), (earlier, "old.pth")):
        assert select_records([pretrained, earlier], [f"checkpoint={name}"]) == [record]
        assert set(to_frame([record])["checkpoint"]) == {name}


def test_those_that_deviate_can_be_left_out() -> None:
    chosen = select_records(RECORDS, ["method=MAE"], only_reference=True)
    assert [record.metrics[0].value for record in chosen] == [83.0, 83.1]


def test_where_nothing_is_left_it_is_told_what_there_is() -> None:
    with pytest.raises(
        ResultsError, match=r"--where method=BEiT: none of the 5 runs\. They have method MAE, MoCo v3, r"
    ):
        select_records(RECORDS, ["method=BEiT"])
    with pytest.raises(ResultsError, match=r"--only-reference: none of the 1 runs\. They have 1 that deviate"):
        select_records(RECORDS[3:4], [], only_reference=True)
    assert select_records([], ["method=BEiT"]) == []


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("method", "expected FIELD=VALUE"),
        ("methd=MAE", 'records have no field "methd". Did you mean "method"?'),
        ("xyz=1", "There are: task, dataset"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(condition: str, told: str) -> None:
    with pytest.raises(ResultsError) as caught:
        select_records(RECORDS, [condition])
    assert str(caught.value).startswith(f"--where {condition}: ") and told in str(caught.value)
