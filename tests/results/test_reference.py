import pytest

from results import ResultsError, reference_rows
from results.reference import PREVIOUS_BEST, parse_reference

HEADER = "table,task,dataset,metric,method,pretrain_data,model,value,source\n"


def test_the_reference_file_is_whole() -> None:
    rows = reference_rows()
    assert len(rows) == 81
    assert {row.table for row in rows} == {"imagenet", "coco", "ade20k", "transfer", "robustness"}
    assert all(20 < row.value < 90 for row in rows)
    assert [row.value for row in rows if row.method == PREVIOUS_BEST] == [
        *(75.4, 81.2, 84.1, 66.0, 58.0),
        *(42.5, 35.8, 48.7, 36.0),
    ]


def test_imagenets_first_row_is_training_from_scratch() -> None:
    """By MAE's authors; in the tables of COCO and ADE20K it is supervised pre-training."""
    rows = [(row.method, row.pretrain_data, row.model, row.value) for row in reference_rows("imagenet")]
    scratch = [("scratch", "none", model, top1) for model, top1 in (("ViT-B", 82.3), ("ViT-L", 82.6), ("ViT-H", 83.1))]
    assert [row for row in rows if row[1] == "none"] == scratch
    assert ("DINO", "IN1K", "ViT-B", 82.8) in rows
    assert {row.table for row in reference_rows() if row.method == "supervised"} == {"coco", "ade20k"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected the columns"),
        (HEADER.replace("value,", ""), "expected the columns"),
        (HEADER + "a,b,c,top1,MAE,f,g,high,s\n", "line 2: value must be a percentage, found 'high'"),
        (HEADER + "a,b,c,top1,MAE,f,g,nan,s\n", "percentage"),
        (HEADER + "a,b,c,top1,MAE,f,g,101,s\n", "percentage"),
        (HEADER + "a,b,c,loss,MAE,f,g,-1,s\n", "line 2: value must be a number between 0 and inf, found '-1'"),
        (HEADER + "a,b,c,loss,MAE,f,g,inf,s\n", "line 2: value must be a number between 0 and inf, found 'inf'"),
        (HEADER + "a,b,c,topl,MAE,f,g,50,s\n", 'line 2: metric "topl": no such metric. Did you mean "top5" or "top1"'),
        (HEADER + "a,b,c,top1,MAE,f,,50,s\n", "line 2: model must not be empty"),
        (HEADER + "a,b,c,top1,prev best,,,50,\n", "line 2: source must not be empty"),
        (HEADER + "a,b,c,top1,MAE,f,g,50\n", "line 2: expected 9 entries"),
        (HEADER + "a,b,c,top1,MAE,f,g,50,s,t\n", "line 2: expected 9 entries"),
        (HEADER + "a,b,c,top1,MAE,f,g,50,s\n" * 2, "line 3: a / c / top1 / MAE / f / g is given twice"),
    ],
)
def test_a_damaged_reference_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ResultsError, match=f"numbers.csv.*{complaint}"):
        parse_reference(text, "numbers.csv")


def test_a_loss_may_lie_above_a_hundred() -> None:
    (row,) = parse_reference(HEADER + "a,b,c,loss,MAE,f,g,101.5,s\n", "numbers.csv")
    assert row.value == 101.5
