"""Whether a cell is finished: by what lies in the store, as the suite is written now."""

from contextlib import suppress

from backbones.errors import InputError
from benchmarks.planning.names import given
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.running.of_suite import read_run
from benchmarks.scheduling.folders import SuiteFolder, weights_of
from results.errors import ResultsError
from results.record import Outline, Record
from results.store import read_record


def is_finished(cell: SuiteCell, folder: SuiteFolder) -> bool:
    """Whether a finished run answers to the cell's plan, on its data, and has the names that the suite gives it.

    A run that the cell has not made itself may be of other data, which only the cell's process can tell: there, and
    wherever anything has changed since, that is started, and finds out in seconds what there is to do. Where its data
    are missing, whatever answers to its plan will do.
    """
    told = read_run(folder.cell(cell.name).path)
    try:
        if told and (cell.missing or told.data == str(cell.planned.data.absolute())):
            record = read_record(folder.out / told.directory, Outline)
            if _answers(cell, folder, record):
                return True
        if not cell.missing:
            return False
        found = with_weights(cell, folder).planned.find_record(folder.out)
        return found is not None
    except (InputError, ResultsError, OSError):  # weights or a record that are not there, or cannot be read
        return False


def list_result(cell: SuiteCell, folder: SuiteFolder) -> None:
    """Put a finished cell's numbers into results.csv, if its process was killed between them and its record."""
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
