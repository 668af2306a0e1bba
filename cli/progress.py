"""Progress of an encode, on stderr, where that is a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inrcodec.cli.options import say

if TYPE_CHECKING:
    from inrcodec.fields.base import OnStep, Progress
    from inrcodec.signals import SignalMeta

__all__ = ["shown_rate", "stage_reporter", "telling_stages"]

QUIET_S = 0.5  # work shorter than this shows nothing
LINE_S = 2.0


@contextmanager
def stage_reporter(
    source: str, wanted: bool | None, quiet: bool, meta: SignalMeta | None = None
) -> Iterator[OnStep | None]:
    """A callback for encode: one line that is rewritten, with stage, share done, rate, PSNR and time left. wanted: True
    and False as asked for, None where stderr decides. meta: of the signal, where the rate is to be shown."""
    if quiet or wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield None
        return
    if not sys.stderr.isatty():
        yield _lines(source, meta)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    started = time.monotonic()
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    task = bar.add_task(Path(source).name, total=None, figures="", visible=False)

    def on_step(step: Progress) -> None:
        bar.update(
            task, description=f"{Path(source).name} {step.stage}", completed=step.step, total=step.n_steps or None,
            figures=_figures(step, meta), visible=time.monotonic() - started > QUIET_S,
        )  # fmt: skip

    with bar:
        yield on_step


def _lines(source: str, meta: SignalMeta | None) -> OnStep:
    """Asked for where stderr is a file or a pipe: a plain line every so often, and at each new stage."""
    last = ("", -math.inf)
    done, began = math.inf, 0.0  # steps at the last report, and when this run of steps began; at which step
    first = 0

    def on_step(step: Progress) -> None:
        nonlocal last, done, began, first
        now = time.monotonic()
        if step.step < done:  # other steps: records of photos, then steps of a training, taken up at some step
            began, first = now, step.step
        done = step.step
        if step.stage == last[0] and now - last[1] < LINE_S:
            return
        last = (step.stage, now)
        of = f" {step.step}/{step.n_steps}" if step.n_steps else ""
        figures = _figures(step, meta)
        line = f"{Path(source).name}: {step.stage}{of}{figures and ', '}{figures}"
        if first < step.step < step.n_steps:
            line += f", about {(now - began) / (step.step - first) * (step.n_steps - step.step):.0f} s left"
        say(line)

    return on_step


def telling_stages(source: str, then: OnStep | None) -> OnStep:
    """A callback that says a line for the first file and for every stage of the effort ladder that is over, and hands
    on what it hears."""
    name = Path(source).name

    def on_step(step: Progress) -> None:
        if step.stage == "file" and step.n_bytes and step.psnr_db is not None:
            way = " → ".join(f"{db:.2f}" for db in (*step.way, step.psnr_db))
            looks = ""
            if step.worth is not None:
                worth = f"{step.worth / 8 / step.n_bytes:.0%}" if step.worth > 0 else "nothing"
                looks = f" by looks at the network's answer, which is worth {worth},"
            trials = f" and {step.step} trials" if step.step > 1 else ""
            say(f"{name}: codes: {step.n_bytes:,} bytes, {way} dB{looks} in {step.seconds:.1f} s{trials}")
        if step.gain is not None and step.n_bytes is not None:
            chosen = f"{step.choice}, {-100 * step.gain:.1f} % at equal quality" if step.choice else "nothing better"
            found = f"{step.n_bytes:,} bytes, {step.psnr_db:.2f} dB in {step.seconds:.1f} s"
            say(f"{name}: {step.stage}: {chosen}{', no time for more' if step.cut else ''}: {found}")
        elif step.cut:
            say(f"{name}: {step.stage}: no time")
        if then is not None:
            then(step)

    return on_step


def shown_rate(meta: SignalMeta, n_bytes: int) -> str:
    """'0.84 bpp', '32.1 kbit/s' or '1.20 bits/position'."""
    if meta.kind == "sound":
        return f"{8 * n_bytes / meta.duration_s / 1000:.1f} kbit/s"
    return f"{8 * n_bytes / meta.n_samples:.2f} {'bpp' if meta.kind == 'image' else 'bits/position'}"


def _figures(step: Progress, meta: SignalMeta | None) -> str:
    """Rate and PSNR of the best so far, as far as they are known."""
    rate = [] if step.n_bytes is None or meta is None else [shown_rate(meta, step.n_bytes)]
    return ", ".join(rate + ([] if step.psnr_db is None else [f"{step.psnr_db:.1f} dB"]))
