"""What `backbench cache` prints."""

import sys
import time
from datetime import UTC, datetime

from backbones.cache import cache_folder, clear, entries
from backbones.errors import InputError
from benchmarks.commands.sheets import Sheet, print_json, show, spell_age, spell_size


def show_cache(*, as_json: bool) -> None:
    """List the entries, what was used last at the end."""
    found = entries()
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
    try:
        freed = clear()
    except OSError as error:
        raise InputError(f"{error.filename}: it cannot be removed: {error.strerror}") from None
    print(f"freed {spell_size(freed)}", file=sys.stderr)
