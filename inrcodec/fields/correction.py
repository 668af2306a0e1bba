"""What small networks add to a cosine field's heads, for a decoder and for an encoder that heeds it.

The synthesis network corrects heads at scale 1; above it the detail network gives heads of a grid of twice the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..grid import Grid
from ..parallel import in_threads
from ..priors.synthesis import Network, network
from ..signals import SignalMeta
from ..stream import FieldSpec
from . import bases, deltas, synthesis
from .base import cells_at
from .bases import Cosines, Span, Splines, cell_runs, centres

__all__ = ["Correction", "CosineWeights"]


@dataclass(frozen=True)
class CosineWeights:
    """Of a cosine field: its smooth level's knots float64 [C, *knots] (None without one), heads float32
    [C, *frequencies, *cells], and what its networks are told (None without networks, and once it is corrected): knots
    of the steps' logarithm [1, *knots], synthesis.facts, the codes of its deltas. Corrected for some samples alone:
    the detail there, float32 [*n, C], the first of them at `start`; heads are as they were."""

    smooth: np.ndarray | None
    heads: np.ndarray
    masks: np.ndarray | None = None
    facts: np.ndarray | None = None
    deltas: np.ndarray | None = None
    detail: np.ndarray | None = None
    start: tuple[int, ...] = ()

    @property
    def condition(self) -> np.ndarray:
        """What a network is told about the whole file, [5]."""
        assert self.facts is not None
        return self.facts[1:]

    def detail_at(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """`detail` at some of its samples, float64."""
        assert self.detail is not None
        spans = _samples_of(axes)
        assert spans is not None
        inside = [(a - start, b - start) for (a, b), start in zip(spans, self.start, strict=True)]
        assert all(0 <= a <= b <= n for (a, b), n in zip(inside, self.detail.shape[:-1], strict=True))
        return self.detail[tuple(slice(*span) for span in inside)].astype(np.float64)


class Correction:
    """The networks of one field."""

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid, cosines: Cosines, splines: Splines) -> None:
        """Raises UnsupportedError for networks that are not known, or not of the kind."""
        self._signal, self._grid, self._cosines, self._splines = signal, grid, cosines, splines
        self._per_cell = signal.n_values // grid.cells[0]  # values of a row of cells
        self.network = _network(spec.synthesis, times=1)
        self.detail = _network(spec.detail, times=2)

    def correct(self, weights: CosineWeights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> CosineWeights:
        """Smooth level and heads, the network's residual at scale 1 projected onto the cosines and added to these: the
        same picture at scale 1, and the formula itself at every other. Above scale 1, with a detail network, heads of
        twice the frequencies per axis, on cells of twice the samples. Heads of cells that no position touches are 0.
        At samples themselves the projection gives the residual back, and is left out."""
        detail = self.detail if min(scale) > 1 else None
        if weights.facts is None or min(scale) < synthesis.MIN_SCALE:
            return weights
        spans = _samples_of(axes) if set(scale) == {1.0} else None
        if self.network is not None and spans is not None:
            return self._at_samples(weights, spans)
        cells = self._touching(axes)
        seen = cells if detail is None else self._around(detail, self._halved(cells))
        heads = weights.heads if self.network is None else self._corrected(weights, seen)
        if detail is not None:
            heads = self._detailed(detail, heads, weights.condition, cells, scale)
        return CosineWeights(weights.smooth, heads)

    def cells_for(self, axes: Sequence[np.ndarray], scale: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """Those that the positions touch, and those that the network sees around them."""
        cells = self._touching(axes)
        if self.detail is not None and min(scale) > 1:
            cells = self._around(self.detail, self._halved(cells))
        if self.network is not None and min(scale) >= synthesis.MIN_SCALE:
            cells = self._around(self.network, self._cosines.reach(cells))
        return cells

    def local_step(self, weights: CosineWeights, axes: Sequence[np.ndarray]) -> np.ndarray:
        """[*n, 1]"""
        assert weights.masks is not None and weights.facts is not None
        return np.asarray(weights.facts[0] * np.exp2(np.clip(self._splines.evaluate(weights.masks, axes), -8, 8)))

    @cached_property
    def finer(self) -> Cosines:
        """The functions of the grid of twice the samples."""
        return Cosines(Grid(tuple(tuple(2 * b for b in borders) for borders in self._grid.borders)))

    def functions_of(self, heads: np.ndarray) -> tuple[Cosines, int]:
        """The functions that heads belong to, and how many times as dense their samples are."""
        return (self.finer, 2) if heads.shape[1] > self._grid.largest[0] else (self._cosines, 1)

    def _touching(self, axes: Sequence[np.ndarray]) -> tuple[Span, ...]:
        """Per axis the cells whose functions live at these positions: those that hold them, and their neighbours."""
        spans = cells_at(self._grid, axes)
        return tuple((max(a - 1, 0), min(b + 1, m)) for (a, b), m in zip(spans, self._grid.cells, strict=True))

    def seen(self, weights: CosineWeights, spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
        """What the synthesis network sees at the samples in spans: synthesis.See."""
        axes = centres(spans)
        return self._cosines.synthesise(weights.heads, axes, (1.0,) * len(axes)), self.local_step(weights, axes)

    def _around(self, network: Network, spans: Sequence[Span]) -> tuple[Span, ...]:
        """The cells that a network's answer at the samples in spans depends on."""
        spans = synthesis.seen(network, spans, self._signal.shape)
        return self._touching([np.array([a + 0.5, b - 0.5]) for a, b in spans])

    def _corrected(self, weights: CosineWeights, cells: Sequence[Span]) -> np.ndarray:
        """Heads of cells, corrected by the synthesis network; those of others are 0."""
        network, heads = self.adapted(weights), weights.heads
        corrected = np.zeros(heads.shape, np.float32)  # cells that are not touched stay untouched pages

        def fill(run: slice) -> None:
            part = ((run.start, run.stop), *cells[1:])
            answer = self.answer(network, weights, part)
            at: tuple[Any, ...] = (..., *(slice(*span) for span in part))
            corrected[at] = heads[at]
            corrected[: len(answer)][at] += answer

        in_threads(fill, cell_runs(cells[0], self._per_cell))
        return corrected

    def _at_samples(self, weights: CosineWeights, spans: Sequence[Span]) -> CosineWeights:
        """Corrected for the samples in spans alone."""
        network = self.adapted(weights)
        values = np.empty((*(b - a for a, b in spans), len(weights.heads)), np.float32)

        def fill(strip: Span) -> None:
            at = slice(*(i - spans[0][0] for i in strip))
            values[at] = self._corrected_detail(network, weights, [strip, *spans[1:]])

        in_threads(fill, self.strips(spans))
        start = tuple(a for a, _ in spans)
        return CosineWeights(weights.smooth, weights.heads, detail=values, start=start)

    def _corrected_detail(self, network: Network, weights: CosineWeights, spans: Sequence[Span]) -> np.ndarray:
        """At the samples in spans, with the network's residual, [*n, C]."""
        around = synthesis.seen(network, spans, self._signal.shape)
        detail, step = self.seen(weights, around)
        residual = synthesis.residual(network, weights.condition, spans, self._signal.shape, lambda _: (detail, step))
        inner = detail[tuple(slice(a - t, b - t) for (a, b), (t, _) in zip(spans, around, strict=True))]
        inner[..., : residual.shape[-1]] += residual
        return inner

    def adapted(self, weights: CosineWeights) -> Network:
        """The synthesis network, with the file's own deltas."""
        assert self.network is not None
        return self.network if weights.deltas is None else deltas.adapted(self.network, weights.deltas)

    def answer(self, network: Network, weights: CosineWeights, cells: Sequence[Span]) -> np.ndarray:
        """What the synthesis network adds to the heads of cells, float64 [C or fewer, *frequencies, *cells]."""
        see = partial(self.seen, weights)

        def residual(spans: Sequence[Span]) -> np.ndarray:
            return synthesis.residual(network, weights.condition, spans, self._signal.shape, see)

        return self._cosines.analyse(self._by_strips(residual, self._cosines.reach(cells)), cells)

    def _detailed(
        self, network: Network, heads: np.ndarray, condition: np.ndarray, cells: Sequence[Span], scale: Sequence[float]
    ) -> np.ndarray:
        """Heads of cells as the grid of twice the samples has them: from scale 2 on those of the samples enlarged, with
        what the detail network adds, towards scale 1 more and more the field's own; never what the output's samples
        cannot hold. Channels that the network does not see keep their own."""
        sizes = self._grid.largest
        low = (slice(None), *(slice(m) for m in sizes))
        fine = np.zeros((heads.shape[0], *(2 * m for m in sizes), *self._grid.cells), np.float32)
        share = min(min(scale) - 1, 1.0)
        held = np.array(share)
        for m, s in zip(sizes, scale, strict=True):
            held = np.multiply.outer(held, (np.arange(2 * m) + 0.5) / m < s)
        held = held.reshape(*held.shape, *(1,) * len(sizes))

        def see(spans: Sequence[Span]) -> np.ndarray:
            return self._cosines.synthesise(heads, centres(spans), (1.0,) * len(spans))

        def enlarged(spans: Sequence[Span]) -> np.ndarray:
            return synthesis.finer(network, condition, spans, self._signal.shape, see)

        def fill(run: slice) -> None:
            part = ((run.start, run.stop), *cells[1:])
            reach, spans = self.finer.reach(part), self._halved(part)
            values = self._by_strips(enlarged, spans)
            values = values[tuple(slice(a - 2 * u, b - 2 * u) for (a, b), (u, _) in zip(reach, spans, strict=True))]
            at: tuple[Any, ...] = (..., *(slice(*span) for span in part))
            # the same function on a lattice twice as dense: √2 per axis
            fine[low][at] = heads[at] * np.float32(2 ** (len(sizes) / 2))
            seen = fine[: values.shape[-1]]
            seen[low][at] *= np.float32(1 - share)
            seen[at] += held * self.finer.analyse(values, part)

        in_threads(fill, cell_runs(cells[0], self._per_cell * 2 ** len(sizes)))
        return fine

    def _halved(self, cells: Sequence[Span]) -> list[Span]:
        """The samples that hold those at which the finer functions of a run of cells live."""
        return [(a // 2, -(-b // 2)) for a, b in self.finer.reach(cells)]

    def _by_strips(self, answer: Callable[[Sequence[Span]], np.ndarray], spans: Sequence[Span]) -> np.ndarray:
        """answer(spans), asked for in strips."""
        strips = [answer([strip, *spans[1:]]) for strip in self.strips(spans)]
        return np.concatenate(strips) if len(strips) > 1 else strips[0]

    def strips(self, spans: Sequence[Span]) -> list[Span]:
        """Rows of samples that the network sees at a time: one row of large cells may be the whole picture."""
        (start, stop), *others = spans
        rows = max(synthesis.STRIP_ROWS, bases.BLOCK_VALUES // (self._signal.channels * prod(b - a for a, b in others)))
        rows -= rows % 2  # whole blocks of the network, where they begin with one
        return [(a, min(a + rows, stop)) for a in range(start, stop, rows)]


def _samples_of(axes: Sequence[np.ndarray]) -> list[Span] | None:
    """The samples whose centres the positions are, if they are nothing else."""
    spans = [(int(x[0]), int(x[0]) + len(x)) for x in axes]
    same = all(np.array_equal(x, c) for x, c in zip(axes, centres(spans), strict=True))
    return spans if same else None


def _network(number: int, times: int) -> Network | None:
    """None for 0. Raises UnsupportedError for one that is not known, or has not so many samples per side for one."""
    if not number:
        return None
    found = network(number)
    if found.times != times:
        raise UnsupportedError(f"network {number} is not of the kind the file needs")
    return found
