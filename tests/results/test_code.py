"""Digests of sources: they change with what decides, and with nothing else."""

from pathlib import Path

import pytest

from results import code
from results.code import code_digest, sources_digest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "first" / "vision"
    (root / "layers").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "layers" / "norm.py").write_text("EPS = 1e-6\n")
    (root / "settings.yaml").write_text("depth: 12\n")
    return root


@pytest.mark.parametrize("name", ["layers/norm.py", "settings.yaml", "new.py", "layers/__init__.py", "a.yml", "b.json"])
def test_a_changed_or_added_source_changes_it(package: Path, name: str) -> None:
    before = sources_digest([package])
    (package / name).write_text("changed\n")
    assert sources_digest([package]) != before


def test_a_renamed_and_a_missing_source_change_it(package: Path) -> None:
    found = {sources_digest([package])}
    (package / "layers/norm.py").rename(package / "layers/norms.py")
    found.add(sources_digest([package]))
    (package / "layers/norms.py").unlink()
    assert len({*found, sources_digest([package])}) == 3


def test_what_is_no_source_and_where_it_lies_do_not(package: Path, tmp_path: Path) -> None:
    before = sources_digest([package])
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "norm.cpython-311.pyc").write_bytes(b"\0")
    (package / ".cache").mkdir()
    (package / ".cache" / "hidden.py").write_text("hidden")
    (package / "notes.txt").write_text("notes")
    assert sources_digest([package]) == before
    (tmp_path / "second").mkdir()
    assert sources_digest([package.rename(tmp_path / "second" / "vision")]) == before


def test_links_are_followed_once(package: Path, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "linear.py").write_text("bias = True\n")
    (package / "heads").symlink_to(tmp_path / "heads")
    (package / "layers" / "again").symlink_to(package)
    before = sources_digest([package])
    (tmp_path / "heads" / "linear.py").write_text("bias = False\n")
    assert sources_digest([package]) != before


def test_a_single_module_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("a = 1")
    before = sources_digest([tmp_path / "models.py"])
    (tmp_path / "other.py").write_text("b = 1")
    assert sources_digest([tmp_path / "models.py"]) == before
    (tmp_path / "models.py").write_text("a = 2")
    assert sources_digest([tmp_path / "models.py"]) != before


def test_backbench_is_all_its_packages_and_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in code.PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.setattr(code, "_HOUSE", tmp_path)
    code_digest.cache_clear()
    try:
        before = code_digest()
        for name in code.PACKAGES:
            (tmp_path / name / "__init__.py").write_text("changed = True")
            assert code_digest() == before  # a process runs the code that it began with
            code_digest.cache_clear()
            assert code_digest() != before
            before = code_digest()
    finally:
        code_digest.cache_clear()
