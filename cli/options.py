"""What the commands share: option types, errors to exit codes, where outputs go."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from inrcodec.errors import InrError

__all__ = ["SIZE", "Failures", "fail", "find_inputs", "guarded", "human_bytes", "input_args", "overwrite_options", "say"]

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_IO = 5
EXIT_INTERRUPTED = 130


class _Bytes(click.ParamType):
    """40000, 40k (1,000) or 40KiB (1,024)."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        for suffix, factor in (("kib", 2**10), ("mib", 2**20), ("kb", 1e3), ("mb", 1e6), ("k", 1e3), ("m", 1e6), ("b", 1), ("", 1)):  # fmt: skip
            if text.endswith(suffix):
                try:
                    n = int(float(text.removesuffix(suffix)) * factor)
                except (ValueError, OverflowError):
                    break
                if n >= 1:
                    return n
                break
        self.fail(f"{value!r} is not a size such as 40000, 40k or 40KiB", param, ctx)


SIZE = _Bytes()


def say(text: str) -> None:
    """A line for people: stderr, so that stdout stays data."""
    click.echo(text, err=True)


def fail(message: str, code: int) -> None:
    """End with one line on stderr and this exit code."""
    say(f"inrcodec: {one_line(message)}")
    raise SystemExit(code)


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def explain(error: BaseException) -> tuple[str, int]:
    """(one line, exit code) for everything a user can cause."""
    if isinstance(error, InrError):
        return one_line(error), error.exit_code
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        if isinstance(error, FileExistsError):
            return f"{where}exists; -f overwrites it", EXIT_USAGE
        return f"{where}{error.strerror or one_line(error)}", EXIT_IO
    if isinstance(error, MemoryError):
        return "out of memory", 3
    return one_line(error), EXIT_USAGE


USER_ERRORS = (InrError, OSError, ValueError, MemoryError)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Errors a user can cause become one line and an exit code. Anything else is a bug and shows its traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            # the reader of our output went away: say nothing, as other filters do
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(EXIT_IO) from None
        except USER_ERRORS as error:
            fail(*explain(error))
        except KeyboardInterrupt:
            say("inrcodec: interrupted")
            raise SystemExit(EXIT_INTERRUPTED) from None

    return run


class Failures:
    """Runs one file after the other; a failure of one is said at once and does not stop the rest."""

    def __init__(self, n_files: int) -> None:
        self._n_files = n_files
        self._codes: list[int] = []

    def run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BrokenPipeError:
            raise
        except USER_ERRORS as error:
            message, code = explain(error)
            say(f"inrcodec: {message}")
            self._codes.append(code)

    def finish(self) -> None:
        """Exit with the one file's own code, or with 1 where some of several failed."""
        if self._codes:
            raise SystemExit(self._codes[0] if self._n_files == 1 else EXIT_SOME_FAILED)


def find_inputs(sources: Sequence[str], recursive: bool, wanted: Callable[[Path], bool]) -> list[tuple[str, Path]]:
    """Files to work on, each with the path of its output relative to an output folder. Folders need -r. Raises
    ValueError, OSError."""
    found: list[tuple[str, Path]] = []
    for source in sources:
        path = Path(source)
        if source == "-" or not path.is_dir():
            found.append((source, Path(path.name)))
        elif not recursive:
            raise IsADirectoryError(21, "is a directory; -r takes the files in it", source)
        else:
            inside = sorted(p for p in path.rglob("*") if p.is_file() and wanted(p))
            found += [(str(p), p.relative_to(path)) for p in inside]
    if not found:
        raise ValueError("no files found")
    return found


def overwrite_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs.")(command)
    return click.option("-n", "--no-overwrite", is_flag=True, help="Leave existing outputs alone, without an error.")(command)


def input_args(name: str, metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.argument(name, nargs=-1, required=True, metavar=metavar)


def human_bytes(n: int) -> str:
    """1234567 -> '1.23 MB'"""
    if n < 1000:
        return f"{n} B"
    value, unit = (n / 1000, "kB") if n < 1e6 else (n / 1e6, "MB")
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
