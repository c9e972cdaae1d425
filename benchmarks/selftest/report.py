"""What a self-test leaves behind: a JSON document for programs, a Markdown table for people, a sentence for both."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.running.writing import write_text
from benchmarks.selftest.lines import Line, Verdict

NAME = "selftest"

LIBRARIES = (
    *("backbench", "torch", "torchvision", "timm", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation"),
    *("sal-detectron2", "detectron2", "numpy"),
)


@dataclass
class Report:
    """Of a self-test so far.

    device:   "cuda" or "cpu"
    about:    what it runs on in words: device, CUDA, driver
    verdicts: of the lines that had their turn
    name:     its files' without their endings
    """

    device: str
    minutes: float
    lines: Sequence[Line]
    about: Mapping[str, str] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    name: str = NAME

    @property
    def all_verdicts(self) -> list[Verdict]:
        """Of every line; those that had no turn yet are not run."""
        had = {verdict.line.name for verdict in self.verdicts}
        rest = [Verdict(line, "not run", why="not reached") for line in self.lines if line.name not in had]
        return [*self.verdicts, *rest]

    @property
    def failed(self) -> bool:
        return any(verdict.state == "failed" for verdict in self.verdicts)

    def verdict(self) -> str:
        """Such as "12 lines ok, 1 failed: detector-parity, 3 not run"."""
        names: dict[str, list[str]] = {"ok": [], "failed": [], "not run": []}
        for verdict in self.all_verdicts:
            names[verdict.state].append(verdict.line.name)
        fine = len(names["ok"])
        parts = [f"{fine} line{'' if fine == 1 else 's'} ok"]
        if names["failed"]:
            parts.append(f"{len(names['failed'])} failed: {', '.join(names['failed'])}")
        if names["not run"]:
            parts.append(f"{len(names['not run'])} not run")
        return ", ".join(parts)

    def write(self, out: Path) -> tuple[Path, Path]:
        """Write both files whole, below `out`, and return their paths. Raises ResultsError if they cannot be."""
        document = json.dumps(self.document(), indent=2, ensure_ascii=False, allow_nan=False)
        figures = write_text(out / f"{self.name}.json", f"{document}\n")
        return figures, write_text(out / f"{self.name}.md", self.markdown())

    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "verdict": self.verdict(),
            "kind": self.device,
            **self.about,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: found for name in LIBRARIES if (found := _version(name))},
            "minutes": self.minutes,
            "began_at": self.began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.began).total_seconds(), 1),
            "lines": [_entry(verdict) for verdict in self.all_verdicts],
        }

    def markdown(self) -> str:
        """A table with a row a line, below what it was on."""
        versions = f"torch {_version('torch')}"
        place = ", ".join(
            f"{name} {value}" if name != "device" else value for name, value in self.about.items() if value
        )
        rows = [
            " | ".join(
                _cell(text)
                for text in (
                    verdict.state,
                    verdict.line.name,
                    verdict.line.what,
                    *measured_and_expected(verdict),
                    f"{verdict.seconds:.0f}",
                )
            )
            for verdict in self.all_verdicts
        ]
        head = ["state | line | what | measured | expected | s", ":--- | :--- | :--- | :--- | :--- | ---:"]
        table = "\n".join(f"| {row} |" for row in [*head, *rows])
        return f"{place or self.device}, {versions}: {self.verdict()}\n\n{table}\n"


def measured_and_expected(verdict: Verdict) -> tuple[str, str]:
    """In words; where nothing was measured, why not."""
    if verdict.found is None:
        return verdict.why, ""
    return verdict.found.measured, verdict.found.expected


def name_for(lines: Sequence[str]) -> str:
    """A report's of these lines alone, so that it leaves the whole one as it is; of all lines for none."""
    if not lines:
        return NAME
    first, *more = lines
    return f"{NAME}-{first}" + (f"-and-{len(more)}-more" if more else "")


def _entry(verdict: Verdict) -> dict[str, Any]:
    measured, expected = ("", "") if verdict.found is None else measured_and_expected(verdict)
    figures = verdict.found.figures if verdict.found else {}
    return {
        "name": verdict.line.name,
        "what": verdict.line.what,
        "state": verdict.state,
        "measured": measured,
        "expected": expected,
        "why": verdict.why,
        "seconds": round(verdict.seconds, 1),
        "figures": {name: _finite(value) for name, value in figures.items()},
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
