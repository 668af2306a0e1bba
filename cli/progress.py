"""Progress of an encode, on stderr, where that is a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inrcodec.cli.options import say

if TYPE_CHECKING:
    from inrcodec.fields.base import Progress

__all__ = ["stage_reporter"]

QUIET_S = 0.5  # work shorter than this shows nothing
LINE_S = 2.0


@contextmanager
def stage_reporter(source: str, wanted: bool | None, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A callback for encode: one line that is rewritten, with stage, share done, PSNR and time left. wanted: True
    and False as asked for, None where stderr decides."""
    if quiet or wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield None
        return
    if not sys.stderr.isatty():
        yield _lines(source)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    started = time.monotonic()
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[psnr]}"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    task = bar.add_task(Path(source).name, total=None, psnr="", visible=False)

    def on_step(step: Progress) -> None:
        psnr = "" if step.psnr_db is None else f"{step.psnr_db:.1f} dB"
        bar.update(
            task, description=f"{Path(source).name} {step.stage}", completed=step.step, total=step.n_steps or None,
            psnr=psnr, visible=time.monotonic() - started > QUIET_S,
        )  # fmt: skip

    with bar:
        yield on_step


def _lines(source: str) -> Callable[[Progress], None]:
    """Asked for where stderr is a file or a pipe: a plain line every so often, and at each new stage."""
    last = ("", -math.inf)

    def on_step(step: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if step.stage == last[0] and now - last[1] < LINE_S:
            return
        last = (step.stage, now)
        of = f" {step.step}/{step.n_steps}" if step.n_steps else ""
        psnr = "" if step.psnr_db is None else f", {step.psnr_db:.1f} dB"
        say(f"{Path(source).name}: {step.stage}{of}{psnr}")

    return on_step
