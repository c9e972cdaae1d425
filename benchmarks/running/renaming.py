"""Other names for a finished run: they decide no number, so nothing is trained again for them."""

from dataclasses import replace
from typing import TYPE_CHECKING

from backbones.errors import InputError
from backbones.weights.origin import Declared
from benchmarks.planning.cells import PlannedCell, find_planned_backbone
from benchmarks.planning.names import given, settle_names
from results import Record

if TYPE_CHECKING:
    from backbones.registry import BackboneEntry
    from backbones.weights.checkpoints import Checkpoint


def rename(record: Record, plan: PlannedCell, entry: "BackboneEntry", checkpoint: "Checkpoint | None") -> Record:
    """The record of a finished run under the names that it would have today; the same record if it has them already.

    What was declared before stays where the plan declares nothing else. Row, column, their remarks and the deviation
    that follows from the column change, and nothing else. Raises InputError, as a new run does, if the file contradicts
    the method of the backbone's name and none was declared.
    """
    declared = record.declared | given(plan.declared)
    bare = replace(plan, declared=Declared(**declared), deviations=())
    _, named = find_planned_backbone(bare, checkpoint)
    names = settle_names(named, entry, checkpoint)
    has = (record.method, record.pretrain_data, record.model, record.declared)
    if has == (names.method, names.pretrain_data, names.model, declared):
        return record
    kept = [text for text in record.deviations if not text.startswith("model=")]
    before = _remarks(replace(bare, declared=Declared(**record.declared)), entry, checkpoint)
    return record.model_copy(
        update={
            "method": names.method,
            "pretrain_data": names.pretrain_data,
            "model": names.model,
            "declared": declared,
            "deviations": [*kept, *(text for text in named.deviations if text not in kept)],
            "notes": [*names.remarks, *(note for note in record.notes if note not in before)],
        }
    )


def _remarks(plan: PlannedCell, entry: "BackboneEntry", checkpoint: "Checkpoint | None") -> tuple[str, ...]:
    try:
        return settle_names(plan, entry, checkpoint).remarks
    except InputError:  # finished when such a contradiction was not yet refused
        return ()
