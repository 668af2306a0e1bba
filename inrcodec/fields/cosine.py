"""The default field: one sparse linear head per cell on shared windowed cosines, over one smooth spline level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log10
from typing import Any

import numpy as np

from ..colour import fit_rotation, orange_blue, rotation
from ..cost import N_DELTAS
from ..entropy.dependent import HALF_STEP
from ..errors import FormatError
from ..grid import Grid
from ..parallel import in_threads
from ..quantize import BIT, LARGEST_KNOT, ROUNDS, rate_optimal, reconsidered, to_codes
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import EQUAL, MAX_SPLITS, STEP_UNIT, FieldSpec, Quantiser, TensorLayout
from . import deltas, synthesis
from .axis import SplineAxis
from .base import Field, OnStep, Progress
from .bases import BLOCK_VALUES, Cosines, Span, Splines, cell_runs, centres
from .correction import Correction, CosineWeights
from .leaves import split_levels
from .sizes import Picture, suited_cells
from .steps import MASKING_UNIT, StepSizes
from .tuning import TUNINGS, Tuning

__all__ = ["CosineField", "Fitted", "reconstructed"]

DETAIL = 10  # number of the network
SOUND_CELL = 2**13  # samples: what never changes gains by long windows, and what does has its splits
PITCH = 2  # cells from knot to knot of the smooth level
STIFFNESS = 0.05  # of the smooth level: without it knots swing far about what they say, and cost twice the bits
MIN_DELTA_SAMPLES = 2**17  # in smaller pictures deltas find too little to fit to: −.6 to +.9 % of a file
LOOKS = 2  # see Fitted
DELTAS_AFTER_EACH = 3  # looks, from which on: .09 % for an eighth of the time of an encode
SHRINK_DEPENDENT = (-6, 5)  # 1/64 half steps: the means of what is rounded to 1, and to more
MAX_KNOTS = 1024  # per axis; bounds the least squares of odd grids
PLAIN_EFFORT, QUICK_EFFORT = 1, 2  # up to here: no synthesis network; codes by quick prices


@dataclass(frozen=True)
class Fitted:
    """samples: rotated, float32 [*shape, C]. With a smooth level, its exact knots [C, *knots]; without one, the
    exact heads [C, *frequencies, *cells]. (With one, or with splits, they depend on the quantiser.)"""

    samples: np.ndarray
    spline: np.ndarray | None
    heads: np.ndarray | None
    masking: np.ndarray | None  # int32 [1, *knots], final: the same at every step
    tuning: Tuning
    quick: bool  # choose codes under quick prices
    looks: int  # at what the synthesis network makes of dependent codes, each before one more round of search


class CosineField(Field):
    """f(x) = spline(x) + Σ_c Σ_k head[k, c] · Π_d cosine_{k_d, c_d}(x_d), then the colour rotation back."""

    min_scale = 0.25  # fading handles down to here; below it the spline level would alias

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid) -> None:
        super().__init__(spec, signal, grid)
        self._cosines = Cosines(grid)
        self._splines = Splines([SplineAxis(n, p) for n, p in zip(signal.shape, spec.pitch, strict=bool(spec.pitch))])
        self._rotation = rotation(signal, spec.rotation)
        self._step_sizes = StepSizes(grid, self._splines, signal.channels)
        self._correction = Correction(spec, signal, grid, self._cosines, self._splines)

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        if signal.kind == "sound":
            return (max(1, round(signal.n_samples / SOUND_CELL)),)
        return Grid.fitting(signal.shape).cells

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        quaternion = () if samples is None else fit_rotation(samples, signal)
        # Half-integer cosines hold no constant; a sound has none worth holding. An axis of a single cell is a
        # DCT-II, which does hold it.
        if signal.kind == "sound" or max(grid.cells) == 1:
            splits = split_levels(grid, MAX_SPLITS) if signal.kind == "sound" else 0
            return FieldSpec("multihead", "cosine", rotation=quaternion, splits=splits)
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
        masking = None
        if spline is not None and self.spec.masking:
            masking = self._step_sizes.fit_masking(rotated, spline, self._runs(), STIFFNESS)
        heads = None
        if spline is None and not self.spec.splits:
            blocks = [self._analyse_samples(rotated, None, cells) for cells in self._runs()]
            heads = np.concatenate(blocks, self._cell_axis)
            heads = heads.astype(np.float32)
        on_step(Progress("fit", 1, 1))
        return Fitted(rotated, spline, heads, masking, TUNINGS[settings.tune], settings.effort <= QUICK_EFFORT, LOOKS)

    def distortion(self, fitted: Fitted, quantiser: Quantiser, error: np.ndarray) -> float:
        """Errors weigh what they do in the heads, by frequency and masking; the smooth level has no say of its own.
        (Of a sound whose cells are cut, in the heads that it has uncut.)"""
        rotated = error @ self._rotation.T.astype(np.float32)
        steps, masking = self._step_sizes.of_heads(quantiser), self._step_sizes.masking(fitted.masking)

        def of(cells: slice) -> float:
            heads = self._analyse_samples(rotated, None, cells)
            return float(np.square(heads / (steps * masking[self._at(cells)])).sum())

        return sum(in_threads(of, self._runs()))

    def initial_step(self, fitted: Fitted, settings: EncodeSettings) -> float:
        """Quality 75 is a step of 22.5/255, 100 is half an 8-bit level, times Tuning.first_step. A sound's quality is
        relative to its own loudness, so that a quiet recording is not all zeros."""
        step = (0.5 + 22 * ((100 - settings.quality) / 25) ** 1.5) / 255
        step *= fitted.tuning.first_step
        if self.signal.kind == "sound":
            rms = float(np.sqrt(np.mean(np.square(fitted.samples, dtype=np.float64))))
            step *= max(rms, 1e-5)
        return step

    def quantiser(self, fitted: Fitted, step: float) -> Quantiser:
        units = min(max(round(step / STEP_UNIT), 1), 2**32 - 1)
        shrink = SHRINK_DEPENDENT if self.spec.dependent else fitted.tuning.shrink
        second = fitted.tuning.second if orange_blue(self.signal, self._rotation) else EQUAL
        return Quantiser((units,), fitted.tuning.slope, shrink, second)

    def suited_cells(self, fitted: Fitted, quantiser: Quantiser) -> tuple[int, ...]:
        """Cells per axis that suit these samples at this quantiser."""
        if self.signal.kind != "image" or fitted.spline is None:
            return self.grid.cells
        picture = Picture(fitted.samples, fitted.spline, fitted.masking, self._splines)
        return suited_cells(picture, self.grid, quantiser, quick=fitted.quick)

    def quantize(
        self, fitted: Fitted, quantiser: Quantiser, on_step: OnStep = lambda _: None
    ) -> tuple[np.ndarray, ...]:
        codes: list[np.ndarray] = []
        spline = None
        if fitted.spline is not None:
            codes.append(self.smooth_codes(fitted, quantiser))
            spline = codes[0][: self.signal.channels] * self._step_sizes.of_knots(quantiser)
        layout = self.layouts[-1]
        corrected = self._correction.network is not None
        trade = fitted.tuning.trade_corrected if corrected else fitted.tuning.trade
        scaled = self._scaled(fitted, quantiser, spline)
        heeding = corrected and layout.dependent and fitted.tuning.heed
        looks = fitted.looks if heeding else 0
        n, db = 2 * looks + 3, None  # steps: a look takes as long as a round of the search; coding follows
        on_step(Progress("codes", 0, n))
        heads = rate_optimal(scaled, layout, trade, quick=fitted.quick, rounds=1 if heeding else ROUNDS)
        if self.spec.deltas:
            codes.append(self.fit_deltas(fitted, (*codes, heads), quantiser))
        for left in reversed(range(looks)):
            del scaled  # large pictures: one at a time
            on_step(Progress("codes", n - 3 - 2 * left, n, db))
            scaled, saved, error = self._heeding(fitted, quantiser, spline, (*codes, heads))
            db = -10 * log10(max(error, 1e-12) / self.signal.n_values)
            on_step(Progress("codes", n - 2 - 2 * left, n, db, worth=saved / BIT))
            heads = reconsidered(heads, scaled, layout, trade)
            if self.spec.deltas and (fitted.looks >= DELTAS_AFTER_EACH or saved <= 0 or not left):
                codes[-1] = self.fit_deltas(fitted, (*codes, heads), quantiser)
            if saved <= 0:
                break
        on_step(Progress("codes", n - 1, n, db))
        return (*codes, heads)

    def smooth_codes(self, fitted: Fitted, quantiser: Quantiser) -> np.ndarray:
        """int32 [C, *knots], with masking [C + 1, *knots]."""
        assert fitted.spline is not None
        knots = to_codes(np.rint(fitted.spline / self._step_sizes.of_knots(quantiser)), LARGEST_KNOT)
        return knots if fitted.masking is None else np.concatenate([knots, fitted.masking])

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> CosineWeights:
        *spline, coded_heads = codes
        changes = spline.pop() if self.spec.deltas else None
        smooth = spline[0][: self.signal.channels] * self._step_sizes.of_knots(quantiser) if spline else None
        steps = self._step_sizes.of_heads(quantiser).astype(np.float32)
        coded = spline[0][self.signal.channels :] if self.spec.masking else None
        masking = self._step_sizes.masking(coded).astype(np.float32)
        heads = np.zeros(coded_heads.shape, np.float32)

        def fill(cells: slice) -> None:
            block = coded_heads[self._at(cells)]
            if not block.any():  # nothing here, or not read: a region's decode leaves these pages untouched
                return
            values = reconstructed(block, quantiser)
            if self.spec.dependent:
                values *= np.float32(HALF_STEP)
            heads[self._at(cells)] = values * steps * masking[self._at(cells)]

        in_threads(fill, self._runs())
        correction = self._correction
        if correction.network is None and correction.detail is None:
            return CosineWeights(smooth, heads)
        masks = spline[0][self.signal.channels :] if self.spec.masking else np.zeros_like(spline[0][:1])
        base = quantiser.steps[0] * STEP_UNIT * (1 + quantiser.slope / 16 * synthesis.MIDDLE)
        return CosineWeights(
            smooth,
            heads,
            masks=np.clip(masks, -64, 64) * MASKING_UNIT,
            facts=synthesis.facts(base, quantiser.slope),
            deltas=changes,
        )

    def correct(self, weights: CosineWeights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> CosineWeights:
        return self._correction.correct(weights, axes, scale)

    def cells_for(self, axes: Sequence[np.ndarray], scale: Sequence[float]) -> tuple[tuple[int, int], ...]:
        return self._correction.cells_for(axes, scale)

    def local_step(self, weights: CosineWeights, axes: Sequence[np.ndarray]) -> np.ndarray:
        """[*n, 1], from what `dequantize` gives under a network."""
        return self._correction.local_step(weights, axes)

    def check(self, codes: Sequence[np.ndarray]) -> None:
        network = self._correction.network
        if network is not None and self.spec.deltas and not deltas.fit(network, codes[1]):
            raise FormatError("deltas: sums beyond what single precision holds exactly")

    def fit_deltas(self, fitted: Fitted, codes: Sequence[np.ndarray], quantiser: Quantiser) -> np.ndarray:
        """Codes [1, N_DELTAS, 1, 1]: what the network's last layer should change by to make the most of these knots and
        heads; 0 where nothing pays for its bits."""
        correction = self._correction
        assert correction.network is not None
        none = np.zeros(self.layouts[1].shape, np.int32)
        weights = self.dequantize((codes[0], none, codes[-1]), quantiser)
        assert weights.facts is not None

        def wanted(spans: Sequence[Span]) -> np.ndarray:
            at = tuple(slice(*span) for span in spans)
            return np.asarray(fitted.samples[at] - self._smooth_at(weights, centres(spans)))

        # an error counts in the first colour's steps of its own frequency: those of a band in one mean
        relative = (self._step_sizes.of_heads(quantiser)[0] / weights.facts[0])[..., 0, 0] ** -2.0
        shares = [deltas.band_shares((np.arange(m) + 0.5) / m) for m in self.grid.largest]
        worth = np.einsum("au,bv,uv->ab", *shares, relative) / np.multiply.outer(*(s.sum(1) for s in shares))
        strips = correction.strips([(0, n) for n in self.signal.shape])
        found = deltas.found(
            correction.network,
            weights.condition,
            strips,
            self.signal.shape,
            see=partial(correction.seen, weights),
            wanted=wanted,
            bits=BIT / worth.ravel(),
        )
        return found.reshape(none.shape)

    def render(self, weights: CosineWeights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        values, smooth = self.linear(weights, axes, scale)
        return (values + smooth) @ self._rotation + self._centre

    def sample(self, weights: CosineWeights, coords: np.ndarray) -> np.ndarray:
        assert weights.detail is None  # they are good for samples alone
        per_point = self.signal.channels * int(np.prod([2 * m for m in weights.heads.shape[1 : 1 + coords.shape[1]]]))
        run = max(1, BLOCK_VALUES // per_point)
        cosines, times = self._correction.functions_of(weights.heads)

        def block(coords: np.ndarray) -> np.ndarray:
            values = cosines.sample(weights.heads, times * coords)
            return values if weights.smooth is None else values + self._splines.sample(weights.smooth, coords)

        blocks = [block(coords[at : at + run]) for at in range(0, len(coords), run)]
        values = np.concatenate(blocks) if blocks else np.zeros((0, self.signal.channels))
        return values @ self._rotation + self._centre

    def linear(
        self, weights: CosineWeights, axes: Sequence[np.ndarray], scale: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The cosines' sum and the smooth level, [*n, C] on rotated channels."""
        smooth = self._smooth_at(weights, axes)
        if weights.detail is not None:
            return weights.detail_at(axes), smooth
        cosines, times = self._correction.functions_of(weights.heads)
        if times > 1:  # what the output cannot hold is left out already
            scale = (1.0,) * len(axes)
        return cosines.synthesise(weights.heads, [times * x for x in axes], scale), smooth

    # --- the pieces, in the order they are used

    def _smooth_at(self, weights: CosineWeights, axes: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros(()) if weights.smooth is None else self._splines.evaluate(weights.smooth, axes)

    @property
    def _centre(self) -> np.float32:
        return np.float32(0.0 if self.signal.kind == "sound" else 0.5)

    def _at(self, cells: slice) -> tuple[Any, ...]:
        """Index of a run of cells of the first axis."""
        return (..., cells, *(slice(None),) * (len(self.grid.cells) - 1))

    def _runs(self) -> list[slice]:
        """Runs of cells of the first axis that are worked on at a time."""
        return cell_runs((0, self.grid.cells[0]), self.signal.n_values // self.grid.cells[0])

    @property
    def _cell_axis(self) -> int:
        """Of the first axis's cells in the heads."""
        return 1 + len(self.grid.cells)

    def _scaled(self, fitted: Fitted, quantiser: Quantiser, spline: np.ndarray | None) -> np.ndarray:
        """The exact heads in their steps, float32."""
        scaled = np.empty(self.layouts[-1].shape, np.float32)
        steps, masking = self._step_sizes.of_heads(quantiser), self._step_sizes.masking(fitted.masking)

        def scale(cells: slice) -> None:
            weights = (
                self._analyse_samples(fitted.samples, spline, cells)
                if fitted.heads is None
                else fitted.heads[self._at(cells)]
            )
            scaled[self._at(cells)] = weights / (steps * masking[self._at(cells)])

        in_threads(scale, self._runs())
        return scaled

    def _heeding(
        self, fitted: Fitted, quantiser: Quantiser, spline: np.ndarray | None, codes: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, float, float]:
        """The exact heads less what the network adds to those of these codes, in their steps, float32: what codes near
        to these should come to; the exact ones where what it adds brings these no nearer. By how much it does, in
        squared steps. And the squared error of the samples, summed."""
        scaled = np.empty(self.layouts[-1].shape, np.float32)
        steps, masking = self._step_sizes.of_heads(quantiser), self._step_sizes.masking(fitted.masking)
        weights = self.dequantize(codes, quantiser)
        network = self._correction.adapted(weights)

        def look(run: slice) -> tuple[float, float, float]:
            at, unit = self._at(run), steps * masking[self._at(run)]
            cells = ((run.start, run.stop), *((0, m) for m in self.grid.cells[1:]))
            answer = self._correction.answer(network, weights, cells)
            answer /= unit[: len(answer)]
            scaled[at] = self._analyse_samples(fitted.samples, spline, run) / unit
            error = scaled[at] - weights.heads[at] / unit
            before = float(np.square(error).sum())
            error[: len(answer)] -= answer
            scaled[: len(answer)][at] -= answer
            return before, float(np.square(error).sum()), float(np.square(error * unit).sum())

        before, after, squared = (sum(errors) for errors in zip(*in_threads(look, self._runs()), strict=True))
        saved = before - after
        return scaled if saved > 0 else self._scaled(fitted, quantiser, spline), saved, squared

    def _analyse_samples(self, samples: np.ndarray, spline: np.ndarray | None, rows: slice) -> np.ndarray:
        """Heads of a run of cells of the first axis: the projection of what the smooth level leaves of the samples."""
        cells = ((rows.start, rows.stop), *((0, m) for m in self.grid.cells[1:]))
        spans = self._cosines.reach(cells)
        values = samples[spans[0][0] : spans[0][1]].astype(np.float64)
        if spline is not None:
            values -= self._splines.evaluate(spline, centres(spans))
        return self._cosines.analyse(values, cells)


def reconstructed(codes: np.ndarray, quantiser: Quantiser) -> np.ndarray:
    """What codes stand for, in steps, float32."""
    one, more = (np.float32(s / 64) for s in quantiser.shrink)
    magnitude = np.abs(codes).astype(np.float32)
    magnitude -= np.where(magnitude == 1, one, np.where(magnitude > 1, more, np.float32(0)))
    return np.copysign(magnitude, codes)
