"""Encode: Signal → field → codes → payloads; decoder.py is the same list backwards. Composition only."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from math import inf
from typing import NamedTuple

from .decoder import matrix_threads
from .effort import Search, rungs
from .errors import TargetError
from .fields import field_class, make_field
from .fields.base import OnStep
from .fields.budget import larger
from .grid import Grid, parse_cells
from .render import widen_alpha
from .settings import EncodeSettings
from .signals import Signal, SignalMeta
from .stream import FieldSpec, Stream
from .trial import Candidate

__all__ = ["Coded", "encode"]


class Coded(NamedTuple):
    """effort: whose first file there was time for; whole: whether there was for all else that it tries, too, and for
    all iterations of networks."""

    stream: Stream
    effort: int
    whole: bool


def encode(
    signal: Signal, settings: EncodeSettings, n_bytes: Callable[[Stream], int], on_step: OnStep = lambda _: None
) -> Coded:
    """Fit, quantise and entropy-code one signal. n_bytes gives the size of the file a stream becomes. With a time limit
    a picture's quickest file comes first, so that there is one, and then the best that there is time for.

    Raises ValueError for settings that do not fit the signal, TargetError where no step meets the target.
    """
    started = time.monotonic()
    _check_settings(signal.meta, settings)
    coded, first_s = None, 0.0
    for effort, times in rungs(signal.meta, settings):
        spent = time.monotonic() - started
        if coded is not None and spent + times * first_s > (settings.time_limit_s or 0):
            continue
        with nullcontext() if coded is None and effort == settings.effort else suppress(TargetError):
            coded = _at_effort(signal, replace(settings, effort=effort), n_bytes, on_step, started)
        first_s = first_s or time.monotonic() - started
        if effort == settings.effort:
            break
    assert coded is not None
    return coded


def _at_effort(
    signal: Signal, settings: EncodeSettings, n_bytes: Callable[[Stream], int], on_step: OnStep, started: float
) -> Coded:
    """Networks whose size was guessed from --psnr, and that fall short of it, are fitted anew at larger sizes, while
    there is time."""
    tried, best_db, took_s, timed = None, -inf, 0.0, settings
    more = "--iterations" if settings.prior else "--iterations or --width"
    for planned in larger(signal.meta, settings):
        spec, grid = _choose(signal, planned)
        if (spec, grid) == tried:  # twice the bits did not do for a network one larger
            continue
        began = time.monotonic()
        if tried is not None and settings.time_limit_s is not None:
            left = settings.time_limit_s - (began - started)
            if left < took_s:
                more = "--time-limit"
                break
            timed = replace(settings, time_limit_s=max(left, 0.01))
        tried = spec, grid
        try:
            with matrix_threads(spec):
                field = make_field(spec, signal.meta, grid, settings.prior)
                fitted = field.fit(widen_alpha(signal.samples, signal.meta), timed, on_step)
                # a training ends with its iterations, or with the time
                cut = spec.body != "cosine" and time.monotonic() - began >= (timed.time_limit_s or inf)
                search = Search(signal, settings, Candidate(field, fitted), n_bytes, on_step, started)
                return Coded(search.run(), settings.effort, not (cut or search.cut))
        except TargetError as error:
            if error.best_db is None or spec.body == "cosine":
                raise
            best_db, took_s = max(best_db, error.best_db), time.monotonic() - began
    raise TargetError(
        f"{settings.psnr_db:g} dB cannot be reached; the best is {best_db:.2f} dB (more {more} may reach more)", best_db
    )


def _check_settings(meta: SignalMeta, settings: EncodeSettings) -> None:
    if settings.kbit_per_s is not None and meta.kind != "sound":
        raise ValueError("--bitrate belongs to sounds; pictures have --bpp")


def _choose(signal: Signal, settings: EncodeSettings) -> tuple[FieldSpec, Grid]:
    """The field's spec, and the grid asked for or the one this family likes."""
    meta = signal.meta
    family = field_class(
        FieldSpec(
            settings.arch,
            settings.body_or_default,
            connections=settings.connections or 0,
            segments=int(settings.partition == "segments"),
            prior=settings.prior.id if settings.prior else 0,
        )
    )
    cells = parse_cells(settings.grid, meta.shape)
    grid = Grid.uniform(meta.shape, cells if cells is not None else family.default_cells(meta, settings))
    spec = family.plan_spec(meta, grid, settings, signal.samples)
    # a label map takes the place of the grid, whose cells were but a number of segments
    return spec, Grid.uniform(meta.shape, (1,) * len(meta.shape)) if spec.segments else grid
