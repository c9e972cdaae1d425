"""How commands end: what may go wrong becomes one message and one exit status, here and nowhere else."""

import errno
import inspect
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import typer
import typer.core

from backbones.errors import NO_ROOM, DataError, FirstFailedError, InputError, TryAgainError, is_out_of_memory
from backbones.plugins import describe_error
from backbones.training.launching import require_place
from backbones.training.machine import process_count, process_rank
from results.errors import ResultsError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it (128 + SIGINT)."""

READER_GONE = 141
"""Exit status where nobody reads on, as shells have it (128 + SIGPIPE): what was asked has no answer then."""

TRY_AGAIN = TryAgainError.status

STATUSES = {
    0: "done",
    1: "the answer is no: files are missing, a check found problems, a backbone is worse than --fail-if-worse allows "
    "or was not compared, a night has a regression",
    2: "the call is wrong: an option, a recipe or its setting, weights that do not fit",
    3: "the data or the store does not serve: missing, broken, not readable, not to be written to; or "
    "`regress` cannot tell",
    4: "the training diverged",
    TRY_AGAIN: "worth trying again: out of memory, disk full, another process at work on the run",
    INTERRUPTED: "interrupted; the same command goes on from the last checkpoint, or the features that a probe has "
    "kept, and begins anew where it has neither",
    READER_GONE: "who read the output has gone, as `| head -1` does",
}
"""What each exit status means."""

ANEW = {
    "evaluate": "evaluate anew, and ImageNet-C from the next of its parts on",
    "predict": "begin anew",
    "export": "begin anew",
}
"""What commands without checkpoints do when they are repeated."""


def after_repeating(command: str | None) -> str:
    """What a command that was stopped does when it is repeated: "repeat the command to …"."""
    return ANEW.get(command or "", "go on from the last checkpoint")


EPILOGUE = "Exit statuses\n\n" + "\n\n".join(f"{status}: {meaning}" for status, meaning in STATUSES.items())

LOST_LOADER = re.compile(r"DataLoader worker .*(is killed by signal|exited unexpectedly)")
"""In the message of the RuntimeError that torch raises where a process that loads images has gone."""

LESS_LOADING = (
    "a process that loads images was killed; too little memory is the usual reason, or, with a bus error, too little "
    "shared memory (docker run --ipc=host, or --shm-size=8g). Make room, or lower runtime.workers, and repeat the "
    "command to go on from the last checkpoint"
)

NO_SHARED_MEMORY = re.compile(r"unable to allocate shared memory\(shm\).*: No space left on device.*")
"""In the message of the RuntimeError that torch raises where /dev/shm has no room for a batch."""

MORE_SHARED_MEMORY = (
    "too little shared memory for the processes that load images (docker run --ipc=host, or --shm-size=8g). Make room "
    "in /dev/shm, or set runtime.workers=0, and repeat the command to go on from the last checkpoint"
)

LOST_CONNECTION = re.compile(
    r"gloo.*(Connection|closed|Broken pipe|Timed out waiting)|NCCL.*remote (error|process)", re.IGNORECASE
)
"""In the message of the RuntimeError that torch raises where another process has gone, over gloo and NCCL."""

NO_CONNECTION = "connectFullMesh failed"
"""In the same, where processes that have met find no way to each other."""

NO_WAY = (
    "the processes of this job cannot connect to each other: each listens at the address that its machine's name leads "
    "to, which is no use where that is 127.0.1.1, Debian's default. Set GLOO_SOCKET_IFNAME to the network interface by "
    "which the machines reach each other, such as eth0, and MASTER_ADDR to the first one's address there"
)

OWN_CODE = tuple(
    f"{Path(__file__).parents[2] / package}{os.sep}" for package in ("backbones", "benchmarks", "results", "tasks")
)

ENDED_BY_OTHERS = "a model, or another library, has to raise an exception where it cannot go on. It called"

LESS_MEMORY = (
    "out of memory. Set runtime.activation_checkpointing=true, which keeps the numbers; or lower "
    "runtime.batch_per_device: gradients accumulate, but batch norm and mixup then see fewer images, as record and "
    "tables tell; or lower runtime.workers or model.image_size"
)


class Group(typer.core.TyperGroup):
    """Shows the paragraphs of help texts as such: rich would keep the line breaks that they have here."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command and command.help:
            paragraphs = inspect.cleandoc(command.help).split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        return command


