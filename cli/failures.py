"""Turns errors into one line on stderr and an exit code, for one file or for many, here or in other processes."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import click
from inrcodec.cli.options import say

from inrcodec.errors import InrError

__all__ = ["run_command", "run_jobs"]

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_LIMIT = 3
EXIT_IO = 5
EXIT_BUG = 70  # as sysexits.h has it
EXIT_INTERRUPTED = 130
DEBUG = "INRCODEC_DEBUG"  # set, it shows the traceback of what we did not foresee

Item = TypeVar("Item")


def run_command(group: click.Group, args: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        with group.make_context("inrcodec", list(args)) as context:
            group.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        return _usage(error)
    except KeyboardInterrupt:
        say("inrcodec: interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        _drop_output(error)
        return _report(error)


def run_jobs(work: Callable[[Item], None], items: Sequence[Item], files: int = 1, parts: int = 1) -> None:
    """work on every item, at most `files` at a time in processes of their own (work and items are then pickled), or
    one by one with up to `parts` processes for what is large. A failure is said at once and does not stop the rest; at
    the end, exits with the one item's own code, or with 1."""
    attempt = functools.partial(_attempt, work)
    if files == parts == 1:
        codes = [attempt(item) for item in items]
    else:
        from inrcodec.parallel import in_processes, workers

        with workers(max(files, parts)):
            codes = (
                list(in_processes(attempt, items, one_blas_thread=False))
                if files > 1
                else [attempt(item) for item in items]
            )
    failed = [code for code in codes if code]
    if failed:
        raise click.exceptions.Exit(failed[0] if len(items) == 1 else EXIT_SOME_FAILED)


def _attempt(work: Callable[[Item], None], item: Item) -> int:
    try:
        work(item)
        return 0
    except BrokenPipeError:
        raise
    except Exception as error:
        _drop_output(error)
        return _report(error)


def _report(error: Exception) -> int:
    """Says what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        return EXIT_IO  # the reader of our output went away: nothing to say, as with other filters
    message, code = _explain(error)
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    say(f"inrcodec: {message}")
    return code


def _explain(error: Exception) -> tuple[str, int]:
    """(one line, exit code)"""
    text = _one_line(error)
    if isinstance(error, InrError):
        return text, error.exit_code
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        if isinstance(error, FileExistsError):
            return f"{where}exists; -f overwrites it, -o names another", EXIT_USAGE
        reason = error.strerror or text
        return f"{where}{reason[:1].lower()}{reason[1:]}", EXIT_IO
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        from inrcodec.parallel import WorkerKilledError

        killed = isinstance(error, WorkerKilledError)
        return f"{text}; --jobs 1 needs less" if killed else "out of memory", EXIT_LIMIT
    if isinstance(error, ModuleNotFoundError):
        return f"{text}; pip install {error.name} brings it", EXIT_IO
    if isinstance(error, ValueError):
        return text, EXIT_USAGE
    return f"our own error, please report it: {type(error).__name__}: {text:.200} ({DEBUG}=1 shows where)", EXIT_BUG


def _usage(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx else "inrcodec"
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later; its message is the help
        say(error.format_message())
    else:
        say(f"{path}: {_one_line(error.format_message()).rstrip('.')}; {path} -h helps")
    return EXIT_USAGE


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _drop_output(error: Exception) -> None:
    """What could not be written to standard output must not be tried again, with a traceback, as Python ends."""
    if not isinstance(error, OSError):
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
