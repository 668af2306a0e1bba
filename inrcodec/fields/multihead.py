"""Fits one MLP shared by all cells, and one linear head per cell on its outputs (Multi-Head ReLU, arXiv 2110.03448).

The shared body maps local coordinates to n features. Given the body, heads are least squares; so the body alone is
trained, on the error that the best heads leave (cellfit.train, one network whose outputs are every cell's samples, or
256 rows that stand for more of them: _components).
Its last layer, linear, is then turned so that the features of a full cell are orthonormal (mean square 1, zero mean)
and sorted by the energy that heads put on them: an error of a head's weight is an error in samples, and weights fall
off as in a transform. Heads are solved again on the quantised body.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..colour import fixed_rotation
from ..grid import Grid
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import STEP_UNIT, FieldSpec, Quantiser, TensorLayout
from .base import Field, OnStep
from .budget import bits_wanted, check_codes, uniform_cells
from .ensemble import default_omega, round_codes, whole_step
from .heads import distinct_shapes, orthonormalise, residual, solve_heads
from .layers import FOURIER_FEATURES, MlpShape, evaluate
from .locate import RUN_LIMIT, axis_runs, gather, lattice_blocks, point_blocks, product_block
from .sensitivity import rounding_cost

__all__ = ["MultiheadMlpField"]

ITERATIONS = 3000  # cheap, a millisecond each for cells of 256: the cost does not grow with the signal
CELL_SIZE = {1: 128, 2: 256, 3: 512}  # samples, where no --grid is given, by axes
DEPTH = 1
BODY_SHARE = {1: 0.3, 2: 0.1, 3: 0.1}  # of the bits, for the shared body, by axes
BODY_BITS = 9  # per weight of the body, about
HEAD_BITS = 1.2  # per weight of a head, about: most are zero
STEP_AT_75 = 0.008  # in sample units; a head's weight is the RMS of what its feature adds
SOUND_STEP_AT_75 = 0.002  # quiet passages count
QUALITY_OCTAVE = 25.0  # points of quality that halve the step
BLOCK_VALUES = 2**20  # float64 values evaluated at once (8 MB)
LAST_STEP = 0.1  # of the body's last layer: leaves features orthonormal to about 2 %
SIREN_OMEGA = {1: 40, 2: 20, 3: 20}  # by axes: features as fine as a cell holds, where an ensemble wants smooth ones
PROBE_CELLS = 128  # on which the body's sensitivities are measured
MAX_COMPONENTS = 256  # of the cells' samples, on which the body is trained


@dataclass(frozen=True)
class FittedMultihead:
    """body: weights float64 [1, P]. values float32 [G, C, N] (rotated channels), coords float32 [G, D, N], mask
    bool [G, N]: the samples by cell. spreads, limits: per group of the body,
    step per step of the heads, and its cap."""

    body: np.ndarray
    values: np.ndarray
    coords: np.ndarray
    mask: np.ndarray
    spreads: np.ndarray
    limits: np.ndarray


class MultiheadMlpField(Field):
    """Tensors: body [1, P, 1, …]; heads [1, (n + 1) · C, *cells], weight f · C + c of feature f (0: the constant 1)."""

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid) -> None:
        super().__init__(spec, signal, grid)
        self.shape = self._body_shape(spec, len(signal.shape))
        self._groups = np.asarray(self.shape.groups)
        self._rotation = fixed_rotation(signal)

    @staticmethod
    def _body_shape(spec: FieldSpec, axes: int) -> MlpShape:
        return MlpShape(
            axes, spec.width, spec.depth, spec.width, spec.body,
            omega=float(spec.omega), features=spec.features, seed=spec.seed,
        )  # fmt: skip

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        """Cells per axis of the grid this field likes best."""
        return uniform_cells(signal, CELL_SIZE[len(signal.shape)])

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        body, bits = settings.body_or_default, bits_wanted(signal, settings)
        depth = DEPTH if settings.depth is None else settings.depth

        def spec(width: int) -> FieldSpec:
            features = min(FOURIER_FEATURES["multihead"], width) if body == "fourier" else 0
            omega = SIREN_OMEGA[len(signal.shape)] if body == "siren" else default_omega(body, grid.largest)
            return FieldSpec("multihead", body, width, depth, omega, features, settings.seed)

        width, share = settings.width, BODY_SHARE[len(signal.shape)]
        if width is None:
            of_heads = bits / grid.n_cells / signal.channels / HEAD_BITS
            most = min(max(1, math.prod(grid.largest) - 1), max(1, int(of_heads)), 256)
            width = 1
            while width < most and cls._body_bits(spec(width + 1), len(signal.shape)) <= share * bits:
                width += 1
        check_codes((width + 1) * signal.channels * grid.n_cells)
        return spec(width)

    @classmethod
    def _body_bits(cls, spec: FieldSpec, axes: int) -> float:
        return BODY_BITS * cls._body_shape(spec, axes).n_parameters

    @property
    def inputs(self) -> int:
        """Features that each head sees, the constant not counted."""
        return self.spec.width

    def head_class(self, feature: int) -> int:
        """Statistical class of the weights of a head's input 0 (the constant) … `inputs`."""
        return _octave(feature)

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        c, n = self.signal.channels, self.inputs
        bands = tuple(2 * self.head_class(f) + (k > 0) for f in range(n + 1) for k in range(c))
        ones = (1,) * len(self.grid.cells)
        return (
            TensorLayout("body", "plain", 1, (self.shape.n_parameters,), ones, bands=self.shape.groups),
            TensorLayout("heads", "plain", 1, ((n + 1) * c,), self.grid.cells, bands=bands),
        )

    def fit(self, samples: np.ndarray, settings: EncodeSettings, on_step: OnStep) -> FittedMultihead:
        started = time.monotonic()
        values, coords, mask = gather(samples @ self._rotation.T.astype(np.float32), self.grid)
        rows, inside = max(distinct_shapes(mask), key=lambda s: len(s[0]))
        u = coords[rows[0]][:, inside]
        body = self.fit_body(values[rows][:, :, inside], u, rows, settings=settings, on_step=on_step, started=started)
        probe = rows[np.unique(np.linspace(0, len(rows) - 1, PROBE_CELLS).astype(int))]
        spreads, limits = self._sensitivities(body, values[probe][:, :, inside], u, probe)
        return FittedMultihead(body, values, coords, mask, spreads, limits)

    def fit_body(
        self, values: np.ndarray, u: np.ndarray, rows: np.ndarray, *, settings: EncodeSettings, on_step: OnStep,
        started: float,
    ) -> np.ndarray:  # fmt: skip
        """The body [1, P] for full cells `rows` of samples [K, C, N] at joint positions u [D, N]. started: when the
        time limit began to run."""
        from .cellfit import Cells, train

        y = _components(values)
        trained = train(
            MlpShape(len(u), self.spec.width, self.spec.depth, y.shape[1], self.spec.body,
                     float(self.spec.omega), self.spec.features, self.spec.seed),
            Cells(y, u[None], None), seed=settings.seed, device=settings.device, on_step=on_step, closed=True,
            iterations=settings.iterations or ITERATIONS,
            peak=2.0 if self.signal.kind == "sound" else 1.0,
            time_limit_s=settings.time_limit_s and settings.time_limit_s - (time.monotonic() - started),
        )  # fmt: skip
        n = self.spec.width
        body = np.zeros((1, self.shape.n_parameters))
        inner = body.shape[1] - n * (n + 1)
        body[:, :inner] = trained[:, :inner]
        hidden = evaluate(self.shape, body, u[None], hidden=True)[0]
        weight, bias = orthonormalise(hidden, y[0].astype(np.float64))
        body[0, inner:] = np.r_[weight.ravel(), bias]
        return body

    def solve(self, fitted: FittedMultihead, body: np.ndarray, step: float = 0.0) -> np.ndarray:
        """The best heads [G, C, inputs + 1] on this body, the constant's weight first. step: what they will be rounded
        to."""
        return solve_heads(self.shape, body, fitted.values, fitted.coords, fitted.mask)

    def residual(self, body: np.ndarray, values: np.ndarray, u: np.ndarray, rows: np.ndarray) -> float:
        """Mean square error that the best heads leave of samples [K, C, N] of full cells `rows`."""
        return residual(self.shape, body, u, values)

    def initial_step(self, fitted: FittedMultihead, settings: EncodeSettings) -> float:
        """In sample units: what the quality says, but no finer than the bits wanted allow."""
        heads = self.solve(fitted, fitted.body)
        if settings.bits is not None:
            return max(float(np.quantile(np.abs(heads), 0.999)), 1e-9) * 2.0 ** (1 - settings.bits)
        step = (SOUND_STEP_AT_75 if self.signal.kind == "sound" else STEP_AT_75) * 2.0 ** (
            (75 - settings.quality) / QUALITY_OCTAVE
        )
        if settings.psnr_db is not None:
            return math.sqrt(12) * 10 ** (-settings.psnr_db / 20)
        if settings.target_bytes or settings.bits_per_sample or settings.kbit_per_s:
            step = 1e-6
        elif settings.width is not None or settings.connections is not None:  # the size is the caller's own choice
            return step
        some = heads[np.linspace(0, len(heads) - 1, min(len(heads), 2048)).astype(int)]
        bands = np.asarray(self.layouts[1].bands)
        wanted = bits_wanted(self.signal, settings) - BODY_BITS * self.shape.n_parameters
        wanted *= len(some) / len(heads)
        low, high = math.log2(step), 3.0
        if _entropy_bits(some, bands, step) <= wanted:
            return step
        for _ in range(14):
            middle = (low + high) / 2
            low, high = (middle, high) if _entropy_bits(some, bands, 2.0**middle) > wanted else (low, middle)
        return 2.0**high

    def quantiser(self, fitted: FittedMultihead, step: float) -> Quantiser:
        """steps: of the body's groups, then of the heads."""
        body = np.minimum(fitted.spreads * step, fitted.limits)
        return Quantiser((*(whole_step(float(s)) for s in body), whole_step(step)))

    def quantize(
        self, fitted: FittedMultihead, quantiser: Quantiser, on_step: OnStep = lambda _: None
    ) -> tuple[np.ndarray, ...]:
        steps = self._body_steps(quantiser)
        body = round_codes(fitted.body, steps)
        step = quantiser.steps[-1] * STEP_UNIT
        codes = round_codes(self.solve(fitted, body * steps, step).transpose(2, 1, 0), step)
        shapes = [layout.shape for layout in self.layouts]
        return body.reshape(shapes[0]), codes.reshape(shapes[1])

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        body, heads = (np.asarray(c, np.float64) for c in codes)
        steps = self._body_steps(quantiser).reshape(-1, *[1] * len(self.grid.cells))
        return body * steps, heads * (quantiser.steps[-1] * STEP_UNIT)

    def render(self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        """Runs of positions at the same phase of their cells share the body's features: at whole scales the body is
        evaluated for a handful of cells only."""
        body, heads = self._flat(weights)
        lengths = tuple(len(x) for x in axes)
        result = np.empty((math.prod(lengths), self.signal.channels))
        runs = [axis_runs(b, x, RUN_LIMIT[len(axes)]) for b, x in zip(self.grid.borders, axes, strict=True)]
        phases = [np.unique(r.local, axis=0, return_inverse=True)[1].ravel() for r in runs]
        kinds = tuple(int(p.max()) + 1 for p in phases)
        if 2 * math.prod(kinds) > math.prod(len(r.cells) for r in runs):
            blocks = lattice_blocks(self.grid, axes, BLOCK_VALUES // self.spec.width)
            for block in blocks:
                self._add(result, body, heads, block.cells, block.index, coords=block.coords)
            return self._unrotate(result).reshape(*lengths, -1)
        per_run = math.prod(r.index.shape[1] for r in runs)
        size = max(1, BLOCK_VALUES // (per_run * self.signal.channels))
        for kind in np.ndindex(*kinds):
            mesh = np.meshgrid(*(np.flatnonzero(p == k) for p, k in zip(phases, kind, strict=True)), indexing="ij")
            which = [m.ravel() for m in mesh]
            features = None
            for start in range(0, len(which[0]), size):
                block = product_block(runs, [w[start : start + size] for w in which], self.grid.cells, lengths)
                if features is None:
                    features = self._features(body, block.coords[:1])
                self._add(result, body, heads, block.cells, block.index, features=features)
        return self._unrotate(result).reshape(*lengths, -1)

    def sample(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        body, heads = self._flat(weights)
        result = np.empty((len(coords), self.signal.channels))
        for block in point_blocks(self.grid, coords, BLOCK_VALUES // self.spec.width):
            self._add(result, body, heads, block.cells, block.index, coords=block.coords)
        return self._unrotate(result)

    def _add(
        self, result: np.ndarray, body: np.ndarray, heads: np.ndarray, cells: np.ndarray, index: np.ndarray,
        *, coords: np.ndarray | None = None, features: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Write the values of one block, whose features are given or evaluated at coords [B, D, N]."""
        own = heads[cells]
        with np.errstate(all="ignore"):
            if coords is not None:
                b, d, n = coords.shape
                features = self._features(body, coords.transpose(1, 0, 2).reshape(1, d, b * n))
                features = features.reshape(-1, b, n).transpose(1, 0, 2)
                values = self.apply_each(own[:, :, 1:], features, cells)
            else:
                assert features is not None
                values = self.apply_shared(own[:, :, 1:], features[0], cells)
            values += own[:, :, :1]
        result[index] = values.transpose(0, 2, 1)

    def apply_each(self, heads: np.ndarray, features: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Heads [B, C, inputs] of these cells on features of their own [B, n, N] -> [B, C, N]."""
        return heads @ features

    def apply_shared(self, heads: np.ndarray, features: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Heads [B, C, inputs] of these cells on the same features [n, N] -> [B, C, N]."""
        values: np.ndarray = heads.reshape(-1, heads.shape[2]) @ features
        return values.reshape(*heads.shape[:2], -1)

    def _features(self, body: np.ndarray, coords: np.ndarray) -> np.ndarray:
        """coords [1, D, N] -> features [1, n, N]."""
        return evaluate(self.shape, body, coords, hidden=not self.shape.fout)

    def _unrotate(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return values @ self._rotation

    def _flat(self, weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Tensors -> body [1, P], heads [G, C, n + 1]."""
        heads = np.asarray(weights[1], np.float64).reshape(self.inputs + 1, self.signal.channels, -1)
        return np.asarray(weights[0], np.float64).reshape(1, -1), np.ascontiguousarray(heads.transpose(2, 1, 0))

    def _body_steps(self, quantiser: Quantiser) -> np.ndarray:
        return np.asarray(quantiser.steps[:-1], np.float64)[self._groups] * STEP_UNIT

    def _sensitivities(
        self, body: np.ndarray, values: np.ndarray, u: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Equal slopes: one weight of the body, rounded, may cost what one weight of one head costs, step² / 12 over
        G · C. Measured by rounding; the last layer turns features among each other, hence a step of its own."""
        n_heads = self.grid.n_cells * self.signal.channels
        n_groups = int(self._groups[-1]) + 1
        spreads, limits = np.empty(n_groups), np.empty(n_groups)

        def error(moved: np.ndarray) -> float:
            return self.residual(moved, values, u, rows)

        before = error(body)
        for g in range(n_groups):
            own = self._groups == g
            span = max(float(np.abs(body[0, own]).max()), 1e-6)
            step = span / 128
            cost = max(rounding_cost(error, body, own, step, before=before), 1e-14) / (step**2 * own.sum())
            spreads[g], limits[g] = 1 / math.sqrt(12 * n_heads * cost), span / 16
        if self.shape.fout:
            spreads[-2:], limits[-2:] = 1e6, LAST_STEP / math.sqrt(self.spec.width)
        return spreads, limits


def _octave(feature: int) -> int:
    """Class of a feature: the first 8 for themselves, then four to the octave."""
    return feature if feature < 8 else 8 + int(4 * math.log2(feature / 8))


def _components(values: np.ndarray) -> np.ndarray:
    """Samples [G, C, N] -> float32 [1, K, N]: K <= 256 rows with the covariance of all G · C, and, scaled, their mean
    square: the best heads leave the same error on both."""
    rows = values.reshape(-1, values.shape[2]).astype(np.float64)
    if len(rows) <= MAX_COMPONENTS:
        return rows[None].astype(np.float32)
    if rows.shape[1] <= 4096:
        energy, vectors = np.linalg.eigh(rows.T @ rows)
        kept = (vectors * np.sqrt(np.maximum(energy, 0)))[:, ::-1].T[:MAX_COMPONENTS]
    else:  # random mixtures of the rows: the same in expectation
        kept = np.random.default_rng(0).normal(size=(MAX_COMPONENTS, len(rows))) @ rows / math.sqrt(MAX_COMPONENTS)
    return (kept * math.sqrt(len(kept) / len(rows)))[None].astype(np.float32)


def _entropy_bits(heads: np.ndarray, bands: np.ndarray, step: float) -> float:
    """Empirical entropy of the rounded heads [G, C, n + 1], by band, and 6 bits per symbol for its table."""
    codes = np.rint(heads.transpose(2, 1, 0).reshape(len(bands), -1) / step)
    total = 0.0
    for band in np.unique(bands):
        _, counts = np.unique(codes[bands == band], return_counts=True)
        total += float(-(counts * np.log2(counts / counts.sum())).sum()) + 6 * len(counts)
    return total
