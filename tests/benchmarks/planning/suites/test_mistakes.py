"""Wrong suites and site files: each is refused with one message that names file, line and what to do.

They stand in wrong_suites.txt and wrong_sites.txt, each with its message.
"""

import re
from pathlib import Path

import pytest

from backbones.errors import InputError
from benchmarks.planning.suites.plan import plan_suite


def _read(name: str) -> dict[str, tuple[str, str]]:
    """By what is wrong, the file and the message."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    found = re.findall(r"^## (.+)\n(?s:(.*?))^=>\n(?s:(.*?))\n(?=\n## |\Z)", text, re.MULTILINE)
    return {title: (content, message.rstrip("\n")) for title, content, message in found}


SUITES, SITES = _read("wrong_suites.txt"), _read("wrong_sites.txt")
RIGHT = "backbones: {a: random_vit_mini}\ncomparisons: {one: {backbones: a, recipes: mini_classification}}\n"


def _message(folder: Path, suite: str, site: str | None = None) -> str:
    (folder / "my.yaml").write_text(suite)
    if site is not None:
        (folder / "site.yaml").write_text(site)
    with pytest.raises(InputError) as refused:
        plan_suite(str(folder / "my.yaml"), folder / "runs", site=None if site is None else folder / "site.yaml")
    return str(refused.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("suite, message", SUITES.values(), ids=SUITES)
def test_suites(suite: str, message: str, tmp_path: Path) -> None:
    assert _message(tmp_path, suite) == message


@pytest.mark.parametrize("site, message", SITES.values(), ids=SITES)
def test_site_files(site: str, message: str, tmp_path: Path) -> None:
    assert _message(tmp_path, RIGHT, site) == message


def test_there_are_many() -> None:
    assert len(SUITES) + len(SITES) >= 50


def test_two_files_that_extend_each_other(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("# round and round\nextends: my.yaml\n")
    told = 'other.yaml, line 2, key "extends": my.yaml: a suite cannot extend itself'
    assert _message(tmp_path, "extends: other.yaml\n") == told


def test_a_site_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        plan_suite("demo", tmp_path, site=tmp_path / "site.yaml")
    assert str(refused.value) == f"{tmp_path}/site.yaml: cannot be read: No such file or directory"


def test_numbers_and_times_are_what_they_look_like(tmp_path: Path) -> None:
    """By YAML 1.1 5e-4 is text, 12:00:00 a number, and 2026-01-01 no text."""
    (tmp_path / "site.yaml").write_text("slurm: {time: 12:00:00, account: 2026-01-01}\n")
    suite = RIGHT.replace("recipes", "set: {optimizer.base_lr: 5e-4, source: '12'}, recipes")
    (tmp_path / "my.yaml").write_text(suite)
    plan = plan_suite(str(tmp_path / "my.yaml"), tmp_path, site=tmp_path / "site.yaml")
    assert (plan.site.slurm.time, plan.site.slurm.account) == ("12:00:00", "2026-01-01")
    recipe = plan.cells[0].planned.recipe
    assert (recipe.optimizer.base_lr, recipe.source) == (5e-4, "12")


@pytest.mark.parametrize(
    "text, message",
    [
        ("about: x\n# \x07\n", "my.yaml, line 2: cannot be read as YAML: the character #x0007 is not allowed"),
        ("a: &a [*a]\n", "my.yaml: cannot be read as YAML: something in it holds itself, or is nested too deep"),
        ("about: !!timestamp x\n", "my.yaml: cannot be read as YAML: "),
        ("about: !!python/name:os.system\n", "my.yaml, line 1: cannot be read as YAML: could not determine a constr"),
        ("about: \ud800\n", "my.yaml: cannot be read: no UTF-8"),
        (
            "about: x\n<<<<<<< HEAD\ncells: []\n=======\ncells: {}\n>>>>>>> theirs\n",
            "my.yaml, line 2: a conflict that git could not merge. Keep what should stand there, and remove",
        ),
    ],
)
def test_what_is_hardly_yaml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as refused:
        plan_suite(str(tmp_path / "my.yaml"), tmp_path)
    assert str(refused.value).replace(f"{tmp_path}/", "").startswith(message)


def test_names_are_those_of_folders(tmp_path: Path) -> None:
    long = "a" * 180
    told = _message(tmp_path, RIGHT.replace("{one:", f"{{{long}:"))
    name = f"{long}-a-mini_classification-seed0"
    assert told == f"my.yaml, line 2: {name}: longer than 200 bytes. Give shorter names"
    for name in ("...yaml", "..yaml", ".yaml", f"{'a' * 201}.yaml"):
        (tmp_path / name).write_text(RIGHT)
        with pytest.raises(InputError, match=r"expected a file's name such as my\.yaml"):
            plan_suite(str(tmp_path / name), tmp_path / "runs")


def test_a_plugin_of_the_call_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(RIGHT)
    with pytest.raises(InputError) as refused:
        plan_suite(str(tmp_path / "my.yaml"), tmp_path / "runs", plugins=[tmp_path / "mine.py"])
    told = f"--plugin {tmp_path}/mine.py: there is no such file. Expected a file of Python, such as my_method.py."
    assert str(refused.value) == told


def test_a_home_folder_that_a_variable_names_and_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBENCH_DATA_MINI", "~no-such-user/mini")
    with pytest.raises(InputError, match=r'^BACKBENCH_DATA_MINI: .*"~no-such-user" is nobody\'s home folder here'):
        plan_suite("demo", "runs")


def test_a_variable_in_a_path_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "backbones: {a: {backbone: mae_vit_mini, weights: some.pth}}\n"
        "comparisons: {one: {backbones: a, recipes: mini_classification}}\n"
    )
    site = tmp_path / "site.yaml"
    site.write_text("data: {mini: $SCRATCH/mini}\nweights: ['/w', '${SCRATCH}/w']\n")
    (cell,) = plan_suite(str(tmp_path / "my.yaml"), tmp_path / "runs", site=site).cells
    data, weights = cell.missing
    as_written = "stands there as it is written: write the path out, or begin it with ~"
    assert data == f"data mini: {tmp_path}/$SCRATCH/mini is no folder. $SCRATCH {as_written}"
    assert weights == f"weights some.pth: not in /w, {tmp_path}/${{SCRATCH}}/w. ${{SCRATCH}} {as_written}"
