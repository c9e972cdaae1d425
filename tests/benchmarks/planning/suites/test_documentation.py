"""The suites and the site file that docs/suites.md shows are as they should be."""

import re
from pathlib import Path

import pytest

from benchmarks.planning.suites.plan import plan_suite
from benchmarks.planning.suites.selection import FIELDS
from benchmarks.planning.suites.site import load_site

PAGE = Path(__file__).resolve().parents[4] / "docs/suites.md"
SUITE, EXTENDING, SITE = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text, count", [(SUITE, 1 + 3 * 3 + 2), (EXTENDING, 45 - 4)])
def test_suites(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(text)
    assert len(plan_suite(str(tmp_path / "my.yaml"), tmp_path).cells) == count


def test_a_site_file(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    site = load_site(tmp_path / "site.yaml", {})
    assert site.root("coco2017") == Path("/data/coco")
    assert site.runtime_of("coco_fpn_vit_large") == {"workers": 12, "batch_per_device": 2} | {
        "activation_checkpointing": True
    }
    assert site.slurm.time == "1-00:00:00"


def test_fields() -> None:
    assert f"Fields are {', '.join(FIELDS)}." in " ".join(PAGE.read_text(encoding="utf-8").split())
