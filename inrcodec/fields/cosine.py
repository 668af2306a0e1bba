"""The default field: one sparse linear head per cell on shared windowed cosines, over one smooth spline level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ..colour import fit_rotation, rotation
from ..cost import N_DELTAS
from ..entropy.dependent import HALF_STEP
from ..errors import FormatError, UnsupportedError
from ..grid import Grid
from ..priors.synthesis import Network, network
from ..quantize import BIT, LARGEST_KNOT, ROUNDS, rate_optimal, reconsidered, to_codes
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import STEP_UNIT, FieldSpec, Quantiser, TensorLayout
from . import deltas, synthesis
from .axis import SplineAxis
from .base import Field, OnStep, Progress
from .bases import Cosines, Span, Splines, centres
from .tuning import TUNINGS, Tuning

__all__ = ["CosineField"]

DETAIL = 6  # number of the network
PITCH = 2  # cells from knot to knot of the smooth level
STIFFNESS = 0.05  # of the smooth level: without it knots swing far about what they say, and cost twice the bits
MIN_DELTA_SAMPLES = 2**17  # in smaller pictures deltas find too little to fit to: −.6 to +.9 % of a file
LOOKS = 2  # at what the synthesis network makes of dependent codes, each before one more round of their search
SHRINK_DEPENDENT = (-6, 5)  # 1/64 half steps: the means of what is rounded to 1, and to more
SPLINE_STEP = 1 / 4  # of the heads' step: an error here is seen over a whole neighbourhood
MAX_KNOTS = 1024  # per axis; bounds the least squares of odd grids
PLAIN_EFFORT, QUICK_EFFORT = 1, 2  # up to here: no synthesis network; codes by quick prices
BLOCK_VALUES = 2**22  # values analysed or synthesised at a time: bounds the float64 scratch


# Step sizes by region: the logarithm (base 2) of a cell's steps follows that of its detail by this much, within
# these bounds, and is stored in these units as one more channel of the smooth level.
MASKING_SHARE, MASKING_BOUND, MASKING_UNIT = 0.28, 0.6, 0.25


@dataclass(frozen=True)
class Fitted:
    """samples: rotated, float32 [*shape, C]. With a smooth level, its exact knots [C, *knots]; without one, the
    exact heads [C, *frequencies, *cells]. (With one they depend on how the knots are quantised.)"""

    samples: np.ndarray
    spline: np.ndarray | None
    heads: np.ndarray | None
    masking: np.ndarray | None  # int32 [1, *knots], final: the same at every step
    tuning: Tuning
    quick: bool  # choose codes under quick prices


def _network(number: int, times: int) -> Network | None:
    """None for 0. Raises UnsupportedError for one that is not known, or has not so many samples per side for one."""
    if not number:
        return None
    found = network(number)
    if found.times != times:
        raise UnsupportedError(f"network {number} is not of the kind the file needs")
    return found


class CosineField(Field):
    """f(x) = spline(x) + Σ_c Σ_k head[k, c] · Π_d cosine_{k_d, c_d}(x_d), then the colour rotation back."""

    min_scale = 0.25  # fading handles down to here; below it the spline level would alias

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid) -> None:
        super().__init__(spec, signal, grid)
        self._cosines = Cosines(grid)
        self._splines = Splines([SplineAxis(n, p) for n, p in zip(signal.shape, spec.pitch, strict=bool(spec.pitch))])
        self._rotation = rotation(signal, spec.rotation)
        self._network = _network(spec.synthesis, times=1)
        self._detail = _network(spec.detail, times=2)

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        return Grid.fitting(signal.shape).cells

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        quaternion = () if samples is None else fit_rotation(samples, signal)
        # Half-integer cosines hold no constant; a sound has none worth holding. An axis of a single cell is a
        # DCT-II, which does hold it.
        if signal.kind == "sound" or max(grid.cells) == 1:
            return FieldSpec("multihead", "cosine", rotation=quaternion)
        pitch = (
            0 if m == 1 else max(PITCH * largest, -(-n // MAX_KNOTS))
            for n, m, largest in zip(signal.shape, grid.cells, grid.largest, strict=True)
        )
        tuning, image = TUNINGS[settings.tune], signal.kind == "image"
        networks = image and settings.synthesis == "auto"
        synthesis_network = tuning.synthesis if networks and settings.effort > PLAIN_EFFORT else 0
        dependent = tuning.dependent and image and settings.effort > QUICK_EFFORT and settings.entropy != "zstd"
        return FieldSpec(
            "multihead",
            "cosine",
            pitch=tuple(pitch),
            rotation=quaternion,
            masking=tuning.masking and image,
            synthesis=synthesis_network,
            detail=DETAIL if networks else 0,
            deltas=synthesis_network > 0 and dependent and signal.n_samples >= MIN_DELTA_SAMPLES,
            dependent=dependent,
        )

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        c = self.signal.channels
        dependent = self.spec.dependent
        heads = TensorLayout(
            "heads", "cosine", c, self.grid.largest, self.grid.cells, self.grid.sizes, dependent=dependent
        )
        if not self.spec.pitch:
            return (heads,)
        spline = TensorLayout("spline", "smooth", c + self.spec.masking, (), self._splines.n_knots)
        if not self.spec.deltas:
            return (spline, heads)
        return (spline, TensorLayout("deltas", "sparse", 1, (N_DELTAS,), (1,) * len(self.grid.cells)), heads)

    def fit(self, samples: np.ndarray, settings: EncodeSettings, on_step: OnStep) -> Fitted:
        """Closed form: nothing is trained."""
        on_step(Progress("fit", 0, 1))
        rotated = (samples - self._centre) @ self._rotation.T.astype(np.float32)
        spline = self._splines.project(rotated, stiffness=STIFFNESS) if self.spec.pitch else None
        masking = self._fit_masking(rotated, spline) if spline is not None and self.spec.masking else None
        heads = None
        if spline is None:
            blocks = [self._analyse_samples(rotated, None, cells) for cells in self._blocks()]
            heads = np.concatenate(blocks, self._cell_axis)
            heads = heads.astype(np.float32)
        on_step(Progress("fit", 1, 1))
        return Fitted(rotated, spline, heads, masking, TUNINGS[settings.tune], settings.effort <= QUICK_EFFORT)

    def distortion(self, fitted: Fitted, quantiser: Quantiser, error: np.ndarray) -> float:
        """Errors weigh what they do in the heads, by frequency and masking; the smooth level has no say of its own."""
        rotated = error @ self._rotation.T.astype(np.float32)
        steps, masking = self._steps(quantiser), self._masking(fitted.masking)
        total = 0.0
        for cells in self._blocks():
            total += float(
                np.square(self._analyse_samples(rotated, None, cells) / (steps * masking[self._at(cells)])).sum()
            )
        return total

    def initial_step(self, fitted: Fitted, settings: EncodeSettings) -> float:
        """Quality 75 is a step of 22.5/255, 100 is half an 8-bit level, times Tuning.first_step. A sound's quality is
        relative to its own loudness, so that a quiet recording is not all zeros."""
        step = (0.5 + 22 * ((100 - settings.quality) / 25) ** 1.5) / 255
        step *= fitted.tuning.first_step
        if self.signal.kind == "sound":
            rms = float(np.sqrt(np.mean(np.square(fitted.samples, dtype=np.float64))))
            step *= max(rms, 1e-5)
        return step

    def quantiser(self, fitted: Fitted, settings: EncodeSettings, step: float) -> Quantiser:
        units = min(max(round(step / STEP_UNIT), 1), 2**32 - 1)
        shrink = SHRINK_DEPENDENT if self.spec.dependent else fitted.tuning.shrink
        return Quantiser((units,), fitted.tuning.slope, shrink)

    def quantize(self, fitted: Fitted, quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        codes: list[np.ndarray] = []
        spline = None
        if fitted.spline is not None:
            codes.append(self.smooth_codes(fitted, quantiser))
            spline = codes[0][: self.signal.channels] * self._spline_step(quantiser)
        layout = self.layouts[-1]
        trade = fitted.tuning.trade if self._network is None else fitted.tuning.trade_corrected
        scaled = self._scaled(fitted, quantiser, spline)
        heeding = self._network is not None and layout.dependent and fitted.tuning.heed > 0
        heads = rate_optimal(scaled, layout, trade, quick=fitted.quick, rounds=1 if heeding else ROUNDS)
        if self.spec.deltas:
            codes.append(self.fit_deltas(fitted, (*codes, heads), quantiser))
        for _ in range(LOOKS * heeding):
            del scaled  # large pictures: one at a time
            scaled, helped = self._heeding(fitted, quantiser, spline, (*codes, heads))
            heads = reconsidered(heads, scaled, layout, trade)
            if not helped:
                break
        if self.spec.deltas and heeding:
            codes[-1] = self.fit_deltas(fitted, (*codes, heads), quantiser)
        return (*codes, heads)

    def smooth_codes(self, fitted: Fitted, quantiser: Quantiser) -> np.ndarray:
        """int32 [C, *knots], with masking [C + 1, *knots]."""
        assert fitted.spline is not None
        knots = to_codes(np.rint(fitted.spline / self._spline_step(quantiser)), LARGEST_KNOT)
        return knots if fitted.masking is None else np.concatenate([knots, fitted.masking])

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        """Spline float64 [C, *knots], heads float32; with a network between them what `correct` needs: knots of the
        steps' logarithm [1, *knots], facts, and the deltas if there are any."""
        *spline, heads = codes
        changes = [spline.pop()] if self.spec.deltas else []
        knots = [s[: self.signal.channels] * self._spline_step(quantiser) for s in spline]
        steps = self._steps(quantiser).astype(np.float32)
        masking = self._masking(spline[0][self.signal.channels :] if self.spec.masking else None).astype(np.float32)
        one, more = (np.float32(s / 64) for s in quantiser.shrink)
        weights = np.zeros(heads.shape, np.float32)
        for cells in self._blocks():
            block = heads[self._at(cells)]
            if not block.any():  # nothing here, or not read: a region's decode leaves these pages untouched
                continue
            magnitude = np.abs(block).astype(np.float32)
            magnitude -= np.where(magnitude == 1, one, np.where(magnitude > 1, more, np.float32(0)))
            if self.spec.dependent:
                magnitude *= np.float32(HALF_STEP)
            weights[self._at(cells)] = np.copysign(magnitude, block) * steps * masking[self._at(cells)]
        if self._network is None and self._detail is None:
            return (*knots, weights)
        masks = spline[0][self.signal.channels :] if self.spec.masking else np.zeros_like(spline[0][:1])
        base = quantiser.steps[0] * STEP_UNIT * (1 + quantiser.slope / 16 * synthesis.MIDDLE)
        return (
            *knots,
            np.clip(masks, -64, 64) * MASKING_UNIT,
            synthesis.facts(base, quantiser.slope),
            *changes,
            weights,
        )

    def correct(
        self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]
    ) -> tuple[np.ndarray, ...]:
        """Spline and heads, the network's residual at scale 1 projected onto the cosines and added to these: the same
        picture at scale 1, and the formula itself at every other. Above scale 1, with a detail network, heads of twice
        the frequencies per axis, on cells of twice the samples. Heads of cells that no position touches are 0."""
        detail = self._detail if min(scale) > 1 else None
        if len(weights) == 2 or min(scale) < synthesis.MIN_SCALE:
            return tuple(weights)
        cells = self._touching(axes)
        seen = cells if detail is None else self._around(detail, self._halved(cells))
        heads = weights[-1] if self._network is None else self._corrected(weights, seen)
        if detail is not None:
            heads = self._detailed(detail, heads, weights[2], cells, scale)
        return weights[0], heads

    def check(self, codes: Sequence[np.ndarray]) -> None:
        if self._network is not None and self.spec.deltas and not deltas.fit(self._network, codes[1]):
            raise FormatError("deltas: sums beyond what single precision holds exactly")

    def fit_deltas(self, fitted: Fitted, codes: Sequence[np.ndarray], quantiser: Quantiser) -> np.ndarray:
        """Codes [1, N_DELTAS, 1, 1]: what the network's last layer should change by to make the most of these knots and
        heads; 0 where nothing pays for its bits."""
        assert self._network is not None
        none = np.zeros(self.layouts[1].shape, np.int32)
        weights = self.dequantize((codes[0], none, codes[-1]), quantiser)

        def wanted(spans: Sequence[Span]) -> np.ndarray:
            at = tuple(slice(*span) for span in spans)
            return np.asarray(fitted.samples[at] - self._splines.evaluate(weights[0], centres(spans)))

        def see(spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
            return self._seen(weights, spans)

        # an error counts in the steps of its own frequency: those of a band in one mean
        relative = (self._steps(quantiser) / weights[2][0])[..., 0, 0] ** -2.0
        shares = [deltas.band_shares((np.arange(m) + 0.5) / m) for m in self.grid.largest]
        worth = np.einsum("au,bv,uv->ab", *shares, relative) / np.multiply.outer(*(s.sum(1) for s in shares))
        strips = self._strips([(0, n) for n in self.signal.shape])
        found = deltas.found(
            self._network, weights[2][1:], strips, self.signal.shape, see=see, wanted=wanted, bits=BIT / worth.ravel()
        )
        return found.reshape(none.shape)

    def render(self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        values, smooth = self.linear(weights, axes, scale)
        return (values + smooth) @ self._rotation + self._centre

    def sample(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        per_point = self.signal.channels * int(np.prod([2 * m for m in weights[-1].shape[1 : 1 + coords.shape[1]]]))
        run = max(1, BLOCK_VALUES // per_point)

        def block(coords: np.ndarray) -> np.ndarray:
            finer = self._is_detailed(weights)
            values = self._finer.sample(weights[-1], 2 * coords) if finer else self._cosines.sample(weights[-1], coords)
            return values + self._splines.sample(weights[0], coords) if self.spec.pitch else values

        blocks = [block(coords[at : at + run]) for at in range(0, len(coords), run)]
        values = np.concatenate(blocks) if blocks else np.zeros((0, self.signal.channels))
        return values @ self._rotation + self._centre

    def cells_for(self, axes: Sequence[np.ndarray], scale: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """Those that the positions touch, and those that the network sees around them."""
        cells = self._touching(axes)
        if self._detail is not None and min(scale) > 1:
            cells = self._around(self._detail, self._halved(cells))
        if self._network is not None and min(scale) >= synthesis.MIN_SCALE:
            cells = self._around(self._network, self._cosines.reach(cells))
        return cells

    def linear(
        self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The cosines' sum and the smooth level, [*n, C] on rotated channels."""
        smooth = self._splines.evaluate(weights[0], axes) if self.spec.pitch else np.zeros(())
        if self._is_detailed(weights):
            return self._finer.synthesise(weights[-1], [2 * x for x in axes], (1.0,) * len(axes)), smooth
        return self._cosines.synthesise(weights[-1], axes, scale), smooth

    def local_step(self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray]) -> np.ndarray:
        """[*n, 1], from what `dequantize` gives under a network."""
        masks, facts = weights[1], weights[2]
        return np.asarray(facts[0] * np.exp2(np.clip(self._splines.evaluate(masks, axes), -8, 8)))

    # --- the pieces, in the order they are used

    @cached_property
    def _finer(self) -> Cosines:
        """Of the grid of twice the samples."""
        return Cosines(Grid(tuple(tuple(2 * b for b in borders) for borders in self.grid.borders)))

    def _is_detailed(self, weights: Sequence[np.ndarray]) -> bool:
        """Whether heads belong to the grid of twice the samples."""
        return weights[-1].shape[1] > self.grid.largest[0]

    @property
    def _centre(self) -> np.float32:
        return np.float32(0.0 if self.signal.kind == "sound" else 0.5)

    def _at(self, cells: slice) -> tuple[Any, ...]:
        """Index of a run of cells of the first axis."""
        return (..., cells, *(slice(None),) * (len(self.grid.cells) - 1))

    @property
    def _cell_axis(self) -> int:
        """Of the first axis's cells in the heads."""
        return 1 + len(self.grid.cells)

    def _blocks(self, rows: Span | None = None, times: int = 1) -> list[slice]:
        """Runs of cells of the first axis, of all or of those in rows, that are worked on at a time; times: values for
        one of the signal's."""
        start, stop = rows or (0, self.grid.cells[0])
        per_cell = max(1, times * self.signal.n_values // self.grid.cells[0])
        run = max(1, BLOCK_VALUES // per_cell)
        return [slice(a, min(a + run, stop)) for a in range(start, stop, run)]

    def _touching(self, axes: Sequence[np.ndarray]) -> tuple[Span, ...]:
        """Per axis the cells whose functions live at these positions: those that hold them, and their neighbours."""
        spans = super().cells_for(axes, (1.0,) * len(axes))
        return tuple((max(a - 1, 0), min(b + 1, m)) for (a, b), m in zip(spans, self.grid.cells, strict=True))

    def _seen(self, weights: Sequence[np.ndarray], spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
        """What the synthesis network sees at the samples in spans: synthesis.See."""
        axes = centres(spans)
        return self._cosines.synthesise(weights[-1], axes, (1.0,) * len(axes)), self.local_step(weights, axes)

    def _around(self, network: Network, spans: Sequence[Span]) -> tuple[Span, ...]:
        """The cells that a network's answer at the samples in spans depends on."""
        spans = synthesis.seen(network, spans, self.signal.shape)
        return self._touching([np.array([a + 0.5, b - 0.5]) for a, b in spans])

    def _corrected(self, weights: Sequence[np.ndarray], cells: Sequence[Span]) -> np.ndarray:
        """Heads of cells, corrected by the synthesis network; those of others are 0."""
        network, heads = self._adapted(weights), weights[-1]
        corrected = np.zeros(heads.shape, np.float32)  # cells that are not touched stay untouched pages
        for run in self._blocks(cells[0]):
            part = ((run.start, run.stop), *cells[1:])
            answer = self._answer(network, weights, part)
            at: tuple[Any, ...] = (..., *(slice(*span) for span in part))
            corrected[at] = heads[at]
            corrected[: len(answer)][at] += answer
        return corrected

    def _adapted(self, weights: Sequence[np.ndarray]) -> Network:
        """The synthesis network, with the file's own deltas."""
        assert self._network is not None
        return deltas.adapted(self._network, weights[3]) if self.spec.deltas else self._network

    def _answer(self, network: Network, weights: Sequence[np.ndarray], cells: Sequence[Span]) -> np.ndarray:
        """What the synthesis network adds to the heads of cells, float64 [C or fewer, *frequencies, *cells]."""

        def see(spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
            return self._seen(weights, spans)

        residual = self._residual(network, weights[2][1:], self._cosines.reach(cells), see)
        return self._cosines.analyse(residual, cells)

    def _detailed(
        self, network: Network, heads: np.ndarray, facts: np.ndarray, cells: Sequence[Span], scale: Sequence[float]
    ) -> np.ndarray:
        """Heads of cells as the grid of twice the samples has them, with what the detail network adds: all of it from
        scale 2 on, less towards scale 1; never what the output's samples cannot hold."""
        sizes = self.grid.largest
        fine = np.zeros((heads.shape[0], *(2 * m for m in sizes), *self.grid.cells), np.float32)
        share = np.full((1,) * len(sizes), min(min(scale) - 1, 1.0))
        for d, (m, s) in enumerate(zip(sizes, scale, strict=True)):
            holds = (np.arange(2 * m) + 0.5) / m < s
            share = share * holds.reshape(tuple(-1 if e == d else 1 for e in range(len(sizes))))
        share = share.reshape(*share.shape, *(1,) * len(sizes))

        def see(spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
            values = self._cosines.synthesise(heads, centres(spans), (1.0,) * len(spans))
            return values, np.full((*values.shape[:-1], 1), synthesis.DETAIL_UNIT)

        for run in self._blocks(cells[0], times=2 ** len(sizes)):
            part = ((run.start, run.stop), *cells[1:])
            reach, spans = self._finer.reach(part), self._halved(part)
            residual = self._residual(network, facts[1:], spans, see)
            residual = residual[tuple(slice(a - 2 * u, b - 2 * u) for (a, b), (u, _) in zip(reach, spans, strict=True))]
            at: tuple[Any, ...] = (..., *(slice(*span) for span in part))
            # the same function on a lattice twice as dense: √2 per axis
            fine[(slice(None), *(slice(m) for m in sizes))][at] = heads[at] * np.float32(2 ** (len(sizes) / 2))
            fine[: residual.shape[-1]][at] += share * self._finer.analyse(residual, part)
        return fine

    def _halved(self, cells: Sequence[Span]) -> list[Span]:
        """The samples that hold those at which the finer functions of a run of cells live."""
        return [(a // 2, -(-b // 2)) for a, b in self._finer.reach(cells)]

    def _residual(
        self, network: Network, condition: np.ndarray, spans: Sequence[Span], see: synthesis.See
    ) -> np.ndarray:
        """synthesis.residual, seen in strips."""
        strips = [
            synthesis.residual(network, condition, [strip, *spans[1:]], self.signal.shape, see)
            for strip in self._strips(spans)
        ]
        return np.concatenate(strips) if len(strips) > 1 else strips[0]

    def _strips(self, spans: Sequence[Span]) -> list[Span]:
        """Rows of samples that the network sees at a time: one row of large cells may be the whole picture."""
        (start, stop), *others = spans
        rows = max(synthesis.STRIP_ROWS, BLOCK_VALUES // (self.signal.channels * prod(b - a for a, b in others)))
        rows -= rows % 2  # whole blocks of the network, where they begin with one
        return [(a, min(a + rows, stop)) for a in range(start, stop, rows)]

    def _spline_step(self, quantiser: Quantiser) -> float:
        # knots are values, heads are orthonormal: over M samples per axis a value weighs √M times as much
        return quantiser.steps[0] * STEP_UNIT * SPLINE_STEP

    @cached_property
    def _frequency(self) -> np.ndarray:
        """r, the root mean square over axes of (u + ½)/M: a fraction of Nyquist, [*frequencies, 1, …]."""
        squares = np.zeros(())
        for m in self.grid.largest:
            squares = np.add.outer(squares, ((np.arange(m) + 0.5) / m) ** 2)
        r = np.sqrt(squares / len(self.grid.largest))
        return r.reshape(*r.shape, *(1,) * r.ndim)

    def _steps(self, quantiser: Quantiser) -> np.ndarray:
        """step(u, v) = q · (1 + γ r), [*frequencies, 1, …]; a cell's masking multiplies it."""
        return quantiser.steps[0] * STEP_UNIT * (1 + quantiser.slope / 16 * self._frequency)

    def _masking(self, codes: np.ndarray | None) -> np.ndarray:
        """Factor of every cell's steps, [1, …, *cells], from the masking channel [1, *knots] of the smooth level."""
        if codes is None:
            return np.ones(self.grid.cells)
        centres = [np.add(b[1:], b[:-1]) / 2 for b in self.grid.borders]
        exponent = self._splines.evaluate(np.clip(codes, -64, 64) * MASKING_UNIT, centres)[..., 0]
        return np.exp2(np.clip(exponent, -8, 8))

    def _fit_masking(self, samples: np.ndarray, spline: np.ndarray) -> np.ndarray:
        """Masking codes [1, *knots]: busy cells hide coarser steps, smooth ones show finer. Detail is what the smooth
        level leaves of the first channel, as root mean square per cell, on a scale where 1 is one 8-bit level."""
        energy = np.zeros(self.grid.cells)
        for cells in self._blocks():
            edges = self.grid.borders[0][cells.start : cells.stop + 1]
            axes = [np.arange(edges[0], edges[-1]) + 0.5, *(np.arange(b[-1]) + 0.5 for b in self.grid.borders[1:])]
            detail = samples[edges[0] : edges[-1], ..., 0] - self._splines.evaluate(spline[:1], axes)[..., 0]
            total = np.add.reduceat(detail**2, np.asarray(edges[:-1]) - edges[0], axis=0)
            for d, b in enumerate(self.grid.borders[1:], 1):
                total = np.add.reduceat(total, b[:-1], axis=d)
            energy[cells] = total
        n = np.ones(())
        for sizes in self.grid.sizes:
            n = np.multiply.outer(n, sizes)
        log = MASKING_SHARE * np.log2(1 + 255 * np.sqrt(energy / n))
        log = np.clip(log - log.mean(), -MASKING_BOUND, MASKING_BOUND)
        return to_codes(np.rint(self._splines.project(log[..., None], self.grid.sizes, STIFFNESS) / MASKING_UNIT))

    def _scaled(self, fitted: Fitted, quantiser: Quantiser, spline: np.ndarray | None) -> np.ndarray:
        """The exact heads in their steps, float32."""
        scaled = np.empty(self.layouts[-1].shape, np.float32)
        steps, masking = self._steps(quantiser), self._masking(fitted.masking)
        for cells in self._blocks():
            weights = (
                self._analyse_samples(fitted.samples, spline, cells)
                if fitted.heads is None
                else fitted.heads[self._at(cells)]
            )
            scaled[self._at(cells)] = weights / (steps * masking[self._at(cells)])
        return scaled

    def _heeding(
        self, fitted: Fitted, quantiser: Quantiser, spline: np.ndarray | None, codes: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, bool]:
        """The exact heads less what the network adds to those of these codes (Tuning.heed of it), in their steps,
        float32: what codes near to these should come to. And whether what it adds brings these nearer to the exact
        heads; if not, the exact ones."""
        scaled = np.empty(self.layouts[-1].shape, np.float32)
        steps, masking = self._steps(quantiser), self._masking(fitted.masking)
        weights = self.dequantize(codes, quantiser)
        network = self._adapted(weights)
        alone = corrected = 0.0
        for run in self._blocks():
            at, unit = self._at(run), steps * masking[self._at(run)]
            answer = self._answer(network, weights, ((run.start, run.stop), *((0, m) for m in self.grid.cells[1:])))
            answer /= unit
            scaled[at] = self._analyse_samples(fitted.samples, spline, run) / unit
            error = scaled[at] - weights[-1][at] / unit
            alone += float(np.square(error).sum())
            error[: len(answer)] -= answer
            corrected += float(np.square(error).sum())
            scaled[: len(answer)][at] -= fitted.tuning.heed * answer
        if corrected < alone:
            return scaled, True
        return self._scaled(fitted, quantiser, spline), False

    def _analyse_samples(self, samples: np.ndarray, spline: np.ndarray | None, rows: slice) -> np.ndarray:
        """Heads of a run of cells of the first axis: the projection of what the smooth level leaves of the samples."""
        cells = ((rows.start, rows.stop), *((0, m) for m in self.grid.cells[1:]))
        spans = self._cosines.reach(cells)
        values = samples[spans[0][0] : spans[0][1]].astype(np.float64)
        if spline is not None:
            values -= self._splines.evaluate(spline, centres(spans))
        return self._cosines.analyse(values, cells)
