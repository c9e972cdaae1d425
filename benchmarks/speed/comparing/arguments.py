"""The options that the scripts of this folder have in common."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from backbones.errors import InputError
from backbones.training.machine import Device, choose_device


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with `--json`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, defaults: Mapping[str, Mapping[str, int]] | None = None
) -> argparse.Namespace:
    """Parse, choose the device, and fill in what depends on it.

    defaults: for each device that the script runs on, the first being its own default, the values of options that were
    not given. Without them it runs on the CPU, and has no `--device`.

    Ends the process with a message for a device that is not there, a number of nothing, and a place for the figures
    where none can be written.
    """
    if defaults:
        first = next(iter(defaults))
        parser.add_argument("--device", choices=list(defaults), default=first, help=f"default {first}")
    arguments = parser.parse_args()
    require_counts(parser, arguments)
    if arguments.json:
        require_writable(parser, "--json", arguments.json)
    device: Device = arguments.device if defaults else "cpu"
    try:
        choose_device(device)
    except InputError as error:
        parser.exit(2, f"{parser.prog}: --device {device}: {error}\n")
    for name, value in (defaults or {}).get(device, {}).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def require_counts(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End the process with a message for a whole number below 1: all of them count something, or are a size."""
    for name, value in vars(arguments).items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: expected at least 1")


def require_writable(parser: argparse.ArgumentParser, option: str, path: Path) -> None:
    """Make the folder of a file, or end the process with a message if the file could not be written at the end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_there = path.exists()
        with path.open("ab"):
            pass
        if not is_there:
            path.unlink()
    except OSError as error:
        parser.error(f"{option}: {path} cannot be written ({error.strerror}). Name another place")
