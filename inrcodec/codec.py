"""Encode: Signal → field → codes → payloads. Decode: the same list backwards. Composition only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from math import inf, prod

import numpy as np

from .cost import largest_cell, macs_per_sample, n_network_parameters, n_parameters
from .effort import Search, rungs
from .entropy import make_coder
from .errors import FormatError, LimitError, TargetError, UnsupportedError
from .fields import Field, field_class, make_field
from .fields.base import OnStep, Weights
from .fields.budget import larger
from .grid import Grid, parse_cells
from .parallel import WorkerKilledError, single_blas
from .priors.context_file import AnyPrior
from .render import lattice, narrow_alpha, render, widen_alpha
from .settings import DecodeSettings, EncodeSettings
from .signals import Signal, SignalMeta
from .stream import FieldSpec, Header, Stream, plan
from .trial import Candidate, digest

__all__ = ["Decoder", "digest", "encode"]

MAX_DIAGONALS = 2**16  # each is a pass of its own: a long thin cell would take hours
MIN_CODES = 2**20  # weights that any file may have, however small a limit on samples was asked for
MACS_PER_VALUE = 2**16  # a limit on multiplications goes with the limit on values


def encode(
    signal: Signal, settings: EncodeSettings, n_bytes: Callable[[Stream], int], on_step: OnStep = lambda _: None
) -> tuple[Stream, int]:
    """Fit, quantise and entropy-code one signal. n_bytes gives the size of the file a stream becomes. With a time limit
    a picture's quickest file comes first, so that there is one, and then the best that there is time for: second, the
    effort that this was.

    Raises ValueError for settings that do not fit the signal, TargetError where no step meets the target.
    """
    started = time.monotonic()
    _check_settings(signal.meta, settings)
    stream, reached, first_s = None, 0, 0.0
    for effort, times in rungs(signal.meta, settings):
        spent = time.monotonic() - started
        if stream is not None and spent + times * first_s > (settings.time_limit_s or 0):
            continue
        with nullcontext() if stream is None and effort == settings.effort else suppress(TargetError):
            stream = _at_effort(signal, replace(settings, effort=effort), n_bytes, on_step, started)
            reached = effort
        first_s = first_s or time.monotonic() - started
        if effort == settings.effort:
            break
    assert stream is not None
    return stream, reached


def _at_effort(
    signal: Signal, settings: EncodeSettings, n_bytes: Callable[[Stream], int], on_step: OnStep, started: float
) -> Stream:
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
            with _threads(spec):
                field = make_field(spec, signal.meta, grid, settings.prior)
                fitted = field.fit(widen_alpha(signal.samples, signal.meta), timed, on_step)
                return Search(signal, settings, Candidate(field, fitted), n_bytes, on_step, started).run()
        except TargetError as error:
            if error.best_db is None or spec.body == "cosine":
                raise
            best_db, took_s = max(best_db, error.best_db), time.monotonic() - began
    raise TargetError(
        f"{settings.psnr_db:g} dB cannot be reached; the best is {best_db:.2f} dB (more {more} may reach more)", best_db
    )


class Decoder:
    """What a header says, made ready to evaluate. Raises LimitError before anything large is allocated."""

    def __init__(self, header: Header, *, max_samples: int, prior: AnyPrior | None = None) -> None:
        """prior: the one the header names. Raises UnsupportedError without it."""
        if header.signal.n_values > max_samples:
            raise LimitError(
                f"signal of {header.signal.n_values:,} values, limit {max_samples:,} (--max-pixels raises it)"
            )
        if prod(header.cells) > max_samples:
            raise LimitError(f"grid of {prod(header.cells):,} cells, limit {max_samples:,}")
        # all of this from the header's integers: the field's own tables can be as large as what is refused here
        n_codes = n_parameters(header)
        if header.field.body == "cosine":  # cells are padded to the largest
            largest = largest_cell(header)
            n_codes += header.signal.channels * prod(header.cells) * prod(largest) - header.signal.n_values
            n_diagonals = sum(largest) - len(largest) + 1
            limit = max(MAX_DIAGONALS, max_samples // 2**12)
            if len(largest) > 1 and n_diagonals > limit:
                raise LimitError(f"cells of {n_diagonals:,} frequency diagonals, limit {limit:,}")
            if header.levels and header.levels[-1] >= n_diagonals:
                raise FormatError(f"header: level at diagonal {header.levels[-1]}, beyond the last")
        n_codes += header.signal.n_samples * (header.field.segments > 0)  # the label map
        if header.field.connections:  # the drawing of connections
            n_codes += prod(header.cells) * header.field.width
        if (n := n_network_parameters(header)) > (limit := max_samples // 8 + MIN_CODES):
            raise LimitError(f"network of {n:,} weights, limit {limit:,}")
        if n_codes > (limit := 2 * max_samples + MIN_CODES):
            raise LimitError(f"{n_codes:,} weights, limit {limit:,}")
        self.header = header
        self._max_samples = max_samples
        self._coder = make_coder(header.coder, header.table_set)
        self.field = _field(header, prior)
        self._chunks = plan(self.field.layouts, header.levels)

    def chunks_for(self, settings: DecodeSettings) -> set[int]:
        """The chunks that decoding with these settings reads."""
        out = lattice(self.header.signal, settings)
        axes = [np.array([a / s + 1e-9, b / s - 1e-9]) for a, b, s in zip(out.start, out.stop, out.scale, strict=True)]
        cells = self.field.cells_for(axes, out.scale)
        heads = len(self.field.layouts) - 1
        return {
            i
            for i, parts in enumerate(self._chunks)
            if any(p.tensor != heads or _overlap(p.tile, cells) for p in parts)
        }

    def codes(self, payloads: Sequence[bytes | None]) -> tuple[np.ndarray, ...]:
        """Integer codes of the chunks that are there. Raises FormatError, LimitError."""
        with self._working():
            codes = self._coder.decode(payloads, self.field.layouts, self._chunks)
        self.field.check(codes)
        return codes

    def weights(self, codes: Sequence[np.ndarray]) -> Weights:
        with self._working(), np.errstate(all="ignore"):
            return self.field.dequantize(codes, self.header.quantiser)

    def correct(self, weights: Weights, scale: float = 1.0) -> Weights:
        """Weights made ready for `sample` wherever it is."""
        with self._working(), np.errstate(all="ignore"):
            everywhere = [np.array([0.0, n]) for n in self.header.signal.shape]
            return self.field.correct(weights, everywhere, (scale,) * len(everywhere))

    def render(
        self, weights: Weights, settings: DecodeSettings, sample_type: str | None = None
    ) -> tuple[np.ndarray, SignalMeta]:
        """Stored values [*shape, C], as sample_type if one is given, and the facts that go with them."""
        meta = self.header.signal
        out = lattice(replace(meta, sample_type=sample_type or meta.sample_type), settings)
        scaled, enlarged = set(out.scale) != {1.0}, min(out.scale) > 1
        macs = macs_per_sample(self.header, scaled=scaled, enlarged=enlarged) * out.meta.n_samples
        limit = self._max_samples * MACS_PER_VALUE
        if macs > limit:
            raise LimitError(f"output of {macs:.3g} multiplications, limit {limit:.3g} (--max-pixels raises it)")
        # hostile weights may be infinite: their values are clipped or set to 0 in the end
        with self._working(), np.errstate(all="ignore"):
            return render(self.field, weights, out), out.meta

    def sample(self, weights: Weights, coords: np.ndarray) -> np.ndarray:
        """float64 [N, C] at positions coords [N, D] in sample units (the first sample's centre is ½); pictures in
        [0, 1], sounds in [-1, 1], arrays in their own units. Not clipped. weights: from `correct`."""
        meta = self.header.signal
        with self._working(), np.errstate(all="ignore"):
            values = narrow_alpha(self.field.sample(weights, coords), meta)
            return meta.offset + meta.scale * values if meta.kind == "array" else values

    @contextmanager
    def _working(self) -> Iterator[None]:
        try:
            with _threads(self.header.field):
                yield
        except WorkerKilledError:
            raise
        except MemoryError:
            raise LimitError("not enough memory for a signal of this size") from None


def _threads(spec: FieldSpec) -> AbstractContextManager[None]:
    """Of matrix products: those of networks per cell are large, others small."""
    return single_blas() if spec.body == "cosine" else nullcontext()


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


def _field(header: Header, prior: AnyPrior | None) -> Field:
    """Raises FormatError for a spec the family cannot have, UnsupportedError where its prior is not there."""
    f = header.field
    if f.prior and (prior is None or (prior.id, prior.arch) != (f.prior, f.arch)):
        other = "" if prior is None else f", not {prior.id:016x}" if prior.id else ", not the released contexts"
        network = f"a {f.body} network of width {f.width} and depth {f.depth} with {f.kept:,} weights and biases kept"
        raise UnsupportedError(
            f"needs prior {f.prior:016x} ({'contexts' if f.body == 'cosine' else network}){other}; "
            "--prior FILE gives it, or its folder in INRCODEC_PRIORS"
        )
    try:
        return make_field(f, header.signal, header.grid, prior)
    except (KeyError, ValueError) as error:
        raise FormatError(f"header: field that cannot be ({error})") from None


def _overlap(tile: Sequence[tuple[int, int]], cells: Sequence[tuple[int, int]]) -> bool:
    return all(a < d and c < b for (a, b), (c, d) in zip(tile, cells, strict=True))
