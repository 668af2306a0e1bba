"""Payloads → codes → weights → samples: what a header says, made ready to evaluate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from math import prod

import numpy as np

from .cost import largest_cell, macs_per_sample, n_network_parameters, n_parameters
from .entropy import make_coder
from .errors import FormatError, LimitError, UnsupportedError
from .fields import Field, make_field
from .fields.base import Weights
from .parallel import WorkerKilledError, single_blas
from .priors.context_file import AnyPrior
from .render import lattice, narrow_alpha, render
from .settings import DecodeSettings
from .signals import SignalMeta
from .stream import FieldSpec, Header, plan

__all__ = ["Decoder", "digest", "matrix_threads"]

MAX_DIAGONALS = 2**16  # each is a pass of its own: a long thin cell would take hours
MIN_CODES = 2**20  # weights that any file may have, however small a limit on samples was asked for
MACS_PER_VALUE = 2**16  # a limit on multiplications goes with the limit on values
DIGEST_BYTES = 8


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
            with matrix_threads(self.header.field):
                yield
        except WorkerKilledError:
            raise
        except MemoryError:
            raise LimitError("not enough memory for a signal of this size") from None


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


def matrix_threads(spec: FieldSpec) -> AbstractContextManager[None]:
    """Of matrix products: those of networks per cell are large, others small."""
    return single_blas() if spec.body == "cosine" else nullcontext()


def digest(codes: Sequence[np.ndarray]) -> bytes:
    """Truncated SHA-256 of all codes as little-endian int32, tensor after tensor."""
    h = hashlib.sha256()
    for array in codes:
        h.update(np.ascontiguousarray(array, "<i4").data)
    return h.digest()[:DIGEST_BYTES]
