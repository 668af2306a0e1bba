"""Fits an independent small MLP to every cell (ENRP, arXiv 2110.04124), all cells at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..grid import Grid
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import STEP_UNIT, FieldSpec, Quantiser, TensorLayout
from .base import Field, OnStep
from .budget import DEFAULT_BITS, bits_wanted, check_codes, iterations_for, uniform_cells
from .layers import FOURIER_FEATURES, MlpShape, evaluate
from .locate import Block, gather, lattice_blocks, point_blocks

if TYPE_CHECKING:
    from .cellfit import Cells, UnequalCells

__all__ = ["EnsembleField", "default_omega"]

ITERATIONS = 300  # for a picture of 2^19 pixels
CELL_BITS = 1400.0  # about as much as one cell's network is worth; grids are chosen for it
BLOCK_VALUES = 2**20  # float64 values of one layer evaluated at once (8 MB: stays near the caches)
CODE_LIMIT = 2**30


@dataclass(frozen=True)
class FittedEnsemble:
    """weights float64 [G, P]; spreads: per group of parameters, what one base step is multiplied by."""

    weights: np.ndarray
    spreads: tuple[float, ...]
    cells: Cells | UnequalCells


class EnsembleField(Field):
    """fin -> width -> depth × width -> C per cell, linear at the end, on the cell's own coordinates."""

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid) -> None:
        super().__init__(spec, signal, grid)
        self.shape = _shape(spec, signal)
        self._groups = np.asarray(self.shape.groups)

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        """Cells per axis of the grid these networks like best: larger cells where there are fewer bits."""
        area = CELL_BITS * signal.n_samples / max(bits_wanted(signal, settings), 1e-9)
        low, high = {1: (128, 4096), 2: (256, 16384), 3: (512, 32768)}[len(signal.shape)]
        return uniform_cells(signal, min(max(area, low), high))

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        return cls.plan_networks(signal, grid.n_cells, grid.largest, settings)

    @classmethod
    def plan_networks(
        cls, signal: SignalMeta, n_cells: int, largest: Sequence[int], settings: EncodeSettings
    ) -> FieldSpec:
        """The networks of n_cells cells, the largest of so many samples per axis. Raises ValueError."""
        body = settings.body_or_default
        budget = bits_wanted(signal, settings) / (settings.bits or DEFAULT_BITS) / n_cells

        def spec(width: int, depth: int) -> FieldSpec:
            features = min(FOURIER_FEATURES["ensemble"], max(1, width)) if body == "fourier" else 0
            omega = default_omega(body, largest)
            return FieldSpec("ensemble", body, width, depth, omega, features, settings.seed)

        def cost(width: int, depth: int) -> int:
            return _shape(spec(width, depth), signal).n_parameters

        depth = settings.depth
        if depth is None:  # the deepest that leaves layers of some width
            depth = next((n for n, least in ((2, 5), (1, 3)) if cost(settings.width or least, n) <= budget), 0)
        width = settings.width
        if width is None:
            width = 1
            while width < 512 and cost(width + 1, depth) <= budget:
                width += 1
        check_codes(cost(width, depth) * n_cells)
        return spec(width, depth)

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        return (
            TensorLayout("heads", "plain", 1, (self.shape.n_parameters,), self.grid.cells, bands=self.shape.groups),
        )

    def fit(self, samples: np.ndarray, settings: EncodeSettings, on_step: OnStep) -> FittedEnsemble:
        from .cellfit import Cells

        started = time.monotonic()
        return self.train(Cells.of(*gather(samples, self.grid)), settings, on_step, started)

    def train(
        self, cells: Cells | UnequalCells, settings: EncodeSettings, on_step: OnStep, started: float
    ) -> FittedEnsemble:
        """Networks of the cells' samples. started: when the time limit began to run."""
        from .cellfit import measure_spreads, train

        iterations = settings.iterations or iterations_for(self.signal, ITERATIONS)
        weights = train(
            self.shape, cells, seed=settings.seed, iterations=iterations, device=settings.device, on_step=on_step,
            peak=2.0 if self.signal.kind == "sound" else 1.0,
            time_limit_s=settings.time_limit_s and settings.time_limit_s - (time.monotonic() - started),
        )  # fmt: skip
        return FittedEnsemble(weights, measure_spreads(self.shape, weights, cells), cells)

    def initial_step(self, fitted: FittedEnsemble, settings: EncodeSettings) -> float:
        """2^(1 - bits): relative to a group's spread, so that codes have about that many bits."""
        return 2.0 ** (1 - (settings.bits or DEFAULT_BITS))

    def quantiser(self, fitted: FittedEnsemble, step: float) -> Quantiser:
        return Quantiser(tuple(whole_step(step * s) for s in fitted.spreads))

    def quantize(
        self, fitted: FittedEnsemble, quantiser: Quantiser, on_step: OnStep = lambda _: None
    ) -> tuple[np.ndarray, ...]:
        """The layers before the last are rounded; the last is solved again on what they give then, and rounded."""
        from .cellfit import solve_last

        steps = self._steps(quantiser)
        codes = round_codes(fitted.weights, steps)
        weights = solve_last(self.shape, codes * steps, fitted.cells, keep=fitted.weights)
        first = len(self._groups) - sum(self._groups >= self._groups[-1] - 1)
        codes[:, first:] = round_codes(weights[:, first:], steps[first:])
        return (codes.T.reshape(self.layouts[-1].shape),)

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        heads = np.asarray(codes[-1], np.float64)
        return (heads * self._steps(quantiser).reshape(-1, *[1] * (heads.ndim - 2)),)

    def render(self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        shape = tuple(len(x) for x in axes)
        return self._evaluate(weights, lattice_blocks(self.grid, axes, self._positions), math.prod(shape)).reshape(
            *shape, self.signal.channels
        )

    def sample(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        return self._evaluate(weights, point_blocks(self.grid, coords, self._positions), len(coords))

    @property
    def _positions(self) -> int:
        """Positions evaluated at once."""
        return max(64, BLOCK_VALUES // max(self.shape.width, self.signal.channels, 2 * self.shape.features))

    def _evaluate(self, weights: Sequence[np.ndarray], blocks: Iterable[Block], n: int) -> np.ndarray:
        flat = weights[0].reshape(self.shape.n_parameters, -1)
        result = np.empty((n, self.signal.channels))
        for block in blocks:
            own = np.ascontiguousarray(flat[:, block.cells].T)
            result[block.index] = evaluate(self.shape, own, block.coords).transpose(0, 2, 1)
        return result

    def _steps(self, quantiser: Quantiser) -> np.ndarray:
        """Step of each parameter, float64 [P]."""
        return np.asarray(quantiser.steps, np.float64)[self._groups] * STEP_UNIT


def default_omega(body: str, cell: Sequence[int]) -> int:
    """The frequency factor that suits cells of these sizes. Sound: 300 for cells of 9,600 samples,
    which comes within 3 dB of ENRP's Table II (which names none), and in proportion; cells of 980 scored 28 dB with
    30, 21 with 98, 13 with 200."""
    if body == "relu":
        return 0
    if len(cell) == 1:
        return max(10, min(3000, round(cell[0] / 32)))
    return {"siren": 10, "fourier": 4}[body]


def whole_step(step: float) -> int:
    """A step in STEP_UNIT, within what a file holds."""
    return int(min(max(round(step / STEP_UNIT), 1), 2**32 - 1)) if math.isfinite(step) else 2**32 - 1


def round_codes(weights: np.ndarray, steps: np.ndarray | float) -> np.ndarray:
    """Raises ValueError for weights that are not finite."""
    if not np.isfinite(weights).all():
        raise ValueError("the fit has run away: weights that are not finite")
    return np.clip(np.rint(weights / steps), -CODE_LIMIT, CODE_LIMIT).astype(np.int32)


def _shape(spec: FieldSpec, signal: SignalMeta) -> MlpShape:
    return MlpShape(
        len(signal.shape), spec.width, spec.depth, signal.channels, spec.body,
        omega=float(spec.omega), features=spec.features, seed=spec.seed,
    )  # fmt: skip
