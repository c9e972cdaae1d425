"""Whether a cell is finished: by what lies in the store, as the suite is written now."""

import os
from contextlib import suppress
from pathlib import Path

from backbones.errors import InputError
from benchmarks.planning.names import given
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.running.of_suite import read_run, tell_run
from benchmarks.scheduling.folders import SuiteFolder, weights_of
from results.errors import ResultsError
from results.record import Outline, Record
from results.store import read_record


def is_finished(cell: SuiteCell, folder: SuiteFolder) -> bool:
    """Whether a finished run answers to the cell's plan; see `find_finished`."""
    return find_finished(cell, folder) is not None


def find_finished(cell: SuiteCell, folder: SuiteFolder) -> Path | None:
    """The directory of a finished run that answers to the cell's plan, on its data, under the suite's names, in `out`.

    A run that the cell has not made itself may be of other data, which only the cell's process can tell: there, and
    wherever anything has changed since, that is started, and finds out in seconds what there is to do. Where its data
    are missing, whatever answers to its plan will do.
    """
    told = read_run(folder.cell(cell.name).path)
    try:
        if told and (cell.missing or told.data == os.path.realpath(cell.planned.data)):
            record = read_record(folder.out / told.directory, Outline)
            if _answers(cell, folder, record):
                return told.directory
    except (InputError, ResultsError, OSError):  # weights or a record that are not there, or cannot be read
        if not cell.missing:
            return None
    try:
        found = with_weights(cell, folder).planned.find_record(folder.out) if cell.missing else None
        return found[0].relative_to(folder.out) if found else None
    except (InputError, ResultsError, OSError):
        return None


def is_told(cell: SuiteCell, folder: SuiteFolder, directory: Path) -> bool:
    """Whether the cell's folder has this as its run."""
    told = read_run(folder.cell(cell.name).path)
    return told is not None and told.directory == directory


def settle(cell: SuiteCell, folder: SuiteFolder, directory: Path) -> None:
    """Make the run that answers to a cell its own, under its claim, and put its numbers into results.csv.

    They are not there if its process was killed between them and its record.
    """
    if not is_told(cell, folder, directory):
        tell_run(folder.cell(cell.name).path, directory)
    _list_result(cell, folder)


def _list_result(cell: SuiteCell, folder: SuiteFolder) -> None:
    from benchmarks.running.collecting import collect_run, is_collected

    told = read_run(folder.cell(cell.name).path)
    with suppress(InputError, ResultsError, OSError):  # the end of the suite collects them all
        if told and not is_collected(folder.out, record := read_record(folder.out / told.directory)):
            collect_run(folder.out, record)


def with_weights(cell: SuiteCell, folder: SuiteFolder) -> SuiteCell:
    """The cell with the weights that another cell of the suite has made, if it takes such."""
    weights = weights_of(cell.needs, folder)
    return cell.with_weights(weights) if weights else cell


def _answers(cell: SuiteCell, folder: SuiteFolder, record: Record) -> bool:
    planned = cell.planned
    if not given(planned.declared).items() <= record.declared.items():
        return False
    weights = weights_of(cell.needs, folder)
    if weights is None or weights.is_file():
        return with_weights(cell, folder).planned.is_answered_by(record)
    # They have been removed since; what they were, the record of the run that made them says.
    return record.checkpoint_sha256 == read_record(weights.parents[1], Outline).checkpoint_sha256
