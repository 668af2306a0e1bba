"""The default field: one sparse linear head per cell on shared windowed cosines, over one smooth spline level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ..grid import Grid
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import MAX_CODE, STEP_UNIT, FieldSpec, Quantiser, TensorLayout
from .axis import CosineAxis, SplineAxis
from .base import Field, OnStep, Progress

__all__ = ["CosineField"]

SLOPE_PERCEPTUAL = 32  # γ = 2 in 1/16: docs/design.md, "Steps by frequency"
SPLINE_STEP = 1 / 6  # of the heads' step: an error here is seen over a whole neighbourhood
ROUNDING = 0.36  # rate–distortion dead zone: a code grows only past this fraction below the next
SHRINK = (3, 2)  # 1/64 steps, see Quantiser; with ROUNDING, the means of real weights inside their intervals
MAX_KNOTS = 1024  # per axis; bounds the least squares of odd grids
BLOCK_VALUES = 2**22  # values analysed or synthesised at a time: bounds the float64 scratch


@dataclass(frozen=True)
class Fitted:
    """samples: rotated, float32 [*shape, C]. With a smooth level, its exact knots [C, *knots]; without one, the
    exact heads [C, *frequencies, *cells]. (With one they depend on how the knots are quantised.)"""

    samples: np.ndarray
    spline: np.ndarray | None
    heads: np.ndarray | None


class CosineField(Field):
    """f(x) = spline(x) + Σ_c Σ_k head[k, c] · Π_d cosine_{k_d, c_d}(x_d), then the colour rotation back."""

    min_scale = 0.25  # fading handles down to here; below it the spline level would alias

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid) -> None:
        super().__init__(spec, signal, grid)
        self._splines = tuple(SplineAxis(n, p) for n, p in zip(signal.shape, spec.pitch, strict=bool(spec.pitch)))
        self._rotation = _rotation(signal)

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        return Grid.fitting(signal.shape).cells

    @classmethod
    def plan_spec(cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings) -> FieldSpec:
        # Half-integer cosines hold no constant; a sound has none worth holding. An axis of a single cell is a
        # DCT-II, which does hold it.
        if signal.kind == "sound" or max(grid.cells) == 1:
            return FieldSpec("multihead", "cosine")
        pitch = (
            0 if m == 1 else max(2 * largest, -(-n // MAX_KNOTS))
            for n, m, largest in zip(signal.shape, grid.cells, grid.largest, strict=True)
        )
        return FieldSpec("multihead", "cosine", pitch=tuple(pitch))

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        c = self.signal.channels
        heads = TensorLayout("heads", "cosine", c, self.grid.largest, self.grid.cells, self.grid.sizes)
        if not self._splines:
            return (heads,)
        return (TensorLayout("spline", "smooth", c, (), tuple(s.n_knots for s in self._splines)), heads)

    @property
    def macs_per_sample(self) -> float:
        """Separable: 2M per axis for the cosines (two cells overlap), 4 for the splines, C for the rotation."""
        per_value = sum(2 * m for m in self.grid.largest) + 4 * len(self._splines)
        return self.signal.channels * (per_value + self.signal.channels)

    def fit(self, samples: np.ndarray, settings: EncodeSettings, on_step: OnStep) -> Fitted:
        """Closed form: nothing is trained."""
        on_step(Progress("fit", 0, 1))
        rotated = (samples - self._centre) @ self._rotation.T.astype(np.float32)
        spline = None
        if self._splines:
            spline = rotated
            for axis in self._splines:  # one axis after the other; each pass moves its axis to the end
                flat = spline.reshape(spline.shape[0], -1)
                spline = np.moveaxis(axis.project(flat).reshape(-1, *spline.shape[1:]), 0, -1)
        heads = None
        if not self._splines:
            heads = np.concatenate([self._analyse(rotated, None, cells) for cells in self._blocks()], self._cell_axis)
        on_step(Progress("fit", 1, 1))
        return Fitted(rotated, spline, None if heads is None else heads.astype(np.float32))

    def initial_step(self, fitted: Fitted, settings: EncodeSettings) -> float:
        """Quality 75 is a step of 28/255 at γ = 0, 100 is half an 8-bit level. A sound's quality is relative to
        its own loudness, so that a quiet recording is not all zeros."""
        step = (0.5 + 28 * ((100 - settings.quality) / 25) ** 1.5) / 255
        if settings.tune == "perceptual":  # steps grow from here with frequency
            step *= 0.62
        if self.signal.kind == "sound":
            rms = float(np.sqrt(np.mean(np.square(fitted.samples, dtype=np.float64))))
            step *= max(rms, 1e-5)
        return step

    def quantiser(self, fitted: Fitted, settings: EncodeSettings, step: float) -> Quantiser:
        units = min(max(round(step / STEP_UNIT), 1), 2**32 - 1)
        return Quantiser((units,), SLOPE_PERCEPTUAL if settings.tune == "perceptual" else 0, SHRINK)

    def quantize(self, fitted: Fitted, quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        codes = []
        spline = None
        if fitted.spline is not None:
            codes.append(_to_codes(np.rint(fitted.spline / self._spline_step(quantiser))))
            spline = codes[0] * self._spline_step(quantiser)
        heads = np.zeros(self.layouts[-1].shape, np.int32)
        steps = self._steps(quantiser)
        for cells in self._blocks():
            at = (..., cells, *(slice(None),) * (len(self.grid.cells) - 1))
            weights = self._analyse(fitted.samples, spline, cells) if fitted.heads is None else fitted.heads[at]
            level = np.floor(np.abs(weights) / steps + ROUNDING)
            heads[at] = _to_codes(np.copysign(level, weights))
        return (*codes, heads)

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        """Spline float64, heads float32."""
        *spline, heads = codes
        steps = self._steps(quantiser).astype(np.float32)
        magnitude = np.abs(heads).astype(np.float32)
        one, more = (np.float32(s / 64) for s in quantiser.shrink)
        magnitude -= np.where(magnitude == 1, one, np.where(magnitude > 1, more, np.float32(0)))
        return (*(s * self._spline_step(quantiser) for s in spline), np.copysign(magnitude, heads) * steps)

    def render(self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        *spline, heads = weights
        values = self._synthesise(
            heads, [CosineAxis(b, x, s) for b, x, s in zip(self.grid.borders, axes, scale, strict=True)]
        )
        if spline:
            values += self._evaluate_spline(spline[0], axes)
        return values @ self._rotation + self._centre

    def sample(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        return np.concatenate([self._sample_block(weights, c) for c in np.array_split(coords, len(coords) // 512 + 1)])

    def cells_for(self, axes: Sequence[np.ndarray], scale: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """One cell more on either side than hold the positions: neighbours overlap."""
        spans = super().cells_for(axes, scale)
        return tuple((max(a - 1, 0), min(b + 1, m)) for (a, b), m in zip(spans, self.grid.cells, strict=True))

    # --- the pieces, in the order they are used

    @property
    def _centre(self) -> np.float32:
        return np.float32(0.0 if self.signal.kind == "sound" else 0.5)

    @property
    def _cell_axis(self) -> int:
        """Of the first axis's cells in the heads."""
        return 1 + len(self.grid.cells)

    def _blocks(self) -> list[slice]:
        """Runs of cells of the first axis that are worked on at a time."""
        per_cell = max(1, self.signal.n_values // self.grid.cells[0])
        run = max(1, BLOCK_VALUES // per_cell)
        return [slice(a, min(a + run, self.grid.cells[0])) for a in range(0, self.grid.cells[0], run)]

    def _spline_step(self, quantiser: Quantiser) -> float:
        # knots are values, heads are orthonormal: over M samples per axis a value weighs √M times as much
        return quantiser.steps[0] * STEP_UNIT * SPLINE_STEP

    def _steps(self, quantiser: Quantiser) -> np.ndarray:
        """step(u, v) = q · (1 + γ r), r the root mean square over axes of (u + ½)/M; [*frequencies, 1, …]."""
        squares = np.zeros(())
        for m in self.grid.largest:
            squares = np.add.outer(squares, ((np.arange(m) + 0.5) / m) ** 2)
        r = np.sqrt(squares / len(self.grid.largest))
        steps = quantiser.steps[0] * STEP_UNIT * (1 + quantiser.slope / 16 * r)
        return steps.reshape(*r.shape, *(1,) * r.ndim)

    def _analyse(self, samples: np.ndarray, spline: np.ndarray | None, cells: slice) -> np.ndarray:
        """Heads [C, *frequencies, *cells] of a run of cells of the first axis: the projection of the residual."""
        borders = self.grid.borders
        first, last = max(cells.start - 1, 0), min(cells.stop + 1, self.grid.cells[0])
        rows = slice(borders[0][first], borders[0][last])
        axes = [np.arange(rows.start, rows.stop) + 0.5, *(np.arange(b[-1]) + 0.5 for b in borders[1:])]
        residual = samples[rows].astype(np.float64)
        if spline is not None:
            residual -= self._evaluate_spline(spline, axes)
        for d, (b, x) in enumerate(zip(borders, axes, strict=True)):
            # [n_d, …] -> [m_d, M_d, …] -> both at the end; after all axes: [C, m_0, M_0, m_1, M_1, …]
            basis = CosineAxis(b, x)
            out = basis.analyse(residual.reshape(residual.shape[0], -1))
            if d == 0:  # the outer neighbours were there for their overlap only
                out = out[cells.start - basis.cells.start : cells.stop - basis.cells.start]
            residual = np.moveaxis(out.reshape(*out.shape[:2], *residual.shape[1:]), (0, 1), (-2, -1))
        n = len(borders)
        return residual.transpose(0, *(2 * d + 2 for d in range(n)), *(2 * d + 1 for d in range(n)))

    def _synthesise(self, heads: np.ndarray, bases: Sequence[CosineAxis]) -> np.ndarray:
        """Heads -> values [*n, C]; one axis after the other, last first."""
        n = len(bases)
        x = heads[(..., *(b.cells for b in bases))].astype(np.float64)
        for d in reversed(range(n)):
            # x is [n_{d+1}, …, C, M_0 … M_d, m_0 … m_d]: bring M_d and m_d to the front
            done = n - 1 - d
            x = np.moveaxis(x, (x.ndim - 1, done + 1 + d), (0, 1))
            x = bases[d].synthesise(x.reshape(*x.shape[:2], -1)).reshape(-1, *x.shape[2:])
        return x

    def _evaluate_spline(self, spline: np.ndarray, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Knots [C, *knots] -> values [*n, C]."""
        x = spline
        for axis, positions in zip(reversed(self._splines), reversed(list(axes)), strict=True):
            x = np.moveaxis(x, -1, 0)
            x = axis.evaluate(x.reshape(x.shape[0], -1), positions).reshape(-1, *x.shape[1:])
            # the evaluated axis stays in front; the next knots axis is again the last
        return x

    def _sample_block(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        """Scattered positions one axis at a time: every position is a lattice of its own, its axes contracted
        against the few cells it touches."""
        *spline, heads = weights
        out = np.empty((len(coords), self.signal.channels))
        for i, point in enumerate(coords):
            axes = [point[d : d + 1] for d in range(coords.shape[1])]
            value = self._synthesise(
                heads, [CosineAxis(b, x) for b, x in zip(self.grid.borders, axes, strict=True)]
            )
            if spline:
                value = value + self._evaluate_spline(spline[0], axes)
            out[i] = value.reshape(-1)
        return out @ self._rotation + self._centre


def _to_codes(values: np.ndarray) -> np.ndarray:
    """Whole numbers -> int32 codes; absurdly fine steps saturate at what the coders can hold."""
    return np.clip(values, -MAX_CODE, MAX_CODE).astype(np.int32)


def _rotation(signal: SignalMeta) -> np.ndarray:
    """Orthonormal colour rotation [C, C]: the DCT-II over R, G, B (row 0 is luma) or over left and right;
    alpha and further channels stay as they are."""
    n = {"rgb": 3, "rgb+alpha": 3}.get(signal.colour, 0)
    if signal.kind == "sound" and signal.channels == 2:
        n = 2
    matrix = np.eye(signal.channels)
    k, i = np.arange(n)[:, None], np.arange(n)[None]
    if n:
        matrix[:n, :n] = np.cos(np.pi * (2 * i + 1) * k / (2 * n)) * np.sqrt(2 / n)
        matrix[0, :n] = np.sqrt(1 / n)
    return cast(np.ndarray, matrix)