class Commands(Group):
    """Turns what went wrong into one message and an exit status; several processes end with the same one."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            if require_place().processes > 1:  # before torch is imported, which prints warnings of connections that end
                os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        except InputError as error:  # each process says it: they do not know of one another
            print(f"backbench: {error}", file=sys.stderr)
            raise SystemExit(error.status) from None
        try:
            return super().main(*arguments, **options)
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # typer and rich end with 1 then
                raise SystemExit(READER_GONE) from None
            raise

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # file names may be in any encoding, or in none
        try:
            return _printed(super().invoke, ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ").replace("Input should be", "expected a value")
            raise _once(error) from None
        except typer.TyperException as error:
            raise _once(error) from None
        except KeyboardInterrupt as interrupt:
            does = str(interrupt) or after_repeating(ctx.invoked_subcommand)
            message = f"\nbackbench: interrupted; repeat the command to {does}"
            raise typer.Exit(_ended(INTERRUPTED, message)) from None
        except FirstFailedError:
            raise typer.Exit(_followed()) from None
        except typer.Abort as abort:
            if not isinstance(abort.__context__, KeyboardInterrupt):  # the answer to a question was no
                raise
            raise typer.Exit(_ended(INTERRUPTED, "\nbackbench: interrupted")) from None
        except typer.Exit:
            raise
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # rich's
                raise
            # Nothing else of ours, of typer's or of rich's ends the program below this.
            message, status = f"{ENDED_BY_OTHERS}: {describe_error(end)}", InputError.status
        except Exception as error:
            known = _explain(error)
            if known is None and process_count() > 1 and LOST_CONNECTION.search(str(error)):
                raise typer.Exit(_lost()) from None
            if known is None and process_count() > 1:
                raise typer.Exit(_failed(error)) from None
            if known is None:
                raise
            message, status = known
        raise typer.Exit(_ended(status, f"backbench: {message}"))


def _once(error: typer.TyperException) -> Exception:
    """The error, which all processes of a job find by themselves, or, but in the first, the end without a word."""
    if process_rank() == 0:
        return error
    from benchmarks.running.together import wait_for_first

    wait_for_first()
    return typer.Exit(error.exit_code)


def _printed(invoke: Callable[[Any], Any], ctx: Any) -> Any:
    """Carry out a command, at whose end all that it printed has left."""
    shown = warnings.showwarning
    warnings.showwarning = partial(_show_warning, shown)
    try:
        return invoke(ctx)
    finally:
        warnings.showwarning = shown
        if sys.stdout:
            sys.stdout.flush()


def _show_warning(
    shown: Callable[..., None], message: Warning | str, category: type[Warning], filename: str, *others: Any
) -> None:
    """`warnings.showwarning`: one of our own is a line for the user, whom its place in the code does not concern."""
    if filename.startswith(OWN_CODE):
        print(f"backbench: {message}", file=sys.stderr)
    else:
        shown(message, category, filename, *others)


def _explain(error: Exception) -> tuple[str, int] | None:
    """The message and the exit status of what the user can do something about, None for a fault of our own."""
    match error:
        case InputError() | ResultsError():
            return str(error), error.status
        case OSError(errno=number) if number in (*NO_ROOM, errno.ENOMEM):
            place = f"{error.filename}: " if error.filename else ""
            return f"{place}{error.strerror}. Make room and repeat the command", TRY_AGAIN
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}", DataError.status
        case RuntimeError() if LOST_LOADER.search(str(error)):
            return f"{LESS_LOADING}: {str(error).splitlines()[0].strip()}", TRY_AGAIN
        case RuntimeError() if found := NO_SHARED_MEMORY.search(str(error)):
            return f"{MORE_SHARED_MEMORY}: {found[0]}", TRY_AGAIN
        case RuntimeError() if NO_CONNECTION in str(error):
            return f"{NO_WAY}: {str(error).splitlines()[0]}", InputError.status
        case _ if is_out_of_memory(error):
            first = str(error).splitlines()[0] if str(error) else "MemoryError"
            return f"{LESS_MEMORY}: {first}", TRY_AGAIN
    return None


def _followed() -> int:
    """The status that the first process, which has failed, gives to all."""
    from benchmarks.running.together import follow

    return follow()


def _lost() -> int:
    """The status that this process ends with where another of its job has gone without a word."""
    from benchmarks.running.together import lose

    return lose()


def _failed(error: Exception) -> int:
    """The status that all processes of this job end with for a fault of our own in one; the traceback is printed."""
    from benchmarks.running.together import leave

    return leave(1, "".join(traceback.format_exception(error)).rstrip(), is_fault=True)


def _ended(status: int, message: str) -> int:
    """The status that all processes of this job end with; one of them prints its message."""
    if process_count() == 1:
        print(message, file=sys.stderr)
        return status
    from benchmarks.running.together import leave

    return leave(status, message)
