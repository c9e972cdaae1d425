"""What a suite's cells need of a site: data and weights, where they are, and what of them is missing."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from backbones.weights.directories import locate
from backbones.weights.references import SEPARATOR, split_part
from benchmarks.planning.suites.documents import nearest
from benchmarks.planning.suites.site import Site, variable_of
from benchmarks.planning.suites.suite import PRETRAINED, BackboneUse, Entry, Suite
from tasks.data_sets import DATA_SETS

NOWHERE = Path("nowhere")
"""Stands for a root folder that nobody has told."""


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone.

    name:    by which the site knows them; empty where there are none, or a pre-training makes them
    path:    of the file, with its part, or "@NAME"; None for none
    needs:   the pre-training of the suite that makes them; empty for none
    missing: what has to be there first, in words
    """

    name: str = ""
    path: str | None = None
    needs: str = ""
    missing: tuple[str, ...] = ()


def find_weights(suite: Suite, site: Site, use: Entry) -> Weights:
    """Where the weights of one of a suite's backbones are. Raises InputError for a pre-training that there is not."""
    choice: BackboneUse = use.value
    if choice.weights is None:
        return Weights()
    try:
        file, part = split_part(Path(choice.weights))
    except InputError as error:
        raise InputError(f"{use.key('weights')}: {error}") from None
    suffix = f"{SEPARATOR}{part}" if part else ""
    if choice.weights.startswith(PRETRAINED):
        made_by = str(file).removeprefix(PRETRAINED)
        if made_by not in suite.pretraining:
            raise InputError(
                f"{use.key('weights')}: {choice.weights}: no such pre-training. {nearest(made_by, suite.pretraining)}"
            )
        return Weights(path=choice.weights, needs=made_by)
    found = site.find_weights(str(file))
    return Weights(str(file), f"{found or file}{suffix}", missing=_lack(site, str(file), found))


def _lack(site: Site, name: str, found: Path | None) -> tuple[str, ...]:
    if found is None:
        folders = ", ".join(map(str, site.folders))
        where = f"not in {folders}{_of_variables(folders)}" if folders else "give --site, or BACKBENCH_WEIGHTS"
        return (f"weights {name}: {where}",)
    try:
        return () if found.is_file() or locate(found).files else (f"weights {name}: {found} is not there",)
    except InputError as error:
        return (f"weights {name}: {error}{_of_variables(str(found))}",)


def _of_variables(told: str) -> str:
    """A remark on paths that look as if they were to be completed by a shell; empty for others."""
    variable = re.search(r"\$(\w+|\{\w+\})", told)
    return f". {variable[0]} stands there as it is written: write the path out, or begin it with ~" if variable else ""


def find_data(site: Site, dataset: str) -> tuple[Path, tuple[str, ...]]:
    """The root folder of a data set, and what is missing of it."""
    root = site.root(dataset)
    if root is None:
        said = f"not in {site.said_in}" if site.said_in else f"give --site, or {variable_of(dataset)}"
        others = [name for name in site.data if name not in DATA_SETS]
        if difflib.get_close_matches(dataset, others, n=1):
            said += f". {nearest(dataset, others)}"
        return NOWHERE / dataset, (f"data {dataset}: {said}",)
    return root, () if root.is_dir() else (f"data {dataset}: {root} is no folder{_of_variables(str(root))}",)
