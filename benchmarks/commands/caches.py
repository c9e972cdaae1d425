"""What `backbench cache` prints."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from backbones.cache import cache_folder, clear, entries
from backbones.errors import InputError
from backbones.kept_features import feature_entries, remove_features
from benchmarks.commands.sheets import Sheet, print_json, show, spell_age, spell_size


def show_cache(*, as_json: bool) -> None:
    """List the entries, what was used last at the end."""
    found = sorted([*entries(), *feature_entries()], key=lambda entry: entry.used)
    if as_json:
        listed = [
            {
                "what": entry.what,
                "of": entry.subject,
                "bytes": entry.bytes,
                "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
                "file": str(entry.path),
            }
            for entry in found
        ]
        print_json({"folder": str(cache_folder()), "entries": listed})
        return
    sheet = Sheet(("what", "size", "used", "of"), numbers=frozenset({"size", "used"}), is_of_paths=True)
    sheet.rows.extend(
        (entry.what, spell_size(entry.bytes), spell_age(time.time() - entry.used), entry.subject) for entry in found
    )
    if found or not sys.stdout.isatty():
        show(sheet)
    else:
        print(f"{cache_folder()}: nothing is kept", file=sys.stderr)


def clear_cache() -> None:
    """Remove all entries. Raises InputError where one cannot be removed."""
    with _told():
        freed = clear() + sum(remove_features(entry.path) for entry in feature_entries())
    print(f"freed {spell_size(freed)}", file=sys.stderr)


def clear_features(name: str | None) -> None:
    """Remove all features, or those in the folder of that name. Raises InputError if there are none, or as above."""
    found = [entry.path for entry in feature_entries() if name in (None, entry.path.name)]
    if name is not None and not found:
        raise InputError(f'"{name}": no features of that name are kept. `backbench cache ls --json` lists what is')
    with _told():
        freed = sum(remove_features(path) for path in found)
    print(f"freed {spell_size(freed)}", file=sys.stderr)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename}: it cannot be removed: {error.strerror}") from None
