"""The plug-in of the suites on generated data, for the time of a test."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from backbones import plugins, registry
from backbones.plugins import import_files
from backbones.registry import list_backbones
from benchmarks.planning.suites.suite import FOLDER

PLUGIN = FOLDER / "mini_backbones.py"


@contextmanager
def registered() -> Iterator[list[str]]:
    """The names of the backbones that it registers, which are gone afterwards if they were not there before."""
    entries, files, was_there = dict(registry._entries), dict(plugins._files), PLUGIN.stem in sys.modules
    import_files([PLUGIN])
    try:
        yield [entry.name for entry in list_backbones() if entry.registered_by == PLUGIN.stem]
    finally:
        for known, before in ((registry._entries, entries), (plugins._files, files)):
            known.clear()
            known.update(before)
        if not was_there:
            del sys.modules[PLUGIN.stem]
