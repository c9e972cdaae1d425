"""The wheel holds all that is installed: every package, recipe and published number, and no tests."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "results", "tasks", "benchmarks")


def copy_sources(target: Path) -> None:
    """All files that are tracked or could be: not what earlier builds and runs left behind."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: its source files cannot be told from others")
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sources") / "backbench"
    copy_sources(target)
    return target


@pytest.fixture(scope="module")
def installed(sources: Path) -> set[str]:
    """The files of a wheel that is built from the sources, with the setuptools that is there."""
    wheels = sources.with_name("wheels")
    wheels.mkdir()
    program = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", program, wheels], cwd=sources, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_package_is_there_with_all_its_modules(sources: Path, installed: set[str]) -> None:
    folders = [path.parent for package in PACKAGES for path in (sources / package).rglob("__init__.py")]
    assert len(folders) > len(PACKAGES)
    modules = {path.relative_to(sources).as_posix() for folder in folders for path in folder.glob("*.py")}
    assert modules - installed == set()


@pytest.mark.parametrize(
    "pattern",
    ["backbones/weights/*.yaml", "benchmarks/recipes/**/*.yaml", "benchmarks/suites/*", "results/reference/*.csv"],
)
def test_data_files_are_there(sources: Path, installed: set[str], pattern: str) -> None:
    files = {path.relative_to(sources).as_posix() for path in sources.glob(pattern)}
    assert files and files - installed == set()


def test_nothing_else_is_there(installed: set[str]) -> None:
    top = {name.partition("/")[0] for name in installed}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
