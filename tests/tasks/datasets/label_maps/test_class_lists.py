"""Class lists: ADE20K's own tables, plain lists, and what is neither."""

from pathlib import Path

import pytest

from backbones.errors import InputError
from tasks.datasets.label_maps.class_lists import read_class_list

TABLES = {
    "as distributed": (
        "Idx\tRatio\tTrain\tVal\tName\n"
        "1\t0.0015\t139\t18\tscreen door, screen\n"
        "2 \t0.0014\t335\t60\tscreen, silver screen \n"
        "3\t0.0010\t324\t33\tscreen\n"
        "4 \t1e-05\t2650\t298\tsignboard, sign\n"
    ),
    "with Stuff": (
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
        "1\t0.0015\t139\t18\t0\tscreen door, screen\n"
        "2 \t0.0014\t335\t60\t0\tscreen, silver screen \n"
        "3\t0.0010\t324\t33\t0\tscreen\n"
        "4 \t1e-05\t2650\t298\t1\tsignboard, sign\n"
    ),
    "padded": (
        "Idx   Ratio   Train  Val  Name   \n"
        "  1   0.0015    139   18  screen door, screen   \n"
        "  2   0.0014    335   60  screen, silver screen\t\n"
        "  3   0.0010    324   33  screen\n\n"
        "  4   .00001   2650  298  signboard , sign"
    ),
    "padded, with Stuff": (
        "Idx   Ratio   Train  Val  Stuff  Name   \r\n"
        "  1   0.0015    139   18  0      screen door, screen   \r\n"
        "  2   0.0014    335   60  0      screen, silver screen\r\n"
        "  3   0.0010    324   33  0      screen\r\n"
        "  4   0.0020   2650  298  1      signboard, sign\r\n"
    ),
    "commas and semicolons": (
        "Idx,Ratio,Train,Val,Stuff,Name\n"
        "1,0.0015,139,18,0,screen door;screen\n"
        "2,0.0014,335,60,0,screen;silver screen \n"
        "3, 0.0010, 324, 33, 0, screen\n"
        "4,0.0020,2650,298,1,signboard;sign\n"
    ),
    "commas and quotation marks": (
        '"Idx","Ratio","Train","Val","Name"\n'
        '1,0.0015,139,18,"screen door, screen"\n'
        '2,0.0014,335,60,"screen, silver screen"\n'
        "3,0.0010,324,33,screen\n"
        '4,0.0020,2650,298, "signboard, sign"\n'
    ),
}


@pytest.mark.parametrize("form", TABLES)
def test_a_class_goes_by_its_first_synonym_where_that_is_unique(tmp_path: Path, form: str) -> None:
    path = tmp_path / "objectInfo150.txt"
    path.write_bytes(TABLES[form].encode())
    assert read_class_list(path) == ["screen door", "screen, silver screen", "screen", "signboard"]


def test_a_plain_list_is_taken_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffdoor, double door\n\n  road \nÜberführung", encoding="utf-8")
    assert read_class_list(path) == ["door, double door", "road", "Überführung"]


FIVE = b"Idx\tRatio\tTrain\tVal\tName\n"
SIX = b"Idx\tRatio\tTrain\tVal\tStuff\tName\n"
COMMAS = b"Idx,Ratio,Train,Val,Name\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the class list is empty"),
        (b"\xff\xfe\xfa", "the class list cannot be read as text"),
        (b"a\nb\na\n", "1 class name used more than once: a."),
        (b"\n".join(b"%d" % number for number in range(255)), "255 classes. Label maps of 8 bits hold up to 254."),
        (b"crack\n", "'crack' is the only class, and UPerNet needs two or more to choose from. List the background"),
        (FIVE + b"1\t.1\t1\t1\tcrack, gap\n", "'crack' is the only class"),
        (FIVE, "the class list is empty"),
        (b"1\t.1\t1\t1\twall\n2\t.1\t1\t1\tsky\n", "'1\\t.1\\t1\\t1\\twall' holds a tab, as a table's rows."),
        (b"wall\nsky\t2\n", "'sky\\t2' holds a tab"),
        (b"Idx\tName\n1\twall\n", "its first line is 'Idx\\tName'. Expected the columns Idx Ratio Train Val Name,"),
        (b"IDX;Ratio;Train;Val;Name\n1;.1;1;1;wall\n", "its first line is 'IDX;Ratio;Train;Val;Name'. Expected"),
        (b"Idx,Ratio,Name,Train,Val\n1,.1,wall,1,1\n", "its first line is 'Idx,Ratio,Name,Train,Val'. Expected"),
        (SIX + b"1\t.1\t1\t1\t1\ta\n3\t.1\t1\t1\t1\tc\n", "'3\\t.1\\t1\\t1\\t1\\tc' is not the class of label 2."),
        (SIX + b"1\t.1\twall\n", "not the class of label 1. Expected the columns Idx Ratio Train Val Stuff Name, all"),
        (SIX + b"1\t.1\t1\t1\twall\n", "is not the class of label 1."),
        (SIX + b"1\t.1\t1\t1\tearth, ground\n", "is not the class of label 1."),
        (FIVE + b"1\t.1\t1\t1\t1\twall\n", "is not the class of label 1."),
        (COMMAS + b"1,.1,1,1,wall, house\n", "'1,.1,1,1,wall, house' is not the class of label 1."),
        (COMMAS + b"1,.1,1,1,\n", "is not the class of label 1."),
        (COMMAS + b'1,.1,1,1,"wall\n2,.1,1,1,sky"\n', "is not the class of label 1."),
    ],
)
def test_a_wrong_class_list_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "objectInfo150.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_class_list(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_254_classes_are_not_too_many(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(str(number) for number in range(254)))
    assert len(read_class_list(path)) == 254
