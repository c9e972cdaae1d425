"""What `backbench history` prints, and the picture that it makes."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.planning.records import load_records
from benchmarks.running.baseline_file import read_baseline
from benchmarks.running.collecting import warn
from benchmarks.running.regressing import read_sigmas, read_table
from benchmarks.running.writing import require_writable, write_bytes
from results import to_frame
from results.errors import StoreError
from results.garbage_collection import garbage_collection_paused
from results.metrics import PRIMARY
from results.nights import first_night, names_of
from results.regression.changes import FEWEST_NIGHTS
from results.regression.history import Change, History, Series, to_history
from results.regression.history_picture import history_picture
from results.regression.runs import NIGHT
from results.regression.wording import counted, spell_p

if TYPE_CHECKING:
    import pandas as pd

_PICTURE = ".png"
_HEADINGS = ("cell", "metric", "nights", "first", "latest", "band", "changes", "drift")
_NUMBERS = frozenset({"nights", "first", "latest", "band"})


@garbage_collection_paused()
def show_history(
    sources: Sequence[Path],
    *,
    baseline: Path | None = None,
    sigmas: Sequence[str] = (),
    picture: Path | None = None,
    as_json: bool = False,
) -> None:
    """Print the history of all cells in the sources, folders of nights, stores or CSV files, and draw it.

    The band is of the nights of a baseline that count, where there is one. `sigmas` are as `read_sigmas` has them.

    Of speed and memory the table has those that changed, the JSON document all. Raises InputError for a picture that is
    not to be a PNG or cannot be written, and for a baseline without any of these nights; StoreError for sources that
    hold no numbers and files that cannot be read.
    """
    if picture and picture.suffix != _PICTURE:
        raise InputError(f"--picture {picture}: expected a name that ends in {_PICTURE}")
    if picture:
        require_writable("--picture", picture)
    counts = read_baseline(baseline).counts if baseline else ()
    history = to_history(_read(sources), baseline=counts, sigmas=read_sigmas(sigmas))
    names = ", ".join(map(str, sources))
    if not history.series:
        raise StoreError(f"{names}: no finished runs with {', '.join(PRIMARY[:-1])} or {PRIMARY[-1]}, so no history")
    if baseline and not {*counts} & {*history.nights}:
        told = ", ".join(counts) or "none"
        raise InputError(
            f"--baseline {baseline}: of its nights that count, {told}, {names} has none. Name it there too"
        )
    if picture:
        write_bytes(picture, history_picture(history))
        print(picture, file=sys.stderr)
    if as_json:
        print_json(_document(history))
        return
    show(_sheet(history))
    print(_summary(history), file=sys.stderr)


def _read(sources: Sequence[Path]) -> "pd.DataFrame":
    """The rows of all sources, each with its night: the nearest folder that is called like one, as `regress` has it,
    at most the source itself."""
    import pandas as pd

    frames = []
    for source in sources:
        if source.is_dir():
            found = load_records([source], on_unreadable=warn)
            places = [place.relative_to(source).as_posix() for place, _ in found]
            frame, store = to_frame((record for _, record in found), places), source
        else:
            frame, store = read_table(source), source.parent
        of_store = first_night(names_of(store), store)
        known = frame[NIGHT] if NIGHT in frame.columns else [""] * len(frame)
        frame[NIGHT] = [
            told or first_night(reversed(place.split("/")), store / place) or of_store
            for told, place in zip(known, frame["directory"], strict=True)
        ]
        frame["directory"] = f"{of_store}/" + frame["directory"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _sheet(history: History) -> Sheet:
    names = history.names
    sheet = Sheet(_HEADINGS, numbers=_NUMBERS)
    for one in history.series:
        if one.quantity != "accuracy" and not one.has_findings:
            continue
        sheet.rows.append(
            (
                names[one.cell, one.protocol],
                one.label,
                str(len(one.nights)),
                one.shown(one.values[0]),
                one.shown(one.values[-1]),
                " to ".join(map(one.shown, one.band)) if one.band else "",
                ";\n".join(_change(one, change) for change in one.changes),
                _drift(one),
            )
        )
    return sheet


def _change(one: Series, change: Change) -> str:
    sure = f"p {spell_p(change.p_value)}" if one.sigma else "nights repeat each other"
    levels = f"{one.shown(change.before)} → {one.shown(change.after)}"
    return f"{change.night}: {levels} ({one.shown_size(change.size)}, {sure})"


def _drift(one: Series) -> str:
    if not (drift := one.drift):
        return ""
    levels = f"{one.shown(drift.before)} → {one.shown(drift.after)}"
    return f"since {drift.since}: {levels} ({one.shown_size(drift.size)}, p {spell_p(drift.p_value)})"


def _summary(history: History) -> str:
    """How many nights and cells there are, and in how many what was found."""
    nights, cells = history.nights, len(history.names)
    span = " to ".join(dict.fromkeys((nights[0], nights[-1])))
    told = f"{counted(len(nights), 'night')}, {span}, {counted(cells, 'cell')}: "
    if max(len(one.nights) for one in history.series) < FEWEST_NIGHTS:
        return f"{told}too few to tell, changes are looked for in {FEWEST_NIGHTS} nights or more"
    return told + ("; ".join(_counts(history)) or "no change, no drift")


def _counts(history: History) -> Iterator[str]:
    for quantity in ("accuracy", "speed", "memory"):
        found = [one for one in history.series if one.quantity == quantity and one.has_findings]
        if found:
            changed, drifting = sum(bool(one.changes) for one in found), sum(bool(one.drift) for one in found)
            yield f"{quantity} changed in {changed} and drifts in {drifting}"


def _document(history: History) -> dict[str, Any]:
    series = [
        one.cell._asdict() | {name: value for name, value in asdict(one).items() if name != "cell"}
        for one in history.series
    ]
    return {"nights": history.nights, "series": series}
