"""baseline.yaml: which nights of a baseline count, and who has changed that, when and why."""

import getpass
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from backbones.errors import InputError
from backbones.training.sections import Settings
from benchmarks.planning.suites.documents import as_list, read_document, validated
from benchmarks.running.writing import write_text
from results.nights import is_night

BASELINE = "baseline.yaml"
_EXAMPLE = "counts: [2026-11-26]"
_HEADING = "# Which nights count now, and who has changed that. `backbench baseline` writes this file.\n"

Action: TypeAlias = Literal["promote", "pin", "unpin"]


def _night(name: str) -> str:
    if not is_night(name):
        raise ValueError("expected a date, such as 2026-11-26")
    return name


Nights = Annotated[tuple[Annotated[str, AfterValidator(_night)], ...], BeforeValidator(as_list), Field(strict=False)]


class Entry(Settings):
    """A change of which nights count.

    nights: those that it is about; of `unpin` those that were pinned
    from:   the store that was promoted, as the call named it
    fresh:  whether nights before it count no longer
    """

    action: Action
    nights: Nights
    when: str
    who: str
    why: str = ""
    origin: str = Field("", alias="from")
    fresh: bool = False


class BaselineFile(Settings):
    """What baseline.yaml holds.

    counts:  the nights that count, oldest first
    pinned:  whether these count whatever is promoted
    entries: all changes, the first one first
    """

    counts: Nights = ()
    pinned: bool = False
    entries: Annotated[tuple[Entry, ...], Field(strict=False)] = ()

    @property
    def since(self) -> str:
        """The night before which none counts, because behaviour was to change; empty for none."""
        return next((entry.nights[-1] for entry in reversed(self.entries) if entry.fresh and entry.nights), "")

    def changed(self, entry: Entry, counts: Iterable[str], *, pinned: bool) -> "BaselineFile":
        """The same after one change more."""
        return self.model_copy(
            update={"counts": tuple(sorted(counts)), "pinned": pinned, "entries": (*self.entries, entry)}
        )


def make_entry(
    action: Action, nights: Iterable[str], who: str, why: str, *, origin: str = "", fresh: bool = False
) -> Entry:
    """A change that is made now."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    told: dict[str, Any] = {"from": origin}
    return Entry(action=action, nights=tuple(nights), when=when, who=who, why=why, fresh=fresh, **told)


def read_baseline(baseline: Path, but_for: str = "") -> BaselineFile:
    """What a baseline's file says.

    Raises InputError, with file, line and key, where it is missing, damaged, or names a night that counts and has no
    folder; `but_for` names one that need not have one.
    """
    path = baseline / BASELINE
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Begin a baseline with `backbench baseline promote NIGHT --to {baseline}`, NIGHT "
            "being the --out of a suite or of runs"
        )
    document = read_document(path, _EXAMPLE)
    file = validated(BaselineFile, document)
    for position, night in enumerate(file.counts):
        if night != but_for and not (baseline / night).is_dir():
            raise InputError(
                f"{document.key('counts', position)}: {night} counts, and {baseline / night} is no folder. Bring it "
                "back, or take the night out of the list"
            )
    return file


def write_baseline(baseline: Path, file: BaselineFile) -> None:
    """Write it whole or not at all. Raises ResultsError if it cannot be written."""
    content = file.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"counts": [*file.counts]}
    order = {name: content[name] for name in BaselineFile.model_fields if name in content}
    write_text(baseline / BASELINE, _HEADING + yaml.safe_dump(order, sort_keys=False, allow_unicode=True, width=120))


def author(folder: Path) -> str:
    """Who is at work: git's `user.name` there, else the login name. Raises InputError where there is neither."""
    with suppress(OSError, subprocess.SubprocessError):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        command = ["git", "-C", str(place), "config", "user.name"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        if told:
            return told
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise InputError("--who: neither git's user.name nor a login name is known. Say who it is") from None
