"""What trainings share on the command line: signals in, a state that is kept beside the output as it goes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from inrcodec.cli.options import How, check_input, find_inputs, naming_input, naming_output, say

from inrcodec.errors import FormatError

if TYPE_CHECKING:
    from inrcodec.fields.base import OnStep, Progress
    from inrcodec.priors.meta import MetaState
    from inrcodec.priors.train_context import ContextState
    from inrcodec.signals import Signal

__all__ = ["beside", "finish", "kept_state", "read_signals", "reading_again", "run_training", "say_kept"]

S = TypeVar("S", "MetaState", "ContextState")


def read_signals(sources: tuple[str, ...], how: How, max_values: int) -> Iterator[tuple[str, Signal]]:
    """Name and signal, one after the other."""
    from inrcodec.cli.encode import SUFFIXES
    from inrcodec.formats.files import read_signal

    found = find_inputs(sources, how.recursive, lambda p: p.suffix.lower() in SUFFIXES)
    for source, _ in found:
        check_input(source)
        with naming_input(source):
            read = read_signal(source, max_samples=max_values)
        yield source, read


def kept_state(output: str, how: How, *, n_steps: int, first: S, unpack: Callable[[bytes], S]) -> S:
    """What a training begins with: the state beside the output, or the first; with -f what is there is removed."""
    part = beside(output)
    if how.force:
        part.unlink(missing_ok=True)
    if not part.exists():
        return first
    with reading_again(part):
        state = unpack(part.read_bytes())
    if not how.quiet:
        say(f"{part}: goes on at step {state.step} of {n_steps}")
    return state


def run_training(
    output: str, how: How, *, n_steps: int, state: S, run: Callable[[OnStep, S], Iterator[S]],
    pack: Callable[[S], bytes], told: Callable[[S], str], whole_steps: bool = False,
) -> S:  # fmt: skip
    """Train, with progress; every state that is reached is kept beside the output. told: how good a state is.
    whole_steps: Ctrl-C waits for `run` to report, so that it can hand out the state at that step; steps are short."""
    from inrcodec.cli.progress import stage_reporter
    from inrcodec.formats.files import write_atomically

    part = beside(output)
    try:
        with (
            stage_reporter(output, how.progress, how.quiet) as on_step,
            _interrupted_between_steps(on_step, wait=whole_steps) as hear,
        ):
            for reached in run(hear, state):
                with naming_output(str(part)):
                    write_atomically(part, pack(reached), overwrite=True)
                state = reached
                if how.verbose and not how.quiet and state.step:
                    say(f"{output}: step {state.step} of {n_steps}, {told(state)}")
    except KeyboardInterrupt:
        if part.exists():
            say_kept(part, how, f"{state.step} of {n_steps} steps")
        raise
    return state


def say_kept(part: Path, how: How, what: str) -> None:
    """Of a training that was interrupted."""
    if not how.quiet:
        again = "the same command" + (", without -f," if how.force else "")
        say(f"{part} keeps {what}; {again} goes on from there")


def finish(output: str, data: bytes, *parts: Path) -> None:
    """Write what was trained; parts: what was kept beside it, and goes."""
    from inrcodec.formats.files import write_atomically

    with naming_output(output):
        write_atomically(output, data, overwrite=True)
    for part in parts:
        part.unlink(missing_ok=True)


def beside(output: str, kind: str = "part") -> Path:
    return Path(f"{output}.{kind}")


@contextlib.contextmanager
def reading_again(part: Path) -> Iterator[None]:
    """What is wrong with a file beside the output is said with its name and what helps."""
    with naming_input(str(part)):
        try:
            yield
        except (ValueError, FormatError) as error:
            raise type(error)(f"{error}; -f starts anew") from None


@contextlib.contextmanager
def _interrupted_between_steps(on_step: OnStep | None, *, wait: bool) -> Iterator[OnStep]:
    """A callback for a training. With wait, Ctrl-C is raised where it is called, or at the end: so no step is left half
    done, and no state half written. A second Ctrl-C is raised at once, as ever."""
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    def hear(step: Progress) -> None:
        if asked:
            raise KeyboardInterrupt
        if on_step is not None:
            on_step(step)

    # nobody else may touch handlers; another than Python's own, or none (nohup), stays
    ours = wait and threading.current_thread() is threading.main_thread() and before is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield hear
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
